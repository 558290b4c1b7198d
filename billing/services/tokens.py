"""Tokens of the control API: make, list, revoke. A token is shown once, where it is made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from billing.model.organization import check_label
from billing.model.token import Scope, Token, mint_token
from billing.services import lookup
from billing.services.ports import Books, Unit
from metering.model.apikey import hint, sha256_hex
from metering.model.clock import Clock
from metering.model.errors import BadInput, Conflict, NotFound


class NoSuchToken(NotFound):
    """There is no such token."""

    code = "no_such_token"


class TokenOver(Conflict):
    """The token was revoked before."""

    code = "token_over"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """`text` is shown this once."""

    token: Token
    text: str


class Tokens:
    """`entropy` gives at least 18 random bytes a call."""

    def __init__(self, books: Books, clock: Clock, *, entropy: Callable[[], bytes]) -> None:
        self._books, self._clock, self._entropy = books, clock, entropy

    async def create(self, *, org_ref: str | None, scopes: Sequence[Scope], label: str, seconds: int | None, by: str) -> NewToken:
        """One that is good for so many seconds (None: until it is revoked). `org_ref` None: for every organization.

        Raises NoSuchOrganization, BadInput.
        """
        if not scopes:
            raise BadInput("a token needs a scope")
        if seconds is not None and seconds <= 0:
            raise BadInput("a token is good for at least a second")
        now_ms, text = self._clock.now_ms(), mint_token(self._entropy())
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref, lock=True) if org_ref is not None else None
            fresh = Token(
                id=0, sha256=sha256_hex(text), hint=hint(text), scopes=tuple(scopes), label=check_label(label), created_by=by,
                created_at_ms=now_ms,
                org_id=org.id if org else None, slug=org.slug if org else None,
                expires_at_ms=None if seconds is None else now_ms + seconds * 1000,
            )  # fmt: skip
            added = await unit.tokens.insert(fresh)
            if added is None:
                raise Conflict("a fresh token equals one on record: the source of randomness is broken")
        return NewToken(token=added, text=text)

    async def all(self, org_ref: str | None = None, *, limit: int | None = None, before_id: int | None = None) -> list[Token]:
        """Newest first, of those before that one; those that are over too; with `org_ref`, those of one organization.
        Raises NoSuchOrganization."""
        async with self._books.transaction() as unit:
            org_id = (await lookup.organization(unit, org_ref)).id if org_ref is not None else None
            return await unit.tokens.all(org_id, limit, before_id)

    async def revoke(self, ref: str, *, by: str, within: str | None = None) -> Token:
        """By its number, by the token itself or its fingerprint: not another request with it. `within` an organization, no other's.
        Raises NoSuchToken, TokenOver."""
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            token = await _found(unit, ref, within)
            if not await unit.tokens.revoke(token.id, by, now_ms):
                raise TokenOver(f"token {token.id} was revoked before", token=token.id)
        return replace(token, revoked_at_ms=now_ms, revoked_by=by)


async def _found(unit: Unit, ref: str, within: str | None) -> Token:
    """Raises NoSuchToken, which does not repeat what may be a secret."""
    found = await unit.tokens.find(sha256=lookup.fingerprint(ref))
    if found is None and ref.isascii() and ref.isdigit() and len(ref) <= 18:
        found = await unit.tokens.find(token_id=int(ref))
    if found is None or (within is not None and found.org_id != within):
        raise NoSuchToken("there is no such token; give its number (token list) or the token itself")
    return found
