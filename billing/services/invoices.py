"""Invoices as people work with them: list, show, explain, preview, pay by hand, void, give up, what is billed once, corrections.

They are written by billing/services/issuing.py when periods end; what takes back part of one is in billing/services/credit_notes.py.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from billing.model.credit_note import CreditNote
from billing.model.invoice import BELOW_SUBTOTAL, ZERO, Event, Invoice, LineKind, State, is_called, states_called
from billing.model.invoice_item import InvoiceItem, ItemKind
from billing.model.lifecycle import next_due, renew
from billing.model.money import round_amount
from billing.model.period_bill import first_bill, terms_of
from billing.model.subscription import Permit, sold
from billing.services import lookup
from billing.services.invoice_mails import received
from billing.services.invoice_writer import BALANCE, InvoiceWriter, Wanted
from billing.services.ports import Account, Books, Unit
from billing.services.ports_invoice import PAYMENT, BalanceEntry, HourOfUsage, InvoiceSettings, NoPurse, Place, Purse, Receipt, place_of
from metering.model.clock import Clock, to_ms
from metering.model.errors import BadInput, Conflict
from metering.model.meter import Meter
from metering.model.period import period_at

BY_HAND = "by hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One line of an invoice, down to the usage rows that it comes from. `agree` False: rows came after it was billed, or are gone."""

    position: int
    line: Any
    hours: tuple[HourOfUsage, ...]
    rows_quantity: int
    agree: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceView:
    """With what was taken back of it; `customer_id` is the customer's at Stripe."""

    invoice: Invoice
    notes: tuple[CreditNote, ...]
    customer_id: str | None


class Invoices:
    """`org_id`, where a use case takes it: an invoice of another organization does not exist. `purse` is what came off an invoice and
    returns when it is voided."""

    def __init__(
        self,
        books: Books,
        clock: Clock,
        writer: InvoiceWriter,
        *,
        meters: Mapping[str, Meter],
        currency: str,
        purse: Purse | None = None,
    ) -> None:
        self._books, self._clock, self._writer = books, clock, writer
        self._meters, self._currency, self._purse = meters, currency, purse or NoPurse()

    # --- to look at ------------------------------------------------------------------------------------------------------

    async def page(
        self, *, org_id: str | None = None, asked: str | None = None, year: int | None = None, after: Place | None = None, limit: int = 50
    ) -> list[Invoice]:  # fmt: skip
        """Newest first, those behind the place `after`. Raises BadInput for a state that there is not."""
        bounds = _year(year) if year is not None else (None, None)
        states, now_ms = states_called(asked), self._clock.now_ms()
        kept: list[Invoice] = []
        async with self._books.transaction() as unit:
            while len(kept) < limit:
                found = await unit.invoices.page(org_id=org_id, states=states, from_ms=bounds[0], to_ms=bounds[1], after=after, limit=limit)
                kept += [each for each in found if asked is None or is_called(each, asked, now_ms)]
                if len(found) < limit:
                    break
                after = place_of(found[-1])
        return kept[:limit]

    async def show(self, ref: str) -> Invoice:
        """By id, number, or Stripe's id. Raises NoSuchInvoice."""
        async with self._books.transaction() as unit:
            return await lookup.invoice(unit, ref)

    async def view(self, ref: str, *, org_id: str | None = None) -> InvoiceView:
        """With its credit notes, and what it was paid with. Raises NoSuchInvoice, also where it is another organization's than `org_id`."""
        async with self._books.transaction() as unit:
            invoice = await lookup.invoice(unit, ref, org_id=org_id)
            notes, customer = await unit.credit_notes.of_invoice(invoice.id), await unit.customers.get(invoice.org_id)
            methods = [receipt.method for receipt in await unit.receipts.of_invoice(invoice.id) if receipt.kind == PAYMENT]
        shown = replace(invoice, payment_method=invoice.payment_method or (methods[-1] or None if methods else None))
        return InvoiceView(invoice=shown, notes=tuple(notes), customer_id=customer.stripe_id if customer else None)

    async def explain(self, ref: str, *, org_id: str | None = None) -> tuple[Invoice, list[Explained]]:
        """Each line down to the hours of its usage. Raises NoSuchInvoice."""
        async with self._books.transaction() as unit:
            invoice = await lookup.invoice(unit, ref, org_id=org_id)
            return invoice, [await _explained(unit, invoice, position) for position in range(1, len(invoice.lines) + 1)]

    async def preview(self, org_ref: str) -> Invoice:
        """The invoice as it would be if the period under way ended now: what waits, the usage so far, and the price of the next period
        where one follows. Writes nothing.

        Raises NoSuchOrganization.
        """
        now_ms = self._clock.now_ms()
        async with self._books.transaction(keep=False) as unit:
            org = await lookup.organization(unit, org_ref)
            (account,) = await unit.orgs.accounts([org.id])
            currency = account.subscription.currency if account.subscription else self._currency
            period = period_at(account.subscription.anchor_ms if account.subscription else org.created_at_ms, now_ms)
            items = [
                *await unit.invoice_items.waiting(org.id, currency),
                *await self._so_far(unit, account, period),
                *await _following(unit, account),
            ]
            wanted = Wanted(org=org, currency=currency, identifier=f"preview:{org.id}", items=items, period=period)
            return await self._writer.compose(unit, wanted, now_ms)

    async def _so_far(self, unit: Unit, account: Account, period: tuple[int, int]) -> tuple[InvoiceItem, ...]:
        used = await unit.usage.of_period(account.org.id, period[0])
        terms = terms_of(account.subscription, account.spec, account.overrides, self._currency)
        return first_bill(account.org.id, terms, period, used, self._meters).items

    # --- to decide -------------------------------------------------------------------------------------------------------

    async def pay(
        self, ref: str, *, method: str = BY_HAND, reference: str | None = None, amount: Decimal | None = None, org_id: str | None = None
    ) -> Invoice:  # fmt: skip
        """What was received for it: all that is due, or part. The same reference twice is the same payment.

        Raises NoSuchInvoice, WrittenByStripe, InvoiceTransitionRefused where it is not to be paid, BadInput for more than is due,
        MonthClosed.
        """
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            return await self.paid(unit, await lookup.own_invoice(unit, ref, org_id=org_id), method, reference, amount, now_ms)

    async def paid(
        self, unit: Unit, invoice: Invoice, method: str, reference: str | None, amount: Decimal | None, now_ms: int
    ) -> Invoice:  # fmt: skip
        """`pay`, within a transaction that has the invoice locked."""
        if reference is not None and any(each.reference == reference for each in await unit.receipts.of_invoice(invoice.id)):
            return invoice
        done = invoice.moved(Event.PAY, now_ms)
        taken = invoice.remaining if amount is None else amount
        if not 0 < taken <= invoice.remaining or taken != round_amount(taken, invoice.currency):
            raise BadInput(f"{taken} cannot be paid for invoice {invoice.number}: {invoice.remaining} is due")
        await unit.receipts.add(
            Receipt(
                org_id=invoice.org_id,
                invoice_id=invoice.id,
                kind=PAYMENT,
                amount=taken,
                currency=invoice.currency,
                method=method,
                reference=reference or f"{BY_HAND} {uuid.uuid4().hex[:12]}",
                at_ms=now_ms,
            )
        )
        state = done if taken == invoice.remaining else invoice
        state = replace(state, amount_paid=invoice.amount_paid + taken, payment_method=method)
        await unit.invoices.save(state)
        if state.state is State.PAID:
            debt = await unit.dunning.get(state.id)
            restored = debt is not None and debt.downgraded_ms is not None and not await unit.dunning.others(state.org_id, state.id)
            await unit.mails.add([received(state, now_ms, restored=restored)], now_ms)
        return state

    async def attempted(self, unit: Unit, invoice: Invoice, next_attempt_ms: int | None) -> Invoice:
        """An attempt to charge it failed; the next is then, or never. The invoice is locked by who calls."""
        state = replace(invoice, attempts=invoice.attempts + 1, next_attempt_ms=next_attempt_ms)
        await unit.invoices.save(state)
        return state

    async def void(self, ref: str, *, org_id: str | None = None) -> Invoice:
        """Nobody owes it: what was on it is not billed again by itself; credits and balance that it took return.

        Raises InvoiceTransitionRefused, MonthClosed, and Conflict where part of it was paid: then a credit note takes it back.
        """
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            invoice = await lookup.own_invoice(unit, ref, org_id=org_id)
            if invoice.amount_paid or invoice.credited:
                raise Conflict(f"invoice {invoice.number} was paid or credited in part: take back the rest by a credit note")
            state = invoice.moved(Event.VOID, now_ms)
            await unit.invoices.save(state)
            await self._purse.give_back(unit, state, now_ms)
            taken = -sum((line.amount for line in state.lines if line.kind is LineKind.CREDIT and line.reference == BALANCE), ZERO)
            if taken - state.totals.carried:
                entry = BalanceEntry(
                    org_id=state.org_id, currency=state.currency, identifier=f"void:{state.id}", amount=taken - state.totals.carried,
                    invoice_id=state.id, at_ms=now_ms,
                )  # fmt: skip
                await unit.balances.add(entry)
        return state

    async def give_up(self, ref: str, *, org_id: str | None = None) -> Invoice:
        """It is owed, and will not be paid. Raises InvoiceTransitionRefused."""
        async with self._books.transaction() as unit:
            state = (await lookup.own_invoice(unit, ref, org_id=org_id)).moved(Event.GIVE_UP, self._clock.now_ms())
            await unit.invoices.save(state)
        return state

    async def charge_once(self, org_ref: str, description: str, amount: Decimal, *, now: bool = False) -> Invoice | InvoiceItem:
        """A charge, or below zero a credit, on the next invoice; or `now`, on one of its own. Raises BadInput, NoSuchOrganization."""
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref, lock=True)
            subscription = await unit.subscriptions.of_org(org.id)
            currency = subscription.currency if subscription else self._currency
            item = self._item(org.id, ItemKind.ONE_TIME, description, amount, currency, now_ms)
            await unit.invoice_items.add([item], now_ms)
            if not now:
                return item
            waiting = [each for each in await unit.invoice_items.waiting(org.id, currency) if each.identifier == item.identifier]
            wanted = Wanted(org=org, currency=currency, identifier=f"inv1:{item.identifier}", items=waiting, period=(now_ms, now_ms))
            made = await self._writer.write(unit, wanted, now_ms)
        assert made is not None  # its identifier is new
        return made

    async def correct(self, ref: str, position: int, amount: Decimal, reason: str, *, org_id: str | None = None) -> InvoiceItem:
        """A signed line on the next invoice that names the row it corrects. Raises NoSuchInvoice, BadInput."""
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            invoice = await lookup.own_invoice(unit, ref, org_id=org_id)
            if invoice.state is State.DRAFT:
                raise Conflict(f"invoice {invoice.id} is a draft: what stands on it can still change")
            rows = [i for i, line in enumerate(invoice.lines, 1) if line.kind not in BELOW_SUBTOTAL]
            if position not in rows:
                raise BadInput(f"invoice {invoice.number} has no row {position} that can be corrected; it has {rows[0]} to {rows[-1]}")
            line = invoice.lines[position - 1]
            text = f"Correction of {invoice.number}, row {position} ({line.description}): {reason}"
            item = self._item(invoice.org_id, ItemKind.CORRECTION, text, amount, invoice.currency, now_ms)
            item = replace(item, meter=line.meter, evidence={**item.evidence, "invoice": invoice.number, "position": position})
            await unit.invoice_items.add([item], now_ms)
        return item

    def _item(self, org_id: str, kind: ItemKind, description: str, amount: Decimal, currency: str, now_ms: int) -> InvoiceItem:
        if not amount or amount != round_amount(amount, currency):
            raise BadInput(f"{amount} is no amount in {currency.upper()}: write one with its decimals, and not zero")
        if not description.strip():
            raise BadInput("what is charged needs a description: it stands on the invoice")
        return InvoiceItem(
            org_id=org_id, identifier=f"{kind}:{uuid.uuid4().hex}", kind=kind, description=description.strip(), quantity=Decimal(1),
            unit_price=amount, amount=amount, currency=currency, period_start_ms=now_ms, period_end_ms=now_ms,
            evidence={"written_ms": now_ms},
        )  # fmt: skip

    # --- what stands on every invoice --------------------------------------------------------------------------------------

    async def settings(self) -> InvoiceSettings:
        async with self._books.transaction() as unit:
            return await unit.invoice_settings.get()

    async def change_settings(self, **changes: Any) -> InvoiceSettings:
        """Those named; invoices that are final keep what they say."""
        async with self._books.transaction() as unit:
            changed = replace(await unit.invoice_settings.get(), **changes).checked()
            await unit.invoice_settings.put(changed, self._clock.now_ms())
        return changed


async def _following(unit: Unit, account: Account) -> Sequence[InvoiceItem]:
    """What falls due when the billing period under way ends, and nobody changes anything."""
    s = account.subscription
    due = next_due(s) if s else None
    if s is None or account.spec is None or due is None or due[1] is not Permit.RENEW:
        return ()
    awaited = await unit.plans.version(s.awaited.plan, s.awaited.version) if s.awaited else None
    return renew(s, sold(account.spec, s), awaited).items


async def _explained(unit: Unit, invoice: Invoice, position: int) -> Explained:
    line = invoice.lines[position - 1]
    if line.meter is None or line.period_start_ms is None or "used" not in line.evidence:
        return Explained(position=position, line=line, hours=(), rows_quantity=0, agree=True)
    hours = await unit.evidence.hours(invoice.org_id, line.meter, line.period_start_ms)
    quantity = sum(hour.quantity for hour in hours)
    return Explained(
        position=position, line=line, hours=tuple(hours), rows_quantity=quantity, agree=Decimal(line.evidence["used"]) == quantity
    )


def _year(year: int) -> tuple[int, int]:
    if not 1970 <= year <= 9998:
        raise BadInput(f"{year} is no year")
    return to_ms(datetime(year, 1, 1, tzinfo=UTC)), to_ms(datetime(year + 1, 1, 1, tzinfo=UTC))
