"""Invoices that Stripe writes: ours mirror them, and what was paid for them."""

from decimal import Decimal

from billing.model.invoice import Invoice, State
from billing.services.credits import burn_credits, give_back_credits
from billing.services.ports import Unit
from billing.services.ports_invoice import PAYMENT, Receipt
from billing.services.ports_stripe import InboxRow
from billing.stripe.client import StripeApi
from billing.stripe.mirror.handling import Done, Found, org_of
from billing.stripe.mirror.invoice_map import invoice_of, price_of

STRANGER = Done(ignored="an invoice of no organization here")


async def whole(stripe: StripeApi, _row: InboxRow, found: Found) -> Found:
    return await with_lines(stripe, found)


async def with_lines(stripe: StripeApi, found: Found) -> Found:
    """With every line: an invoice itself carries the first few."""
    if not found["lines"].get("has_more"):
        return found
    return {**found, "lines": {"data": [line async for line in stripe.lines_of(found["id"])]}}


async def write_invoice(unit: Unit, row: InboxRow, found: Found | None, now_ms: int) -> Done:
    """As Stripe has it now; a draft that is gone there goes here."""
    return await _gone(unit, row.object_id) if found is None else await mirrored(unit, found, now_ms)


async def mirrored(unit: Unit, found: Found, now_ms: int) -> Done:
    """Ours is as it is at Stripe."""
    org_id = await org_of(unit, found.get("customer"), now_ms)
    if org_id is None:
        return STRANGER
    invoice = invoice_of(found, org_id, await _meters(unit, found))
    await unit.invoices.upsert(invoice)
    await _note_payment(unit, invoice, now_ms)
    await _note_credit(unit, invoice, now_ms)
    return Done()


async def _gone(unit: Unit, stripe_id: str) -> Done:
    known = await unit.invoices.get(stripe_id, lock=True)
    if known is None:
        return STRANGER
    if known.number is None:
        await unit.invoices.drop(known.id)
    return Done()


async def _meters(unit: Unit, found: Found) -> dict[str, str]:
    """Price -> meter, of the prices that we made for meters."""
    meters: dict[str, str] = {}
    for price in {price_of(line) for line in found["lines"]["data"]}:
        key = await unit.stripe_ids.key_of("price", price) if price else None
        if price and key and "/meter/" in key:
            meters[price] = key.rpartition("/meter/")[2]
    return meters


async def _note_payment(unit: Unit, invoice: Invoice, now_ms: int) -> None:
    """What came in since the last look, once."""
    known = await unit.invoices.get(invoice.id)
    if known is None:
        return
    receipts = await unit.receipts.of_invoice(known.id)
    noted = sum((r.amount for r in receipts if r.kind == PAYMENT), Decimal(0))
    if invoice.amount_paid > noted:
        await unit.receipts.add(
            Receipt(
                org_id=invoice.org_id, invoice_id=known.id, kind=PAYMENT, amount=invoice.amount_paid - noted, currency=invoice.currency,
                method=await _method(unit, invoice.org_id), reference=f"{invoice.id}:{invoice.amount_paid}",
                at_ms=invoice.paid_ms or now_ms,
            )
        )  # fmt: skip


async def _note_credit(unit: Unit, invoice: Invoice, now_ms: int) -> None:
    """What Stripe took from the customer's balance came from credit that was granted here, as far as there is any; of a void invoice it
    went back."""
    known = await unit.invoices.get(invoice.id)
    if known is None or invoice.state is State.DRAFT:
        return
    burned = sum((amount for _, amount in await unit.credits.burned(known.id)), Decimal(0))
    applied = Decimal(0) if invoice.state is State.VOID else invoice.totals.credit
    if applied > burned:
        await burn_credits(unit, invoice.org_id, known.id, applied - burned, invoice.currency, now_ms)
    elif applied < burned:
        why = f"Stripe gave it back: invoice {invoice.number or invoice.id}"
        await give_back_credits(unit, invoice.org_id, known.id, now_ms, why=why, amount=burned - applied)


async def _method(unit: Unit, org_id: str) -> str:
    methods = await unit.payment_methods.of_org(org_id)
    return next((method.title for method in methods if method.default), "")
