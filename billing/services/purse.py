"""What comes off an organization's invoices: its coupons before tax, its credits after it (the port Purse of ports_invoice.py)."""

from collections.abc import Sequence
from decimal import Decimal

from billing.model import wallet
from billing.model.discount import discounts
from billing.model.invoice import Credits, Deduction, Discounts, Invoice, Line, LineKind
from billing.model.invoice_item import InvoiceItem
from billing.services.coupons import standing_discounts, undo_discounts, use_discounts
from billing.services.credits import give_back_credits
from billing.services.ports import Unit

_CREDIT = "credit:"


class OwnPurse:
    """Coupons and grants are locked from when they are looked at until the transaction ends."""

    async def discounts(self, unit: Unit, org_id: str, currency: str, now_ms: int) -> Discounts:
        await unit.discounts.lock(org_id)
        redeemed = await standing_discounts(unit, org_id)

        def off(items: Sequence[InvoiceItem]) -> Sequence[Deduction]:
            return [
                Deduction(reference=line.coupon, description=line.description, amount=line.amount, parts=line.parts)
                for line in discounts(items, redeemed, currency, now_ms)
            ]

        return off

    async def credits(self, unit: Unit, org_id: str, currency: str, now_ms: int) -> Credits:
        grants = await unit.credits.lock_usable(org_id, currency)
        reasons = {grant.id: grant.reason for grant in grants}

        def paid(due: Decimal) -> Sequence[Deduction]:
            return [
                Deduction(reference=f"{_CREDIT}{number}", description=f"Credit: {reasons[number]}", amount=amount)
                for number, amount in wallet.burn(grants, due, now_ms).used
            ]

        return paid

    async def spend(self, unit: Unit, invoice: Invoice, taken: Sequence[Line], now_ms: int) -> None:
        off = {line.reference or "": -line.amount for line in taken if line.kind is LineKind.DISCOUNT}
        if off:
            numbers = {d.coupon.code: d.id for d in await standing_discounts(unit, invoice.org_id)}
            await use_discounts(unit, invoice.org_id, invoice.id, [(numbers[code], amount) for code, amount in off.items()], now_ms)
        paid = [(int((line.reference or "").removeprefix(_CREDIT)), -line.amount) for line in taken if line.kind is LineKind.CREDIT]
        if paid:
            await unit.credits.move(invoice.org_id, invoice.id, paid, now_ms)

    async def give_back(self, unit: Unit, invoice: Invoice, now_ms: int) -> None:
        await undo_discounts(unit, invoice.id, now_ms)
        why = f"invoice {invoice.number or invoice.id} was voided"
        await give_back_credits(unit, invoice.org_id, invoice.id, now_ms, why=why)
