"""What many dated events of one meter come to in a period [start, end): one number. Pure, with a registry.

The order in which events are given does not matter, only when they happened; of two at the same instant the later one given
counts as the later. Events outside the period are left out, but for a level: what was held before it began is still held.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext

from billing.model.money import EXACT
from billing.model.pricing.base import Usage
from metering.model.errors import BadInput
from metering.model.meter import Kind, Meter

HOUR_MS = 3_600_000


class UnknownAggregation(BadInput):
    """There is no such aggregation."""

    code = "unknown_aggregation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One dated use: `value` in base units, added, or, of a level, held from then on. `key` is what `unique` tells apart."""

    at_ms: int
    value: Decimal = Decimal(1)
    key: str = ""


Events = Sequence[Event]  # in order of time
Aggregation = Callable[[Events, int, int], Decimal]


def total_value(events: Events, start_ms: int, end_ms: int) -> Decimal:
    return sum((event.value for event in _within(events, start_ms, end_ms)), Decimal(0))


def count(events: Events, start_ms: int, end_ms: int) -> Decimal:
    return Decimal(sum(1 for _ in _within(events, start_ms, end_ms)))


def most(events: Events, start_ms: int, end_ms: int) -> Decimal:
    """The largest value; 0 where there is none."""
    return max((event.value for event in _within(events, start_ms, end_ms)), default=Decimal(0))


def last(events: Events, start_ms: int, end_ms: int) -> Decimal:
    """The value of the last event; 0 where there is none."""
    found = Decimal(0)
    for event in _within(events, start_ms, end_ms):
        found = event.value
    return found


def unique(events: Events, start_ms: int, end_ms: int) -> Decimal:
    """How many different keys; events without one count by their value."""
    return Decimal(len({event.key or event.value for event in _within(events, start_ms, end_ms)}))


def weighted_sum(events: Events, start_ms: int, end_ms: int) -> Decimal:
    """A level's mean over the period, each level weighted by how long it was held; 0 before the first.

    20 GB for a day, then 30 GB for 15 of 31 days: 15.1612903226.
    """
    held, since, area = Decimal(0), start_ms, Decimal(0)
    with localcontext(EXACT):
        for event in events:
            if event.at_ms >= end_ms:
                break
            if event.at_ms > since:
                area, since = area + held * (event.at_ms - since), event.at_ms
            held = event.value
        return (area + held * (end_ms - since)) / (end_ms - start_ms)


AGGREGATIONS: dict[str, Aggregation] = {
    "sum": total_value,
    "count": count,
    "max": most,
    "last": last,
    "unique": unique,
    "weighted_sum": weighted_sum,
}


def default_aggregation(meter: Meter) -> str:
    """Events of a count add up; a level is billed on its mean."""
    return "weighted_sum" if meter.kind is Kind.LEVEL else "sum"


def aggregate(name: str, events: Iterable[Event], start_ms: int, end_ms: int) -> Decimal:
    """Raises UnknownAggregation, BadInput for a period that holds no time."""
    return AGGREGATIONS[_known(name)](_in_order(events), _checked(start_ms, end_ms), end_ms)


def usage_from(name: str, events: Iterable[Event], start_ms: int, end_ms: int) -> Usage:
    """The aggregate, with the values of the single events where they add up to it. Raises as `aggregate` does."""
    ordered = _in_order(events)
    quantity = aggregate(name, ordered, start_ms, end_ms)
    values = tuple(event.value for event in _within(ordered, start_ms, end_ms)) if name == "sum" else None
    return Usage(quantity, values, hours_between(start_ms, end_ms))


def hours_between(start_ms: int, end_ms: int) -> Decimal:
    """How long a period is, in hours."""
    return EXACT.divide(Decimal(end_ms - start_ms), Decimal(HOUR_MS))


def _known(name: str) -> str:
    if name not in AGGREGATIONS:
        raise UnknownAggregation(f"there is no aggregation {name!r}; known: {', '.join(AGGREGATIONS)}")
    return name


def _checked(start_ms: int, end_ms: int) -> int:
    if end_ms <= start_ms:
        raise BadInput("a period ends after it starts")
    return start_ms


def _in_order(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda event: event.at_ms)


def _within(events: Events, start_ms: int, end_ms: int) -> Iterable[Event]:
    return (event for event in events if start_ms <= event.at_ms < end_ms)
