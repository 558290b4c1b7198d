"""Periods end and invoices are written: usage to lines, lines to invoices, each once, whatever happens in between. Real Postgres."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from uuid import UUID

import pytest

from billing.model.invoice import Invoice, Issuer, LineKind, State
from billing.model.invoice_item import InvoiceItem, ItemKind
from billing.model.tax import TaxRule
from billing.services.issuing import Issuing
from billing.services.months import DoesNotTieOut, MonthIsClosed
from billing.wiring import Invoicing, open_billing
from metering.model.clock import to_ms
from metering.model.errors import BadInput, Conflict
from metering.model.period import period_at

from .conftest import METERS, NOW, PRO, Desk

HOUR, DAY = 3600, 86_400


class Office:
    """A desk that writes its own invoices, with one organization on plan pro since the desk's present."""

    def __init__(self, desk: Desk, org_id: str) -> None:
        self.desk, self.org_id = desk, org_id
        self.billing, self.clock, self.pool = desk.billing, desk.clock, desk.pool

    @property
    def issuing(self) -> Issuing:
        return self.billing.issuing

    async def use(self, units: int, service: str = "api", *, at: datetime | None = None) -> None:
        """What a flush writes: hours, and the period's sum."""
        at = at or datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC)
        start, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in period_at(to_ms(NOW), to_ms(at)))
        org = UUID(self.org_id)
        await self.pool.execute(
            "INSERT INTO billing.usage_hourly VALUES ($1, $2, date_trunc('hour', $3::timestamptz), $4, 1, 'GET', 1, '{}', 1, $5, 0, 1)"
            " ON CONFLICT (org_id, service, hour, period_start, route_id, method, key_id, dimensions)"
            " DO UPDATE SET quantity = usage_hourly.quantity + EXCLUDED.quantity, event_count = usage_hourly.event_count + 1",
            org, service, at, start, units,
        )  # fmt: skip
        await self.pool.execute(
            "INSERT INTO billing.usage_period (org_id, service, period_start, period_end, bucket, cumulative)"
            " VALUES ($1, $2, $3, $4, 1, $5)"
            " ON CONFLICT (org_id, service, period_start) DO UPDATE SET cumulative = usage_period.cumulative + EXCLUDED.cumulative",
            org, service, start, end, units,
        )  # fmt: skip

    async def owe(self, amount: str = "49.00", kind: ItemKind = ItemKind.BASE, *, name: str = "1") -> None:
        """What a renewal writes."""
        start, end = period_at(to_ms(NOW), self.clock.now_ms())
        item = InvoiceItem(
            org_id=self.org_id, identifier=f"{kind}:{name}", kind=kind, description="Pro Plan (Monthly)", quantity=D(1),
            unit_price=D(amount), amount=D(amount), currency="usd", period_start_ms=start, period_end_ms=end, evidence={"plan": "pro"},
        )  # fmt: skip
        async with self.desk.books.transaction() as unit:
            await unit.invoice_items.add([item], self.clock.now_ms())

    async def invoices(self) -> list[Invoice]:
        """Oldest first."""
        return list(reversed(await self.billing.invoices.page(limit=1000)))

    async def lines(self) -> list[list[tuple[str, str]]]:
        return [[(line.kind.value, str(line.amount)) for line in invoice.lines] for invoice in await self.invoices()]

    def forward(self, **span: int) -> None:
        self.clock.advance(timedelta(**span).total_seconds())


def with_invoices(desk: Desk, *, rate: str = "0", **more: object) -> None:
    terms = Invoicing(issuer=Issuer.WEIGHBRIDGE, tax=TaxRule(rate=D(rate)), **more)  # type: ignore[arg-type]
    desk.billing = open_billing(desk.pool, desk.redis, desk.clock, meters=METERS, invoicing=terms)


@pytest.fixture
async def office(sold: Desk) -> Office:
    with_invoices(sold, rate="0.085")
    org = (await sold.billing.orgs.create("Acme", plan="pro", email="pay@acme.example")).org
    await sold.pool.execute("UPDATE billing.subscriptions SET created_at = $1", NOW)
    await sold.pool.execute("DELETE FROM billing.invoice_items")
    return Office(sold, org.id)


async def test_a_period_that_ended_is_billed_with_the_price_of_the_next(office: Office) -> None:
    await office.use(205_000)
    await office.use(102_500_000_000, "bandwidth")
    office.forward(days=28, minutes=30)
    await office.owe()
    assert (await office.issuing.run()).invoices == []  # the usage of the period may still come
    office.forward(hours=2)
    (invoice,) = (await office.issuing.run()).invoices
    assert [(line.kind.value, str(line.amount)) for line in invoice.lines] == [
        ("base", "49.00"), ("overage", "1.50"), ("overage", "0.13"), ("tax", "4.30"),
    ]  # fmt: skip
    assert (invoice.number, invoice.state, str(invoice.totals.amount_due)) == ("INV-000001", State.OPEN, "54.93")
    assert [line.quantity for line in invoice.lines[1:3]] == [5000, D("2.5")]
    assert datetime.fromtimestamp(invoice.period_end_ms / 1000, UTC) == datetime(2026, 2, 28, 12, tzinfo=UTC)


async def test_issuing_again_and_by_several_at_once_changes_nothing(office: Office) -> None:
    await office.use(205_000)
    office.forward(days=29)
    await office.owe()
    await asyncio.gather(*(office.issuing.run() for _ in range(4)))
    await office.issuing.run()
    assert await office.lines() == [[("base", "49.00"), ("overage", "1.50"), ("tax", "4.29")]]


class Killed(BaseException):
    """The process dies here."""


@pytest.mark.parametrize(
    "step", ["invoice_items.add", "invoicing.keep_rated", "invoices.add", "invoices.next_number", "mails.add", "invoicing.put"]
)
async def test_killed_at_any_step_it_is_issued_once_by_the_next(office: Office, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    await office.use(205_000)
    office.forward(days=29)
    await office.owe()
    table, method = step.split(".")
    async with office.desk.books.transaction() as unit:
        kind = type(getattr(unit, table))
    whole = getattr(kind, method)

    async def dies(*args: object, **options: object) -> None:
        await whole(*args, **options)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(kind, method, dies)
        with pytest.raises(Killed):
            await office.issuing.run()
    assert await office.invoices() == []
    await office.issuing.run()
    assert await office.lines() == [[("base", "49.00"), ("overage", "1.50"), ("tax", "4.29")]]
    assert (await office.invoices())[0].number == "INV-000001"


async def test_after_months_of_downtime_each_period_has_its_invoice(office: Office) -> None:
    for month, units in enumerate((201_000, 0, 203_000)):
        if units:
            await office.use(units, at=NOW + timedelta(days=31 * month + 1))
    office.forward(days=92)
    await office.issuing.run()
    assert await office.lines() == [[("overage", "0.30"), ("tax", "0.03")], [("overage", "0.90"), ("tax", "0.08")]]


async def test_usage_is_not_billed_before_every_flush_of_it_is_in(office: Office) -> None:
    await office.use(205_000)
    office.forward(days=40)
    flush = "INSERT INTO billing.job_state (name, done_at) VALUES ('flush', $1) ON CONFLICT (name) DO UPDATE SET done_at = $1"
    await office.pool.execute(flush, NOW + timedelta(days=20))
    assert (await office.issuing.run()).invoices == []
    await office.pool.execute(flush, NOW + timedelta(days=39))
    assert len((await office.issuing.run()).invoices) == 1


async def test_late_usage_is_a_line_of_its_own_on_the_next_invoice(office: Office) -> None:
    await office.use(205_000)
    office.forward(days=30)
    await office.issuing.run()
    await office.use(1_000, at=NOW + timedelta(days=3))
    assert [await office.issuing.late() for _ in range(2)] == [1, 0]
    assert (await office.issuing.run()).invoices == []  # not before the next period's end
    await office.use(200_500)
    office.forward(days=31)
    (invoice,) = (await office.issuing.run()).invoices
    assert [(line.kind.value, str(line.amount), line.quantity) for line in invoice.lines[:2]] == [
        ("overage", "0.15", 500),
        ("late", "0.30", 1000),
    ]
    assert "2026-01-31 to 2026-02-28, arrived later" in invoice.lines[1].description


async def test_usage_that_is_taken_back_after_the_bill_is_a_line_below_zero(office: Office) -> None:
    await office.use(205_000)
    office.forward(days=30)
    await office.issuing.run()
    await office.use(-10_000, at=NOW + timedelta(days=3))
    await office.issuing.late()
    office.forward(days=31)
    (invoice,) = (await office.issuing.run()).invoices
    assert [(line.kind.value, str(line.amount)) for line in invoice.lines] == [("late", "-1.50"), ("tax", "-0.13")]
    assert (invoice.totals.amount_due, invoice.totals.carried, invoice.state) == (0, D("1.63"), State.PAID)
    await office.owe("10.00")
    (paid,) = (await office.issuing.run()).invoices
    assert [(line.kind, line.amount) for line in paid.lines[-1:]] == [(LineKind.CREDIT, D("-1.63"))]
    assert paid.totals.amount_due == D("9.22")


async def test_late_usage_is_rated_by_the_terms_of_its_period(office: Office) -> None:
    await office.use(205_000)
    office.forward(days=30)
    await office.issuing.run()
    dearer = replace(PRO, prices={"api": replace(PRO.prices["api"], each=D("1"))})  # type: ignore[type-var]
    await office.billing.plans.apply({"pro": dearer, "free": replace(PRO, name="free", price={"usd": D(0)}, prices={})}, {})
    await office.use(1_000, at=NOW + timedelta(days=3))
    await office.issuing.late()
    assert await office.pool.fetchval("SELECT amount FROM billing.invoice_items WHERE kind = 'late'") == D("0.30")


async def test_who_left_within_a_period_pays_what_was_used_until_then(office: Office) -> None:
    await office.use(205_000)
    office.forward(days=5)
    await office.billing.orgs.delete("acme")
    await office.use(7_000)
    office.forward(days=40)
    await office.issuing.run()
    assert await office.lines() == [[("overage", "1.50"), ("tax", "0.13")]]


async def test_a_period_is_billed_by_the_terms_that_stood_at_its_end(office: Office) -> None:
    await office.use(205_000)
    office.forward(days=30)  # the period is over, and not yet billed
    await office.issuing.keep_terms([office.org_id])  # as every change of what is paid for does first
    await office.pool.execute("UPDATE billing.subscriptions SET plan = 'free', plan_version = 1")
    await office.issuing.run()
    assert await office.lines() == [[("overage", "1.50"), ("tax", "0.13")]]


async def test_a_plan_that_was_left_at_a_periods_end_costs_nothing_in_the_next(office: Office) -> None:
    """Its minimum neither, though the change came true late."""
    await office.desk.billing.subscriptions.change_plan("acme", "free", at_end=True)
    await office.use(205_000)
    office.forward(days=28, hours=9)
    await office.billing.renewals.run_due()
    await office.use(9_000)
    office.forward(days=40)
    await office.issuing.run()
    assert await office.lines() == [[("overage", "1.50"), ("tax", "0.13")]]
    kept = await office.pool.fetch("SELECT until_at FROM billing.terms_kept ORDER BY 1 DESC LIMIT 1")
    assert [row["until_at"] for row in kept] == [datetime(2026, 2, 28, 12, tzinfo=UTC)]


async def test_a_year_of_renewals_is_twelve_invoices_without_a_gap(sold: Desk) -> None:
    with_invoices(sold)
    org = (await sold.billing.orgs.create("Acme", plan="pro")).org
    office = Office(sold, org.id)
    for month in range(13):
        await sold.billing.renewals.run_due()
        await office.issuing.run()
        if month < 12:
            await office.use(200_000 + 1_000 * month)
            office.forward(days=31)
    made = await office.invoices()
    assert [invoice.number for invoice in made] == [f"INV-{n:06d}" for n in range(1, len(made) + 1)]
    base = sum(line.amount for invoice in made for line in invoice.lines if line.kind is LineKind.BASE)
    assert base == 49 * 13
    assert sum(invoice.totals.total for invoice in made) == sum(line.amount for invoice in made for line in invoice.lines)


async def test_a_preview_writes_nothing_and_is_what_the_invoice_becomes(office: Office) -> None:
    await office.use(205_000)
    before = await office.pool.fetchval("SELECT count(*) FROM billing.invoice_items")
    seen = await office.billing.invoices.preview("acme")
    assert [(line.kind.value, str(line.amount)) for line in seen.lines] == [("base", "49.00"), ("overage", "1.50"), ("tax", "4.29")]
    assert (seen.state, seen.number, str(seen.totals.total)) == (State.DRAFT, None, "54.79")
    assert await office.invoices() == []
    assert await office.pool.fetchval("SELECT count(*) FROM billing.invoice_items") == before
    assert await office.pool.fetchval("SELECT last FROM billing.invoice_counters WHERE name = 'invoice'") == 0
    office.forward(days=28, hours=2)
    await office.billing.renewals.run_due()
    (made,) = (await office.issuing.run()).invoices
    assert [(line.description, line.amount) for line in made.lines] == [(line.description, line.amount) for line in seen.lines]


async def test_every_line_is_explained_down_to_its_hours(office: Office) -> None:
    await office.use(150_000)
    office.forward(hours=5)
    await office.use(55_000)
    office.forward(days=30)
    await office.issuing.run()
    invoice, (line, tax) = await office.billing.invoices.explain("INV-000001")
    assert [(hour.quantity, hour.events) for hour in line.hours] == [(150_000, 1), (55_000, 1)]
    assert (line.rows_quantity, line.agree) == (205_000, True)
    evidence = line.line.evidence
    assert (evidence["used"], evidence["included"], evidence["overage"], evidence["plan"]) == ("205000", "200000", "5000", "pro")
    assert [(part["quantity"], part["unit_price"]) for part in evidence["parts"]] == [("5000", "0.0003")]
    assert tax.hours == ()
    assert invoice.number == "INV-000001"


async def test_each_organization_is_billed_though_another_cannot_be(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    other = (await office.billing.orgs.create("Beta", plan="pro")).org.id
    await office.pool.execute("UPDATE billing.subscriptions SET created_at = $1", NOW)
    await office.owe()
    whole = Issuing.issue

    async def fails(self: Issuing, org_id: str) -> list[Invoice]:
        if org_id == min(other, office.org_id):
            raise BadInput("a price that there is not")
        return await whole(self, org_id)

    monkeypatch.setattr(Issuing, "issue", fails)
    report = await office.issuing.run()
    assert report.faults == {min(other, office.org_id): "a price that there is not"}


async def test_stripe_hears_of_no_subscription_whose_invoices_are_written_here(office: Office) -> None:
    assert await office.desk.outbox() == []


# --- what people decide -------------------------------------------------------------------------------------------------


async def issued(office: Office) -> Invoice:
    await office.owe()
    (invoice,) = (await office.issuing.run()).invoices
    return invoice


async def test_an_invoice_is_paid_by_hand_in_parts_and_each_reference_counts_once(office: Office) -> None:
    invoice = await issued(office)
    pay = office.billing.invoices.pay
    part = await pay("INV-000001", reference="wire 1", amount=D("20.00"))
    assert (part.state, part.remaining) == (State.OPEN, D("33.17"))
    assert (await pay(invoice.id, reference="wire 1", amount=D("20.00"))).remaining == D("33.17")
    with pytest.raises(BadInput, match=r"33\.17 is due"):
        await pay(invoice.id, amount=D("40.00"))
    paid = await pay(invoice.id)
    assert (paid.state, paid.amount_paid, paid.payment_method) == (State.PAID, D("53.17"), "by hand")
    with pytest.raises(Conflict, match="that is paid cannot pay"):
        await pay(invoice.id)
    kinds = [row["kind"] for row in await office.pool.fetch("SELECT kind FROM billing.mails WHERE kind LIKE '%i%' ORDER BY id")]
    assert kinds.count("invoice_ready") == kinds.count("payment_received") == 1


async def test_a_voided_invoice_is_owed_by_nobody_and_one_paid_in_part_is_not_voided(office: Office) -> None:
    invoice = await issued(office)
    await office.billing.invoices.pay(invoice.id, amount=D("1.00"))
    with pytest.raises(Conflict, match="credit note"):
        await office.billing.invoices.void(invoice.id)
    await office.owe(name="2")
    (second,) = (await office.issuing.run()).invoices
    assert (await office.billing.invoices.void(second.id)).remaining == 0
    assert (await office.issuing.run()).invoices == []
    entry = await office.pool.fetchrow("SELECT action, subject FROM billing.audit_log WHERE action LIKE 'invoice.%'")
    assert (entry["action"], entry["subject"]) == ("invoice.changed", f"invoice {second.id}")


async def test_what_is_given_up_may_still_be_paid(office: Office) -> None:
    invoice = await issued(office)
    assert (await office.billing.invoices.give_up(invoice.id)).state is State.UNCOLLECTIBLE
    assert (await office.billing.invoices.pay(invoice.id)).state is State.PAID


async def test_a_charge_of_once_waits_for_the_next_invoice_or_has_its_own(office: Office) -> None:
    charge = office.billing.invoices.charge_once
    await charge("acme", "Setup", D("100.00"))
    made = await charge("acme", "Training", D("50.00"), now=True)
    assert isinstance(made, Invoice)
    assert [line.description for line in made.lines] == ["Training", "Tax (8.5%)"]
    office.forward(days=30)
    (invoice,) = (await office.issuing.run()).invoices
    assert invoice.lines[0].description == "Setup"
    for amount, text in ((D(0), "x"), (D("0.001"), "x"), (D(1), " ")):
        with pytest.raises(BadInput):
            await charge("acme", text, amount)


async def test_a_correction_is_a_signed_line_that_names_its_row(office: Office) -> None:
    invoice = await issued(office)
    await office.billing.invoices.correct(invoice.id, 1, D("-9.00"), "wrong price")
    with pytest.raises(BadInput, match="no row 2 that can be corrected"):
        await office.billing.invoices.correct(invoice.id, 2, D("-9.00"), "tax")
    office.forward(days=30)
    await office.owe(name="2")
    (later,) = (await office.issuing.run()).invoices
    assert [(line.kind.value, str(line.amount)) for line in later.lines] == [("base", "49.00"), ("correction", "-9.00"), ("tax", "3.40")]
    assert "INV-000001, row 1 (Pro Plan (Monthly)): wrong price" in later.lines[1].description


async def test_a_credit_note_lets_off_what_is_due_and_a_later_one_gives_money_back(office: Office) -> None:
    invoice = await issued(office)
    notes = office.billing.credit_notes
    first = await notes.issue("INV-000001", {1: D("9.00")}, reason="outage")
    assert (first.number, first.total, first.off_due) == ("CN-000001", D("9.77"), D("9.77"))
    assert (await office.billing.invoices.pay(invoice.id)).amount_paid == D("43.40")
    second = await notes.issue(invoice.id, {1: D("10.00")}, reason="outage", refund=True, identifier="r1")
    assert (await notes.issue(invoice.id, {1: D("10.00")}, reason="outage", refund=True, identifier="r1")) == second
    third = await notes.issue(invoice.id, {1: None}, reason="goodwill")
    assert (second.refunded, third.to_balance, third.subtotal) == (D("10.85"), D("32.55"), D("30.00"))
    assert first.total + second.total + third.total == invoice.totals.total
    with pytest.raises(Conflict, match="nothing is left of it"):
        await notes.issue(invoice.id, {1: None}, reason="again")


async def test_credit_notes_at_once_never_take_more_than_the_row(office: Office) -> None:
    invoice = await issued(office)
    asked = [office.billing.credit_notes.issue(invoice.id, {1: D("30.00")}, reason="outage") for _ in range(3)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert sorted(type(each).__name__ for each in found) == ["CreditNote", "CreditRefused", "CreditRefused"]


# --- months -------------------------------------------------------------------------------------------------------------


def told(error: DoesNotTieOut) -> list[str]:
    return list(error.details["untied"])


async def test_a_month_is_closed_once_everything_ties_out_and_then_stays_as_it_is(office: Office) -> None:
    invoice = await issued(office)
    await office.billing.invoices.pay(invoice.id, reference="wire 1")
    close = office.billing.months.close
    with pytest.raises(BadInput, match="2026-01 is not over yet"):
        await close("2026-01")
    office.forward(days=2)
    office.forward(days=30)
    with pytest.raises(Conflict, match="close 2026-01 before 2026-02"):
        await close("2026-02")
    closed = await close("2026-01")
    figures: Mapping[str, object] = closed.figures["usd"]
    assert (figures["invoices"], figures["total"], figures["tax"], figures["paid"]) == (1, "53.17", "4.17", "53.17")
    with pytest.raises(MonthIsClosed):
        await close("2026-01")
    with pytest.raises(BadInput, match="write 2026-01"):
        await close("January")


async def test_a_month_that_does_not_tie_out_stays_open_and_every_difference_is_named(office: Office) -> None:
    await issued(office)
    await office.use(205_000)
    office.forward(days=40)
    await office.billing.months.close("2026-01")
    with pytest.raises(DoesNotTieOut) as refused:
        await office.billing.months.close("2026-02")
    assert told(refused.value) == ["acme: usage from 2026-01-31 to 2026-02-28 was not billed"]
    await office.issuing.run()
    await office.use(5, at=NOW + timedelta(days=3))
    await office.pool.execute("ALTER TABLE billing.invoices DISABLE TRIGGER keep")
    await office.pool.execute("UPDATE billing.invoices SET finalized_at = '2026-02-28', total = total + 1 WHERE number = 'INV-000002'")
    await office.pool.execute("UPDATE billing.invoice_counters SET last = 7 WHERE name = 'invoice'")
    with pytest.raises(DoesNotTieOut) as refused:
        await office.billing.months.close("2026-02")
    found = told(refused.value)
    assert found[0] == "acme api: 205,005 units were used from 2026-01-31 on, 205,000 were billed: late usage is not billed yet"
    assert found[1].startswith("INV-000002: it says 1.50 - 0 + 0.13 = 2.63")
    assert found[2] == "invoice numbers: 7 were given, 2 stand on invoices"
    assert await office.billing.months.closed() == ["2026-01"]


async def test_late_usage_of_a_closed_month_goes_to_the_next_open_one(office: Office) -> None:
    await office.use(205_000)
    office.forward(days=29, hours=2)
    await office.issuing.run()
    office.forward(days=2)
    await office.billing.months.close("2026-02")
    await office.use(1_000, at=NOW + timedelta(days=3))
    await office.issuing.late()
    office.forward(days=31)
    (invoice,) = (await office.issuing.run()).invoices
    assert [(line.kind.value, str(line.amount)) for line in invoice.lines] == [("late", "0.30"), ("tax", "0.03")]
    assert (await office.billing.months.close("2026-03")).month == "2026-03"
