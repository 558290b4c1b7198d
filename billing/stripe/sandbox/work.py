"""What falls due by itself: renewals, trials that end, invoices to finalize, payments to retry. Each resource registers its own.

Work is done in order of time, at the instant it fell due, before the next request is answered or as the sandbox ticks. A
test clock's work is done while that clock advances.
"""

from collections.abc import Callable
from dataclasses import replace

from billing.stripe.sandbox.resources.base import Body, Call
from billing.stripe.sandbox.store import Store

Work = Callable[[Call, str], None]
_WORK: dict[str, Work] = {}
Ready = Callable[[Call, Body], None]
WHEN_READY: list[Ready] = []  # what a clock that arrived does


def does(name: str) -> Callable[[Work], Work]:
    """Register what is to be done with an object when it falls due."""

    def register(work: Work) -> Work:
        _WORK[name] = work
        return work

    return register


def catch_up(store: Store, now: int) -> None:
    """Everything due by now on the sandbox's own clock, and on test clocks that are to advance."""
    while due := store.next_due(None, now):
        at, name, object_id = due
        _WORK[name](Call(store, {}, {}, at, wall=at), object_id)
    for clock in reversed(store.newest_first("test_helpers.test_clock")):
        if not clock.get("deleted") and clock["status"] == "advancing":
            _advance(Call(store, {}, {}, clock["frozen_time"], wall=now), clock)


def _advance(call: Call, clock: Body) -> None:
    """Through everything that is due on the way, each at its own instant, to where the clock was sent."""
    target = clock["status_details"]["advancing"]["target_frozen_time"]
    while due := call.store.next_due(clock["id"], target):
        at, name, object_id = due
        clock = clock | {"frozen_time": max(at, clock["frozen_time"])}
        call.store.replace("test_helpers.test_clock", clock)
        _WORK[name](replace(call, now=clock["frozen_time"]), object_id)
    for ready in WHEN_READY:
        ready(replace(call, now=target), clock | {"frozen_time": target})
