"""States, standings, permits, periods, renewals."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from billing.model.cycle import Cycle
from billing.model.plan import Interval, PerUnit, PlanSpec
from billing.model.subscription import (
    ENDED,
    PERMITS,
    STANDINGS,
    TRANSITIONS,
    Event,
    Permit,
    State,
    Subscription,
    TransitionRefused,
    after,
    check_permit,
    first_period,
    next_renewal,
    sold,
)
from billing.model.subscription_terms import Terms
from metering.model.clock import isoformat, to_ms


def ms(text: str) -> int:
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


def test_every_state_has_a_standing_and_permits() -> None:
    assert set(STANDINGS) == set(PERMITS) == set(State)


def test_every_event_and_every_state_is_used() -> None:
    assert {event for _, event in TRANSITIONS} == set(Event)
    assert set(TRANSITIONS.values()) == set(State)


def test_nothing_leads_out_of_an_ended_subscription() -> None:
    assert not [state for state, _ in TRANSITIONS if state in ENDED]
    assert all(not PERMITS[state] for state in ENDED)


def test_whatever_lives_can_be_canceled_and_ended() -> None:
    for event in (Event.CANCEL, Event.END):
        assert {state for state, each in TRANSITIONS if each is event} == set(State) - ENDED


@pytest.mark.parametrize(
    ("story", "end"),
    [
        ([Event.START_TRIAL, Event.CONVERT, Event.FAIL, Event.FAIL, Event.PAY], State.ACTIVE),
        ([Event.START, Event.FAIL, Event.GIVE_UP, Event.PAY], State.ACTIVE),  # back on payment
        ([Event.START, Event.FAIL, Event.GIVE_UP], State.UNPAID),
        ([Event.START, Event.START_TRIAL, Event.RETURN], State.ACTIVE),  # a reverse trial
        ([Event.START_TRIAL, Event.LAPSE], State.CANCELED),
        ([Event.START_TRIAL, Event.STALL, Event.RESUME], State.ACTIVE),
        ([Event.START_INCOMPLETE, Event.EXPIRE], State.INCOMPLETE_EXPIRED),
        ([Event.START, Event.PAUSE, Event.RUN_OUT], State.CANCELED),
    ],
)
def test_a_subscription_lives_by_the_table(story: list[Event], end: State) -> None:
    state: State | None = None
    for event in story:
        state = after(state, event)
    assert state is end


def test_what_a_state_does_not_allow_is_told_in_a_sentence() -> None:
    with pytest.raises(TransitionRefused, match="a subscription that is paused cannot change its plan"):
        check_permit(State.PAUSED, Permit.CHANGE_PLAN)


def test_a_subscription_starts_active() -> None:
    assert after(None, Event.START) is State.ACTIVE


def test_every_state_but_the_last_ones_can_end() -> None:
    ended = {State.CANCELED, State.INCOMPLETE_EXPIRED}
    assert {state for state, event in TRANSITIONS if event is Event.END} == set(State) - ended


def test_what_has_ended_does_not_end_again() -> None:
    with pytest.raises(TransitionRefused, match="canceled cannot end"):
        after(State.CANCELED, Event.END)


@pytest.mark.parametrize(
    ("anchor", "interval", "now", "renews"),
    [
        ("2026-01-31", Interval.MONTH, "2026-01-31", "2026-02-28T00:00:00Z"),  # Stripe, billing cycle
        ("2026-01-31", Interval.MONTH, "2026-02-28", "2026-03-31T00:00:00Z"),
        ("2026-01-31", Interval.MONTH, "2026-04-01", "2026-04-30T00:00:00Z"),
        ("2024-02-29", Interval.YEAR, "2024-03-01", "2025-02-28T00:00:00Z"),
        ("2024-02-29", Interval.YEAR, "2027-03-01", "2028-02-29T00:00:00Z"),
        ("2026-01-15", Interval.YEAR, "2026-01-15", "2027-01-15T00:00:00Z"),
        ("2026-01-15", Interval.YEAR, "2027-01-14T23:59:59", "2027-01-15T00:00:00Z"),
        ("2026-01-15", Interval.YEAR, "2027-01-15", "2028-01-15T00:00:00Z"),
    ],
)
def test_a_renewal_is_counted_from_the_anchor(anchor: str, interval: Interval, now: str, renews: str) -> None:
    assert isoformat(next_renewal(ms(anchor), interval, ms(now))) == renews


SUBSCRIPTION = Subscription(
    org_id="o", plan="pro", plan_version=1, state=State.ACTIVE, anchor_ms=ms("2026-01-31"), interval=Interval.MONTH, currency="usd",
    amount=Decimal(49), period=(ms("2026-01-31"), ms("2026-02-28")),
)  # fmt: skip


@pytest.mark.parametrize(
    ("period", "next_anchor", "at", "expected"),
    [
        (("2026-01-31", "2026-02-28"), None, "2026-02-10", ("2026-01-31", "2026-02-28")),
        (("2026-01-31", "2026-02-28"), None, "2026-03-10", ("2026-02-28", "2026-03-31")),
        (("2026-01-31", "2026-02-15"), "2026-02-15", "2026-02-14", ("2026-01-31", "2026-02-15")),  # its end was moved
        (("2026-01-31", "2026-02-15"), "2026-02-15", "2026-02-15", ("2026-02-15", "2026-03-15")),
        (("2026-01-31", "2026-03-15"), "2026-02-15", "2026-03-01", ("2026-01-31", "2026-03-15")),
        (("2026-02-10", "2026-02-28"), None, "2026-02-01", ("2026-01-31", "2026-02-10")),  # before it started
    ],
)
def test_the_billing_period_is_the_one_kept_then_those_of_the_cycle(
    period: tuple[str, str], next_anchor: str | None, at: str, expected: tuple[str, str]
) -> None:
    moved = replace(SUBSCRIPTION, period=(ms(period[0]), ms(period[1])), next_anchor_ms=next_anchor and ms(next_anchor))
    assert moved.billing_period(ms(at)) == (ms(expected[0]), ms(expected[1]))


def test_a_first_period_reaches_to_the_next_start_and_back_to_an_anchor_that_is_past() -> None:
    ahead, past = Cycle(ms("2026-09-01"), Interval.MONTH), Cycle(ms("2026-07-20"), Interval.MONTH)
    assert first_period(ahead, ms("2026-08-10")) == (ms("2026-08-10"), ms("2026-09-01"))
    assert first_period(past, ms("2026-08-10")) == (ms("2026-07-20"), ms("2026-08-20"))


def test_what_was_negotiated_stands_in_place_of_the_plans() -> None:
    spec = PlanSpec(name="pro", price={"usd": Decimal(49), "eur": Decimal(45)}, prices={"api": PerUnit(each=Decimal("0.0003"))})
    terms = Terms(price=Decimal(30), prices={"api": PerUnit(each=Decimal("0.0001"))}, interval=Interval.YEAR)
    found = sold(spec, replace(SUBSCRIPTION, terms=terms))
    assert (found.price, found.interval) == ({"usd": Decimal(30), "eur": Decimal(45)}, Interval.YEAR)
    assert found.prices == {"api": PerUnit(each=Decimal("0.0001"))}
    assert sold(spec, SUBSCRIPTION) == spec


def test_auto_renewal_off_ends_it_with_its_period() -> None:
    assert SUBSCRIPTION.ends_at_ms is None
    assert replace(SUBSCRIPTION, auto_renew=False).ends_at_ms == ms("2026-02-28")
