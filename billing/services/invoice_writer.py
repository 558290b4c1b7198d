"""Write one invoice: its lines, what comes off it, its number, all in the transaction of who calls.

What takes an invoice up takes it up whole: items, coupons, credits, balance and number stand or fall with it.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from billing.model.customer import Customer
from billing.model.invoice import ZERO, Credits, Deduction, Event, Invoice, Issuer, LineKind, State, build
from billing.model.invoice_item import InvoiceItem
from billing.model.organization import Organization
from billing.model.tax import NO_TAX, Place, TaxRule
from billing.services.ports import Unit
from billing.services.ports_invoice import INVOICE, BalanceEntry, InvoiceSettings, NoPurse, Purse
from metering.model.errors import Conflict

BALANCE = "balance"
_DAY_MS = 86_400_000


class TakenUp(Conflict):
    """Somebody else has just put these items on an invoice."""

    code = "items_taken_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the invoice is for. `identifier` is its own: the same twice is written once."""

    org: Organization
    currency: str
    identifier: str
    items: Sequence[InvoiceItem]
    period: tuple[int, int]


class InvoiceWriter:
    """`rule` is the tax; `purse` what comes off, before and after it."""

    def __init__(self, *, rule: TaxRule = NO_TAX, purse: Purse | None = None) -> None:
        self._rule, self._purse = rule, purse or NoPurse()

    async def compose(self, unit: Unit, wanted: Wanted, now_ms: int) -> Invoice:
        """A draft that is written nowhere: as the invoice would be now."""
        org, currency = wanted.org, wanted.currency
        settings, customer = await unit.invoice_settings.get(), await unit.customers.get(org.id)
        lines, sums, rate = build(
            wanted.items,
            currency=currency,
            place=customer.place if customer else Place(),
            rule=self._rule,
            discounts=await self._purse.discounts(unit, org.id, currency, now_ms),
            credits=await self._credits(unit, org.id, currency, now_ms),
        )
        return Invoice(
            id=f"in_{uuid.uuid4().hex}", org_id=org.id, issuer=Issuer.WEIGHBRIDGE, identifier=wanted.identifier, state=State.DRAFT,
            currency=currency, lines=lines, totals=sums, tax_rate=rate, period_start_ms=wanted.period[0], period_end_ms=wanted.period[1],
            created_ms=now_ms, due_ms=now_ms + settings.due_days * _DAY_MS, seller=seller_of(settings), buyer=buyer_of(org, customer),
        )  # fmt: skip

    async def write(self, unit: Unit, wanted: Wanted, now_ms: int) -> Invoice | None:
        """Final, numbered, and paid where nothing is due. None where its identifier is known already. Raises TakenUp, MonthClosed."""
        draft = await self.compose(unit, wanted, now_ms)
        if not await unit.invoices.add(draft):
            return None
        ids = [item.id for item in wanted.items]
        if await unit.invoice_items.take_up(ids, draft.id) != len(ids):
            raise TakenUp(f"what was to stand on {draft.identifier} stands on another invoice already")
        await self._settle(unit, draft, now_ms)
        final = replace(draft.moved(Event.FINALIZE, now_ms), number=await unit.invoices.next_number(INVOICE))
        final = replace(final, next_attempt_ms=now_ms) if final.remaining else final.moved(Event.PAY, now_ms)
        await unit.invoices.save(final)
        return final

    async def _credits(self, unit: Unit, org_id: str, currency: str, now_ms: int) -> Credits:
        """The purse's credits first, as they may expire; then the balance."""
        purse, balance = await self._purse.credits(unit, org_id, currency, now_ms), await unit.balances.of_org(org_id, currency)

        def taken(due: Decimal) -> Sequence[Deduction]:
            found = list(purse(due))
            rest = min(balance, due - sum((each.amount for each in found), ZERO))
            if rest > 0:
                found.append(Deduction(reference=BALANCE, description="Balance", amount=rest))
            return found

        return taken

    async def _settle(self, unit: Unit, invoice: Invoice, now_ms: int) -> None:
        """What came off is spent, and what lies below zero is kept for the next."""
        taken = [line for line in invoice.lines if line.kind in (LineKind.DISCOUNT, LineKind.CREDIT)]
        await self._purse.spend(unit, invoice, [line for line in taken if line.reference != BALANCE], now_ms)
        moved = invoice.totals.carried + sum((line.amount for line in taken if line.reference == BALANCE), ZERO)
        if moved:
            entry = BalanceEntry(
                org_id=invoice.org_id, currency=invoice.currency, identifier=f"invoice:{invoice.id}", amount=moved, invoice_id=invoice.id,
                at_ms=now_ms,
            )  # fmt: skip
            await unit.balances.add(entry)


def seller_of(settings: InvoiceSettings) -> dict[str, str]:
    """As it stands on the invoice. The logo is not part of what is final: it is a picture."""
    return {
        "name": settings.company_name, "address": settings.company_address, "email": settings.company_email,
        "tax_id": settings.company_tax_id, "footer": settings.footer,
    }  # fmt: skip


def buyer_of(org: Organization, customer: Customer | None) -> dict[str, Any]:
    """As it stands on the invoice; nothing is said of what is not known."""
    if customer is None:
        return {"name": org.name}
    facts = {
        "name": customer.name or org.name, "email": customer.email, "address": list(customer.address.lines),
        "tax_id": [each.value for each in customer.tax_ids], "country": customer.address.country, "state": customer.address.state,
        "language": customer.language,
    }  # fmt: skip
    return {name: value for name, value in facts.items() if value}
