"""Meter events and their cancellation: what Weighbridge reports overage by.

Stricter than Stripe in one thing: a fraction is refused, because Weighbridge only ever reports whole units.
"""

import re

from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.resources.base import Body, Call, handles
from billing.stripe.sandbox.resources.meters import active_meter
from billing.stripe.sandbox.resources.owners import live_customer
from billing.stripe.sandbox.store import MeterEvent, new_id

_DAY = 86400
_OLDEST, _NEWEST = 35 * _DAY, 5 * 60  # seconds before and after now
_WHOLE = re.compile(r"-?[0-9]+")
_MOST_DIGITS = 15


@handles("PostBillingMeterEvents")
def create(call: Call) -> Body:
    call.only({"event_name", "identifier", "payload", "timestamp"})
    name, payload = call.params["event_name"], call.params["payload"]
    meter = active_meter(call, name)
    if meter is None:
        raise Refusal(f"No active meter found for event name {name}.", param="event_name", code="no_meter_found", status=400)
    customer = _mapped(payload, meter["customer_mapping"]["event_payload_key"])
    timestamp = _timestamp(call.of(live_customer(call, customer, param="payload[stripe_customer_id]")))
    value = _value(_mapped(payload, meter["value_settings"]["event_payload_key"]))
    identifier = call.params.get("identifier") or new_id("mev")
    if call.store.event_received_after(identifier, call.now - _DAY):
        raise Refusal(f"An event already exists with identifier {identifier}.", param="identifier", code="duplicate_meter_event")
    call.store.add_event(
        MeterEvent(event_name=name, customer=customer, identifier=identifier, value=value, timestamp=timestamp, received=call.now)
    )
    return {
        "object": "billing.meter_event",
        "created": call.now,
        "event_name": name,
        "identifier": identifier,
        "livemode": False,
        "payload": payload,
        "timestamp": timestamp,
    }


def _timestamp(call: Call) -> int:
    timestamp = int(call.params.get("timestamp", call.now))
    if timestamp < call.now - _OLDEST:
        raise Refusal("The timestamp must be within the past 35 days.", param="timestamp", code="timestamp_too_far_in_past")
    if timestamp > call.now + _NEWEST:
        raise Refusal("The timestamp must not be more than 5 minutes in the future.", param="timestamp", code="timestamp_in_future")
    return timestamp


def _mapped(payload: dict[str, str], key: str) -> str:
    if not payload.get(key):
        raise Refusal(f"The payload must contain {key}.", param=f"payload[{key}]", code="parameter_missing")
    return payload[key]


def _value(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise Refusal(f"Invalid value: {text}; the sandbox takes whole numbers only", param="payload[value]", code="invalid_value")
    if len(text.lstrip("-").lstrip("0")) > _MOST_DIGITS:
        raise Refusal(f"Invalid value: at most {_MOST_DIGITS} significant digits", param="payload[value]", code="invalid_value")
    return int(text)


@handles("PostBillingMeterEventAdjustments")
def adjust(call: Call) -> Body:
    """Cancel one event, within 24 hours of its receipt."""
    call.only({"event_name", "type", "cancel"})
    identifier = call.params.get("cancel", {}).get("identifier")
    if not identifier:
        raise Refusal("Missing required param: cancel[identifier].", param="cancel[identifier]", code="parameter_missing")
    event = call.store.event_received_after(identifier, call.now - _DAY)
    if event is None or event.event_name != call.params["event_name"]:
        raise Refusal(
            f"No event of the last 24 hours has the identifier {identifier}.", param="cancel[identifier]", code="resource_missing"
        )
    if event.cancelled:
        raise Refusal(f"The event {identifier} was cancelled already.", param="cancel[identifier]")
    call.store.cancel_event(identifier, event.event_name)
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "event_name": event.event_name,
        "livemode": False,
        "status": "complete",
        "type": "cancel",
    }
