"""Credits: money that pays invoices before anything is collected."""

from datetime import datetime

from pydantic import AwareDatetime, Field

from billing.model.money import AmountNotWhole
from billing.model.token import Scope
from billing.model.wallet import HIGHEST, LOWEST, USUAL, Grant, GrantFaulty, GrantKind
from billing.operations.instants import instant, instant_or_none
from billing.operations.operation import Amount, Call, GivenAmount, Model, operation
from billing.operations.pages import AskPage, Page, page, read_cursor
from billing.services.credits import Balance, NoSuchGrant
from metering.model.clock import to_ms


class GrantAnswer(Model):
    """`left` is what it can still pay."""

    id: int
    kind: GrantKind
    amount: Amount
    left: Amount
    currency: str
    reason: str
    priority: int
    granted: datetime
    expires: datetime | None
    status: str = Field(description="active, revoked")


class BalanceAnswer(Model):
    """What could pay an invoice now."""

    currency: str
    promotional: Amount
    paid: Amount
    total: Amount


class CreditList(Page):
    credits: tuple[GrantAnswer, ...]
    balances: tuple[BalanceAnswer, ...]


class NewGrantAnswer(GrantAnswer):
    org_id: str
    organization: str
    balance: Amount = Field(description="what could pay an invoice in its currency now")


class NewGrant(Model):
    amount: GivenAmount
    reason: str = Field(min_length=1, max_length=500, description="why; it stands on the invoices that it pays")
    currency: str | None = Field(None, pattern="^[A-Za-z]{3}$", description="the subscription's where none is said")
    kind: GrantKind = Field(GrantKind.PROMOTIONAL, description="paid: the customer prepaid it, and never loses it by our doing")
    expires: AwareDatetime | None = Field(None, description="it pays before then")
    priority: int = Field(USUAL, ge=HIGHEST, le=LOWEST, description="0 is burned first")


class AskGrant(Model):
    grant: int = Field(ge=1, le=2**63 - 1)


@operation(
    "POST", "/credits", name="credit.add", need=Scope.BILLING, unbound=True, status=201, errors=(GrantFaulty, AmountNotWhole)
)  # fmt: skip
async def add(call: Call, ask: NewGrant) -> NewGrantAnswer:
    """Grant credit to an organization."""
    grant = await call.billing.credits.add(
        call.org, ask.amount, reason=ask.reason, currency=ask.currency.lower() if ask.currency else None, kind=ask.kind,
        expires_at_ms=None if ask.expires is None else to_ms(ask.expires), priority=ask.priority,
    )  # fmt: skip
    statement = await call.billing.credits.statement(call.org)
    balance = next(each.total for each in statement.balances if each.currency == grant.currency)
    return NewGrantAnswer(
        **dict(grant_answer(grant)), org_id=grant.org_id, organization=statement.org.name, balance=balance,
    )  # fmt: skip


@operation("GET", "/credits", name="credit.list", by_token=True)
async def list_all(call: Call, ask: AskPage) -> CreditList:
    """What was granted, the oldest first, and what is left."""
    place = read_cursor(ask.after, int)
    statement = await call.billing.credits.statement(call.org)
    behind = [row for row in statement.grants if place is None or row.grant.id > int(place[0])]
    rows, following = page(behind[: ask.limit + 1], ask, lambda row: (row.grant.id,))
    return CreditList(
        credits=tuple(grant_answer(row.grant, revoked=row.revoked_at_ms is not None) for row in rows),
        balances=tuple(map(_balance, statement.balances)), next=following,
    )  # fmt: skip


@operation("POST", "/credits/{grant}/revoke", name="credit.revoke", need=Scope.BILLING, unbound=True, errors=(NoSuchGrant,))
async def revoke(call: Call, ask: AskGrant) -> GrantAnswer:
    """What is left of a grant pays nothing any more; what it paid stays paid."""
    return grant_answer(await call.billing.credits.revoke(call.org, ask.grant), revoked=True)


def grant_answer(grant: Grant, *, revoked: bool = False) -> GrantAnswer:
    return GrantAnswer(
        id=grant.id, kind=grant.kind, amount=grant.amount, left=grant.left, currency=grant.currency, reason=grant.reason,
        priority=grant.priority, granted=instant(grant.granted_at_ms), expires=instant_or_none(grant.expires_at_ms),
        status="revoked" if revoked else "active",
    )  # fmt: skip


def _balance(each: Balance) -> BalanceAnswer:
    return BalanceAnswer(currency=each.currency, promotional=each.promotional, paid=each.paid, total=each.total)


OPERATIONS = (add, list_all, revoke)
