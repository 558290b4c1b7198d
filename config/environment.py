"""What stands in environment variables and in `.env`, read into values. Pure.

A reader takes the text of a variable and raises ValueError with what to write instead.
"""

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

Network = IPv4Network | IPv6Network


def truth(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError("write true or false")
    return words[text.lower()]


def whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,12}", text) or not least <= int(text) <= most:
            raise ValueError(f"write a whole number from {least:,} to {most:,}")
        return int(text)

    return read


def listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def currency(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z]{3}", text):
        raise ValueError("write three letters, like usd")
    return text.lower()


def currencies(text: str) -> tuple[str, ...]:
    return tuple(currency(part) for part in listed(text))


def rate(text: str) -> Decimal:
    try:
        rate = Decimal(text)
    except InvalidOperation:
        rate = Decimal(-1)
    if not 0 <= rate < 1:
        raise ValueError("write a share below 1: 0.085 is 8.5 %")
    return rate


def environment(text: str) -> str:
    name = {"development": "dev", "production": "prod"}.get(text.lower(), text.lower())
    if name not in ("dev", "test", "staging", "prod"):
        raise ValueError("write dev, test, staging or prod")
    return name


def word(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"write {', '.join(words[:-1])} or {words[-1]}")
        return text

    return read


def url(*schemes: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        try:
            parts = urlsplit(text)
            _ = parts.port
        except ValueError:  # whose words repeat a piece of it, which may be one of a password
            raise ValueError("it cannot be read; / # ? @ and : in a user or password are written %2F %23 %3F %40 %3A") from None
        if parts.scheme not in schemes:
            raise ValueError(f"write a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return text

    return read


def http(text: str) -> str:
    return url("http", "https")(text).rstrip("/")


def networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(part, strict=False) for part in listed(text))
    except ValueError as error:
        raise ValueError(f"write networks like 10.0.0.0/8, separated by commas ({error})") from error


def stripe_key(text: str) -> str:
    if text.startswith("pk_"):
        raise ValueError("that is the publishable key; the secret one begins with sk_ or rk_")
    if text.startswith("whsec_"):
        raise ValueError("that is a webhook's secret, which goes into STRIPE_WEBHOOK_SECRET; a secret key begins with sk_ or rk_")
    return text


_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


def dotenv(text: str, name: str, faults: list[str]) -> dict[str, str]:
    """`KEY=value` lines: quotes, `export`, comments behind a value; nothing is expanded."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        value = _unquoted(match[2]) if match else None
        if match is None or value is None:
            faults.append(f"{name}:{number}: this is no setting; write NAME=value" + ("" if match is None else ", and close the quotes"))
        else:
            found[match[1]] = value
    return found


def _unquoted(text: str) -> str | None:
    """The value behind the equals sign; None where a quote stays open."""
    if text[:1] in ('"', "'"):
        value, closed, rest = text[1:].partition(text[0])
        return value if closed and (not rest.strip() or rest.strip().startswith("#")) else None
    return re.split(r"(?:^|\s)#", text, maxsplit=1)[0].strip()
