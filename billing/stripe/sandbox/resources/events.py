"""Events: what happened to which object, kept as it was then, and queued for every endpoint that wants to hear of it."""

from collections.abc import Mapping
from typing import Any

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.resources.base import Body, Call, created_within, fetch, handles, page
from billing.stripe.sandbox.resources.shown import public, shown, shows
from billing.stripe.sandbox.store import new_id


def keep(call: Call, body: Body, event: str | None = None, kind: str | None = None) -> Body:
    """Store a new object, and say so by an event."""
    call.store.insert(kind or body["object"], body)
    if event:
        emit(call, event, body)
    return body


def change(call: Call, old: Body, new: Body, event: str | None = None, kind: str | None = None) -> Body:
    """Store an object's new form, and say what changed by an event."""
    before = public(shown(call, old)) if event else {}
    call.store.replace(kind or new["object"], new)
    if event:
        emit(call, event, new, before=before)
    return new


def emit(call: Call, event: str, body: Body, *, before: Mapping[str, Any] | None = None) -> None:
    """One event about `body` as it is now. `before` is the object's earlier form, for previous_attributes."""
    data: Body = {"object": public(shown(call, body))}
    if before is not None:
        data["previous_attributes"] = {key: value for key, value in before.items() if data["object"].get(key) != value}
    event_id = new_id("evt")
    made = {
        "id": event_id,
        "object": "event",
        "api_version": spec.load().version,
        "created": call.wall,
        "data": data,
        "livemode": False,
        "pending_webhooks": 0,
        "request": {"id": call.request_id, "idempotency_key": call.key},
        "type": event,
    }
    call.store.insert("event", made)
    for endpoint in call.store.newest_first("webhook_endpoint"):
        wanted = endpoint["enabled_events"]
        if endpoint["status"] == "enabled" and not endpoint.get("deleted") and ("*" in wanted or event in wanted):
            call.store.queue_delivery(event_id, endpoint["id"], call.wall)


@shows("event")
def _shown(call: Call, event: Body) -> Body:
    return event | {"pending_webhooks": call.store.undelivered(event["id"])}


@handles("GetEventsId")
def retrieve(call: Call) -> Body:
    call.only(())
    return shown(call, fetch(call, "event", call.path["id"], noun="event", param="id", status=404))


@handles("GetEvents")
def index(call: Call) -> Body:
    """`delivery_success=false` finds those that some endpoint has not taken yet."""
    types, one, success = call.params.get("types"), call.params.get("type"), call.params.get("delivery_success")
    if types is not None and one is not None:
        raise Refusal("You may only specify one of these parameters: type, types.", param="types")
    found = [
        event
        for event in call.store.newest_first("event")
        if created_within(event, call.params.get("created"))
        and (types is None or event["type"] in types)
        and (one is None or event["type"] == one or (one.endswith(".*") and event["type"].startswith(one[:-1])))
        and (success is None or (call.store.undelivered(event["id"]) == 0) is success)
    ]
    answer = page(call, found, filters=("types", "type", "created", "delivery_success"))
    return answer | {"data": [shown(call, event) for event in answer["data"]]}
