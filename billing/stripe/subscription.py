"""An organization's subscription at Stripe: the same items, and the same periods, as here."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from billing.model.delivery import Outcome
from billing.model.plan import Interval
from billing.stripe.client import Resource, StripeApi, StripeCallFailed
from billing.stripe.objects import ORG_KEY, CannotBeTold, NotYet
from billing.stripe.rows import Ids, Row
from billing.stripe.terms import first_terms, forget_waiting
from metering.model.clock import to_datetime, to_ms
from metering.model.period import add_months, period_at

DAYS_UNTIL_DUE = 30  # of an invoice that is sent, where there is no payment method to charge
_DAY_SECONDS = 86_400
_ENDED = ("canceled", "incomplete_expired")


async def ensure_subscription(api: StripeApi, ids: Ids, row: Row, now_ms: int) -> None:
    """The organization's one subscription, on the prices of the plan version that the row names."""
    customer = await ids.get("customer", row.org_id)
    prices, interval = await _prices(ids, row.payload)
    if customer is None or not prices:
        raise NotYet("its customer or its plan is not at Stripe yet")
    current = await _current(api, ids, row.org_id, customer)
    if current is None:
        params: dict[str, Any] = {"customer": customer, "items": [{"price": price} for price in prices.values()]}
        params |= {"metadata": _metadata(row.payload), "billing_mode": {"type": "flexible"}}  # months beside a year need it
        params |= schedule(row.payload["anchor"], row.payload["trial_days"], interval, now_ms, row.payload.get("trial_end"))
        params |= await _collection(api, customer) | await first_terms(ids, row.org_id)
        current = await _created(api, params, row)
        await forget_waiting(ids, row.org_id)
    elif changes := await _changes(ids, current, prices):
        params = {"items": changes, "metadata": _metadata(row.payload), **prorated_since(row.payload, current, now_ms)}
        current = await api.update(Resource.SUBSCRIPTION, current["id"], params, key=f"wb:{row.identifier}", tries=row.attempts)
    await ids.keep("subscription", row.org_id, current["id"])


async def cancel_subscription(api: StripeApi, ids: Ids, row: Row) -> None:
    """End it now, with an invoice for the usage that was not billed yet. One that is not there, or has ended, is fine."""
    customer = await ids.get("customer", row.org_id)
    current = await _current(api, ids, row.org_id, customer) if customer else None
    if current is not None:
        await api.cancel_subscription(current["id"])


async def update_subscription(api: StripeApi, ids: Ids, row: Row, now_ms: int) -> None:
    """When it ends, whether it is paused, when its trial is over, as the row says. One that is not there has nothing to be told."""
    customer = await ids.get("customer", row.org_id)
    current = await _current(api, ids, row.org_id, customer) if customer else None
    if current is None:
        return
    params: dict[str, Any] = {"proration_behavior": "none"}  # what a change costs is an item of ours
    cancel_at, trial_end = (_seconds(row.payload[name]) for name in ("cancel_at", "trial_end"))
    if cancel_at is not None or current.get("cancel_at") is not None:
        params["cancel_at"] = cancel_at if cancel_at is not None else ""
    if row.payload["paused"] or current.get("pause_collection") is not None:
        params["pause_collection"] = {"behavior": "void"} if row.payload["paused"] else ""
    if current["status"] == "trialing" and trial_end is not None and trial_end != current["trial_end"]:
        params["trial_end"] = trial_end if trial_end > now_ms // 1000 else "now"
    if len(params) > 1:
        await api.update(Resource.SUBSCRIPTION, current["id"], params, key=f"wb:{row.identifier}", tries=row.attempts)


async def set_next_price(api: StripeApi, ids: Ids, row: Row) -> None:
    """What the next period costs, said before Stripe charges it; the period under way stays as it was paid. Metered prices stay until
    the turn: they charge, in arrears, what this period used."""
    customer = await ids.get("customer", row.org_id)
    prices, _ = await _prices(ids, row.payload)
    if not prices:
        raise NotYet("its plan is not at Stripe yet")
    current = await _current(api, ids, row.org_id, customer) if customer else None
    if current is None:
        return
    items = [item for item in current["items"]["data"] if not item["price"]["recurring"].get("meter")]
    changes = _base_change(items, prices.get(None))
    if changes:
        params = {"items": changes, "proration_behavior": "none"}
        await api.update(Resource.SUBSCRIPTION, current["id"], params, key=f"wb:{row.identifier}", tries=row.attempts)


def with_subscription(
    deliver: Callable[[StripeApi, Ids, Row, Mapping[str, Any] | None], Awaitable[None]],
) -> Callable[[StripeApi, Ids, Row, int], Awaitable[None]]:
    """A delivery that is also given the organization's subscription, or None where none runs."""

    async def delivery(api: StripeApi, ids: Ids, row: Row, _now_ms: int) -> None:
        customer = await ids.get("customer", row.org_id)
        await deliver(api, ids, row, await _current(api, ids, row.org_id, customer) if customer else None)

    return delivery


def _base_change(items: Sequence[Mapping[str, Any]], price: str | None) -> list[dict[str, Any]]:
    """`items` are those that are charged in advance: one at most is ours."""
    if price is None:
        return [{"id": item["id"], "deleted": True} for item in items]
    if any(item["price"]["id"] == price for item in items):
        return []
    return [{"id": items[0]["id"], "price": price}] if items else [{"price": price}]


def prorated_since(payload: Mapping[str, Any], current: Mapping[str, Any], now_ms: int) -> dict[str, int]:
    """Stripe prorates from when the change was made, however late it hears of it; not from before the period under way."""
    effective = _seconds(payload.get("effective"))
    if effective is None:
        return {}
    since = max([effective, *(item["current_period_start"] for item in current["items"]["data"])])
    return {"proration_date": since} if since < now_ms // 1000 else {}


def _seconds(instant: str | None) -> int | None:
    return None if instant is None else to_ms(datetime.fromisoformat(instant)) // 1000


async def _prices(ids: Ids, payload: Mapping[str, Any]) -> tuple[dict[str | None, str], Interval]:
    """Meter (None for the base price) -> price, and the base price's interval."""
    found = await ids.under("price", f"{payload['plan']}/{payload['version']}/")
    sold = {tuple(key.split("/")[2:4]) for key in found}  # (currency, interval)
    if len(sold) > 1:
        raise CannotBeTold(f"plan {payload['plan']} version {payload['version']} stands at Stripe in several currencies or intervals")
    prices: dict[str | None, str] = {}
    for key, price in found.items():
        part = key.split("/", 4)[4]
        prices[None if part == "base" else part.removeprefix("meter/")] = price
    return prices, Interval(next(iter(sold))[1]) if sold else Interval.MONTH


async def _current(api: StripeApi, ids: Ids, org_id: str, customer: str) -> dict[str, Any] | None:
    """The subscription that runs: by its id, or by its metadata if a crash kept us from noting that."""
    known = await ids.get("subscription", org_id)
    if known and (subscription := await api.retrieve(Resource.SUBSCRIPTION, known)) and subscription["status"] not in _ENDED:
        return subscription
    async for subscription in api.find(Resource.SUBSCRIPTION, {"customer": customer}):
        if subscription["metadata"].get(ORG_KEY) == org_id and subscription["status"] not in _ENDED:
            return subscription
    return None


async def _created(api: StripeApi, params: Mapping[str, Any], row: Row) -> dict[str, Any]:
    try:
        return await api.create(Resource.SUBSCRIPTION, params, key=f"wb:{row.identifier}", tries=row.attempts)
    except StripeCallFailed as failure:
        if failure.param == "backdate_start_date":
            # Stripe's clock is behind ours, and the start lies in its future: a matter of seconds.
            failure.outcome = Outcome.NOT_ACCEPTED
        raise


def _metadata(payload: Mapping[str, Any]) -> dict[str, str]:
    return {ORG_KEY: payload["org_id"], "weighbridge_plan": payload["plan"], "weighbridge_plan_version": str(payload["version"])}


def schedule(anchor: str, trial_days: int, interval: Interval, now_ms: int, trial_until: str | None = None) -> dict[str, Any]:
    """Parameters that make Stripe's periods ours.

    The anchor goes as day and time of day, not as an instant: counted from the instant of a 28 February, an anchor of the
    31st would stay on the 28th. The start is dated back to the period under way, whose price is then due in full.
    """
    anchor_ms = to_ms(datetime.fromisoformat(anchor))
    at = to_datetime(anchor_ms)
    config = {"day_of_month": at.day, "hour": at.hour, "minute": at.minute, "second": at.second}
    if interval is Interval.YEAR:
        config["month"] = at.month
    params: dict[str, Any] = {"billing_cycle_anchor_config": config, "proration_behavior": "create_prorations"}
    start = _interval_start(anchor_ms, interval, now_ms) // 1000
    if start < now_ms // 1000 and anchor_ms <= now_ms:  # before the anchor what is left until then is charged, from now on
        params["backdate_start_date"] = start
    trial_end = _seconds(trial_until)
    if trial_end is None and trial_days:
        trial_end = anchor_ms // 1000 + trial_days * _DAY_SECONDS
    if trial_end is not None and trial_end > now_ms // 1000:
        params["trial_end"] = trial_end
    return params


def _interval_start(anchor_ms: int, interval: Interval, now_ms: int) -> int:
    start_ms, _ = period_at(anchor_ms, now_ms)
    if interval is Interval.MONTH:
        return start_ms
    anchor, start = to_datetime(anchor_ms), to_datetime(start_ms)
    months = (start.year - anchor.year) * 12 + start.month - anchor.month
    return to_ms(add_months(anchor, months // 12 * 12))


async def _collection(api: StripeApi, customer: str) -> dict[str, Any]:
    """Charge what there is to charge; where there is no payment method, Stripe refuses to, and sends an invoice instead."""
    found = await api.retrieve(Resource.CUSTOMER, customer)
    if found and (found["invoice_settings"]["default_payment_method"] or found["default_source"]):
        return {"collection_method": "charge_automatically"}
    return {"collection_method": "send_invoice", "days_until_due": DAYS_UNTIL_DUE}


async def _changes(ids: Ids, current: Mapping[str, Any], prices: Mapping[str | None, str]) -> Sequence[Mapping[str, Any]]:
    """What turns the running items into the wanted ones: a meter keeps its item, so that its usage stays on one line."""
    running = {item["price"]["recurring"].get("meter"): item for item in current["items"]["data"]}
    changes: list[dict[str, Any]] = []
    for meter, price in prices.items():
        item = running.pop(await ids.get("meter", meter) if meter else None, None)
        if item is None:
            changes.append({"price": price})
        elif item["price"]["id"] != price:
            changes.append({"id": item["id"], "price": price})
    return changes + [{"id": item["id"], "deleted": True} for item in running.values()]
