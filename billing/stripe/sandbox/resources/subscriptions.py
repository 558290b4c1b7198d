"""Subscriptions and their items, as requests make, change and end them. What happens by itself is in subscription_life.py."""

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.errors import Refusal, missing_parameter
from billing.stripe.sandbox.resources.base import Body, Call, created_within, fetch, handles, page
from billing.stripe.sandbox.resources.drafts import pending_items
from billing.stripe.sandbox.resources.events import emit
from billing.stripe.sandbox.resources.invoice_items import new_invoice_item
from billing.stripe.sandbox.resources.invoice_life import finalized, method_for, plan_finalization
from billing.stripe.sandbox.resources.lines import in_trial, price_of, pricing, title
from billing.stripe.sandbox.resources.owners import live_customer
from billing.stripe.sandbox.resources.shown import shown
from billing.stripe.sandbox.resources.subscription_body import (
    ENDED,
    as_shown,
    check_prices,
    is_metered,
    items_of,
    natural,
    new_item,
    plan_next,
    price_given,
)
from billing.stripe.sandbox.resources.subscription_changes import change_items, credit_rest, prorate, restarted, restarts
from billing.stripe.sandbox.resources.subscription_life import drafted, ended, licensed_lines, saved, trial_lines, usage_so_far
from billing.stripe.sandbox.resources.subscription_terms import collection, described, ending, pause, reasons, schedule, trial_end
from billing.stripe.sandbox.store import new_id

_BOTH = {"items", "metadata", "description", "collection_method", "days_until_due", "proration_behavior", "payment_behavior", "off_session"}
_BOTH |= {"cancel_at_period_end", "cancel_at", "default_payment_method", "default_tax_rates", "discounts", "trial_end", "trial_settings"}
_BOTH |= {"payment_settings", "add_invoice_items", "billing_cycle_anchor", "automatic_tax"}
_CREATE = _BOTH | {"customer", "billing_cycle_anchor_config", "backdate_start_date", "billing_mode", "trial_period_days", "currency"}
_UPDATE = _BOTH | {"proration_date", "cancellation_details", "pause_collection"}
_NO_CARD = "This customer has no attached payment source or default payment method. Please consider adding a default payment method."


@handles("PostSubscriptions")
def create(call: Call) -> Body:
    call.only(_CREATE)
    if "customer" not in call.params:
        raise missing_parameter("customer")
    customer = live_customer(call, call.params["customer"])
    call = call.of(customer)
    prices = [(item, price_given(call, item, at)) for at, item in enumerate(call.params.get("items", []))]
    if not prices:
        raise missing_parameter("items")
    mode = call.params.get("billing_mode", {"type": "flexible"})
    check_prices(call, [price for _, price in prices], mode, call.params.get("currency"))
    subscription = _new(call, customer, mode, [price for _, price in prices])
    call.store.insert("subscription", subscription)
    for at, (given, price) in enumerate(prices):
        new_item(call, subscription, given, price, at, start=subscription["start_date"])
    subscription |= ending(call, subscription)
    call.store.replace("subscription", subscription)
    _add_invoice_items(call, customer, subscription)
    emit(call, "customer.subscription.created", subscription)
    return _begun(call, subscription)


def _new(call: Call, customer: Body, mode: Body, prices: list[Body]) -> Body:
    subscription_id = new_id("sub")
    body = spec.load().blank("subscription") | {
        "id": subscription_id,
        "object": "subscription",
        "automatic_tax": {"enabled": False, "liability": None, "disabled_reason": None},
        "billing_mode": mode,
        "billing_schedules": [],
        "cancel_at_period_end": False,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "created": call.now,
        "currency": prices[0]["currency"],
        "customer": customer["id"],
        "default_tax_rates": [],
        "discounts": [],
        "invoice_settings": {
            "account_tax_ids": None,
            "issuer": {"type": "self"},
            "custom_fields": None,
            "description": None,
            "footer": None,
        },
        "livemode": False,
        "test_clock": customer["test_clock"],
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
    }
    body |= schedule(call, prices) | collection(call, {"collection_method": "charge_automatically"})
    body |= described(call, {}, customer["id"], subscription_id)
    sent = body["collection_method"] == "send_invoice"
    return body | {"status": "trialing" if body["trial_end"] else "active" if sent else "incomplete"}


def _add_invoice_items(call: Call, customer: Body, subscription: Body) -> None:
    """One-time prices that go on the next invoice of this subscription."""
    for at, given in enumerate(call.params.get("add_invoice_items", [])):
        price = fetch(call, "price", given.get("price", ""), noun="price", param=f"add_invoice_items[{at}][price]")
        if price["recurring"] is not None or price["billing_scheme"] != "per_unit":
            raise Refusal("add_invoice_items takes one-time prices with a unit amount.", param=f"add_invoice_items[{at}][price]")
        quantity = given.get("quantity", 1)
        new_invoice_item(
            call,
            customer,
            subscription["currency"],
            (price["unit_amount"] or 0) * quantity,
            description=title(call, price),
            parent={"type": "subscription_details", "subscription_details": {"subscription": subscription["id"]}},
            pricing=pricing(price, price["unit_amount_decimal"]),
            quantity=quantity,
            quantity_decimal=str(quantity),
        )


def _begun(call: Call, subscription: Body) -> Body:
    """With its first invoice: finalized and tried at once where it is charged, an hour later where it is sent."""
    before = as_shown(call, subscription)
    fixed = trial_lines(call, subscription) if subscription["status"] == "trialing" else _first_lines(call, subscription)
    invoice = drafted(call, subscription, fixed, [], reason="subscription_create", start=subscription["start_date"])
    subscription = subscription | {"latest_invoice": invoice["id"]}
    call.store.replace("subscription", subscription)
    plan_next(call, subscription)
    if subscription["collection_method"] == "send_invoice" and invoice["amount_due"]:
        plan_finalization(call, invoice)
        return subscription
    behavior = call.params.get("payment_behavior", "allow_incomplete")
    if invoice["amount_due"] and behavior != "default_incomplete" and method_for(call, invoice) is None:
        raise Refusal(_NO_CARD, code="resource_missing")
    finalized(call, invoice, pay=behavior != "default_incomplete")
    subscription = _again(call, subscription)
    if subscription["status"] == "incomplete" and behavior == "error_if_incomplete":
        raise Refusal("Your card was declined.", code="card_declined", status=402, kind="card_error")
    if as_shown(call, subscription)["status"] != before["status"]:
        plan_next(call, subscription)
    return subscription


def _again(call: Call, subscription: Body) -> Body:
    """As it stands now: its invoice may have changed it."""
    return fetch(call, "subscription", subscription["id"], noun="subscription", param="id")


def _first_lines(call: Call, subscription: Body) -> list[Body]:
    """In advance for the period under way; a start in the past is billed from there. Without prorations parts are free."""
    fixed: list[Body] = []
    free = call.params.get("proration_behavior") == "none"
    for item in items_of(call, subscription["id"]):
        price = price_of(call, item["price"])
        if is_metered(price):
            fixed.append(in_trial(call, item, (call.now, call.now)) | {"description": title(call, price)})
            continue
        at = subscription["start_date"]
        while at <= call.now:
            first, last = natural(subscription, price, at)
            if not (free and (at > first or last <= call.now)):
                fixed += licensed_lines(call, subscription, item, price, (at, last))
            at = last
    return fixed


def _stored(call: Call, name: str = "subscription_exposed_id") -> tuple[Call, Body]:
    subscription = fetch(call, "subscription", call.path[name], noun="subscription", param="id", status=404)
    return call.of(subscription), subscription


@handles("GetSubscriptionsSubscriptionExposedId")
def retrieve(call: Call) -> Body:
    call.only(())
    return shown(call, _stored(call)[1])


@handles("PostSubscriptionsSubscriptionExposedId")
def update(call: Call) -> Body:
    call.only(_UPDATE)
    call, subscription = _stored(call)
    if subscription["status"] in ENDED and set(call.params) - {"metadata", "cancellation_details", "expand"}:
        raise Refusal("A canceled subscription can only update its cancellation_details and metadata.")
    before = as_shown(call, subscription)
    new = subscription | collection(call, subscription)
    new |= described(call, subscription, subscription["customer"], subscription["id"]) | ending(call, subscription)
    new["pause_collection"] = pause(call, subscription)
    new, old, items = _moved(call, new)
    customer = live_customer(call, subscription["customer"])
    _add_invoice_items(call, customer, subscription)
    return shown(call, _rebilled(call, before, new, old, items))


def _moved(call: Call, new: Body) -> tuple[Body, list[Body], list[Body]]:
    """The subscription with its new trial and items; the items before and after."""
    old, items = change_items(call, new)
    if "trial_end" not in call.params:
        return new, old, items
    end = trial_end(call)
    if end is None:
        return new | {"trial_end": call.now if new["status"] == "trialing" else new["trial_end"]}, old, items
    if new["status"] not in ("trialing", "active"):
        raise Refusal(f"A subscription that is {new['status']} cannot begin a trial.", param="trial_end")
    if new["status"] == "active" and call.params.get("proration_behavior") != "none":
        prorate(call, new, old, [], call.now, whole=True)
    day = schedule(call, [])
    start = new["trial_start"] if new["status"] == "trialing" else call.now
    new |= {name: day[name] for name in ("billing_cycle_anchor", "_anchor_day")}
    new |= {"status": "trialing", "trial_start": start, "trial_end": end, "_warned": False}
    items = [item | {"current_period_start": start, "current_period_end": end} for item in items]
    for item in items:
        call.store.replace("item", item)
    return new, [], items


def _rebilled(call: Call, before: Body, new: Body, old: list[Body], items: list[Body]) -> Body:
    """Prorations, and an invoice where one is due at once; the subscription, stored."""
    behavior = call.params.get("proration_behavior", "create_prorations")
    at = call.params.get("proration_date", call.now)
    ends_trial = before["status"] == "trialing" and call.params.get("trial_end") == "now"
    anew = ends_trial or restarts(call, new, old, items)
    on_trial = before["status"] == "trialing" or new["status"] == "trialing"
    if behavior != "none" and old and not on_trial:
        prorate(call, new, old, items, at, whole=anew)
    if anew:
        status = "active" if ends_trial else new["status"]
        new, fixed, arrears = restarted(call, new, items)
        return _invoiced(call, before, new | {"status": status}, fixed, [] if on_trial else arrears)
    if behavior == "always_invoice" and pending_items(call, new["customer"], new["currency"], new["id"]):
        return _invoiced(call, before, new, [], [])
    return saved(call, before, new)


def _invoiced(call: Call, before: Body, new: Body, fixed: list[Body], arrears: list[Body]) -> Body:
    """Invoice now. A card that says no makes it past due, or undoes everything, as payment_behavior says."""
    call.store.replace("subscription", new)
    invoice = drafted(call, new, fixed, arrears, reason="subscription_update", start=call.now)
    new = saved(call, before, new | {"latest_invoice": invoice["id"]})
    paid = finalized(call, invoice)
    failed = paid["status"] == "open" and paid["attempted"]
    if failed and call.params.get("payment_behavior") == "error_if_incomplete":
        raise Refusal("Your card was declined.", code="card_declined", status=402, kind="card_error")
    return _again(call, new)


@handles("DeleteSubscriptionsSubscriptionExposedId")
def cancel(call: Call) -> Body:
    """At once. `prorate` credits what was paid in advance; `invoice_now` bills that, and usage so far, in a last invoice."""
    call.only({"invoice_now", "prorate", "cancellation_details"})
    call, subscription = _stored(call)
    if subscription["status"] in ENDED:
        raise Refusal("No such subscription: it was canceled already.", param="id", code="resource_missing", status=404)
    before = as_shown(call, subscription)
    if call.params.get("prorate") and subscription["status"] in ("active", "past_due"):
        credit_rest(call, subscription, call.now)
    arrears = usage_so_far(call, subscription) if call.params.get("invoice_now") else []
    details = subscription["cancellation_details"] | reasons(call)
    over = ended(call, before, subscription | {"cancellation_details": details, "cancel_at": None}, "cancellation_requested")
    waiting = pending_items(call, over["customer"], over["currency"], over["id"])
    if call.params.get("invoice_now") and (arrears or waiting):
        invoice = drafted(call, over, [], arrears, reason="subscription_update", start=call.now)
        call.store.replace("subscription", over | {"latest_invoice": invoice["id"]})
        finalized(call, invoice)
    return shown(call, _again(call, over))


@handles("PostSubscriptionsSubscriptionResume")
def resume(call: Call) -> Body:
    """One that was paused for want of a card: invoiced now, active once that is paid."""
    call.only({"billing_cycle_anchor", "proration_behavior"})
    call, subscription = _stored(call, "subscription")
    if subscription["status"] != "paused":
        raise Refusal(f"You can only resume a paused subscription; this one is {subscription['status']}.")
    before = as_shown(call, subscription)
    subscription, fixed, _ = restarted(call, subscription, items_of(call, subscription["id"]))
    call.store.replace("subscription", subscription)
    invoice = drafted(call, subscription, fixed, [], reason="subscription_update", start=call.now)
    subscription = saved(call, before, subscription | {"latest_invoice": invoice["id"], "_resumes": invoice["id"]})
    finalized(call, invoice)
    return shown(call, _again(call, subscription))


@handles("GetSubscriptions")
def index(call: Call) -> Body:
    """Those that have not ended, unless status asks for others."""
    status, price = call.params.get("status"), call.params.get("price")
    wanted = {name: call.params[name] for name in ("customer", "collection_method", "test_clock") if name in call.params}
    found = [
        one
        for one in (shown(call, each) for each in call.store.newest_first("subscription"))
        if (status == "all" or one["status"] == status or (status in (None, "ended") and (one["status"] in ENDED) is (status == "ended")))
        and all(one[name] == value for name, value in wanted.items())
        and (price is None or any(item["price"]["id"] == price for item in one["items"]["data"]))
        and created_within(one, call.params.get("created"))
    ]
    return page(call, found, filters=(*wanted, "status", "price", "created"))


@handles("GetSubscriptionItems")
def index_items(call: Call) -> Body:
    subscription = fetch(call, "subscription", call.params["subscription"], noun="subscription", param="subscription")
    return page(call, [shown(call, item) for item in items_of(call, subscription["id"])], filters=("subscription",))
