"""The most an organization spends beyond its base price in a period: the plan's, the operator's in its place, a lower one of its own."""

from enum import StrEnum

from pydantic import Field

from billing.model.money import AmountNotWhole
from billing.model.token import Scope
from billing.operations.dispatch import ForEverybody
from billing.operations.operation import Amount, Call, Model, Nothing, operation
from billing.services.ports_wallet import CUSTOMER, OPERATOR
from billing.services.spend_caps import CapView, NothingToCap


class By(StrEnum):
    """Whose cap it is."""

    OPERATOR = OPERATOR
    CUSTOMER = CUSTOMER


class SetCap(Model):
    amount: Amount = Field(description="in the currency of the subscription")
    by: By = Field(By.CUSTOMER, description="operator: in place of the plan's; it takes a token for every organization")


class RemoveCap(Model):
    by: By = By.CUSTOMER


class CapAnswer(Model):
    """`cap` is the lower of what the operator allows and what the customer wants; null: no end. `lifted`: the plan's does not hold.
    `reached`: nothing more is charged for in this period, and what would be is refused."""

    currency: str
    plan: Amount | None
    operator: Amount | None
    customer: Amount | None
    cap: Amount | None
    lifted: bool
    spent: Amount
    reached: bool


@operation("GET", "/cap", name="cap.show", errors=(NothingToCap,))
async def show(call: Call, ask: Nothing) -> CapAnswer:
    """Which caps there are, and what was spent."""
    return _answer(await call.billing.spend_caps.show(call.org))


@operation("PUT", "/cap", name="cap.set", need=Scope.BILLING, errors=(NothingToCap, AmountNotWhole, ForEverybody))
async def set_cap(call: Call, ask: SetCap) -> CapAnswer:
    """It holds at once."""
    return _answer(await call.billing.spend_caps.set(call.org, ask.amount, by=_allowed(call, ask.by)))


@operation("POST", "/cap/lift", name="cap.lift", need=Scope.BILLING, unbound=True, errors=(NothingToCap,))
async def lift(call: Call, ask: Nothing) -> CapAnswer:
    """The plan's cap does not hold for this organization; its own still does."""
    return _answer(await call.billing.spend_caps.lift(call.org))


@operation("DELETE", "/cap", name="cap.remove", need=Scope.BILLING, errors=(NothingToCap, ForEverybody))
async def remove(call: Call, ask: RemoveCap) -> CapAnswer:
    """What was set or lifted does not hold any more."""
    return _answer(await call.billing.spend_caps.remove(call.org, by=_allowed(call, ask.by)))


def _allowed(call: Call, by: By) -> str:
    if by is By.OPERATOR and call.caller.org_id is not None:
        raise ForEverybody("the operator's cap takes a token for every organization; yours is bound to one: set your own")
    return by.value


def _answer(view: CapView) -> CapAnswer:
    caps = view.caps
    return CapAnswer(
        currency=view.currency, plan=caps.plan, operator=caps.operator, customer=caps.customer, cap=caps.effective, lifted=caps.lifted,
        spent=view.spent, reached=view.reached,
    )  # fmt: skip


OPERATIONS = (show, set_cap, lift, remove)
