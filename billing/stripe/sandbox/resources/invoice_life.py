"""An invoice from draft to its end: finalized, tried, paid, void or uncollectible. What it means for a subscription is hooked in.

draft -> open -> paid | void | uncollectible; uncollectible -> paid | void. An automatic draft is finalized after an hour
(longer while an endpoint refuses its invoice.created, three days at most), tried at once, and retried by the settings.
"""

from collections.abc import Callable

from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.invoice_math import settled
from billing.stripe.sandbox.own_settings import setting
from billing.stripe.sandbox.resources.automatic_tax import check_location
from billing.stripe.sandbox.resources.balances import moved
from billing.stripe.sandbox.resources.base import Body, Call, fetch
from billing.stripe.sandbox.resources.discounts import is_once
from billing.stripe.sandbox.resources.drafts import reckoned
from billing.stripe.sandbox.resources.events import change, emit, keep
from billing.stripe.sandbox.resources.payment_intents import WHEN_PAID, attempt, canceled, new_intent
from billing.stripe.sandbox.store import new_id
from billing.stripe.sandbox.work import does

_DAY, _HOUR = 86_400, 3600
_LONGEST_WAIT = 72 * _HOUR
Told = Callable[[Call, Body], None]
WHEN_SETTLED: list[Told] = []  # an invoice was paid
WHEN_REFUSED: list[Told] = []  # a try failed; `next_payment_attempt` says whether there is another
WHEN_OVERDUE: list[Told] = []  # a sent invoice was not paid in time


def plan_finalization(call: Call, invoice: Body) -> Body:
    """An automatic draft is finalized by itself."""
    at = call.now + int(setting(call.store, "draft_seconds")) if invoice["auto_advance"] else None
    call.store.plan("invoice.finalize", invoice["id"], at, invoice["test_clock"])
    new = invoice | {"automatically_finalizes_at": at}
    call.store.replace("invoice", new)
    return new


@does("invoice.finalize")
def _finalize_when_due(call: Call, invoice_id: str) -> None:
    invoice = call.store.get("invoice", invoice_id)
    if invoice is None or invoice.get("deleted") or invoice["status"] != "draft" or not invoice["auto_advance"]:
        return
    waited = call.now - invoice["created"]
    if waited < _LONGEST_WAIT and call.store.refused("invoice.created", invoice_id):
        call.store.plan("invoice.finalize", invoice_id, call.now + _HOUR, invoice["test_clock"])
        return
    try:
        finalized(call, invoice)
    except Refusal as refusal:  # it stays a draft until somebody helps
        failed = invoice | {"last_finalization_error": refusal.envelope()["error"], "auto_advance": False}
        change(call, invoice, failed, "invoice.finalization_failed")


def finalized(call: Call, draft: Body, *, pay: bool = True) -> Body:
    """Number it, settle it against the customer's balance, and (where it is automatic) try to have it paid."""
    invoice = reckoned(call, draft)
    check_location(invoice)
    customer = fetch(call, "customer", invoice["customer"], noun="customer", param="customer")
    number = customer["next_invoice_sequence"]
    amount_due, ending = settled(invoice["total"], customer["balance"])
    call.store.replace("customer", customer | {"next_invoice_sequence": number + 1, "currency": invoice["currency"]})
    moved(call, customer["id"], ending - customer["balance"], invoice["currency"], "applied_to_invoice", invoice=invoice["id"])
    days = invoice["_days_until_due"]
    sent = invoice["collection_method"] == "send_invoice"
    invoice |= {
        "amount_due": amount_due,
        "amount_remaining": amount_due,
        "automatically_finalizes_at": None,
        "due_date": (invoice["due_date"] or call.now + (days or 0) * _DAY) if sent else None,
        "effective_at": invoice["effective_at"] or call.now,
        "ending_balance": ending,
        "hosted_invoice_url": f"{call.store.setting('url', '')}/_sandbox/invoices/{invoice['id']}",
        "number": invoice["number"] or f"{customer['invoice_prefix']}-{number:04d}",
        "status": "open",
        "status_transitions": invoice["status_transitions"] | {"finalized_at": call.now},
    }
    call.store.plan("invoice.finalize", invoice["id"], None, None)
    invoice = _with_intent(call, invoice)
    change(call, draft, invoice, "invoice.finalized")
    _end_once(call, invoice)
    if amount_due == 0:
        return settle(call, invoice)
    if sent:
        call.store.plan("invoice.overdue", invoice["id"], invoice["due_date"], invoice["test_clock"])
        emit(call, "invoice.sent", invoice)
        return invoice
    return tried(call, invoice) if pay and invoice["auto_advance"] else invoice


def _with_intent(call: Call, invoice: Body) -> Body:
    """What is to be paid gets a payment intent of its own."""
    amount = invoice["amount_due"]
    if amount == 0:
        return invoice
    described = f"Invoice {invoice['number']}"
    intent = new_intent(call, amount, invoice["currency"], invoice["customer"], description=described, _invoice=invoice["id"])
    payment = {
        "id": new_id("inpay"),
        "object": "invoice_payment",
        "amount_paid": None,
        "amount_requested": amount,
        "created": call.now,
        "currency": invoice["currency"],
        "invoice": invoice["id"],
        "is_default": True,
        "livemode": False,
        "payment": {"type": "payment_intent", "payment_intent": intent["id"]},
        "status": "open",
        "status_transitions": {"canceled_at": None, "paid_at": None},
    }
    keep(call, payment)
    return invoice | {"_intent": intent["id"], "_payment": payment["id"]}


def _end_once(call: Call, invoice: Body) -> None:
    """A coupon for one invoice leaves the subscription or the customer with it."""
    spent = [name for name in invoice["discounts"] if is_once(call, name)]
    subscription = call.store.get("subscription", invoice["_subscription"] or "")
    if spent and subscription:
        left = [name for name in subscription["discounts"] if name not in spent]
        call.store.replace("subscription", subscription | {"discounts": left})
        for name in set(subscription["discounts"]) - set(left):
            emit(call, "customer.discount.deleted", fetch(call, "discount", name, noun="discount", param="discounts"))
    customer = call.store.get("customer", invoice["customer"])
    if customer and not customer.get("deleted") and customer["discount"] and customer["discount"]["id"] in spent:
        call.store.replace("customer", customer | {"discount": None})


def method_for(call: Call, invoice: Body) -> Body | None:
    """The card an invoice is taken from: its own, its subscription's, or the customer's default."""
    subscription = call.store.get("subscription", invoice["_subscription"] or "") or {}
    customer = call.store.get("customer", invoice["customer"]) or {}
    settings = customer.get("invoice_settings", {})
    for name in (invoice["default_payment_method"], subscription.get("default_payment_method"), settings.get("default_payment_method")):
        method = call.store.get("payment_method", name) if name else None
        if method and method["customer"] == invoice["customer"]:
            return method
    return None


def tried(call: Call, invoice: Body, method: Body | None = None, *, off_session: bool = True) -> Body:
    """One try to take an open invoice's amount; the invoice after it."""
    method = method or method_for(call, invoice)
    intent = call.store.get("payment_intent", invoice["_intent"])
    assert intent is not None
    counted = invoice | {"attempted": True, "attempt_count": invoice["attempt_count"] + 1, "next_payment_attempt": None}
    call.store.replace("invoice", counted)
    if method is not None:
        intent = attempt(call, intent, method, off_session=off_session)
        if intent["status"] == "succeeded":
            return call.store.get("invoice", invoice["id"]) or counted
    _delinquent(call, invoice, owing=True)
    failed = counted | {"next_payment_attempt": _next_try(call, counted)}
    call.store.plan("invoice.retry", invoice["id"], failed["next_payment_attempt"], invoice["test_clock"])
    change(call, invoice, failed, "invoice.payment_failed")
    if intent["status"] == "requires_action":
        emit(call, "invoice.payment_action_required", failed)
    for refused in WHEN_REFUSED:
        refused(call, failed)
    return call.store.get("invoice", invoice["id"]) or failed


def _delinquent(call: Call, invoice: Body, *, owing: bool) -> None:
    """Whether the customer's last try to pay went wrong."""
    customer = call.store.get("customer", invoice["customer"])
    if customer and not customer.get("deleted"):
        call.store.replace("customer", customer | {"delinquent": owing})


def _next_try(call: Call, invoice: Body) -> int | None:
    """A new subscription's first invoice is not retried: the customer is there to pay it."""
    days = setting(call.store, "retry_days")
    done = invoice["attempt_count"]
    if not invoice["auto_advance"] or invoice["billing_reason"] == "subscription_create" or done > len(days):
        return None
    return call.now + int(days[done - 1] * _DAY)


@does("invoice.retry")
def _retry(call: Call, invoice_id: str) -> None:
    invoice = call.store.get("invoice", invoice_id)
    if invoice and not invoice.get("deleted") and invoice["status"] == "open" and invoice["auto_advance"]:
        tried(call, invoice)


@does("invoice.overdue")
def _overdue(call: Call, invoice_id: str) -> None:
    invoice = call.store.get("invoice", invoice_id)
    if invoice and not invoice.get("deleted") and invoice["status"] == "open":
        emit(call, "invoice.overdue", invoice)
        for overdue in WHEN_OVERDUE:
            overdue(call, invoice)


def _paid_by_intent(call: Call, intent: Body) -> None:
    invoice = call.store.get("invoice", intent.get("_invoice", ""))
    if invoice and invoice["status"] in ("open", "uncollectible"):
        settle(call, invoice)


WHEN_PAID.append(_paid_by_intent)


def settle(call: Call, invoice: Body, *, out_of_band: bool = False) -> Body:
    """It is paid, in full."""
    amount = invoice["amount_due"]
    paid = invoice | {
        "amount_paid": amount,
        "amount_paid_off_stripe": amount if out_of_band else 0,
        "amount_remaining": 0,
        "attempted": True,
        "next_payment_attempt": None,
        "status": "paid",
        "status_transitions": invoice["status_transitions"] | {"paid_at": call.now},
    }
    _delinquent(call, invoice, owing=False)
    _end_payment(call, paid, "canceled" if out_of_band or amount == 0 else "paid")
    for work in ("invoice.retry", "invoice.overdue"):
        call.store.plan(work, invoice["id"], None, None)
    change(call, invoice, paid, "invoice.paid")
    emit(call, "invoice.payment_succeeded", paid)
    for told in WHEN_SETTLED:
        told(call, paid)
    return paid


def _end_payment(call: Call, invoice: Body, status: str) -> None:
    payment = call.store.get("invoice_payment", invoice.get("_payment", ""))
    if payment is None or payment["status"] != "open":
        return
    moment = "paid_at" if status == "paid" else "canceled_at"
    ended = payment | {"status": status, "status_transitions": payment["status_transitions"] | {moment: call.now}}
    if status == "paid":
        ended["amount_paid"] = invoice["amount_due"]
    change(call, payment, ended, "invoice_payment.paid" if status == "paid" else None)
    intent = call.store.get("payment_intent", invoice["_intent"])
    if status == "canceled" and intent and intent["status"] not in ("succeeded", "canceled"):
        canceled(call, intent, "void_invoice" if invoice["status"] == "void" else None)


def voided(call: Call, invoice: Body) -> Body:
    """As if it had never been sent: what was taken from the customer's balance goes back."""
    if invoice["status"] not in ("open", "uncollectible"):
        raise Refusal(f"You can only pass in open or uncollectible invoices. This invoice isn't: it is {invoice['status']}.")
    back = invoice["starting_balance"] - invoice["ending_balance"]
    moved(call, invoice["customer"], back, invoice["currency"], "unapplied_from_invoice", invoice=invoice["id"])
    return _ended(call, invoice, "void", "voided_at", "invoice.voided")


def uncollectible(call: Call, invoice: Body) -> Body:
    if invoice["status"] != "open":
        raise Refusal(f"You can only mark an open invoice as uncollectible. This invoice is {invoice['status']}.")
    return _ended(call, invoice, "uncollectible", "marked_uncollectible_at", "invoice.marked_uncollectible")


def _ended(call: Call, invoice: Body, status: str, moment: str, event: str) -> Body:
    transitions = invoice["status_transitions"] | {moment: call.now}
    ended = invoice | {"status": status, "status_transitions": transitions, "next_payment_attempt": None, "auto_advance": False}
    if status == "void":
        _end_payment(call, ended, "canceled")
    for work in ("invoice.retry", "invoice.overdue", "invoice.finalize"):
        call.store.plan(work, invoice["id"], None, None)
    return change(call, invoice, ended, event)
