"""Billing meters, and the sums of what their events said."""

from collections.abc import Sequence
from typing import Any

from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.resources.base import Body, Call, fetch, handles, page
from billing.stripe.sandbox.resources.owners import live_customer
from billing.stripe.sandbox.store import MeterEvent, new_id

_GROUPS = {"hour": 3600, "day": 86400}
_MINUTE = 60


@handles("PostBillingMeters")
def create(call: Call) -> Body:
    call.only({"customer_mapping", "default_aggregation", "display_name", "event_name", "value_settings"})
    name = call.params["event_name"]
    if active_meter(call, name) is not None:
        raise Refusal(f"An active meter with the event name {name} already exists.", param="event_name", code="resource_already_exists")
    mapping = call.params.get("customer_mapping", {"event_payload_key": "stripe_customer_id", "type": "by_id"})
    meter = {
        "id": new_id("mtr_test"),
        "object": "billing.meter",
        "created": call.now,
        "customer_mapping": mapping,
        "default_aggregation": call.params["default_aggregation"],
        "display_name": call.params["display_name"],
        "event_name": name,
        "event_time_window": None,
        "livemode": False,
        "status": "active",
        "status_transitions": {"deactivated_at": None},
        "updated": call.now,
        "value_settings": call.params.get("value_settings", {"event_payload_key": "value"}),
    }
    call.store.insert("meter", meter)
    return meter


def active_meter(call: Call, event_name: str) -> Body | None:
    """The one active meter that listens to this event name."""
    meters = call.store.newest_first("meter")
    return next((m for m in meters if m["event_name"] == event_name and m["status"] == "active"), None)


def _meter(call: Call) -> Body:
    return fetch(call, "meter", call.path["id"], noun="billing meter", param="id", status=404)


@handles("GetBillingMetersId")
def retrieve(call: Call) -> Body:
    call.only(())
    return _meter(call)


@handles("PostBillingMetersId")
def update(call: Call) -> Body:
    """Only the display name of a meter can change."""
    call.only({"display_name"})
    return _changed(call, _meter(call) | {"display_name": call.params.get("display_name", _meter(call)["display_name"])})


@handles("PostBillingMetersIdDeactivate")
def deactivate(call: Call) -> Body:
    call.only(())
    if _meter(call)["status"] == "inactive":
        raise Refusal("This meter is already inactive.")
    return _changed(call, _meter(call) | {"status": "inactive", "status_transitions": {"deactivated_at": call.now}})


@handles("PostBillingMetersIdReactivate")
def reactivate(call: Call) -> Body:
    call.only(())
    if active_meter(call, _meter(call)["event_name"]) is not None:
        raise Refusal("An active meter with this event name exists already.")
    return _changed(call, _meter(call) | {"status": "active", "status_transitions": {"deactivated_at": None}})


def _changed(call: Call, meter: Body) -> Body:
    meter["updated"] = call.now
    call.store.replace("meter", meter)
    return meter


@handles("GetBillingMeters")
def index(call: Call) -> Body:
    status = call.params.get("status")
    return page(call, (m for m in call.store.newest_first("meter") if status in (None, m["status"])), filters=("status",))


@handles("GetBillingMetersIdEventSummaries")
def summaries(call: Call) -> Body:
    """One sum for the whole range, or one for each hour or day of it; newest first."""
    meter = _meter(call)
    customer = live_customer(call, call.params["customer"])["id"]
    start, end = int(call.params["start_time"]), int(call.params["end_time"])
    group: str = call.params.get("value_grouping_window", "")
    _aligned(start, end, _GROUPS.get(group, _MINUTE))
    width = _GROUPS.get(group, end - start)
    found = []
    for begin in reversed(range(start, end, width)):
        events = call.store.events_between(meter["event_name"], customer, begin, begin + width)
        if events or not group:
            found.append(_summary(meter, customer, begin, begin + width, events))
    return page(call, found, filters=("customer", "start_time", "end_time", "value_grouping_window"))


def used(call: Call, meter_id: str, customer: str, start: int, end: int) -> int:
    """What a meter counted for a customer in [start, end)."""
    meter = fetch(call, "meter", meter_id, noun="billing meter", param="meter")
    events = call.store.events_between(meter["event_name"], customer, start, end)
    return max(0, aggregated(meter["default_aggregation"]["formula"], [event.value for event in events]))


def _aligned(start: int, end: int, grid: int) -> None:
    for name, instant in (("start_time", start), ("end_time", end)):
        if instant % grid:
            raise Refusal(f"Invalid {name}: must be aligned to a boundary of {grid} seconds", param=name)
    if start >= end:
        raise Refusal("Invalid end_time: must be after start_time", param="end_time")


def _summary(meter: Body, customer: str, start: int, end: int, events: Sequence[MeterEvent]) -> Body:
    return {
        "id": f"mtrusg_test_{meter['id'][-8:]}{customer[-8:]}{start}",  # derived: a cursor must stay valid between two requests
        "object": "billing.meter_event_summary",
        "aggregated_value": float(aggregated(meter["default_aggregation"]["formula"], [e.value for e in events])),
        "end_time": end,
        "livemode": False,
        "meter": meter["id"],
        "start_time": start,
    }


def aggregated(formula: Any, values: Sequence[int]) -> int:
    if formula == "count":
        return len(values)
    if formula == "last":
        return values[-1] if values else 0
    return sum(values)
