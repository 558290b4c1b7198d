"""An invoice is charged because somebody asks for it, and money goes back where it came from."""

from dataclasses import dataclass, field
from decimal import Decimal as D

import pytest

from billing.model.invoice import Invoice, Issuer, State
from billing.model.payment import Payment, PaymentOutcome, PaymentState
from billing.services.collecting import Collecting, PaymentRefused
from billing.wiring import Invoicing, open_billing

from .conftest import METERS, Desk

TAKEN = PaymentOutcome(state=PaymentState.PAID, payment_id="pi_1")


@dataclass
class Till:
    """Who moves money, as the port `Payments`; it keeps tries as the real one does."""

    desk: Desk
    outcome: PaymentOutcome = TAKEN
    charged: list[tuple[str, int, str, int]] = field(default_factory=list)
    returned: list[tuple[str, int, str]] = field(default_factory=list)

    async def charge(self, org_id: str, invoice_id: str, amount_minor: int, currency: str, attempt: int) -> PaymentOutcome:
        self.charged.append((invoice_id, amount_minor, currency, attempt))
        async with self.desk.books.transaction() as unit:
            await unit.payment_attempts.begin(
                Payment(
                    org_id=org_id, invoice_id=invoice_id, attempt=attempt, amount_minor=amount_minor, currency=currency, customer=None,
                    method=None, begun_ms=self.desk.clock.now_ms(), state=self.outcome.state, payment_id=self.outcome.payment_id,
                )
            )  # fmt: skip
        return self.outcome

    async def refund(self, invoice_id: str, amount_minor: int, identifier: str) -> PaymentOutcome:
        self.returned.append((invoice_id, amount_minor, identifier))
        return PaymentOutcome(state=PaymentState.PAID, payment_id="re_1")


@pytest.fixture
async def due(sold: Desk) -> Invoice:
    sold.billing = open_billing(sold.pool, sold.redis, sold.clock, meters=METERS, invoicing=Invoicing(issuer=Issuer.WEIGHBRIDGE))
    await sold.billing.orgs.create("Acme", plan="free")
    made = await sold.billing.invoices.charge_once("acme", "Training", D("49.00"), now=True)
    assert isinstance(made, Invoice)
    return made


def collecting(desk: Desk, till: Till) -> Collecting:
    return Collecting(desk.books, desk.clock, desk.billing.invoices, till)


async def test_what_is_due_is_charged_and_the_invoice_is_paid(sold: Desk, due: Invoice) -> None:
    till = Till(sold)
    assert due.chargeable
    done = await collecting(sold, till).charge("INV-000001")
    assert (done.invoice.state, done.payment_id, till.charged) == (State.PAID, "pi_1", [(due.id, 4900, "usd", 1)])
    with pytest.raises(PaymentRefused, match="is paid: nothing is due"):
        await collecting(sold, till).charge("INV-000001")


@pytest.mark.parametrize(
    ("state", "said", "attempts"),
    [
        (PaymentState.DECLINED, "was declined: insufficient_funds", 1),
        (PaymentState.NEEDS_ACTION, "must confirm", 0),
        (PaymentState.UNKNOWN, "never charged twice", 0),
    ],
)
async def test_what_was_not_paid_is_said_and_stays_due(sold: Desk, due: Invoice, state: PaymentState, said: str, attempts: int) -> None:
    till = Till(sold, outcome=PaymentOutcome(state=state, reason="insufficient_funds"))
    with pytest.raises(PaymentRefused, match=said):
        await collecting(sold, till).charge(due.id)
    found = await sold.billing.invoices.show(due.id)
    assert (found.state, found.remaining, found.attempts) == (State.OPEN, D("49.00"), attempts)


async def test_money_goes_back_where_it_came_from(sold: Desk, due: Invoice) -> None:
    till = Till(sold)
    await collecting(sold, till).charge(due.id)
    note = await sold.billing.credit_notes.issue(due.id, {1: D("9.00")}, reason="outage", refund=True)
    assert await collecting(sold, till).refund(note) == PaymentOutcome(state=PaymentState.PAID, payment_id="re_1")
    assert till.returned == [(due.id, 900, note.id)]


async def test_what_was_paid_by_hand_goes_back_by_hand(sold: Desk, due: Invoice) -> None:
    till = Till(sold)
    await sold.billing.invoices.pay(due.id)
    note = await sold.billing.credit_notes.issue(due.id, {1: D("9.00")}, reason="outage", refund=True)
    assert await collecting(sold, till).refund(note) is None
    assert till.returned == []
