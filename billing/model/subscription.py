"""A subscription: its states, what moves it between them, what each state entitles to and allows, and when it renews.

Pure. The states are Stripe's (docs.stripe.com, "How subscriptions work"). docs/subscriptions.md shows the tables; a test holds it.
"""

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from billing.model.cycle import Bounds, Cycle, period_of
from billing.model.plan import Interval, PlanSpec
from billing.model.subscription_terms import Terms, with_terms
from metering.model.errors import Conflict


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
    """What happens to a subscription, as a sentence: a subscription that is canceled cannot resume."""

    START = "start"
    START_INCOMPLETE = "start incomplete"  # its first payment is under way
    START_TRIAL = "start a trial"
    EXPIRE = "expire"  # its first payment was not made in time
    CONVERT = "convert from a trial"  # the trial ended, and there is something to charge
    RETURN = "return from a trial"  # the trial ended, and the plan before it goes on
    LAPSE = "lapse after a trial"  # the trial ended, and there is nothing to charge: auto-downgrade
    STALL = "wait after a trial"  # the same, without auto-downgrade
    PAY = "be paid"
    FAIL = "fail to be paid"
    GIVE_UP = "go unpaid"  # every attempt of the dunning schedule failed
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "be canceled"
    RUN_OUT = "run out"  # canceled before, and its period has ended
    END = "end"  # its organization was deleted


class Standing(StrEnum):
    """What a state entitles to."""

    PLAN = "plan"  # what was bought
    DEFAULT = "default"  # the default plan; where there is none, nothing (402)


class Permit(StrEnum):
    """What can be done with a subscription in a state, the events beside."""

    RENEW = "renew"  # its base price falls due when a period starts
    CHANGE_PLAN = "change its plan"
    CHANGE_CYCLE = "change its billing cycle"
    CANCEL_AT_END = "be canceled at its period's end"


S, E = State, Event

TRANSITIONS: dict[tuple[State | None, Event], State] = {
    (None, E.START): S.ACTIVE,
    (None, E.START_INCOMPLETE): S.INCOMPLETE,
    (None, E.START_TRIAL): S.TRIALING,
    (S.INCOMPLETE, E.PAY): S.ACTIVE,
    (S.INCOMPLETE, E.FAIL): S.INCOMPLETE,
    (S.INCOMPLETE, E.EXPIRE): S.INCOMPLETE_EXPIRED,
    (S.INCOMPLETE, E.CANCEL): S.CANCELED,
    (S.INCOMPLETE, E.END): S.CANCELED,
    (S.TRIALING, E.CONVERT): S.ACTIVE,
    (S.TRIALING, E.RETURN): S.ACTIVE,
    (S.TRIALING, E.LAPSE): S.CANCELED,
    (S.TRIALING, E.STALL): S.PAUSED,
    (S.TRIALING, E.CANCEL): S.CANCELED,
    (S.TRIALING, E.RUN_OUT): S.CANCELED,
    (S.TRIALING, E.END): S.CANCELED,
    (S.ACTIVE, E.START_TRIAL): S.TRIALING,
    (S.ACTIVE, E.PAY): S.ACTIVE,
    (S.ACTIVE, E.FAIL): S.PAST_DUE,
    (S.ACTIVE, E.PAUSE): S.PAUSED,
    (S.ACTIVE, E.CANCEL): S.CANCELED,
    (S.ACTIVE, E.RUN_OUT): S.CANCELED,
    (S.ACTIVE, E.END): S.CANCELED,
    (S.PAST_DUE, E.PAY): S.ACTIVE,
    (S.PAST_DUE, E.FAIL): S.PAST_DUE,
    (S.PAST_DUE, E.GIVE_UP): S.UNPAID,
    (S.PAST_DUE, E.CANCEL): S.CANCELED,
    (S.PAST_DUE, E.RUN_OUT): S.CANCELED,
    (S.PAST_DUE, E.END): S.CANCELED,
    (S.UNPAID, E.PAY): S.ACTIVE,
    (S.UNPAID, E.FAIL): S.UNPAID,
    (S.UNPAID, E.CANCEL): S.CANCELED,
    (S.UNPAID, E.RUN_OUT): S.CANCELED,
    (S.UNPAID, E.END): S.CANCELED,
    (S.PAUSED, E.RESUME): S.ACTIVE,
    (S.PAUSED, E.CANCEL): S.CANCELED,
    (S.PAUSED, E.RUN_OUT): S.CANCELED,
    (S.PAUSED, E.END): S.CANCELED,
}

STANDINGS: dict[State, Standing] = {
    S.INCOMPLETE: Standing.DEFAULT,
    S.INCOMPLETE_EXPIRED: Standing.DEFAULT,
    S.TRIALING: Standing.PLAN,
    S.ACTIVE: Standing.PLAN,
    S.PAST_DUE: Standing.PLAN,
    S.UNPAID: Standing.DEFAULT,
    S.CANCELED: Standing.DEFAULT,
    S.PAUSED: Standing.DEFAULT,
}

_ALL = frozenset(Permit)
PERMITS: dict[State, frozenset[Permit]] = {
    S.INCOMPLETE: frozenset(),
    S.INCOMPLETE_EXPIRED: frozenset(),
    S.TRIALING: frozenset([Permit.CHANGE_PLAN, Permit.CANCEL_AT_END]),
    S.ACTIVE: _ALL,
    S.PAST_DUE: _ALL,  # what is owed stays owed, whatever the plan
    S.UNPAID: frozenset([Permit.CANCEL_AT_END]),
    S.CANCELED: frozenset(),
    S.PAUSED: frozenset([Permit.CANCEL_AT_END]),
}

ENDED = frozenset([S.CANCELED, S.INCOMPLETE_EXPIRED])
# One billing period follows another, whether it is charged (Permit.RENEW) or not; a trial is a period of its own.
GOING_ON = frozenset([S.ACTIVE, S.PAST_DUE, S.UNPAID, S.PAUSED])


class TransitionRefused(Conflict):
    """A subscription in this state cannot do that."""

    code = "transition_refused"


def after(state: State | None, event: Event) -> State:
    """The state that follows. Raises TransitionRefused."""
    if (state, event) not in TRANSITIONS:
        raise TransitionRefused(f"a subscription that is {state or 'not there'} cannot {event}", state=state, event=event)
    return TRANSITIONS[state, event]


def check_permit(state: State, permit: Permit) -> None:
    """Raises TransitionRefused."""
    if permit not in PERMITS[state]:
        raise TransitionRefused(f"a subscription that is {state} cannot {permit}", state=state, permit=permit)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanVersion:
    """One version of a plan."""

    plan: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """`former` is the plan that a reverse trial falls back to; None for a trial that a subscription began with."""

    start_ms: int
    end_ms: int
    former: PlanVersion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """`anchor_ms` is never moved by a renewal: every period is computed from it. It moves where somebody asks for another billing day
    or interval: to `next_anchor_ms`, when the period under way ends.

    `period` is the stretch that the base price was charged for last: a period of the cycle, or less (a start within one), or more
    (an end moved to another day). `paid` False: nothing was charged for it, as in a trial, a pause, or before there were items.
    """

    org_id: str
    plan: str
    plan_version: int
    state: State
    anchor_ms: int
    interval: Interval
    currency: str
    amount: Decimal | None  # base price an interval; None where it was negotiated
    trial_days: int = 0
    id: str = ""
    interval_count: int = 1
    zone: str = "UTC"
    period: Bounds | None = None  # None: from before periods were kept
    paid: bool = False
    next_anchor_ms: int | None = None
    awaited: PlanVersion | None = None  # what it moves to when the period under way ends
    trial: Trial | None = None
    cancel_at_ms: int | None = None
    cancel_reason: str | None = None
    canceled_at_ms: int | None = None  # when that was asked for
    paused_at_ms: int | None = None
    ended_at_ms: int | None = None
    anchored_ms: int | None = None  # since when the anchor stands: the usage period of then ended there
    auto_renew: bool = True
    terms: Terms | None = None
    revision: int = 0  # counts the changes made; names what each of them causes

    @property
    def version(self) -> PlanVersion:
        return PlanVersion(plan=self.plan, version=self.plan_version)

    @property
    def cycle(self) -> Cycle:
        return Cycle(self.anchor_ms, self.interval, self.interval_count, self.zone)

    def billing_period(self, at_ms: int) -> Bounds:
        """The period of the base price that holds `at_ms`: the one kept, or by the cycle; after one whose end was moved, by the next."""
        if self.period is None:
            return period_of(self.cycle, at_ms)
        start_ms, end_ms = self.period
        if start_ms <= at_ms < end_ms:
            return self.period
        if at_ms < start_ms:
            found = period_of(self.cycle, at_ms)
            return found[0], min(found[1], start_ms)
        found = period_of(self.following_cycle, at_ms)
        return max(found[0], end_ms), found[1]

    @property
    def following_cycle(self) -> Cycle:
        """The cycle of the periods after the one under way."""
        return self.cycle if self.next_anchor_ms is None else replace(self.cycle, anchor_ms=self.next_anchor_ms)

    @property
    def ends_at_ms(self) -> int | None:
        """When it runs out, if nothing else happens."""
        if self.cancel_at_ms is not None or self.auto_renew or self.period is None:
            return self.cancel_at_ms
        return self.period[1]


def first_period(cycle: Cycle, start_ms: int) -> Bounds:
    """What a subscription is charged for at its start: up to the next period; dated back where the anchor is in the past, so that a
    subscription taken over from elsewhere goes on in whole periods."""
    found = period_of(cycle, start_ms)
    return found if cycle.anchor_ms <= start_ms else (start_ms, found[1])


def sold(spec: PlanSpec, subscription: Subscription) -> PlanSpec:
    """The plan as this customer has it: with what was negotiated in place of the plan's."""
    return with_terms(spec, subscription.terms, subscription.currency)


def next_renewal(anchor_ms: int, interval: Interval, now_ms: int) -> int:
    """The start of the first billing interval after `now_ms`, counted from the anchor in UTC."""
    return period_of(Cycle(anchor_ms, interval), now_ms)[1]
