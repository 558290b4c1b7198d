"""Billing cycles: tables from Stripe's documents, and what holds for every anchor, zone and length."""

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from billing.model.cycle import Cycle, CycleFaulty, calendar_month, day_anchor, midnight, next_start, period_of
from billing.model.plan import Interval
from metering.model.clock import isoformat, to_ms
from metering.model.period import period_at

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia", "Africa/Cairo",
    "America/St_Johns",
)  # fmt: skip
SECOND = st.integers(to_ms(datetime(2000, 1, 1, tzinfo=UTC)) // 1000, to_ms(datetime(2060, 1, 1, tzinfo=UTC)) // 1000)
CYCLES = st.builds(
    lambda at, interval, count, zone: Cycle(at * 1000, interval, count, zone),
    SECOND, st.sampled_from(Interval), st.integers(1, 3), st.sampled_from(ZONES),
)  # fmt: skip


def ms(text: str, zone: str = "UTC") -> int:
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)))


def starts(cycle: Cycle, at: str, count: int) -> list[str]:
    found, at_ms = [], period_of(cycle, ms(at))[0]
    for _ in range(count):
        found.append(isoformat(at_ms))
        at_ms = next_start(cycle, at_ms)
    return found


@pytest.mark.parametrize(
    ("anchor", "interval", "count", "at", "expected"),
    [
        ("2026-01-31", Interval.MONTH, 1, "2026-01-31", ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]),
        ("2024-01-31", Interval.MONTH, 1, "2024-02-29", ["2024-02-29", "2024-03-31"]),
        ("2024-02-29", Interval.YEAR, 1, "2024-02-29", ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]),
        ("2026-01-15", Interval.MONTH, 3, "2026-06-01", ["2026-04-15", "2026-07-15", "2026-10-15", "2027-01-15"]),
        ("2026-01-01", Interval.WEEK, 2, "2026-01-20", ["2026-01-15", "2026-01-29", "2026-02-12"]),
        ("2026-01-01", Interval.DAY, 10, "2025-12-31", ["2025-12-22", "2026-01-01", "2026-01-11"]),
        ("2026-06-15", Interval.MONTH, 1, "2026-02-20", ["2026-02-15", "2026-03-15"]),  # before the anchor
    ],
)
def test_periods_are_counted_from_the_anchor(anchor: str, interval: Interval, count: int, at: str, expected: list[str]) -> None:
    assert starts(Cycle(ms(anchor), interval, count), at, len(expected)) == [f"{day}T00:00:00Z" for day in expected]


def test_a_cycle_of_a_zone_starts_at_local_midnight_on_both_sides_of_summer_time() -> None:
    cycle = Cycle(ms("2026-01-01", "Europe/Berlin"), Interval.MONTH, 1, "Europe/Berlin")
    assert starts(cycle, "2026-03-05", 3) == ["2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z"]


def test_a_day_on_which_the_clocks_change_is_as_long_as_it_is() -> None:
    cycle = Cycle(ms("2026-03-01", "Europe/Berlin"), Interval.DAY, 1, "Europe/Berlin")
    lengths = [
        (b - a) // 3_600_000 for a, b in (period_of(cycle, ms(f"{day}T12:00")) for day in ("2026-03-28", "2026-03-29", "2026-10-25"))
    ]
    assert lengths == [24, 23, 25]


def test_a_time_of_day_that_a_day_lacks_comes_as_much_later_as_the_clocks_were_moved() -> None:
    cycle = Cycle(ms("2026-03-28T02:30", "Europe/Berlin"), Interval.DAY, 1, "Europe/Berlin")
    assert starts(cycle, "2026-03-28T12:00", 3) == ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]


def test_a_calendar_month_is_from_the_first_to_the_last_day() -> None:
    assert starts(calendar_month(ms("2026-08-10T09:30")), "2026-08-10", 3) == [f"2026-{m}-01T00:00:00Z" for m in ("08", "09", "10")]


@pytest.mark.parametrize(
    ("day", "near", "anchor"),
    [
        (15, "2026-02-20", "2026-02-15"),
        (31, "2026-02-20", "2026-01-31"),
        (30, "2026-02-01", "2026-01-30"),
        (31, "2026-07-01", "2026-07-31"),
    ],
)
def test_a_day_of_the_month_is_anchored_in_a_month_that_has_it(day: int, near: str, anchor: str) -> None:
    assert day_anchor(day, ms(near)) == ms(anchor)


def test_midnight_is_that_of_the_zone() -> None:
    assert isoformat(midnight(ms("2026-07-01T23:30"), "Europe/Berlin")) == "2026-07-01T22:00:00Z"


@pytest.mark.parametrize(
    "make", [lambda: Cycle(0, Interval.MONTH, 0), lambda: Cycle(0, Interval.YEAR, 4), lambda: Cycle(0, Interval.DAY, 1, "Mars/Base")]
)
def test_a_cycle_that_cannot_be_is_refused(make: object) -> None:
    with pytest.raises(CycleFaulty):
        make()  # type: ignore[operator]


@given(CYCLES, SECOND)
@example(Cycle(ms("2011-12-01"), Interval.DAY, 1, "Pacific/Apia"), ms("2011-12-31") // 1000)  # 30 December 2011 was left out there
@example(Cycle(ms("2026-11-01T06:30"), Interval.DAY, 1, "America/New_York"), ms("2026-11-01T06:30") // 1000)  # in the hour that comes twice
@settings(max_examples=150, deadline=None)
def test_periods_tile_time_without_gap_or_overlap(cycle: Cycle, at: int) -> None:
    at_ms = at * 1000
    periods = [period_of(cycle, at_ms)]
    for _ in range(6):
        periods.append(period_of(cycle, periods[-1][1]))
    before = period_of(cycle, periods[0][0] - 1)
    assert periods[0][0] <= at_ms < periods[0][1]
    assert all(one[1] == other[0] and one[0] < one[1] for one, other in pairwise([before, *periods]))
    assert period_of(cycle, periods[0][0]) == period_of(cycle, periods[0][1] - 1) == periods[0]


@given(SECOND, SECOND)
@settings(max_examples=50, deadline=None)
def test_a_monthly_cycle_in_utc_has_the_usage_periods(anchor: int, at: int) -> None:
    assert period_of(Cycle(anchor * 1000, Interval.MONTH), at * 1000) == period_at(anchor * 1000, at * 1000)


@given(CYCLES)
@settings(max_examples=50, deadline=None)
def test_a_period_starts_at_the_anchor(cycle: Cycle) -> None:
    assert period_of(cycle, cycle.anchor_ms)[0] == cycle.anchor_ms
