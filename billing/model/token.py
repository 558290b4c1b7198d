"""Tokens of the control API: who may read or change what there, for one organization or for all. Pure.

`wbt_<24 characters><6 characters of checksum>`; only the SHA-256 of one is stored. A token is no API key: no gateway takes one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from metering.model.apikey import base62, checksum
from metering.model.errors import BadInput

PREFIX = "wbt_"
_RANDOM_LENGTH, _CHECKSUM_LENGTH, _LEAST_ENTROPY = 24, 6, 18


class Scope(StrEnum):
    """What a token may do. Each includes those before it."""

    READ = "read"  # usage, quotas, plans
    BILLING = "billing"  # and change them: plans, quotas, credits
    ADMIN = "admin"  # and keys, tokens, bypasses


_ORDER = tuple(Scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of one; never the token itself. `org_id` None is every organization."""

    id: int
    sha256: str
    hint: str
    scopes: tuple[Scope, ...]
    created_by: str
    created_at_ms: int
    label: str = ""
    org_id: str | None = None
    slug: str | None = None
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None
    revoked_by: str | None = None

    def status(self, now_ms: int) -> str:
        """active, expired or revoked."""
        if self.revoked_at_ms is not None:
            return "revoked"
        return "expired" if self.expires_at_ms is not None and now_ms >= self.expires_at_ms else "active"


def includes(scopes: Iterable[Scope], need: Scope) -> bool:
    """Whether who has these may do what needs that."""
    return any(_ORDER.index(scope) >= _ORDER.index(need) for scope in scopes)


def read_scopes(words: Sequence[str]) -> tuple[Scope, ...]:
    """In their order, each once. Raises BadInput."""
    unknown = sorted(set(words) - {scope.value for scope in Scope})
    if unknown or not words:
        said = f"{', '.join(unknown)} is no scope" if unknown else "a token needs a scope"
        raise BadInput(f"{said}; there are: {', '.join(_ORDER)} (each includes those before it)")
    return tuple(scope for scope in Scope if scope in words)


def mint_token(entropy: bytes) -> str:
    """A new token from at least 18 random bytes."""
    if len(entropy) < _LEAST_ENTROPY:
        raise ValueError(f"a token needs {_LEAST_ENTROPY} bytes of entropy")
    body = PREFIX + base62(int.from_bytes(entropy, "big"), _RANDOM_LENGTH)
    return body + checksum(body)


def is_token(text: str) -> bool:
    """Whether it says to be one."""
    return text.startswith(PREFIX)


def token_fails(text: str) -> bool:
    """True for what says to be a token and cannot be: known without asking anyone."""
    body, check = text[:-_CHECKSUM_LENGTH], text[-_CHECKSUM_LENGTH:]
    return len(text) != len(PREFIX) + _RANDOM_LENGTH + _CHECKSUM_LENGTH or checksum(body) != check
