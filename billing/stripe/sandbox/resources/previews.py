"""What the next invoice would be: it is made for real, looked at, and all of it undone."""

from dataclasses import replace

from billing.stripe.sandbox.errors import Refusal, missing_parameter, not_imitated
from billing.stripe.sandbox.resources import invoice_items, subscriptions
from billing.stripe.sandbox.resources.base import Body, Call, fetch, handles
from billing.stripe.sandbox.resources.drafts import new_draft, pending_items, reckoned, take
from billing.stripe.sandbox.resources.events import emit, keep
from billing.stripe.sandbox.resources.owners import live_customer
from billing.stripe.sandbox.resources.shown import shown
from billing.stripe.sandbox.resources.subscription_body import ENDED, as_shown, items_of
from billing.stripe.sandbox.resources.subscription_life import renew
from billing.stripe.sandbox.work import does

_DETAILS = {"items", "proration_behavior", "proration_date", "trial_end", "billing_cycle_anchor", "cancel_at_period_end", "cancel_at"}
_DETAILS |= {"cancel_now", "default_tax_rates", "billing_mode", "start_date"}
_NO_UPCOMING = "No upcoming invoices for customer: {}"


class _Seen(Exception):
    """Carries the invoice out of what is undone."""

    def __init__(self, invoice: Body) -> None:
        super().__init__()
        self.invoice = invoice


@does("subscription.upcoming")
def _announce(call: Call, subscription_id: str) -> None:
    """Some days before a period ends: what its invoice would be as of now."""
    subscription = call.store.get("subscription", subscription_id)
    if subscription is None or subscription["status"] in ENDED:
        return
    try:
        with call.store.savepoint():
            raise _Seen(_as_preview(call, _of_running(call, subscription)))
    except _Seen as seen:
        emit(call, "invoice.upcoming", seen.invoice)


@handles("PostInvoicesCreatePreview")
def create(call: Call) -> Body:
    call.only({"customer", "subscription", "subscription_details", "invoice_items", "currency", "preview_mode", "discounts"})
    for name in call.params.get("subscription_details", {}):
        if name not in _DETAILS:
            raise not_imitated(f"subscription_details[{name}]", f"subscription_details[{name}]")
    try:
        with call.store.savepoint():
            raise _Seen(_upcoming(call))
    except _Seen as seen:
        return seen.invoice


def _upcoming(call: Call) -> Body:
    subscription = _subscription(call)
    customer_id = subscription["customer"] if subscription else call.params.get("customer")
    if customer_id is None:
        raise missing_parameter("customer")
    customer = live_customer(call, customer_id)
    call = call.of(customer)
    _extra(call, customer)
    if subscription:
        invoice = _of_running(call, subscription)
    elif "subscription_details" in call.params:
        invoice = _of_new(call, customer)
    else:
        invoice = _of_waiting(call, customer)
    return shown(call, _as_preview(call, invoice))


def _subscription(call: Call) -> Body | None:
    """The one that was named, else the customer's own if a new one is not asked about."""
    if "subscription" in call.params:
        return fetch(call, "subscription", call.params["subscription"], noun="subscription", param="subscription", status=404)
    if "subscription_details" in call.params or "customer" not in call.params:
        return None
    running = [each for each in call.store.of("subscription", "customer", call.params["customer"]) if each["status"] not in ENDED]
    return running[-1] if running else None


def _extra(call: Call, customer: Body) -> None:
    for given in call.params.get("invoice_items", []):
        params = {name: value for name, value in given.items() if name not in ("price", "invoiceitem")}
        if "price" in given:
            params["pricing"] = {"price": given["price"]}
        invoice_items.create(replace(call, params=params | {"customer": customer["id"]}))


def _of_running(call: Call, subscription: Body) -> Body:
    """The invoice that the change makes at once, else the one at the end of the period."""
    details = dict(call.params.get("subscription_details", {}))
    before = subscription["latest_invoice"]
    path = {"subscription_exposed_id": subscription["id"]}
    if details.pop("cancel_now", False):
        subscriptions.cancel(replace(call, path=path, params={"invoice_now": True, "prorate": True}))
    elif details:
        subscriptions.update(replace(call, path=path, params=details))
    changed = fetch(call, "subscription", subscription["id"], noun="subscription", param="subscription")
    if changed["latest_invoice"] != before:
        return fetch(call, "invoice", changed["latest_invoice"], noun="invoice", param="invoice")
    if changed["status"] in ENDED or changed["cancel_at"] is not None:
        raise Refusal(_NO_UPCOMING.format(changed["customer"]), code="invoice_upcoming_none", status=404)
    ends = [item["current_period_end"] for item in items_of(call, changed["id"])]
    later = replace(call, now=min(ends))
    trialing = changed["status"] == "trialing"
    renewed = renew(later, as_shown(call, changed), changed | ({"status": "active"} if trialing else {}))
    found = fetch(call, "invoice", renewed["latest_invoice"], noun="invoice", param="invoice")
    return found | {"billing_reason": "upcoming", "next_payment_attempt": later.now + 3600}


def _of_new(call: Call, customer: Body) -> Body:
    params = dict(call.params["subscription_details"])
    params = {name: params[name] for name in params if name not in ("proration_date", "cancel_now", "start_date")}
    params |= {"customer": customer["id"], "payment_behavior": "default_incomplete"}
    made = subscriptions.create(replace(call, params=params))
    return fetch(call, "invoice", made["latest_invoice"], noun="invoice", param="invoice")


def _of_waiting(call: Call, customer: Body) -> Body:
    money = call.params.get("currency", customer["currency"] or "usd")
    waiting = pending_items(call, customer["id"], money, None)
    if not waiting:
        raise Refusal(_NO_UPCOMING.format(customer["id"]), code="invoice_upcoming_none", status=404)
    invoice = new_draft(call, customer, reason="upcoming", currency=money, period=(call.now, call.now))
    return keep(call, reckoned(call, invoice | {"_fixed": take(call, invoice, waiting)}))


def _as_preview(call: Call, invoice: Body) -> Body:
    """Never stored, so never more than a draft."""
    draft = reckoned(call, invoice) if invoice["status"] == "draft" else invoice
    return draft | {
        "id": f"upcoming_{draft['id']}",
        "amount_paid": 0,
        "amount_remaining": draft["amount_due"],
        "attempt_count": 0,
        "attempted": False,
        "automatically_finalizes_at": None,
        "hosted_invoice_url": None,
        "number": None,
        "status": "draft",
        "status_transitions": dict.fromkeys(draft["status_transitions"]),
    }
