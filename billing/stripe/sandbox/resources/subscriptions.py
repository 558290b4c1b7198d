"""Subscriptions and their items. The current period stands on each item and moves with the clock.

No payment methods yet: what would be charged at once to a customer is refused with Stripe's words, what is sent as an
invoice is taken. Invoices themselves are not imitated.
"""

from decimal import Decimal
from typing import Any

from billing.stripe.sandbox.errors import Refusal, missing_parameter
from billing.stripe.sandbox.resources.base import Body, Call, created_within, fetch, given_text, handles, metadata, page
from billing.stripe.sandbox.resources.customers import WHEN_DELETED
from billing.stripe.sandbox.resources.cycles import Anchor, boundary, next_match, period
from billing.stripe.sandbox.resources.owners import live_customer
from billing.stripe.sandbox.store import new_id

_CREATE = {"customer", "items", "metadata", "description", "collection_method", "days_until_due", "proration_behavior", "payment_behavior"}
_CREATE |= {"billing_cycle_anchor", "billing_cycle_anchor_config", "backdate_start_date", "billing_mode", "trial_end", "trial_period_days"}
_CREATE |= {"cancel_at_period_end", "currency", "off_session"}
_UPDATE = {"items", "metadata", "description", "cancel_at_period_end", "proration_behavior", "collection_method", "days_until_due"}
_MOST_ITEMS, _MOST_TRIAL_DAYS, _DAY = 20, 730, 86400


@handles("PostSubscriptions")
def create(call: Call) -> Body:
    call.only(_CREATE)
    if "customer" not in call.params:
        raise missing_parameter("customer")
    customer = live_customer(call, call.params["customer"])
    prices = [(item, _price(call, item, at)) for at, item in enumerate(call.params.get("items", []))]
    if not prices:
        raise missing_parameter("items")
    mode = call.params.get("billing_mode", {"type": "flexible"})
    _check_prices(call, [price for _, price in prices], mode)
    subscription_id = new_id("sub")
    subscription = {**_fixed_parts(), "id": subscription_id, "customer": customer["id"], "currency": prices[0][1]["currency"]}
    subscription |= _schedule(call, [price for _, price in prices]) | _collection(call, {"collection_method": "charge_automatically"})
    subscription |= {
        "billing_mode": mode,
        "cancel_at_period_end": call.params.get("cancel_at_period_end", False),
        "created": call.now,
        "description": given_text(call, "description"),
        "metadata": metadata(call.params.get("metadata")),
    }
    subscription["status"] = _first_status(call, subscription, customer, [price for _, price in prices])
    for at, (given, price) in enumerate(prices):
        call.store.insert("item", _new_item(call, subscription_id, given, price, at))
    call.store.insert("subscription", subscription)
    return _answer(call, subscription)


def _fixed_parts() -> Body:
    empty = (
        "application", "application_fee_percent", "billing_cycle_anchor_config", "billing_thresholds", "cancel_at", "canceled_at",
        "days_until_due", "default_payment_method", "default_source", "ended_at", "latest_invoice", "next_pending_invoice_item_invoice",
        "on_behalf_of", "pause_collection", "payment_settings", "pending_invoice_item_interval", "pending_setup_intent", "pending_update",
        "schedule", "test_clock", "transfer_data", "trial_end", "trial_settings", "trial_start",
    )  # fmt: skip
    return dict.fromkeys(empty) | {
        "object": "subscription",
        "automatic_tax": {"enabled": False, "liability": None, "disabled_reason": None},
        "billing_schedules": [],
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
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
    }


def _price(call: Call, item: Body, at: int) -> Body:
    for name in item:
        if name not in ("price", "quantity", "metadata", "id", "deleted"):
            raise Refusal(f"The sandbox does not imitate items[{at}][{name}].", param=f"items[{at}][{name}]", code="sandbox_not_imitated")
    if "price" not in item:
        raise missing_parameter(f"items[{at}][price]")
    price = fetch(call, "price", item["price"], noun="price", param=f"items[{at}][price]")
    if not price["active"]:
        raise Refusal(f"The price specified is inactive: {price['id']}.", param=f"items[{at}][price]")
    if price["recurring"] is None:
        raise Refusal(
            "The price specified is set to `type=one_time` but this field only accepts recurring prices.", param=f"items[{at}][price]"
        )
    if "quantity" in item and price["recurring"]["usage_type"] == "metered":
        raise Refusal("You cannot set a quantity for metered prices.", param=f"items[{at}][quantity]")
    return price


def _check_prices(call: Call, prices: list[Body], mode: Body) -> None:
    if len(prices) > _MOST_ITEMS:
        raise Refusal(f"A subscription has at most {_MOST_ITEMS} items.", param="items")
    if len({price["id"] for price in prices}) != len(prices):
        raise Refusal("Cannot add multiple subscription items with the same price.", param="items")
    currencies = {price["currency"] for price in prices} | ({call.params["currency"]} if "currency" in call.params else set())
    if len(currencies) != 1:
        raise Refusal(f"All prices of a subscription share one currency; these have {', '.join(sorted(currencies))}.", param="items")
    intervals = {(price["recurring"]["interval"], price["recurring"]["interval_count"]) for price in prices}
    if len(intervals) > 1 and mode["type"] == "classic":
        raise Refusal("Prices of different intervals need billing_mode[type]=flexible.", param="items")


def _schedule(call: Call, prices: list[Body]) -> Body:
    """Start, trial and anchor. `anchor_day` is ours: a 31st that the anchor's month lacks."""
    now, params = call.now, call.params
    start = params.get("backdate_start_date", now)
    if start > now:
        raise Refusal("backdate_start_date must be in the past.", param="backdate_start_date")
    trial_end = _trial_end(call)
    config, chosen = params.get("billing_cycle_anchor_config"), params.get("billing_cycle_anchor")
    if config is not None and chosen is not None:
        raise Refusal("You may only specify one of billing_cycle_anchor and billing_cycle_anchor_config.", param="billing_cycle_anchor")
    earliest = max(now, trial_end or now)
    anchor = next_match(config, earliest) if config else Anchor.at(chosen if chosen is not None else earliest)
    if chosen is not None:
        _check_anchor(chosen, now, prices)
    return {
        "billing_cycle_anchor": anchor.instant,
        "anchor_day": anchor.day,
        "billing_cycle_anchor_config": _whole_config(config) if config else None,
        "start_date": start,
        "trial_start": now if trial_end else None,
        "trial_end": trial_end,
    }


def _whole_config(config: Body) -> Body:
    return {part: config.get(part) for part in ("day_of_month", "hour", "minute", "month", "second")}


def _check_anchor(chosen: int, now: int, prices: list[Body]) -> None:
    if chosen <= now:
        raise Refusal("billing_cycle_anchor must be in the future.", param="billing_cycle_anchor")
    for price in prices:
        if chosen > boundary(Anchor.at(now), price["recurring"]["interval"], price["recurring"]["interval_count"], 1):
            raise Refusal("billing_cycle_anchor cannot be later than next natural billing date", param="billing_cycle_anchor")


def _trial_end(call: Call) -> int | None:
    days, end = call.params.get("trial_period_days"), call.params.get("trial_end")
    if days is not None and end is not None:
        raise Refusal("You may only specify one of these parameters: trial_end, trial_period_days.", param="trial_end")
    if days is not None:
        end = call.now + days * _DAY
    if end is None or end == "now":
        return None
    if not call.now < int(end) <= call.now + _MOST_TRIAL_DAYS * _DAY:
        raise Refusal("Invalid trial: it ends in the future, within two years.", param="trial_end")
    return int(end)


def _collection(call: Call, old: Body) -> Body:
    method, due = (
        call.params.get("collection_method", old["collection_method"]),
        call.params.get("days_until_due", old.get("days_until_due")),
    )
    if method == "send_invoice" and due is None:
        raise missing_parameter("days_until_due")
    if method != "send_invoice" and "days_until_due" in call.params:
        raise Refusal("days_until_due is only for collection_method=send_invoice.", param="days_until_due")
    return {"collection_method": method, "days_until_due": due if method == "send_invoice" else None}


def _first_status(call: Call, subscription: Body, customer: Body, prices: list[Body]) -> str:
    if subscription["trial_end"]:
        return "trialing"
    behavior = call.params.get("payment_behavior", "allow_incomplete")
    free = all(p["recurring"]["usage_type"] == "metered" or Decimal(p["unit_amount_decimal"] or 1) == 0 for p in prices)
    if subscription["collection_method"] == "send_invoice" or free or customer["invoice_settings"]["default_payment_method"]:
        return "active"
    if behavior == "default_incomplete":
        return "incomplete"
    raise Refusal(
        "This customer has no attached payment source or default payment method. Please consider adding a default payment method.",
        code="resource_missing",
    )


def _new_item(call: Call, subscription_id: str, given: Body, price: Body, at: int) -> Body:
    item = {
        "id": new_id("si"),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": call.now,
        "discounts": [],
        "metadata": metadata(given.get("metadata")),
        "price": price["id"],
        "subscription": subscription_id,
        "tax_rates": [],
        "position": at,
    }
    if price["recurring"]["usage_type"] == "licensed":
        item["quantity"] = given.get("quantity", 1)
    return item


def _items(call: Call, subscription_id: str) -> list[Body]:
    items = [item for item in call.store.newest_first("item") if item["subscription"] == subscription_id and not item.get("deleted")]
    return sorted(items, key=lambda item: item["position"])


def _shown_item(call: Call, subscription: Body, item: Body) -> Body:
    price = fetch(call, "price", item["price"], noun="price", param="price")
    start, end = _item_period(subscription, price["recurring"], call.now)
    body = {name: value for name, value in item.items() if name != "position"}
    return body | {"price": price, "current_period_start": start, "current_period_end": end}


def _item_period(subscription: Body, recurring: Body, now: int) -> tuple[int, int]:
    """A trial is a period of its own; what lies between the start (or the trial) and the anchor is one, too."""
    at = min(now, subscription["ended_at"] or now)
    if subscription["trial_end"] and at < subscription["trial_end"]:
        return subscription["trial_start"], subscription["trial_end"]
    anchor = Anchor(subscription["billing_cycle_anchor"], subscription["anchor_day"])
    start, end = period(anchor, recurring["interval"], recurring["interval_count"], at)
    return max(start, subscription["trial_end"] or subscription["start_date"]), end


def _status(subscription: Body, now: int) -> str:
    if subscription["status"] == "trialing" and now >= subscription["trial_end"]:
        return "active"
    if subscription["status"] == "incomplete" and now >= subscription["created"] + 23 * 3600:
        return "incomplete_expired"
    return str(subscription["status"])


def _answer(call: Call, subscription: Body) -> Body:
    items = [_shown_item(call, subscription, item) for item in _items(call, subscription["id"])]
    body = {name: value for name, value in subscription.items() if name != "anchor_day"}
    url = f"/v1/subscription_items?subscription={subscription['id']}"
    return body | {"status": _status(subscription, call.now), "items": {"object": "list", "data": items, "has_more": False, "url": url}}


def _stored(call: Call) -> Body:
    return fetch(call, "subscription", call.path["subscription_exposed_id"], noun="subscription", param="id", status=404)


@handles("GetSubscriptionsSubscriptionExposedId")
def retrieve(call: Call) -> Body:
    call.only(())
    return _answer(call, _stored(call))


@handles("PostSubscriptionsSubscriptionExposedId")
def update(call: Call) -> Body:
    call.only(_UPDATE)
    subscription = _stored(call)
    if subscription["ended_at"] is not None:
        raise Refusal("A canceled subscription can only update its cancellation_details and metadata.")
    _change_items(call, subscription)
    subscription |= _collection(call, subscription) | {
        "cancel_at_period_end": call.params.get("cancel_at_period_end", subscription["cancel_at_period_end"]),
        "description": given_text(call, "description", subscription["description"]),
        "metadata": metadata(call.params.get("metadata"), subscription["metadata"]),
    }
    call.store.replace("subscription", subscription)
    return _answer(call, subscription)


def _change_items(call: Call, subscription: Body) -> None:
    """Items named by id are changed or deleted, the others are added; those not named stay."""
    items = {item["id"]: item for item in _items(call, subscription["id"])}
    position = max((item["position"] for item in items.values()), default=0) + 1
    for at, given in enumerate(call.params.get("items", [])):
        if "id" not in given:
            item = _new_item(call, subscription["id"], given, _price(call, given, at), position + at)
            items[item["id"]] = item
            call.store.insert("item", item)
            continue
        if given["id"] not in items:
            raise Refusal(f"No such subscription item: '{given['id']}'", param=f"items[{at}][id]", code="resource_missing")
        item = items[given["id"]] | _changes(call, items[given["id"]], given, at)
        items[given["id"]] = item
        call.store.replace("item", item)
    left = [fetch(call, "price", item["price"], noun="price", param="items") for item in items.values() if not item.get("deleted")]
    if not left:
        raise Refusal("A subscription must have at least one active item.", param="items")
    _check_prices(call, left, subscription["billing_mode"])


def _changes(call: Call, item: Body, given: Body, at: int) -> Body:
    if given.get("deleted"):
        return {"deleted": True}
    price = _price(call, {"price": item["price"]} | given, at)
    changes: dict[str, Any] = {"price": price["id"], "metadata": metadata(given.get("metadata"), item["metadata"])}
    if price["recurring"]["usage_type"] == "licensed":
        changes["quantity"] = given.get("quantity", item.get("quantity", 1))
    return changes


@handles("DeleteSubscriptionsSubscriptionExposedId")
def cancel(call: Call) -> Body:
    """At once. Whether a last invoice is written makes no difference here: no invoices are imitated."""
    call.only({"invoice_now", "prorate"})
    subscription = _stored(call)
    if subscription["ended_at"] is not None:
        raise Refusal("No such subscription: it was canceled already.", param="id", code="resource_missing", status=404)
    subscription |= {"status": "canceled", "canceled_at": call.now, "ended_at": call.now}
    call.store.replace("subscription", subscription)
    return _answer(call, subscription)


def _end_with_customer(call: Call, customer: Body) -> None:
    for subscription in call.store.of("subscription", "customer", customer["id"]):
        if subscription["ended_at"] is None:
            call.store.replace("subscription", subscription | {"status": "canceled", "ended_at": call.now, "canceled_at": call.now})


WHEN_DELETED.append(_end_with_customer)


@handles("GetSubscriptions")
def index(call: Call) -> Body:
    """Those that have not ended, unless status asks for others."""
    customer, status, price = call.params.get("customer"), call.params.get("status"), call.params.get("price")
    found = [_answer(call, s) for s in call.store.newest_first("subscription") if customer in (None, s["customer"])]
    ended = ("canceled", "incomplete_expired")
    found = [
        s
        for s in found
        if (status == "all" or s["status"] == status or (status is None and s["status"] not in ended))
        and (price is None or any(item["price"]["id"] == price for item in s["items"]["data"]))
        and created_within(s, call.params.get("created"))
    ]
    return page(call, found, filters=("customer", "status", "price", "created"))


@handles("GetSubscriptionItems")
def index_items(call: Call) -> Body:
    subscription = fetch(call, "subscription", call.params["subscription"], noun="subscription", param="subscription")
    items = [_shown_item(call, subscription, item) for item in _items(call, subscription["id"])]
    return page(call, items, filters=("subscription",))
