"""Time as an argument: instants are whole milliseconds, aware, UTC."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.model.clock import FrozenClock, SystemClock, isoformat, to_datetime, to_ms


@given(st.integers(min_value=0, max_value=4_102_444_800_000))
def test_a_millisecond_survives_the_way_to_a_datetime_and_back(instant_ms: int) -> None:
    assert to_ms(to_datetime(instant_ms)) == instant_ms


def test_an_instant_of_another_zone_is_the_same_instant() -> None:
    tokyo = datetime(2026, 1, 1, 9, 0, tzinfo=timezone(timedelta(hours=9)))
    assert to_ms(tokyo) == to_ms(datetime(2026, 1, 1, tzinfo=UTC))


def test_a_naive_datetime_is_no_instant() -> None:
    with pytest.raises(ValueError, match="time zone"):
        to_ms(datetime(2026, 1, 1))  # noqa: DTZ001 - the fault under test


@pytest.mark.parametrize(
    ("instant_ms", "text"),
    [
        (0, "1970-01-01T00:00:00Z"), (999, "1970-01-01T00:00:00Z"), (1_769_904_000_000, "2026-02-01T00:00:00Z"),
        (1_769_903_999_999, "2026-01-31T23:59:59Z"),
    ],
)  # fmt: skip
def test_isoformat_shows_whole_seconds_and_never_rounds_up(instant_ms: int, text: str) -> None:
    assert isoformat(instant_ms) == text


def test_a_frozen_clock_moves_only_when_told() -> None:
    clock = FrozenClock(1_000)
    assert (clock.now_ms(), clock.monotonic()) == (1_000, 1.0)
    clock.advance(0.25)
    assert (clock.now_ms(), clock.monotonic()) == (1_250, 1.25)


def test_the_system_clock_counts_milliseconds_of_this_century_and_never_goes_back() -> None:
    clock = SystemClock()
    first, second = clock.monotonic(), clock.monotonic()
    assert 1_735_689_600_000 < clock.now_ms() < 4_102_444_800_000
    assert second >= first
