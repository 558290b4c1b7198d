"""Credit notes: take back rows of an invoice that is final."""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from billing.model.credit_note import CreditNote, sums, where_it_goes
from billing.model.invoice import Event, Invoice, State
from billing.services import lookup
from billing.services.ports import Books, Unit
from billing.services.ports_invoice import CREDIT_NOTE, REFUND, BalanceEntry, Receipt
from metering.model.clock import Clock
from metering.model.errors import BadInput


class CreditNotes:
    def __init__(self, books: Books, clock: Clock) -> None:
        self._books, self._clock = books, clock

    async def issue(
        self, ref: str, rows: Mapping[int, Decimal | None], *, reason: str, refund: bool = False, identifier: str | None = None,
        org_id: str | None = None,
    ) -> CreditNote:  # fmt: skip
        """For rows of one invoice; None is all that is left of a row. What is owed is let off first; of what was paid, the money is
        given back (`refund`; whoever asks moves it) or kept for the next invoice. Equal identifiers are the same note.

        Raises NoSuchInvoice, also where it is another organization's than `org_id`, WrittenByStripe, CreditRefused, BadInput.
        """
        if not reason.strip():
            raise BadInput("a credit note needs a reason")
        now_ms = self._clock.now_ms()
        note_id = f"cn_{identifier or uuid.uuid4().hex}"
        async with self._books.transaction() as unit:
            invoice = await lookup.own_invoice(unit, ref, org_id=org_id)
            before = await unit.credit_notes.of_invoice(invoice.id)
            if known := next((note for note in before if note.id == note_id), None):
                return known
            found = sums(invoice, await unit.credit_notes.credited(invoice.id), rows)
            off_due, refunded, to_balance = where_it_goes(
                invoice, found.total, refund=refund, refunded=sum((note.refunded for note in before), Decimal(0))
            )
            note = CreditNote(
                id=note_id, number=await unit.invoices.next_number(CREDIT_NOTE), org_id=invoice.org_id, invoice_id=invoice.id,
                currency=invoice.currency, lines=found.lines, subtotal=found.subtotal, tax=found.tax, total=found.total,
                reason=reason.strip(), created_ms=now_ms, off_due=off_due, refunded=refunded, to_balance=to_balance,
            )  # fmt: skip
            await unit.credit_notes.add(note)
            await _settle(unit, invoice, note, now_ms)
        return note


async def _settle(unit: Unit, invoice: Invoice, note: CreditNote, now_ms: int) -> None:
    """Where the money goes. An open invoice of which nothing is left to pay is settled."""
    if note.off_due:
        state = replace(invoice, credited=invoice.credited + note.off_due)
        if state.state is State.OPEN and not state.remaining:
            state = state.moved(Event.PAY, now_ms)
        await unit.invoices.save(state)
    if note.refunded:
        await unit.receipts.add(
            Receipt(
                org_id=note.org_id,
                invoice_id=invoice.id,
                kind=REFUND,
                amount=note.refunded,
                currency=note.currency,
                method=invoice.payment_method or "",
                reference=note.number,
                at_ms=now_ms,
            )
        )
    if note.to_balance:
        await unit.balances.add(
            BalanceEntry(
                org_id=note.org_id,
                currency=note.currency,
                identifier=f"note:{note.id}",
                amount=note.to_balance,
                invoice_id=invoice.id,
                at_ms=now_ms,
            )
        )
