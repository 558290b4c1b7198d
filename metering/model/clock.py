"""Time as an argument. The only module of the model that may look at the wall clock.

Everything else takes a `Clock` in its constructor, or `now_ms` as a parameter.
"""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time in whole milliseconds since the epoch (UTC), and a monotonic clock in seconds."""

    def now_ms(self) -> int: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    monotonic = staticmethod(time.monotonic)


class FrozenClock:
    """A clock that moves only when told; for tests and dry runs."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self._now_ms / 1000

    def advance(self, seconds: float) -> None:
        self._now_ms += round(seconds * 1000)


def to_datetime(instant_ms: int) -> datetime:
    """An aware UTC datetime of `instant_ms`."""
    return datetime.fromtimestamp(instant_ms / 1000, UTC)


def to_ms(instant: datetime) -> int:
    """Whole milliseconds of an aware datetime; raises ValueError for a naive one."""
    if instant.tzinfo is None:
        raise ValueError("an instant needs a time zone")
    return round(instant.timestamp() * 1000)


def isoformat(instant_ms: int) -> str:
    """RFC 3339 in UTC to the second, with a Z: 2026-02-01T00:00:00Z."""
    return to_datetime(instant_ms).strftime("%Y-%m-%dT%H:%M:%SZ")
