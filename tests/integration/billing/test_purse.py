"""Coupons and credits on invoices that are written: before tax, after tax, each once, and there again when an invoice is void."""

import asyncio
from dataclasses import replace
from decimal import Decimal as D

import pytest

from billing.model.discount import Coupon, Duration
from billing.model.wallet import GrantKind
from billing.services.credits import Statement

from .conftest import FREE, NOW, PRO, Desk
from .test_issuing import Office, with_invoices

HALF = Coupon(code="HALF", percent_off=D(50), duration=Duration.FOREVER)


@pytest.fixture
async def office(desk: Desk) -> Office:
    """With an organization on a plan that carries up to 3,000 units over; tax is 8.5 %."""
    with_invoices(desk, rate="0.085")
    await desk.billing.plans.apply({"free": FREE, "pro": replace(PRO, rollover={"api": 3_000})}, {})
    org = (await desk.billing.orgs.create("Acme", plan="pro", email="pay@acme.example")).org
    await desk.pool.execute("UPDATE billing.subscriptions SET created_at = $1", NOW)
    await desk.pool.execute("DELETE FROM billing.invoice_items")
    return Office(desk, org.id)


async def statement(office: Office) -> Statement:
    return await office.billing.credits.statement("acme")


async def test_a_coupon_comes_off_before_tax_and_credit_after_it(office: Office) -> None:
    await office.billing.coupons.create(HALF)
    await office.billing.coupons.apply("acme", "HALF")
    await office.billing.credits.add("acme", D("5.00"), reason="Referral bonus")
    await office.use(205_000)
    office.forward(days=29)
    await office.owe()
    await office.issuing.run()
    assert await office.lines() == [
        [("base", "49.00"), ("overage", "1.50"), ("discount", "-25.25"), ("tax", "2.15"), ("credit", "-5.00")]
    ]  # fmt: skip
    [invoice] = await office.invoices()
    assert [line.description for line in invoice.lines if line.amount < 0] == ["HALF (50% off)", "Credit: Referral bonus"]
    assert str(invoice.totals.amount_due) == "22.40"
    assert [(row.invoice_id, row.amount) for row in (await statement(office)).burns] == [(invoice.id, D("5.00"))]


async def test_looking_at_the_next_invoice_spends_nothing(office: Office) -> None:
    await office.billing.credits.add("acme", D("5.00"), reason="r")
    await office.owe()
    await office.billing.invoices.preview("acme")
    assert (await statement(office)).balances[0].total == D("5.00")


async def test_issuing_at_once_and_again_spends_once(office: Office) -> None:
    await office.billing.credits.add("acme", D("500.00"), reason="prepaid", kind=GrantKind.PAID)
    await office.use(205_000)
    office.forward(days=29)
    await office.owe()
    await asyncio.gather(*(office.issuing.run() for _ in range(4)))
    [invoice] = await office.invoices()
    assert (await statement(office)).balances[0].total == D("500.00") - invoice.totals.credit
    assert invoice.totals.amount_due == 0
    assert invoice.state == "paid"


async def test_a_void_invoice_gives_back_its_credit_and_a_coupon_that_counts_once(office: Office) -> None:
    await office.billing.coupons.create(replace(HALF, duration=Duration.ONCE))
    await office.billing.coupons.apply("acme", "HALF")
    await office.billing.credits.add("acme", D("5.00"), reason="r")
    office.forward(days=29)
    await office.owe()
    await office.issuing.run()
    assert await office.billing.coupons.of_org("acme") == []
    [invoice] = await office.invoices()
    await office.billing.invoices.void(invoice.id)
    assert (await statement(office)).balances[0].total == D("5.00")
    assert [d.coupon.code for d in await office.billing.coupons.of_org("acme")] == ["HALF"]


async def test_a_period_is_billed_by_what_was_carried_into_it_after_the_next_has_begun(office: Office) -> None:
    async def minute() -> None:
        office.forward(minutes=1)
        flush = "INSERT INTO billing.job_state (name, done_at) VALUES ('flush', now()) ON CONFLICT (name) DO UPDATE SET done_at = $1"
        await office.pool.execute(flush.replace("now()", "$1"), NOW.fromtimestamp(office.clock.now_ms() / 1000, NOW.tzinfo))
        await office.billing.renewals.run_due()
        await office.billing.rollovers.carry()

    await minute()
    await office.use(150_000)
    office.forward(days=28)  # 28 February: 3,000 go on
    await minute()
    await office.use(205_000)
    office.forward(days=31)  # 31 March: nothing goes on, and the quota of before is gone
    await minute()
    office.forward(hours=3)
    await minute()
    await office.issuing.run()
    billed = [line for invoice in await office.invoices() for line in invoice.lines if line.meter == "api"]
    assert [(line.quantity, str(line.amount)) for line in billed] == [(D(2000), "0.60")]
