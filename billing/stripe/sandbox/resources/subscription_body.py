"""What a subscription is made of: its items with their periods, its shape in an answer, and when it has to be looked at next.

Private fields: `_anchor_day` (a 31st that the anchor's month lacks), `_warned` (the end of the trial was announced); of an
item: `_position`, `_rates` (tax rates), `_since` (from when on a meter counts for it).
"""

from typing import Any

from billing.stripe.sandbox.errors import Refusal, missing_parameter
from billing.stripe.sandbox.own_settings import setting
from billing.stripe.sandbox.resources.base import Body, Call, fetch, metadata
from billing.stripe.sandbox.resources.cycles import Anchor, period
from billing.stripe.sandbox.resources.shown import public, shows
from billing.stripe.sandbox.resources.tax_rates import rates_given
from billing.stripe.sandbox.store import new_id

ENDED = ("canceled", "incomplete_expired")
_DAY = 86_400
_FIRST_PAYMENT_WITHIN, _TRIAL_WARNING = 23 * 3600, 3 * _DAY
_MOST_ITEMS = 20
_ITEM_TAKES = ("price", "quantity", "metadata", "id", "deleted", "tax_rates", "clear_usage")


def items_of(call: Call, subscription_id: str) -> list[Body]:
    items = [item for item in call.store.of("item", "subscription", subscription_id) if not item.get("deleted")]
    return sorted(items, key=lambda item: item["_position"])


def is_metered(price: Body) -> bool:
    return bool(price["recurring"]["usage_type"] == "metered")


def price_given(call: Call, item: Body, at: int) -> Body:
    """The recurring price that an item of a request names. Raises Refusal where it cannot stand in a subscription."""
    where = f"items[{at}]"
    for name in item:
        if name not in _ITEM_TAKES:
            raise Refusal(f"The sandbox does not imitate {where}[{name}].", param=f"{where}[{name}]", code="sandbox_not_imitated")
    if "price" not in item:
        raise missing_parameter(f"{where}[price]")
    price = fetch(call, "price", item["price"], noun="price", param=f"{where}[price]")
    if not price["active"]:
        raise Refusal(f"The price specified is inactive: {price['id']}.", param=f"{where}[price]")
    if price["recurring"] is None:
        raise Refusal(
            "The price specified is set to `type=one_time` but this field only accepts recurring prices.", param=f"{where}[price]"
        )
    if "quantity" in item and is_metered(price):
        raise Refusal("You cannot set a quantity for metered prices.", param=f"{where}[quantity]")
    return price


def check_prices(call: Call, prices: list[Body], mode: Body, money: str | None = None) -> None:
    if len(prices) > _MOST_ITEMS:
        raise Refusal(f"A subscription has at most {_MOST_ITEMS} items.", param="items")
    if len({price["id"] for price in prices}) != len(prices):
        raise Refusal("Cannot add multiple subscription items with the same price.", param="items")
    currencies = {price["currency"] for price in prices} | ({money} if money else set())
    if len(currencies) != 1:
        raise Refusal(f"All prices of a subscription share one currency; these have {', '.join(sorted(currencies))}.", param="items")
    intervals = {(price["recurring"]["interval"], price["recurring"]["interval_count"]) for price in prices}
    if len(intervals) > 1 and mode["type"] == "classic":
        raise Refusal("Prices of different intervals need billing_mode[type]=flexible.", param="items")


def new_item(call: Call, subscription: Body, given: Body, price: Body, position: int, *, start: int | None = None) -> Body:
    """Store an item; its period is the one under way, at the earliest from `start` on."""
    rates = rates_given(call, given.get("tax_rates"), f"items[{position}][tax_rates]")
    begin, end = item_period(subscription, price, call.now)
    item = {
        "id": new_id("si"),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": call.now,
        "current_period_start": begin if start is None else max(begin, start),
        "current_period_end": end,
        "discounts": [],
        "metadata": metadata(given.get("metadata")),
        "price": price["id"],
        "subscription": subscription["id"],
        "tax_rates": rates,
        "_position": position,
        "_rates": [rate["id"] for rate in rates],
        "_since": call.now if start is None else start,
    }
    if not is_metered(price):
        item["quantity"] = given.get("quantity", 1)
    call.store.insert("item", item)
    return item


def natural(subscription: Body, price: Body, at: int) -> tuple[int, int]:
    """The whole period of this price that holds `at`, counted from the anchor."""
    anchor = Anchor(subscription["billing_cycle_anchor"], subscription["_anchor_day"])
    return period(anchor, price["recurring"]["interval"], price["recurring"]["interval_count"], at)


def item_period(subscription: Body, price: Body, at: int) -> tuple[int, int]:
    """A trial is a period of its own; what lies between the start (or the trial) and the anchor is one, too."""
    if subscription["trial_end"] and at < subscription["trial_end"]:
        return subscription["trial_start"], subscription["trial_end"]
    start, end = natural(subscription, price, at)
    return max(start, subscription["trial_end"] or subscription["start_date"]), end


@shows("subscription_item")
def shown_item(call: Call, item: Body) -> Body:
    return item | {"price": fetch(call, "price", item["price"], noun="price", param="price")}


@shows("subscription")
def shown_subscription(call: Call, subscription: Body) -> Body:
    items = [shown_item(call, item) for item in items_of(call, subscription["id"])]
    url = f"/v1/subscription_items?subscription={subscription['id']}"
    return subscription | {"items": {"object": "list", "data": items, "has_more": False, "url": url}}


def as_shown(call: Call, subscription: Body) -> Body:
    """For the earlier form in an event: items change in place, so it must be taken before they do."""
    cleaned = public(shown_subscription(call, subscription))
    assert isinstance(cleaned, dict)
    return cleaned


def plan_next(call: Call, subscription: Body) -> None:
    """Put on the agenda when something happens to it by itself."""
    call.store.plan("subscription", subscription["id"], _next_look(call, subscription), subscription["test_clock"])
    call.store.plan("subscription.upcoming", subscription["id"], _announced(call, subscription), subscription["test_clock"])


def _announced(call: Call, subscription: Body) -> int | None:
    """When its next invoice is told of; None where there is none to come, or the moment has passed."""
    if subscription["status"] not in ("active", "trialing", "past_due") or subscription["cancel_at"] is not None:
        return None
    ends = min(item["current_period_end"] for item in items_of(call, subscription["id"]))
    at = int(ends - setting(call.store, "upcoming_days") * _DAY)
    return at if at > call.now else None


def _next_look(call: Call, subscription: Body) -> int | None:
    status = subscription["status"]
    if status in ENDED:
        return None
    instants: list[Any] = [subscription["cancel_at"], (subscription["pause_collection"] or {}).get("resumes_at")]
    if status == "incomplete":
        instants = [subscription["created"] + _FIRST_PAYMENT_WITHIN]
    elif status == "trialing":
        instants += [subscription["trial_end"]]
        if not subscription["_warned"]:
            instants += [max(subscription["trial_end"] - _TRIAL_WARNING, call.now)]
    elif status != "paused":
        instants += [item["current_period_end"] for item in items_of(call, subscription["id"])]
    return min((instant for instant in instants if instant is not None), default=None)
