"""Invoices in Postgres: read as they were written, numbered without a gap, and kept as they are once they are final."""

import asyncio
from dataclasses import replace
from decimal import Decimal as D

import asyncpg
import pytest

from billing.model.invoice import Event, Invoice, Issuer, State, build
from billing.model.invoice_item import InvoiceItem, ItemKind
from billing.model.tax import TaxRule
from billing.services.ports_invoice import BalanceEntry, Receipt
from billing.store.refusals import Final, MonthClosed
from metering.model.clock import to_ms

from .conftest import NOW, Desk

AT = to_ms(NOW)
DAY = 86_400_000


async def organization(desk: Desk) -> str:
    return (await desk.billing.orgs.create("Acme", plan="free")).org.id


async def draft(desk: Desk, org_id: str, name: str = "1", *, issuer: Issuer = Issuer.WEIGHBRIDGE) -> Invoice:
    item = InvoiceItem(
        org_id=org_id, identifier=f"item:{name}", kind=ItemKind.BASE, description="Pro Plan", quantity=D(1), unit_price=D("49.00"),
        amount=D("49.00"), currency="usd", period_start_ms=AT, period_end_ms=AT + 31 * DAY, evidence={"plan": "pro"},
    )  # fmt: skip
    async with desk.books.transaction() as unit:
        await unit.invoice_items.add([item], AT)
        waiting = await unit.invoice_items.waiting(org_id, "usd")
        lines, sums, rate = build(waiting, currency="usd", rule=TaxRule(rate=D("0.085")))
        made = Invoice(
            id=f"in_{name}", org_id=org_id, issuer=issuer, identifier=f"inv1:{org_id}:{name}", state=State.DRAFT, currency="usd",
            lines=lines, totals=sums, tax_rate=rate, period_start_ms=AT, period_end_ms=AT + 31 * DAY, created_ms=AT, due_ms=AT,
            stripe_id=f"in_at_{name}" if issuer is Issuer.STRIPE else None, buyer={"name": "Acme"},
        )  # fmt: skip
        assert await unit.invoices.add(made)
        await unit.invoice_items.take_up([item.id for item in waiting], made.id)
    return made


async def finalize(desk: Desk, ref: str, *, undo: bool = False) -> Invoice:
    async with desk.books.transaction(keep=not undo) as unit:
        found = await unit.invoices.get(ref, lock=True)
        assert found is not None
        final = replace(found.moved(Event.FINALIZE, AT), number=await unit.invoices.next_number("invoice"))
        await unit.invoices.save(final)
    return final


async def close_january(desk: Desk) -> None:
    await desk.pool.execute("INSERT INTO billing.closed_months VALUES ('2026-01-01', now(), '{}')")


async def test_an_invoice_is_read_as_it_was_written_by_any_of_its_names(sold: Desk) -> None:
    made = await draft(sold, await organization(sold))
    final = await finalize(sold, made.id)
    async with sold.books.transaction() as unit:
        assert await unit.invoices.get("in_1") == await unit.invoices.get("INV-000001") == final
        assert await unit.invoices.of_org(made.org_id) == [final]
        assert await unit.invoices.find(states=[State.DRAFT]) == []
        assert await unit.invoices.find(from_ms=AT, to_ms=AT + 1) == [final]
        assert await unit.invoices.find(to_ms=AT) == []


async def test_an_invoice_of_the_same_period_is_written_once(sold: Desk) -> None:
    made = await draft(sold, await organization(sold))
    async with sold.books.transaction() as unit:
        assert not await unit.invoices.add(replace(made, id="in_2", lines=()))
        assert await unit.invoices.count(made.org_id, f"inv1:{made.org_id}:1") == 1


async def test_numbers_have_no_gap_where_transactions_are_undone_and_many_run_at_once(sold: Desk) -> None:
    org_id = await organization(sold)
    names = [str(n) for n in range(12)]
    for name in names:
        await draft(sold, org_id, name)
    await asyncio.gather(*(finalize(sold, f"in_{name}", undo=int(name) % 3 == 0) for name in names))
    await asyncio.gather(*(finalize(sold, f"in_{name}") for name in names if int(name) % 3 == 0))
    numbers = [row["number"] for row in await sold.pool.fetch("SELECT number FROM billing.invoices ORDER BY number")]
    assert numbers == [f"INV-{n:06d}" for n in range(1, 13)]


async def test_a_draft_has_no_number(sold: Desk) -> None:
    made = await draft(sold, await organization(sold))
    with pytest.raises(asyncpg.CheckViolationError):
        await sold.pool.execute("UPDATE billing.invoices SET number = 'INV-9' WHERE id = $1", made.id)


async def test_what_stood_on_a_draft_that_is_dropped_waits_again(sold: Desk) -> None:
    made = await draft(sold, await organization(sold))
    async with sold.books.transaction() as unit:
        await unit.invoices.drop(made.id)
        assert [item.amount for item in await unit.invoice_items.waiting(made.org_id, "usd")] == [D("49.00")]
        assert await unit.invoices.get(made.id) is None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billing.invoices SET total = 1", "UPDATE billing.invoices SET number = 'INV-7'", "DELETE FROM billing.invoices",
        "UPDATE billing.invoices SET org_id = gen_random_uuid()", "UPDATE billing.invoice_lines SET amount = 1",
        "DELETE FROM billing.invoice_lines",
    ],
)  # fmt: skip
async def test_one_that_is_final_keeps_what_it_says_whoever_asks(sold: Desk, statement: str) -> None:
    await finalize(sold, (await draft(sold, await organization(sold))).id)
    with pytest.raises(asyncpg.PostgresError, match="is final") as refused:
        await sold.pool.execute(statement)
    assert refused.value.sqlstate == "WB002"


async def test_one_that_is_final_is_paid_and_its_sums_are_not_saved_over(sold: Desk) -> None:
    final = await finalize(sold, (await draft(sold, await organization(sold))).id)
    async with sold.books.transaction() as unit:
        await unit.invoices.save(replace(final.moved(Event.PAY, AT + 5), amount_paid=final.totals.amount_due))
    with pytest.raises(Final, match="invoice INV-000001 is final"):
        async with sold.books.transaction() as unit:
            await unit.invoices.save(replace(final, totals=replace(final.totals, total=D(1))))


async def test_a_mirror_follows_stripe_and_keeps_its_own_id(sold: Desk) -> None:
    made = await draft(sold, await organization(sold), issuer=Issuer.STRIPE)
    seen = replace(
        made.moved(Event.FINALIZE, AT), id="other", identifier="other", number="STRIPE-0001", lines=made.lines[:1],
        totals=replace(made.totals, tax=D(0), total=D("49.00"), amount_due=D("49.00")),
    )  # fmt: skip
    for _ in range(2):
        async with sold.books.transaction() as unit:
            await unit.invoices.upsert(seen)
    async with sold.books.transaction() as unit:
        found = await unit.invoices.get("in_at_1")
        assert found == replace(seen, id=made.id, identifier=made.identifier)
        new = replace(seen, id="in_new", identifier="new", stripe_id="in_new", number=None, lines=())
        await unit.invoices.upsert(new)
        assert await unit.invoices.get("in_new") == new


async def test_nothing_dated_in_a_closed_month_changes_but_it_may_still_be_paid(sold: Desk) -> None:
    org_id = await organization(sold)
    final = await finalize(sold, (await draft(sold, org_id)).id)
    waiting = await draft(sold, org_id, "2")
    receipt = Receipt(
        org_id=org_id, invoice_id=final.id, kind="payment", amount=D("55.06"), currency="usd", method="by hand", reference="1", at_ms=AT
    )
    await close_january(sold)
    for refused in (
        lambda unit: unit.invoices.save(final.moved(Event.VOID, AT + DAY)),
        lambda unit: unit.invoices.save(replace(waiting.moved(Event.FINALIZE, AT), number="INV-000002")),
        lambda unit: unit.receipts.add(receipt),
        lambda unit: unit.balances.add(
            BalanceEntry(org_id=org_id, currency="usd", identifier="b", amount=D(1), invoice_id=final.id, at_ms=AT)
        ),
    ):
        with pytest.raises(MonthClosed, match="in a month that is closed"):
            async with sold.books.transaction() as unit:
                await refused(unit)
    async with sold.books.transaction() as unit:
        await unit.receipts.add(replace(receipt, at_ms=AT + DAY))
        await unit.invoices.save(replace(final.moved(Event.PAY, AT + DAY), amount_paid=D("55.06")))


async def test_a_receipt_and_a_balance_count_once(sold: Desk) -> None:
    org_id = await organization(sold)
    final = await finalize(sold, (await draft(sold, org_id)).id)
    receipt = Receipt(
        org_id=org_id, invoice_id=final.id, kind="payment", amount=D("55.06"), currency="usd", method="", reference="pi_1", at_ms=AT
    )
    entry = BalanceEntry(org_id=org_id, currency="usd", identifier="b", amount=D("5.50"), invoice_id=final.id, at_ms=AT)
    async with sold.books.transaction() as unit:
        assert [await unit.receipts.add(receipt) for _ in range(2)] == [True, False]
        assert [await unit.balances.add(entry) for _ in range(2)] == [True, False]
        assert await unit.balances.of_org(org_id, "usd") == D("5.50")
        assert await unit.balances.of_org(org_id, "eur") == 0
        assert await unit.receipts.of_invoice(final.id) == [receipt]
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        await sold.pool.execute("UPDATE billing.receipts SET amount = 1")
