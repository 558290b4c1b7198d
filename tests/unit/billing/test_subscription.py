"""States, standings, renewals."""

from datetime import UTC, datetime

import pytest

from billing.model.plan import Interval
from billing.model.subscription import STANDINGS, TRANSITIONS, Event, State, TransitionRefused, after, next_renewal
from metering.model.clock import isoformat, to_ms


def ms(text: str) -> int:
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


def test_every_state_has_a_standing() -> None:
    assert set(STANDINGS) == set(State)


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
