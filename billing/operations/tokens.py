"""Tokens of the control API, for one organization or for all. A token is shown once, where it is made."""

from datetime import datetime

from pydantic import Field

from billing.model.token import Scope, Token, read_scopes
from billing.operations.instants import instant, instant_or_none, number_before
from billing.operations.keys import REFERENCE
from billing.operations.operation import About, Call, Model, operation
from billing.operations.pages import AskPage, Page, page
from billing.services.tokens import NoSuchToken, TokenOver
from metering.model.errors import BadInput

_QUARTER_SECONDS = 90 * 86_400


class TokenRow(Model):
    """What is known of a token; never the token itself. `org_id` null: for every organization."""

    id: int
    hint: str
    covers: str
    org_id: str | None
    scopes: tuple[Scope, ...]
    label: str
    status: str = Field(description="active, expired, revoked")
    created: datetime
    by: str
    expires: datetime | None
    revoked: datetime | None
    revoked_by: str | None


class TokenList(Page):
    tokens: tuple[TokenRow, ...]


class NewTokenAnswer(TokenRow):
    token: str = Field(description="shown this once")


class CreateToken(Model):
    all: bool = Field(False, description="for every organization; else name one, as ?org=")
    scopes: tuple[Scope, ...] = Field((Scope.READ,), min_length=1, description="each includes those before it: read, billing, admin")
    label: str = Field("", description="what it is for")
    seconds: int | None = Field(_QUARTER_SECONDS, ge=1, le=10**10, description="how long it is good; null: until it is revoked")


class WhichToken(Model):
    token: str = Field(pattern=REFERENCE, description="its number, or sha256: and the hash of its text")


@operation("GET", "/tokens", name="token.list", need=Scope.ADMIN, about=About.EITHER)
async def list_all(call: Call, ask: AskPage) -> TokenList:
    """Newest first, those that are over too."""
    found = await call.billing.tokens.all(call.org_id, limit=ask.limit + 1, before_id=number_before(ask))
    rows, further = page(found, ask, lambda token: (token.id,))
    return TokenList(tokens=tuple(token_row(token, call.now_ms) for token in rows), next=further)


@operation("POST", "/tokens", name="token.create", need=Scope.ADMIN, about=About.EITHER, status=201)
async def create(call: Call, ask: CreateToken) -> NewTokenAnswer:
    """A new token, for one organization or for all."""
    if ask.all == (call.org_id is not None):
        raise BadInput("say whom the token is for: one organization (--org, ?org=), or all of them (--all, all), and not both")
    scopes = read_scopes([scope.value for scope in ask.scopes])
    made = await call.billing.tokens.create(org_ref=call.org_id, scopes=scopes, label=ask.label, seconds=ask.seconds, by=call.caller.name)
    return NewTokenAnswer(**dict(token_row(made.token, call.now_ms)), token=made.text)


@operation("DELETE", "/tokens/{token}", name="token.revoke", need=Scope.ADMIN, about=About.EITHER, errors=(NoSuchToken, TokenOver))
async def revoke(call: Call, ask: WhichToken) -> TokenRow:
    """Not another request with it."""
    return token_row(await call.billing.tokens.revoke(ask.token, by=call.caller.name, within=call.org_id), call.now_ms)


def token_row(token: Token, now_ms: int) -> TokenRow:
    return TokenRow(
        id=token.id, hint=token.hint, covers=token.slug or token.org_id or "every organization", org_id=token.org_id,
        scopes=token.scopes, label=token.label, status=token.status(now_ms), created=instant(token.created_at_ms), by=token.created_by,
        expires=instant_or_none(token.expires_at_ms), revoked=instant_or_none(token.revoked_at_ms), revoked_by=token.revoked_by,
    )  # fmt: skip


OPERATIONS = (list_all, create, revoke)
