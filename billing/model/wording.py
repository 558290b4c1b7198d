"""Money, numbers, dates as people of a language write them. Pure; mails and invoices use it.

English writes $1,234.50 and February 1, 2026; German 1.234,50 $ and 1. Februar 2026. Dollars that are not the United States' are
named (CA$), and a currency without a sign that everybody knows stands with its code. Instants are told in UTC, and say so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from billing.model.money import minor_digits

LANGUAGES = ("en", "de")
DEFAULT_LANGUAGE = "en"

_SIGNS = {
    "usd": "$", "eur": "€", "gbp": "£", "jpy": "¥", "cad": "CA$", "aud": "A$", "nzd": "NZ$", "hkd": "HK$", "sgd": "S$", "mxn": "MX$",
    "brl": "R$", "inr": "₹", "krw": "₩", "ils": "₪", "vnd": "₫",
}  # fmt: skip
_NBSP = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """How one language writes. `sign_first`: before the amount, without a space (a code stands before it with one)."""

    language: str
    point: str
    comma: str
    sign_first: bool
    percent: str
    months: tuple[str, ...]
    date_form: str
    instant_form: str

    def number(self, value: Decimal | int) -> str:
        """With the digits that it has, grouped by thousands: 80,000, 0.0003."""
        return self._grouped(format(_whole_if_whole(Decimal(value)), ",f"))

    def money(self, amount: Decimal, currency: str) -> str:
        """With the digits of the currency, or more where the amount has more, as the price of one request does."""
        digits = max(minor_digits(currency), -_exponent(_whole_if_whole(amount)))
        text = self._grouped(format(abs(amount), f",.{digits}f"))
        minus, sign = "-" if amount < 0 else "", _SIGNS.get(currency.lower())
        if not self.sign_first:
            return f"{minus}{text}{_NBSP}{sign or currency.upper()}"
        return f"{minus}{sign}{text}" if sign else f"{minus}{currency.upper()}{_NBSP}{text}"

    def share(self, percent: Decimal | int) -> str:
        """80%, 8.5%."""
        return self.number(percent) + self.percent

    def date(self, instant: datetime) -> str:
        return self.date_form.format(day=instant.day, month=self.months[instant.month - 1], year=instant.year)

    def instant(self, instant: datetime) -> str:
        """To the minute."""
        return self.instant_form.format(date=self.date(instant), time=instant.strftime("%H:%M"))

    def _grouped(self, english: str) -> str:
        return "".join({",": self.comma, ".": self.point}.get(character, character) for character in english)


_ENGLISH = Wording(
    language="en",
    point=".",
    comma=",",
    sign_first=True,
    percent="%",
    months=("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"),
    date_form="{month} {day}, {year}",
    instant_form="{date}, {time} UTC",
)
_GERMAN = Wording(
    language="de",
    point=",",
    comma=".",
    sign_first=False,
    percent=f"{_NBSP}%",
    months=("Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November", "Dezember"),
    date_form="{day}. {month} {year}",
    instant_form="{date}, {time} Uhr (UTC)",
)
WORDINGS: Mapping[str, Wording] = {"en": _ENGLISH, "de": _GERMAN}


def language_of(tag: str | None) -> str:
    """The language we have for a tag such as de-AT, DE or en_US; English for every other."""
    primary = (tag or "").replace("_", "-").partition("-")[0].lower()
    return primary if primary in WORDINGS else DEFAULT_LANGUAGE


def wording(tag: str | None) -> Wording:
    return WORDINGS[language_of(tag)]


def _whole_if_whole(value: Decimal) -> Decimal:
    """Without zeros at its end, and never in powers of ten."""
    plain = value.normalize()
    return plain.quantize(Decimal(1)) if _exponent(plain) > 0 else plain


def _exponent(value: Decimal) -> int:
    found = value.as_tuple().exponent
    if not isinstance(found, int):
        raise ValueError(f"{value} is no number to show")
    return found
