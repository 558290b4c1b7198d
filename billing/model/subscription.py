"""A subscription: its states, what moves it between them, what each state entitles to, and when it renews.

Pure. The states are Stripe's (docs.stripe.com, "How subscriptions work").
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from billing.model.plan import Interval
from metering.model.clock import to_datetime, to_ms
from metering.model.errors import Conflict
from metering.model.period import add_months, period_at


class State(StrEnum):
    INCOMPLETE = "incomplete"
    INCOMPLETE_EXPIRED = "incomplete_expired"
    TRIALING = "trialing"
    ACTIVE = "active"
    PAST_DUE = "past_due"
    UNPAID = "unpaid"
    CANCELED = "canceled"
    PAUSED = "paused"


class Event(StrEnum):
    START = "start"
    END = "end"  # its organization was deleted


class Standing(StrEnum):
    """What a state entitles to."""

    PLAN = "plan"  # what was bought
    DEFAULT = "default"  # the default plan; where there is none, nothing (402)


TRANSITIONS: dict[tuple[State | None, Event], State] = {
    (None, Event.START): State.ACTIVE,
    (State.INCOMPLETE, Event.END): State.CANCELED,
    (State.TRIALING, Event.END): State.CANCELED,
    (State.ACTIVE, Event.END): State.CANCELED,
    (State.PAST_DUE, Event.END): State.CANCELED,
    (State.UNPAID, Event.END): State.CANCELED,
    (State.PAUSED, Event.END): State.CANCELED,
}

STANDINGS: dict[State, Standing] = {
    State.INCOMPLETE: Standing.DEFAULT,
    State.INCOMPLETE_EXPIRED: Standing.DEFAULT,
    State.TRIALING: Standing.PLAN,
    State.ACTIVE: Standing.PLAN,
    State.PAST_DUE: Standing.PLAN,
    State.UNPAID: Standing.DEFAULT,
    State.CANCELED: Standing.DEFAULT,
    State.PAUSED: Standing.DEFAULT,
}


class TransitionRefused(Conflict):
    """A subscription in this state cannot do that."""

    code = "transition_refused"


def after(state: State | None, event: Event) -> State:
    """The state that follows. Raises TransitionRefused."""
    if (state, event) not in TRANSITIONS:
        raise TransitionRefused(f"a subscription that is {state or 'not there'} cannot {event}", state=state, event=event)
    return TRANSITIONS[state, event]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """`anchor_ms` is never moved by a renewal: every period is computed from it."""

    org_id: str
    plan: str
    plan_version: int
    state: State
    anchor_ms: int
    interval: Interval
    currency: str
    amount: Decimal | None  # base price an interval; None where it was negotiated
    trial_days: int = 0


def next_renewal(anchor_ms: int, interval: Interval, now_ms: int) -> int:
    """The start of the first billing interval after `now_ms`, counted from the anchor."""
    _, end_ms = period_at(anchor_ms, now_ms)
    if interval is Interval.MONTH:
        return end_ms
    anchor, end = to_datetime(anchor_ms), to_datetime(end_ms)
    months = (end.year - anchor.year) * 12 + end.month - anchor.month
    return to_ms(add_months(anchor, -(-months // 12) * 12))
