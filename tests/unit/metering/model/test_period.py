"""Windows and billing periods: always from the anchor, half-open, without gap or overlap."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.model.clock import to_datetime, to_ms
from metering.model.period import add_months, period_at, window_at
from metering.model.quota import Window


def ms(text: str) -> int:
    """The instant of an ISO date, or date and time, in UTC."""
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


def dates(bounds: tuple[int, int]) -> tuple[str, str]:
    start, end = (to_datetime(instant).strftime("%Y-%m-%dT%H:%M") for instant in bounds)
    return start, end


@pytest.mark.parametrize(
    ("anchor", "months", "moved"),
    [
        ("2026-01-31", 0, "2026-01-31"), ("2026-01-31", 1, "2026-02-28"), ("2026-01-31", 2, "2026-03-31"), ("2026-01-31", 3, "2026-04-30"),
        ("2028-01-31", 1, "2028-02-29"), ("2028-02-29", 12, "2029-02-28"), ("2028-02-29", 48, "2032-02-29"),
        ("2026-12-31", 2, "2027-02-28"), ("2026-01-15", -1, "2025-12-15"),
        ("2026-03-31", -1, "2026-02-28"), ("2026-01-31", -12, "2025-01-31"),
    ],
)  # fmt: skip
def test_a_day_that_a_month_lacks_becomes_its_last_day(anchor: str, months: int, moved: str) -> None:
    assert add_months(to_datetime(ms(anchor)), months) == to_datetime(ms(moved))


@pytest.mark.parametrize(
    ("anchor", "now", "start", "end"),
    [
        ("2026-01-31", "2026-01-31", "2026-01-31T00:00", "2026-02-28T00:00"),
        ("2026-01-31", "2026-02-27T23:59:59.999", "2026-01-31T00:00", "2026-02-28T00:00"),
        ("2026-01-31", "2026-02-28", "2026-02-28T00:00", "2026-03-31T00:00"),
        ("2026-01-31", "2026-03-30", "2026-02-28T00:00", "2026-03-31T00:00"),
        ("2026-01-31", "2026-03-31", "2026-03-31T00:00", "2026-04-30T00:00"),
        ("2028-01-31", "2028-02-29", "2028-02-29T00:00", "2028-03-31T00:00"),
        ("2026-01-31T14:30", "2026-02-28T14:29", "2026-01-31T14:30", "2026-02-28T14:30"),
        ("2026-01-15", "2026-01-14", "2025-12-15T00:00", "2026-01-15T00:00"),
        ("2026-01-31", "2025-03-01", "2025-02-28T00:00", "2025-03-31T00:00"),
        ("2025-12-10", "2026-01-09", "2025-12-10T00:00", "2026-01-10T00:00"),
    ],
)
def test_a_period_is_counted_from_the_anchor_never_from_the_period_before(anchor: str, now: str, start: str, end: str) -> None:
    assert dates(period_at(ms(anchor), ms(now))) == (start, end)


@pytest.mark.parametrize(
    ("window", "now", "start", "end"),
    [
        (Window.HOUR, "2026-02-28T23:59:59.999", "2026-02-28T23:00", "2026-03-01T00:00"),
        (Window.HOUR, "2026-03-29T01:00", "2026-03-29T01:00", "2026-03-29T02:00"),  # Europe's clocks change; UTC does not
        (Window.DAY, "2028-02-29T12:00", "2028-02-29T00:00", "2028-03-01T00:00"),
        (Window.DAY, "2026-03-29T12:00", "2026-03-29T00:00", "2026-03-30T00:00"),
        (Window.MONTH, "2026-12-31T23:59:59", "2026-12-01T00:00", "2027-01-01T00:00"),
        (Window.MONTH, "2026-02-01", "2026-02-01T00:00", "2026-03-01T00:00"),
        (Window.PERIOD, "2026-02-01", "2026-01-15T06:00", "2026-02-15T06:00"),
    ],
)
def test_windows_are_those_of_utc_and_only_the_period_looks_at_the_anchor(window: Window, now: str, start: str, end: str) -> None:
    assert dates(window_at(window, ms("2025-11-15T06:00"), ms(now))) == (start, end)


INSTANTS = st.integers(min_value=0, max_value=ms("2100-01-01"))
SECONDS = st.integers(min_value=0, max_value=ms("2100-01-01") // 1000).map(lambda second: second * 1000)


@given(window=st.sampled_from(Window), anchor_ms=SECONDS, now_ms=INSTANTS)
def test_every_instant_lies_in_exactly_one_window_of_a_kind(window: Window, anchor_ms: int, now_ms: int) -> None:
    start, end = window_at(window, anchor_ms, now_ms)
    assert start <= now_ms < end
    assert window_at(window, anchor_ms, start) == (start, end) == window_at(window, anchor_ms, end - 1)
    assert window_at(window, anchor_ms, end)[0] == end
    assert window_at(window, anchor_ms, start - 1)[1] == start


@given(window=st.sampled_from(Window), anchor_ms=SECONDS, now_ms=INSTANTS)
def test_windows_begin_and_end_on_whole_seconds(window: Window, anchor_ms: int, now_ms: int) -> None:
    assert [bound % 1000 for bound in window_at(window, anchor_ms, now_ms)] == [0, 0]
