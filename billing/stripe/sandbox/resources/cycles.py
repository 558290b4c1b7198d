"""When a subscription's periods start and end, as Stripe reckons them. Pure; instants in Unix seconds.

Periods are counted from the anchor: anchored on the 31st they start on the 31st, or on the last day of a shorter month.
"""

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_FIXED = {"day": timedelta(days=1), "week": timedelta(days=7)}
_MONTHS = {"month": 1, "year": 12}


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where the cycle hangs. `day` may be one that the anchor's own month lacks (31 in February)."""

    instant: int
    day: int

    @classmethod
    def at(cls, instant: int) -> "Anchor":
        return cls(instant, _utc(instant).day)


def boundary(anchor: Anchor, interval: str, count: int, number: int) -> int:
    """The start of the `number`th period after the anchor (before it where negative)."""
    base = _utc(anchor.instant)
    if interval in _FIXED:
        return _seconds(base + _FIXED[interval] * count * number)
    index = base.year * 12 + base.month - 1 + _MONTHS[interval] * count * number
    year, month = divmod(index, 12)
    return _seconds(base.replace(year=year, month=month + 1, day=_day(year, month + 1, anchor.day)))


def period(anchor: Anchor, interval: str, count: int, now: int) -> tuple[int, int]:
    """The period [start, end) of this cycle that holds `now`, whether before or after the anchor."""
    days = {"day": 1, "week": 7, "month": 28, "year": 365}[interval] * count
    number = (now - anchor.instant) // (days * 86400)  # never too small after the anchor, never too large before it
    while boundary(anchor, interval, count, number) > now:
        number -= 1
    while boundary(anchor, interval, count, number + 1) <= now:
        number += 1
    return boundary(anchor, interval, count, number), boundary(anchor, interval, count, number + 1)


def next_match(config: Mapping[str, Any], after: int) -> Anchor:
    """The first instant after `after` that fits a billing_cycle_anchor_config. Parts that it leaves out are those of `after`."""
    base = _utc(after)
    hour, minute, second = (config[part] if config.get(part) is not None else getattr(base, part) for part in ("hour", "minute", "second"))
    index = base.year * 12 + base.month - 1
    while True:
        year, month = index // 12, index % 12 + 1
        if config.get("month") in (None, month):
            day = _day(year, month, config["day_of_month"])
            found = _seconds(datetime(year, month, day, hour, minute, second, tzinfo=UTC))
            if found > after:
                return Anchor(found, config["day_of_month"])
        index += 1


def _day(year: int, month: int, day: int) -> int:
    return min(day, calendar.monthrange(year, month)[1])


def _utc(instant: int) -> datetime:
    return datetime.fromtimestamp(instant, UTC)


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())
