"""Test clocks: time for some customers, moved by hand. What is due on the way happens in order, each at its own instant."""

from billing.stripe.sandbox.errors import Refusal, no_such
from billing.stripe.sandbox.resources.base import Body, Call, fetch, given_text, handles, page
from billing.stripe.sandbox.resources.customers import WHEN_DELETED
from billing.stripe.sandbox.resources.events import change, emit, keep
from billing.stripe.sandbox.store import new_id
from billing.stripe.sandbox.work import WHEN_READY

_KIND = "test_helpers.test_clock"
_DAY = 86_400
_LASTS, _AT_ONCE = 30 * _DAY, 2 * 366 * _DAY
_MOST_AHEAD = 5 * 366 * _DAY


@handles("PostTestHelpersTestClocks")
def create(call: Call) -> Body:
    call.only({"frozen_time", "name"})
    clock = {
        "id": new_id("clock"),
        "object": _KIND,
        "created": call.wall,
        "deletes_after": call.wall + _LASTS,
        "frozen_time": call.params["frozen_time"],
        "livemode": False,
        "name": given_text(call, "name"),
        "status": "ready",
        "status_details": {},
    }
    return keep(call, clock, "test_helpers.test_clock.created")


def _stored(call: Call) -> Body:
    found = fetch(call, _KIND, call.path["test_clock"], noun="test clock", param="test_clock", status=404)
    if found.get("deleted"):
        raise no_such("test clock", found["id"], param="test_clock", status=404)
    return found


@handles("GetTestHelpersTestClocksTestClock")
def retrieve(call: Call) -> Body:
    call.only(())
    return _stored(call)


@handles("PostTestHelpersTestClocksTestClockAdvance")
def advance(call: Call) -> Body:
    """Answers `advancing`; it is `ready` once everything on the way is done, by the next request at the latest."""
    call.only({"frozen_time"})
    clock, target = _stored(call), call.params["frozen_time"]
    if clock["status"] != "ready":
        raise Refusal("Test clock advancement underway: wait until it is ready.", code="test_clock_advancing", status=429)
    if target <= clock["frozen_time"]:
        raise Refusal("A test clock can only be advanced to a later time.", param="frozen_time")
    if target > min(clock["frozen_time"] + _AT_ONCE, max(call.wall, clock["created"]) + _MOST_AHEAD):
        raise Refusal("A test clock advances by two years at a time, and five beyond the present.", param="frozen_time")
    new = clock | {"status": "advancing", "status_details": {"advancing": {"target_frozen_time": target}}}
    return change(call, clock, new, "test_helpers.test_clock.advancing")


def _ready(call: Call, clock: Body) -> None:
    change(call, clock, clock | {"status": "ready", "status_details": {}}, "test_helpers.test_clock.ready")


WHEN_READY.append(_ready)


@handles("DeleteTestHelpersTestClocksTestClock")
def delete(call: Call) -> Body:
    """Its customers go with it."""
    call.only(())
    clock = _stored(call)
    for customer in call.store.newest_first("customer"):
        if customer.get("test_clock") == clock["id"]:
            for ended in WHEN_DELETED:
                ended(call.of(customer), customer)
            call.store.replace("customer", {"id": customer["id"], "object": "customer", "deleted": True})
    gone = {"id": clock["id"], "object": _KIND, "deleted": True}
    emit(call, "test_helpers.test_clock.deleted", clock)
    call.store.replace(_KIND, gone)
    return gone


@handles("GetTestHelpersTestClocks")
def index(call: Call) -> Body:
    return page(call, [clock for clock in call.store.newest_first(_KIND) if not clock.get("deleted")])
