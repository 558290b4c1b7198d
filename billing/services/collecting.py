"""Charge an invoice, or give money back, because somebody asks for it; the schedule is that of billing/services/dunning.py."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from billing.model.credit_note import CreditNote
from billing.model.invoice import Invoice, Issuer
from billing.model.money import to_minor
from billing.model.payment import PaymentMethod, PaymentOutcome, PaymentState
from billing.services import lookup
from billing.services.invoices import Invoices
from billing.services.ports import Books
from billing.services.ports_stripe import NoStripe, Payments
from metering.model.clock import Clock
from metering.model.errors import Conflict


class PaymentRefused(Conflict):
    """The payment was not made."""

    code = "payment_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """`payment_id` names it where it happened."""

    invoice: Invoice
    payment_id: str


class Collecting:
    """`payments` None: there is no Stripe, nothing is charged, and what goes back goes back by hand."""

    def __init__(self, books: Books, clock: Clock, invoices: Invoices, payments: Payments | None) -> None:
        self._books, self._clock, self._invoices, self._payments = books, clock, invoices, payments

    async def charge(self, ref: str, *, org_id: str | None = None) -> Collected:
        """What is due of it, now. A try that is under way, or was paid, is not made again.

        Raises NoSuchInvoice, also where it is another organization's than `org_id`, InvoiceTransitionRefused, NotPayable,
        PaymentRefused, NoStripe.
        """
        async with self._books.transaction() as unit:
            invoice = await lookup.invoice(unit, ref, org_id=org_id)
            tries = await unit.payment_attempts.of_invoice(invoice.id)
        if self._payments is None:
            raise NoStripe
        if not invoice.remaining:
            raise PaymentRefused(f"invoice {invoice.number or invoice.id} is {invoice.state}: nothing is due")
        if invoice.issuer is Issuer.STRIPE:
            return await self._paid_there(invoice, self._payments)
        amount = to_minor(invoice.remaining, invoice.currency)
        attempt = max((each.attempt for each in tries), default=0) + 1
        outcome = await self._payments.charge(invoice.org_id, invoice.id, amount, invoice.currency, attempt)
        return await self._kept(invoice.id, outcome)

    async def _paid_there(self, before: Invoice, payments: Payments) -> Collected:
        assert before.stripe_id is not None  # Stripe wrote it
        outcome = await payments.pay_there(before.stripe_id)
        async with self._books.transaction() as unit:
            invoice = await lookup.invoice(unit, before.id)
            methods = await unit.payment_methods.of_org(invoice.org_id)
        if outcome.state is PaymentState.PAID:
            shown = replace(invoice, payment_method=invoice.payment_method or _default(methods))
            return Collected(invoice=shown, payment_id=outcome.payment_id or before.stripe_id)
        raise _refusal(outcome, invoice)

    async def refund(self, note: CreditNote) -> PaymentOutcome | None:
        """The money of a credit note that refunds, where it came from; None where it came by hand, and so goes back by hand. Asking
        again moves nothing twice. Raises NotPayable."""
        async with self._books.transaction() as unit:
            tries = await unit.payment_attempts.of_invoice(note.invoice_id)
        if self._payments is None or not note.refunded or not any(each.state is PaymentState.PAID for each in tries):
            return None
        return await self._payments.refund(note.invoice_id, to_minor(note.refunded, note.currency), note.id)

    async def _kept(self, invoice_id: str, outcome: PaymentOutcome) -> Collected:
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            invoice = await unit.invoices.get(invoice_id, lock=True)
            assert invoice is not None
            if outcome.state is PaymentState.PAID:
                reference = outcome.payment_id or f"charge:{invoice_id}"
                method = _default(await unit.payment_methods.of_org(invoice.org_id))
                return Collected(invoice=await self._invoices.paid(unit, invoice, method, reference, None, now_ms), payment_id=reference)
            if outcome.state is PaymentState.DECLINED:
                await self._invoices.attempted(unit, invoice, invoice.next_attempt_ms)
        raise _refusal(outcome, invoice)


def _refusal(outcome: PaymentOutcome, invoice: Invoice) -> PaymentRefused:
    number = invoice.number or invoice.id
    return PaymentRefused(_WHY[outcome.state].format(number=number, reason=outcome.reason or "no reason was given"))


def _default(methods: Sequence[PaymentMethod]) -> str:
    return next((each.title for each in methods if each.default), "Stripe")


_WHY = {
    PaymentState.DECLINED: "the payment of {number} was declined: {reason}. weighbridge payment add takes another card",
    PaymentState.NEEDS_ACTION: "the customer must confirm the payment of {number} with the bank: {reason}",
    PaymentState.UNKNOWN: "it is not known yet whether {number} was paid; it is asked again, and never charged twice",
}
