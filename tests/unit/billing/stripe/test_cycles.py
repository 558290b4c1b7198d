"""The sandbox's billing cycles agree with our periods, which are computed in another room."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.model.plan import Interval
from billing.stripe.sandbox.resources.cycles import Anchor, next_match, period
from billing.stripe.subscription import schedule
from metering.model.clock import isoformat
from metering.model.period import period_at

SECONDS = st.integers(int(datetime(2020, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2034, 1, 1, tzinfo=UTC).timestamp()))


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@given(SECONDS, SECONDS)
def test_a_month_from_an_anchor_is_our_period(anchor: int, now: int) -> None:
    start_ms, end_ms = period_at(anchor * 1000, now * 1000)
    assert period(Anchor.at(anchor), "month", 1, now) == (start_ms // 1000, end_ms // 1000)


@given(SECONDS, SECONDS)
def test_the_schedule_we_send_gives_stripe_the_end_of_our_period(anchor: int, late: int) -> None:
    now = max(anchor, late)
    sent = schedule(isoformat(anchor * 1000), 0, Interval.MONTH, now * 1000)
    start_ms, end_ms = period_at(anchor * 1000, now * 1000)
    assert next_match(sent["billing_cycle_anchor_config"], now).instant == end_ms // 1000
    assert sent.get("backdate_start_date", now) == start_ms // 1000


@given(SECONDS, SECONDS, SECONDS)
def test_stripes_later_periods_are_ours_too(anchor: int, subscribed: int, later: int) -> None:
    """Above all for the 31st: told as a day, it does not stay on the 28th after a February."""
    subscribed, later = max(anchor, subscribed), max(anchor, subscribed, later)
    config = schedule(isoformat(anchor * 1000), 0, Interval.MONTH, subscribed * 1000)["billing_cycle_anchor_config"]
    start_ms, end_ms = period_at(anchor * 1000, later * 1000)
    assert period(next_match(config, subscribed), "month", 1, later) == (start_ms // 1000, end_ms // 1000)


@pytest.mark.parametrize(
    ("anchor", "now", "start", "end"),
    [
        ("2028-02-29T12:00:00Z", "2029-03-01T00:00:00Z", "2029-02-28T12:00:00Z", "2030-02-28T12:00:00Z"),
        ("2027-01-31T00:00:00Z", "2026-12-31T00:00:00Z", "2026-01-31T00:00:00Z", "2027-01-31T00:00:00Z"),
    ],
)
def test_a_year_from_an_anchor(anchor: str, now: str, start: str, end: str) -> None:
    assert period(Anchor.at(instant(anchor)), "year", 1, instant(now)) == (instant(start), instant(end))


def test_a_week_is_seven_days_whatever_the_month() -> None:
    anchor = Anchor.at(instant("2026-01-30T06:00:00Z"))
    assert period(anchor, "week", 2, instant("2026-02-14T00:00:00Z")) == (
        instant("2026-02-13T06:00:00Z"),
        instant("2026-02-27T06:00:00Z"),
    )
