"""Invoices as mails tell them."""

from billing.model.invoice import Invoice, LineKind
from billing.model.mail import Mail
from billing.model.mailing import Bill, invoice_ready, payment_received


def bill_of(invoice: Invoice) -> Bill:
    return Bill(
        org_id=invoice.org_id, invoice_id=invoice.id, number=invoice.number or invoice.id, plan=_plan(invoice),
        amount=invoice.totals.amount_due, currency=invoice.currency,
    )  # fmt: skip


def ready(invoice: Invoice, now_ms: int, *, charged: bool) -> Mail:
    """`charged`: it will be taken from a payment method."""
    return invoice_ready(bill_of(invoice), due_ms=invoice.due_ms, charged=charged, now_ms=now_ms)


def received(invoice: Invoice, now_ms: int, *, restored: bool = False) -> Mail:
    """`restored`: the account was downgraded for it, and returns to its plan."""
    return payment_received(bill_of(invoice), paid_ms=now_ms, restored=restored)


def _plan(invoice: Invoice) -> str:
    """What it is mostly for: the plan's line, else its first one."""
    base = next((line for line in invoice.lines if line.kind is LineKind.BASE), None)
    first = base or (invoice.lines[0] if invoice.lines else None)
    if first is None:
        return ""
    return str(first.evidence.get("plan_title") or first.evidence.get("plan") or first.description)
