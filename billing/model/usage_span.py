"""Which time a usage report is about, and how a use divides: by endpoint, by part, in whole percent. Pure."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from metering.model.clock import to_datetime, to_ms
from metering.model.errors import BadInput

LONGEST_WITH_QUOTAS_DAYS = 31  # beyond it a month's quota says nothing


class PeriodWord(StrEnum):
    CURRENT = "current"  # the subscription's period under way
    LAST_MONTH = "last-month"  # calendar months, quarters and years, UTC
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Half-open. `is_period`: a subscription's period, whose rows say so themselves."""

    start_ms: int
    end_ms: int
    is_period: bool = False

    @property
    def holds_a_quota(self) -> bool:
        """Short enough for the quotas of a period to be set beside it."""
        return self.end_ms - self.start_ms <= LONGEST_WITH_QUOTAS_DAYS * 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointUse:
    """One route by one method. `units` of the meter; calls, their time and the answers of 400 and above, as they were counted.
    `endpoint` None: recorded, without a call."""

    endpoint: str | None
    units: int
    calls: int
    duration_ms: int
    errors: int

    @property
    def average_ms(self) -> int | None:
        return None if not self.calls else (2 * self.duration_ms + self.calls) // (2 * self.calls)


def span_of(word: PeriodWord | None, start: dt.date | None, end: dt.date | None, now_ms: int) -> Span | None:
    """None is the period under way. `end` is inclusive; days are UTC. Raises BadInput."""
    if start is not None or end is not None or word is PeriodWord.CUSTOM:
        return _custom(word, start, end, now_ms)
    today = to_datetime(now_ms).date()
    first = today.replace(day=1)
    match word:
        case PeriodWord.LAST_MONTH:
            return _span(_months_back(first, 1), first)
        case PeriodWord.MONTH:
            return _span(first, _months_back(first, -1))
        case PeriodWord.QUARTER:
            begun = first.replace(month=first.month - (first.month - 1) % 3)
            return _span(begun, _months_back(begun, -3))
        case PeriodWord.YEAR:
            return _span(first.replace(month=1), dt.date(today.year + 1, 1, 1))
    return None


def _custom(word: PeriodWord | None, start: dt.date | None, end: dt.date | None, now_ms: int) -> Span:
    if word not in (None, PeriodWord.CUSTOM):
        raise BadInput(f"--start and --end go with --period custom, not {word}")
    if start is None:
        raise BadInput("say from which day on: --start 2026-01-01")
    end = end or to_datetime(now_ms).date()
    if not dt.date(2000, 1, 1) <= start <= end <= dt.date(2200, 1, 1):
        raise BadInput(f"from {start} to {end} is no time that usage could be in: the end is the last day, and not before the start")
    return _span(start, end + dt.timedelta(days=1))


def shares(values: Sequence[int]) -> tuple[int, ...]:
    """Whole percents that add up to 100: the largest remainders are rounded up, of equals who stands first. Nothing has no shares."""
    total = sum(values)
    if total <= 0:
        return tuple(0 for _ in values)
    exact = [Fraction(value * 100, total) for value in values]
    whole = [int(share) for share in exact]
    for place in sorted(range(len(whole)), key=lambda i: whole[i] - exact[i])[: 100 - sum(whole)]:
        whole[place] += 1
    return tuple(whole)


def _span(start: dt.date, end: dt.date) -> Span:
    first, last = (to_ms(dt.datetime.combine(day, dt.time(), dt.UTC)) for day in (start, end))
    return Span(start_ms=first, end_ms=last)


def _months_back(first: dt.date, months: int) -> dt.date:
    place = first.year * 12 + first.month - 1 - months
    return dt.date(place // 12, place % 12 + 1, 1)
