"""When a subscription's base price falls due: every so many days, weeks, months or years, counted from one instant.

Pure. Usage periods are months from the same anchor in UTC, whatever the cycle (metering/model/period.py).
"""

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from billing.model.plan import Interval
from metering.model.clock import to_datetime, to_ms
from metering.model.errors import BadInput
from metering.model.period import add_months

Bounds = tuple[int, int]  # (start_ms, end_ms), half-open

LONGEST = {Interval.DAY: 1095, Interval.WEEK: 156, Interval.MONTH: 36, Interval.YEAR: 3}  # three years, as at Stripe
_DAYS = {Interval.DAY: 1, Interval.WEEK: 7}
_MONTHS = {Interval.MONTH: 1, Interval.YEAR: 12}


class CycleFaulty(BadInput):
    """There is no such billing cycle."""

    code = "cycle_faulty"


@dataclass(frozen=True, slots=True)
class Cycle:
    """Every `count` intervals from the anchor, never from the period before: from 31 January, months start 31 January, 28 (29)
    February, 31 March, 30 April. In a `zone` with summer time each starts at the anchor's local time of day: where a day lacks
    that time, as much later as the clocks were moved; where it has it twice, at the first.

    Raises CycleFaulty.
    """

    anchor_ms: int
    interval: Interval
    count: int = 1
    zone: str = "UTC"

    def __post_init__(self) -> None:
        if not 1 <= self.count <= LONGEST[self.interval]:
            raise CycleFaulty(f"a cycle has from 1 to {LONGEST[self.interval]:,} {self.interval}s, not {self.count}")
        zone_of(self.zone)


@lru_cache(maxsize=1024)
def zone_of(name: str) -> tzinfo:
    """Raises CycleFaulty for a name that the time zone database does not have."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CycleFaulty(f"there is no time zone {name!r}; write one such as Europe/Berlin, or UTC") from None


def period_of(cycle: Cycle, at_ms: int) -> Bounds:
    """The period that holds `at_ms`; also before the anchor."""
    number = _about(cycle, at_ms)
    while _start(cycle, number) > at_ms:
        number -= 1
    while (following := _start(cycle, number + 1)) <= at_ms:
        number += 1
    return _start(cycle, number), following


def next_start(cycle: Cycle, at_ms: int) -> int:
    """When the first period after `at_ms` starts."""
    return period_of(cycle, at_ms)[1]


def midnight(at_ms: int, zone: str = "UTC") -> int:
    """When the day of `at_ms` began there."""
    local = to_datetime(at_ms).astimezone(zone_of(zone))
    return to_ms(local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0))


def calendar_month(at_ms: int, zone: str = "UTC") -> Cycle:
    """From the 1st of a month to its last day."""
    return Cycle(day_anchor(1, at_ms, zone), Interval.MONTH, 1, zone)


def day_anchor(day: int, near_ms: int, zone: str = "UTC") -> int:
    """Local midnight of that day of the month, in the last month not after that of `near_ms` that has it: so that months counted
    from it fall on the 31st wherever there is one. Raises CycleFaulty."""
    if not 1 <= day <= 31:
        raise CycleFaulty(f"{day} is no day of a month; write 1 to 31")
    first = to_datetime(near_ms).astimezone(zone_of(zone)).replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0)
    while calendar.monthrange(first.year, first.month)[1] < day:
        first = add_months(first, -1)
    return to_ms(first.replace(day=day))


def _start(cycle: Cycle, number: int) -> int:
    """The start of the `number`-th period: weakly rising with it. Two starts are the same instant where a zone left out a day."""
    if number == 0:
        return cycle.anchor_ms
    anchor = to_datetime(cycle.anchor_ms).astimezone(zone_of(cycle.zone)).replace(fold=0)
    steps = number * cycle.count
    if cycle.interval in _DAYS:
        return to_ms(anchor + timedelta(days=steps * _DAYS[cycle.interval]))  # days of the calendar: arithmetic within a zone is local
    return to_ms(add_months(anchor, steps * _MONTHS[cycle.interval]))


def _about(cycle: Cycle, at_ms: int) -> int:
    """The number of the period of `at_ms`, or one near it."""
    zone = zone_of(cycle.zone)
    anchor, at = to_datetime(cycle.anchor_ms).astimezone(zone), to_datetime(at_ms).astimezone(zone)
    if cycle.interval in _DAYS:
        return (at.date() - anchor.date()).days // (cycle.count * _DAYS[cycle.interval])
    return ((at.year - anchor.year) * 12 + at.month - anchor.month) // (cycle.count * _MONTHS[cycle.interval])


def said(interval: Interval, count: int = 1) -> str:
    """As people read it behind a price: month, 2 weeks."""
    return interval.value if count == 1 else f"{count} {interval.value}s"


def local_date(at_ms: int, zone: str = "UTC") -> datetime:
    """The instant as it is read there."""
    return to_datetime(at_ms).astimezone(zone_of(zone))
