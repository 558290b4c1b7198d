"""What waits to be billed, and mails that must go out: written once, taken up once."""

from dataclasses import replace
from decimal import Decimal

from billing.model.invoice_item import InvoiceItem, ItemKind
from billing.model.mail import Mail, MailKind
from metering.model.clock import to_ms

from .conftest import NOW, Desk

START = to_ms(NOW)


async def organization(desk: Desk) -> str:
    return (await desk.billing.orgs.create("Acme", plan="free")).org.id


def item(org_id: str, identifier: str = "renewal:1") -> InvoiceItem:
    return InvoiceItem(
        org_id=org_id, identifier=identifier, kind=ItemKind.OVERAGE, description="API overage", quantity=Decimal(5000),
        unit_price=Decimal("0.0003"), amount=Decimal("1.50"), currency="usd", period_start_ms=START, period_end_ms=START + 86_400_000,
        meter="api", evidence={"units": 5000},
    )  # fmt: skip


async def test_an_item_is_read_as_it_was_written(sold: Desk) -> None:
    org_id = await organization(sold)
    async with sold.books.transaction() as unit:
        await unit.invoice_items.add([item(org_id)], START)
        [found] = await unit.invoice_items.waiting(org_id, "usd")
    assert replace(found, id=0) == item(org_id)


async def test_an_item_written_twice_waits_once(sold: Desk) -> None:
    org_id = await organization(sold)
    for _ in range(2):
        async with sold.books.transaction() as unit:
            await unit.invoice_items.add([item(org_id)], START)
    async with sold.books.transaction() as unit:
        assert len(await unit.invoice_items.waiting(org_id, "usd")) == 1
        assert await unit.invoice_items.waiting(org_id, "eur") == []


async def test_an_item_stands_on_one_invoice_only(sold: Desk) -> None:
    org_id = await organization(sold)
    await sold.pool.executemany(
        "INSERT INTO billing.invoices (id, org_id, status, currency, subtotal, total, period_start, period_end, created_at)"
        " VALUES ($1, $2, 'draft', 'usd', 0, 0, now(), now(), now())",
        [("in_1", org_id), ("in_2", org_id)],
    )
    async with sold.books.transaction() as unit:
        await unit.invoice_items.add([item(org_id)], START)
        [found] = await unit.invoice_items.waiting(org_id, "usd")
        assert await unit.invoice_items.take_up([found.id], "in_1") == 1
        assert await unit.invoice_items.take_up([found.id], "in_2") == 0
        assert await unit.invoice_items.waiting(org_id, "usd") == []


async def test_a_mail_is_written_once_and_can_be_dropped_until_it_goes_out(sold: Desk) -> None:
    org_id = await organization(sold)
    mail = Mail(org_id=org_id, kind=MailKind.WIN_BACK_OFFER, identifier=f"win_back:{org_id}:1", due_ms=START, facts={"code": "COMEBACK"})
    async with sold.books.transaction() as unit:
        await unit.mails.add([mail, mail], START)
        assert await unit.mails.drop(org_id, [MailKind.TRIAL_ENDED], START) == 0
        assert await unit.mails.drop(org_id, [MailKind.WIN_BACK_OFFER], START) == 1
        assert await unit.mails.drop(org_id, [MailKind.WIN_BACK_OFFER], START) == 0
