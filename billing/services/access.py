"""Who asks the control API, and for which organization: a token with scopes, or an organization's own API key, which only reads.

What belongs to another organization does not exist for a caller that is bound to one: the answer is that of an unknown name.
"""

import hmac
from dataclasses import dataclass

from billing.model.token import Scope, includes, is_token, token_fails
from billing.services import lookup
from billing.services.lookup import NoSuchOrganization
from billing.services.ports import Books
from metering.model.apikey import malformed, sha256_hex
from metering.model.clock import Clock
from metering.model.errors import BadInput, Unauthorized, WeighbridgeError


class ScopeMissing(WeighbridgeError):
    """The token's scopes do not suffice."""

    code, http_status = "scope_missing", 403

    def __init__(self, need: Scope) -> None:
        super().__init__(f"this takes a token with the scope {need.value}", scope=need.value)
        self.challenge = f'Bearer realm="control", error="insufficient_scope", scope="{need.value}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody known. `org_id` None: every organization. `name` is what the audit log calls it. `by_key`: presents an API key."""

    name: str
    org_id: str | None
    scopes: tuple[Scope, ...]
    by_key: bool = False

    def must(self, need: Scope) -> None:
        """Raises ScopeMissing."""
        if not includes(self.scopes, need):
            raise ScopeMissing(need)


class Access:
    """Knows tokens and keys, and finds the organization that a request is about."""

    def __init__(self, books: Books, clock: Clock) -> None:
        self._books, self._clock = books, clock

    async def caller(self, credential: str) -> Caller:
        """Who presents this. Raises Unauthorized, in the same words for what never was, is over, and belongs to nobody that lives."""
        if not credential.isascii():
            raise Unauthorized("this is not a valid API key or token")
        return await (self._by_token(credential) if is_token(credential) else self._by_key(credential))

    async def _by_token(self, text: str) -> Caller:
        if token_fails(text):
            raise Unauthorized("this is not a valid token")
        sha = sha256_hex(text)
        async with self._books.transaction() as unit:
            found = await unit.tokens.find(sha256=sha)
        if found is None or not hmac.compare_digest(found.sha256, sha) or found.status(self._clock.now_ms()) != "active":
            raise Unauthorized("this token is unknown, revoked or expired")
        return Caller(name=f"token {found.id}", org_id=found.org_id, scopes=found.scopes)

    async def _by_key(self, text: str) -> Caller:
        if malformed(text):
            raise Unauthorized("this is not a valid API key")
        sha = sha256_hex(text)
        async with self._books.transaction() as unit:
            owner = (await unit.keys.owners([sha], self._clock.now_ms())).get(sha)
        if owner is None:
            raise Unauthorized("this API key is unknown, revoked or expired")
        return Caller(name="API key", org_id=owner, scopes=(Scope.READ,), by_key=True)

    async def organization(self, caller: Caller, ref: str | None) -> str:
        """The id of the organization that the request is about: the one it names, else the caller's own.

        Raises NoSuchOrganization also for one that is not the caller's, BadInput where none is named and the caller is bound to none.
        """
        if ref is None:
            if caller.org_id is None:
                raise BadInput("this token is for every organization: say which, as ?org=… (--org) with its id or slug")
            return caller.org_id
        async with self._books.transaction(org=caller.org_id) as unit:
            found = await lookup.customer(unit, ref)
        if caller.org_id is not None and found.id != caller.org_id:
            raise NoSuchOrganization(f"there is no organization {ref!r}", org=ref)
        return found.id
