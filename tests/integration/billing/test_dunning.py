"""Dunning over real rows: a whole life by days, and a process that is killed between any two steps."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest

from billing.model.dunning import DAY_MS
from billing.model.invoice import Event, Invoice, Issuer, Line, LineKind, State, totals
from billing.model.invoice import after as invoice_after
from billing.model.payment import PaymentOutcome, PaymentState
from billing.services.dunning import Dunning
from billing.services.ports import Books
from metering.model.errors import BadInput

from .conftest import METERS, Desk

DAY_S = 86_400
PAID, DECLINED, UNKNOWN = PaymentState.PAID, PaymentState.DECLINED, PaymentState.UNKNOWN


@dataclass
class Bank:
    """The port `Payments`: answers as it is told, and keeps what it answered for an invoice and attempt."""

    says: list[PaymentState] = field(default_factory=list)
    charged: list[tuple[str, int, int]] = field(default_factory=list)
    told: dict[tuple[str, int], PaymentOutcome] = field(default_factory=dict)

    async def charge(self, org_id: str, invoice_id: str, amount_minor: int, currency: str, attempt: int) -> PaymentOutcome:
        known = self.told.get((invoice_id, attempt))
        if known is not None:
            return known
        state = self.says.pop(0) if self.says else DECLINED
        outcome = PaymentOutcome(
            state=state, reason=None if state is PAID else "insufficient_funds", payment_id=f"pi_{invoice_id}_{attempt}"
        )
        if state is not UNKNOWN:
            self.told[invoice_id, attempt] = outcome
            self.charged.append((invoice_id, attempt, amount_minor))
        return outcome

    async def refund(self, invoice_id: str, amount_minor: int, identifier: str) -> PaymentOutcome:
        raise AssertionError("nothing is given back here")


@dataclass
class Office:
    desk: Desk
    bank: Bank
    org_id: str

    def dunning(self, books: Books | None = None, *, charges: bool = True) -> Dunning:
        return Dunning(
            books or self.desk.books, self.desk.clock, self.desk.billing.invoices, self.desk.billing.subscriptions,
            payments=self.bank if charges else None, meters=METERS,
        )  # fmt: skip

    async def run(self) -> None:
        await self.dunning().run_due()

    async def days(self, number: int) -> None:
        for _ in range(number):
            self.desk.clock.advance(DAY_S)
            await self.run()

    async def owe(self, invoice_id: str = "in_1", *, issuer: Issuer = Issuer.WEIGHBRIDGE, due_days: int = 0) -> Invoice:
        now_ms = self.desk.clock.now_ms()
        lines = (Line(kind=LineKind.BASE, description="Pro", amount=Decimal("49.00"), evidence={"plan_title": "Pro"}),)
        invoice = Invoice(
            id=invoice_id, org_id=self.org_id, issuer=issuer, identifier=invoice_id, state=invoice_after(State.DRAFT, Event.FINALIZE),
            currency="usd", lines=lines, totals=totals(lines, tax_inclusive=False), tax_rate=Decimal(0), period_start_ms=now_ms,
            period_end_ms=now_ms + 30 * DAY_MS, created_ms=now_ms, number=f"INV-{invoice_id}", finalized_ms=now_ms,
            due_ms=now_ms + due_days * DAY_MS, stripe_id=f"si_{invoice_id}" if issuer is Issuer.STRIPE else None,
        )  # fmt: skip
        async with self.desk.books.transaction() as unit:
            await unit.invoices.add(invoice)
        return invoice

    async def pay(self, invoice_id: str = "in_1") -> None:
        await self.desk.billing.invoices.pay(invoice_id, reference="transfer")

    async def mails(self) -> list[str]:
        rows = await self.desk.pool.fetch("SELECT identifier FROM billing.mails WHERE kind <> 'trial_welcome' ORDER BY id")
        return [row["identifier"] for row in rows]

    async def standing(self) -> str:
        return str(await self.desk.pool.fetchval("SELECT status FROM billing.subscriptions WHERE org_id = $1", self.org_id))

    async def plan(self) -> str:
        found = await self.desk.billing.entitlements.of_org(self.org_id)
        assert found is not None
        return found.plan

    async def invoice(self, invoice_id: str = "in_1") -> Invoice:
        return await self.desk.billing.invoices.show(invoice_id)


@pytest.fixture
async def office(sold: Desk) -> Office:
    org = (await sold.billing.orgs.create("Acme", plan="pro", email="alice@example.com")).org
    await sold.pool.execute("UPDATE billing.subscriptions SET trial_days = 0, status = 'active'")
    return Office(sold, Bank(), org.id)


def told(*kinds: str) -> list[str]:
    return [f"{kind.split()[0]}:in_1" + (f":{kind.split()[1]}" if " " in kind else "") for kind in kinds]


async def test_a_dunning_life(office: Office) -> None:
    await office.owe()
    await office.run()
    assert await office.mails() == told("payment_failed 1")
    assert await office.standing() == "past_due"
    await office.days(3)
    assert await office.mails() == told("payment_failed 1", "payment_failed 2")
    await office.days(3)
    assert (await office.mails())[2:] == told("payment_failed 3")
    assert (await office.invoice()).attempts == 3
    await office.days(1)
    assert (await office.mails())[3:] == told("final_warning")
    assert await office.plan() == "pro"
    await office.days(2)
    assert (await office.mails())[4:] == told("account_downgraded")
    assert (await office.standing(), await office.plan()) == ("unpaid", "free")
    await office.days(5)
    assert len(await office.mails()) == 5
    await office.pay()
    await office.run()
    assert (await office.standing(), await office.plan()) == ("active", "pro")
    assert (await office.mails())[5:] == told("payment_received")
    assert await office.desk.pool.fetchval("SELECT facts ->> 'restored' FROM billing.mails WHERE kind = 'payment_received'") == "true"
    assert [attempt for _, attempt, _ in office.bank.charged] == [1, 2, 3]


async def test_the_mails_tell_what_happens_when(office: Office) -> None:
    await office.owe()
    await office.run()
    await office.days(7)
    rows = await office.desk.pool.fetch("SELECT identifier, facts::text AS facts FROM billing.mails ORDER BY id")
    facts = {row["identifier"]: row["facts"] for row in rows}
    assert '"retry_at": "2026-02-03T12:00:00Z"' in facts["payment_failed:in_1:1"]
    assert '"downgrade_at": "2026-02-09T12:00:00Z"' in facts["payment_failed:in_1:1"]
    assert '"retry_at": null' in facts["payment_failed:in_1:3"]
    warning = facts["final_warning:in_1"]
    assert '"hours": 48' in warning
    assert '"downgrade_at": "2026-02-09T12:00:00Z"' in warning
    assert '"after": "10000"' in warning
    assert '"before": "200000"' in warning


async def test_a_charge_that_goes_through_pays_the_invoice(office: Office) -> None:
    office.bank.says = [PAID]
    await office.owe()
    await office.run()
    invoice = await office.invoice()
    assert (invoice.state, invoice.amount_paid, invoice.attempts) == (State.PAID, Decimal("49.00"), 0)
    assert office.bank.charged == [("in_1", 1, 4900)]
    await office.days(10)
    assert len(office.bank.charged) == 1
    assert await office.mails() == told("payment_received")


async def test_the_second_attempt_brings_it_back_into_good_standing(office: Office) -> None:
    office.bank.says = [DECLINED, PAID]
    await office.owe()
    await office.run()
    await office.days(4)
    assert (await office.standing(), (await office.invoice()).state) == ("active", State.PAID)
    assert await office.mails() == told("payment_failed 1", "payment_received")


async def test_what_is_due_later_is_charged_later(office: Office) -> None:
    await office.owe(due_days=14)
    await office.days(13)
    assert office.bank.charged == []
    await office.days(1)
    assert len(office.bank.charged) == 1


async def test_a_charge_of_which_nothing_is_known_is_asked_for_again_as_the_same(office: Office) -> None:
    office.bank.says = [UNKNOWN, UNKNOWN, PAID]
    await office.owe()
    await office.run()
    await office.run()  # within ten minutes: not again
    assert len(office.bank.says) == 2
    for _ in range(2):
        office.desk.clock.advance(600)
        await office.run()
    assert office.bank.charged == [("in_1", 1, 4900)]
    assert (await office.invoice()).state is State.PAID


async def test_without_anybody_who_charges_nothing_is_done(office: Office) -> None:
    await office.owe()
    for _ in range(20):
        await office.dunning(charges=False).run_due()
        office.desk.clock.advance(DAY_S)
    assert await office.mails() == []
    assert await office.plan() == "pro"


async def test_where_stripe_charges_the_mails_and_the_downgrade_are_ours(office: Office) -> None:
    made = await office.owe(issuer=Issuer.STRIPE)
    await office.run()
    assert office.bank.charged == []
    for attempt in (1, 1, 2):
        async with office.desk.books.transaction() as unit:
            found = await unit.invoices.get(made.id, lock=True)
            assert found is not None
            await unit.invoices.save(replace(found, attempts=attempt, next_attempt_ms=office.desk.clock.now_ms() + 2 * DAY_MS))
        await office.run()
    assert await office.mails() == told("payment_failed 1", "payment_failed 2")
    await office.days(9)
    assert (await office.mails())[2:] == told("final_warning", "account_downgraded")
    assert office.bank.charged == []
    assert await office.plan() == "free"


async def test_a_second_debt_neither_downgrades_nor_returns_alone(office: Office) -> None:
    await office.owe("in_1")
    await office.run()
    await office.days(2)
    await office.owe("in_2")
    await office.days(12)
    mails = await office.mails()
    assert mails.count("account_downgraded:in_1") == 1
    assert "account_downgraded:in_2" not in mails
    await office.pay("in_1")
    await office.run()
    assert await office.plan() == "free"
    await office.pay("in_2")
    await office.run()
    assert (await office.standing(), await office.plan()) == ("active", "pro")


async def test_who_has_no_plan_to_lose_is_charged_and_not_warned(office: Office) -> None:
    await office.desk.pool.execute("UPDATE billing.subscriptions SET plan = 'free'")
    await office.owe()
    await office.run()
    await office.days(12)
    assert await office.mails() == told("payment_failed 1", "payment_failed 2", "payment_failed 3")


async def test_paid_after_the_warning_means_no_downgrade(office: Office) -> None:
    await office.owe()
    await office.run()
    await office.days(8)
    await office.pay()
    await office.days(5)
    assert (await office.standing(), await office.plan()) == ("active", "pro")
    assert (await office.mails())[-2:] == told("final_warning", "payment_received")


async def test_a_payment_while_the_downgrade_is_under_way_wins(office: Office) -> None:
    await office.owe()
    await office.run()
    await office.days(8)
    office.desk.clock.advance(2 * DAY_S)
    dunning = office.dunning()
    standings = office.desk.billing.subscriptions

    class PaysBefore:
        payment_failed, payment_succeeded = standings.payment_failed, standings.payment_succeeded

        async def gave_up(self, org_id: str, *, only_if: Callable[[Any], Any]) -> Any:
            await office.pay()
            return await standings.gave_up(org_id, only_if=only_if)

    dunning._standings = PaysBefore()
    await dunning.run_due()
    assert (await office.standing(), await office.plan()) == ("active", "pro")
    assert "account_downgraded:in_1" not in await office.mails()


async def test_one_invoice_that_cannot_be_charged_holds_up_no_other(office: Office) -> None:
    await office.owe("in_1")
    await office.owe("in_2")

    class Picky(Bank):
        async def charge(self, org_id: str, invoice_id: str, amount_minor: int, currency: str, attempt: int) -> PaymentOutcome:
            if invoice_id == "in_1":
                raise BadInput("no")
            return await super().charge(org_id, invoice_id, amount_minor, currency, attempt)

    office.bank = Picky()
    await office.run()
    assert await office.mails() == ["payment_failed:in_2:1"]


async def test_two_at_once_charge_and_mail_once(office: Office) -> None:
    await office.owe()
    for _ in range(12):
        await asyncio.gather(*(office.dunning().run_due() for _ in range(2)))
        office.desk.clock.advance(DAY_S)
    assert await office.mails() == told("payment_failed 1", "payment_failed 2", "payment_failed 3", "final_warning", "account_downgraded")
    assert [attempt for _, attempt, _ in office.bank.charged] == [1, 2, 3]


class Killed(BaseException):
    """As a process that dies there."""


class DyingBooks:
    """Transactions of a process that is killed before the `last` of them begins, or, with `behind`, just after it was kept."""

    def __init__(self, books: Books, last: int, *, behind: bool) -> None:
        self._books, self._left, self._behind = books, last, behind

    @asynccontextmanager
    async def transaction(self, **terms: Any) -> AsyncIterator[Any]:
        self._left -= 1
        if self._left == 0 and not self._behind:
            raise Killed
        async with self._books.transaction(**terms) as unit:
            yield unit
        if self._left == 0:
            raise Killed


# Before which of a run's transactions it dies; the third decides, and behind it the bank is asked.
DEATHS = [(1, False), (2, False), (3, False), (3, True), (4, False), (5, False), (6, False)]


@pytest.mark.parametrize(("last", "behind"), DEATHS)
async def test_a_job_killed_between_any_two_steps_charges_and_mails_nothing_twice(office: Office, last: int, behind: bool) -> None:
    deaths = 0
    await office.owe()
    for day in range(13):
        if day == 11:
            await office.pay()
        try:
            await office.dunning(DyingBooks(office.desk.books, last, behind=behind)).run_due()
        except Killed:
            deaths += 1
            await office.run()
        office.desk.clock.advance(DAY_S)
    events = ("payment_failed 1", "payment_failed 2", "payment_failed 3", "final_warning", "account_downgraded", "payment_received")
    assert await office.mails() == told(*events)
    assert [attempt for _, attempt, _ in office.bank.charged] == [1, 2, 3]
    assert (await office.standing(), await office.plan()) == ("active", "pro")
    assert deaths >= 3
