"""What became of a try to charge an invoice."""

from billing.model.payment import PaymentOutcome, PaymentState
from billing.services.ports import Unit
from billing.services.ports_stripe import InboxRow
from billing.stripe.mirror.handling import Done, Found

INVOICE_KEY, ATTEMPT_KEY = "weighbridge_invoice", "weighbridge_attempt"


def outcome_of(intent: Found) -> PaymentOutcome:
    """What a PaymentIntent says. docs.stripe.com, "How PaymentIntents work"."""
    status, payment_id = intent["status"], intent["id"]
    if status == "succeeded":
        return PaymentOutcome(state=PaymentState.PAID, payment_id=payment_id)
    if status == "requires_action":
        return PaymentOutcome(state=PaymentState.NEEDS_ACTION, reason="authentication_required", payment_id=payment_id)
    if status in ("requires_payment_method", "canceled"):
        error = intent.get("last_payment_error") or {}
        reason = error.get("decline_code") or error.get("code") or intent.get("cancellation_reason") or status
        state = PaymentState.NEEDS_ACTION if reason == "authentication_required" and status != "canceled" else PaymentState.DECLINED
        return PaymentOutcome(state=state, reason=reason, payment_id=payment_id)
    return PaymentOutcome(state=PaymentState.UNKNOWN, reason=status, payment_id=payment_id)  # processing: a bank takes days


async def write_payment_intent(unit: Unit, row: InboxRow, found: Found | None, now_ms: int) -> Done:
    """Only of a charge that was begun here: Stripe's own invoices tell of their payment themselves."""
    metadata = (found or {}).get("metadata") or {}
    invoice, attempt = metadata.get(INVOICE_KEY), metadata.get(ATTEMPT_KEY, "")
    if found is None or not invoice or not attempt.isdecimal():
        return Done(ignored="no charge of ours")
    known = {payment.attempt: payment for payment in await unit.payment_attempts.of_invoice(invoice, lock=True)}
    if int(attempt) not in known:
        return Done(ignored="no charge of ours")
    await unit.payment_attempts.settle(invoice, int(attempt), outcome_of(found), now_ms)
    return Done()
