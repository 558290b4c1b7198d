"""API keys: `wbk_live_<24 characters><6 characters of checksum>`, and the record that the gateway keeps of one.

Only the SHA-256 of a key is ever stored. A `wbk_` key whose checksum is wrong is refused without asking anyone;
imported keys may look as they like.
"""

import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from enum import StrEnum

from .entitlement import quotas_from_json, quotas_to_json, rates_from_json, rates_to_json
from .quota import Quota, Rate

PREFIX = "wbk_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_LENGTH, _CHECKSUM_LENGTH = 24, 6


LONGEST = 512  # characters of a key, an imported one included
_SCOPE = re.compile(r"[!#-\[\]-~]{1,64}")  # RFC 6749 §3.3


class Kind(StrEnum):
    """What a caller presents."""

    KEY = "key"
    CERTIFICATE = "cert"  # a client certificate; its hash is the SHA-256 of its DER form, its fingerprint
    TOKEN = "token"  # a JWT; never on record, its number is 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """What Redis holds under an active key's hash. `quotas` and `rates` are limits of this key alone, beside its organization's.

    A test key is identified and limited, but bills nobody and uses up none of its organization's quotas.
    """

    key_id: int
    org_id: str
    expires_at_ms: int | None = None
    test: bool = False
    kind: Kind = Kind.KEY
    scopes: frozenset[str] = frozenset()
    quotas: tuple[Quota, ...] = ()
    rates: tuple[Rate, ...] = ()


def base62(number: int, length: int) -> str:
    """The last `length` digits."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def checksum(body: str) -> str:
    """Six characters that tell a typing error; no secret."""
    return base62(binascii.crc32(body.encode()), _CHECKSUM_LENGTH)


def mint(entropy: bytes, *, test: bool = False) -> str:
    """A new key from at least 18 random bytes."""
    if len(entropy) < 18:
        raise ValueError("an API key needs 18 bytes of entropy")
    body = f"{PREFIX}{'test' if test else 'live'}_{base62(int.from_bytes(entropy, 'big'), _RANDOM_LENGTH)}"
    return body + checksum(body)


def checksum_fails(key: str) -> bool:
    """True for a key that claims to be ours and cannot be."""
    if not key.startswith(PREFIX):
        return False
    return checksum(key[:-_CHECKSUM_LENGTH]) != key[-_CHECKSUM_LENGTH:]


def sha256_hex(key: str) -> str:
    """The only form in which a key is stored."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def hint(key: str) -> str:
    """The last four characters: enough to recognize a key, too few to use it."""
    return "…" + key[-4:]


def malformed(key: str) -> bool:
    """True for what no key can be, as far as it shows."""
    return not key or len(key) > LONGEST or checksum_fails(key)


def is_scope(text: str) -> bool:
    """True for a word that may stand as a scope: up to 64 visible ASCII characters, no quote, no backslash."""
    return _SCOPE.fullmatch(text) is not None


def record_to_json(record: KeyRecord) -> str:
    """What a plain key does not have is left out."""
    value = {"id": record.key_id, "org": record.org_id, "exp": record.expires_at_ms, "test": record.test}
    if record.kind is not Kind.KEY:
        value["kind"] = record.kind.value
    if record.scopes:
        value["scopes"] = sorted(record.scopes)
    if record.quotas:
        value["quotas"] = quotas_to_json(record.quotas)
    if record.rates:
        value["rates"] = rates_to_json(record.rates)
    return json.dumps(value)


def record_from_json(text: str | bytes) -> KeyRecord:
    d = json.loads(text)
    return KeyRecord(
        key_id=d["id"], org_id=d["org"], expires_at_ms=d.get("exp"), test=d.get("test", False), kind=Kind(d.get("kind", Kind.KEY)),
        scopes=frozenset(d.get("scopes", ())), quotas=quotas_from_json(d.get("quotas", ())), rates=rates_from_json(d.get("rates", ())),
    )  # fmt: skip
