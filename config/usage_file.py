"""usage.json: what was used in one period, for an estimate. Sums, or dated events where a model needs them.

    {"api": 250000, "storage": "60 GB", "payments": [{"at": "2026-01-03T10:00:00Z", "value": "200 dollars"}, 100],
     "seats": {"aggregate": "unique", "events": [{"key": "anna"}, {"key": "ben"}]}}

A plain number is in the meter's base unit. Events without `at` come in their order at the period's start. Of events with one `id`
the first counts.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NoReturn

from billing.model.aggregation import Event, default_aggregation, hours_between, usage_from
from billing.model.pricing import Usage
from metering.model.clock import isoformat, to_datetime, to_ms
from metering.model.errors import BadInput
from metering.model.meter import Kind, Meter
from metering.model.period import period_at

from .faults import did_you_mean
from .units import base_units
from .words import amount

_EVENT_WORDS = {"at", "value", "key", "id"}
_DAY_MS = 86_400_000


class UsageFaulty(BadInput):
    """The usage cannot be read."""

    code = "usage_faulty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """[start, end) in ms. `said`: somebody chose it, so events outside of it are meant to be left out."""

    start_ms: int
    end_ms: int
    said: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedInPeriod:
    """Usage by meter. `period` is None where neither events nor anybody said when it was. `notes` are worth a look."""

    used: Mapping[str, Usage]
    period: Period | None
    notes: tuple[str, ...] = ()

    @property
    def hours(self) -> Decimal | None:
        return hours_between(self.period.start_ms, self.period.end_ms) if self.period else None


def period_between(start: str | None, end: str | None) -> Period | None:
    """From days or instants; a last day counts in full. Raises UsageFaulty."""
    if start is None and end is None:
        return None
    if start is None or end is None:
        raise UsageFaulty("a period has a start and an end; say both")
    start_ms = _instant(start, "the start")
    end_ms = _instant(end, "the end") + (_DAY_MS if len(end) == len("2026-01-31") else 0)
    if end_ms <= start_ms:
        raise UsageFaulty(f"a period ends after it starts; {end} is not after {start}")
    return Period(start_ms=start_ms, end_ms=end_ms, said=True)


def read_usage(text: str, meters: Mapping[str, Meter], period: Period | None) -> UsedInPeriod:
    """Without a period, the calendar month (UTC) of the first event is it. Raises UsageFaulty."""
    value = _parsed(text)
    given = {name: _Given(name, meters[name], value[name]) for name in _known(value, meters)}
    instants = [instant for each in given.values() for instant in each.instants()]
    chosen = period or (_month_of(min(instants)) if instants else None)
    notes = tuple(note for each in given.values() for note in each.notes())
    return UsedInPeriod(used={name: each.usage(chosen) for name, each in given.items()}, period=chosen, notes=notes)


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_number, object_pairs_hook=_once_each)
    except json.JSONDecodeError as error:
        raise UsageFaulty(f"this is no JSON: line {error.lineno}, {error.msg}") from error
    if not isinstance(value, dict):
        raise UsageFaulty('usage is written by meter: {"api": 250000}')
    return value


def _no_number(word: str) -> NoReturn:
    raise UsageFaulty(f"{word} is no number of units")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise UsageFaulty(f"`{next(name for name in names if names.count(name) > 1)}` stands there twice; keep one")
    return found


def _known(value: dict[str, Any], meters: Mapping[str, Meter]) -> Iterator[str]:
    for name in value:
        if name not in meters:
            raise UsageFaulty(f"neither the plan nor meters.yaml names a meter `{name}`{did_you_mean(name, meters)}")
        yield name


def _month_of(at_ms: int) -> Period:
    first = to_datetime(at_ms).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start_ms, end_ms = period_at(to_ms(first), to_ms(first))
    return Period(start_ms=start_ms, end_ms=end_ms)


def _instant(value: Any, what: str) -> int:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None:
        raise UsageFaulty(f"{what}: {value} is no instant; write 2026-01-31T12:00:00Z, or a day")
    return to_ms(found if found.tzinfo else found.replace(tzinfo=UTC))


class _Given:
    """What stands for one meter."""

    def __init__(self, name: str, meter: Meter, value: Any) -> None:
        self._name, self._meter = name, meter
        self._aggregation = default_aggregation(meter)
        self._quantity: Decimal | None = None
        self._events: list[tuple[int | None, Event]] = []
        if isinstance(value, dict):
            value = self._with_aggregate(value)
        if isinstance(value, list):
            self._events = list(self._read(value))
        else:
            self._quantity = self._units(value, "")
        self._bare = not isinstance(value, str)

    def instants(self) -> list[int]:
        return [at_ms for at_ms, _ in self._events if at_ms is not None]

    def notes(self) -> Iterator[str]:
        """Bytes where gigabytes may have been meant."""
        meter, plain = self._meter, self._quantity
        if plain and self._bare and plain < meter.show_size:
            yield f'{self._name}: {plain} is in the base unit, {meter.unit}; if {meter.show} is meant, write "{plain} {meter.show}"'

    def usage(self, period: Period | None) -> Usage:
        if self._quantity is not None:
            return Usage(self._quantity)
        chosen = period or Period(start_ms=0, end_ms=1)  # events without an instant: only their number and values matter
        if period is None and self._aggregation == "weighted_sum":
            self._refuse("how long a level was held is not said; write `at` to each event, or say --start and --end")
        found = [replace(event, at_ms=chosen.start_ms if at_ms is None else at_ms) for at_ms, event in self._events]
        if not chosen.said:
            self._check_within(found, chosen)
        usage = usage_from(self._aggregation, found, chosen.start_ms, chosen.end_ms)
        return usage if period else Usage(usage.quantity, usage.events)

    def _check_within(self, events: list[Event], period: Period) -> None:
        """A month was taken because nobody said a period: nothing may get lost by that."""
        level = self._meter.kind is Kind.LEVEL
        for event in events:
            if event.at_ms >= period.end_ms or (event.at_ms < period.start_ms and not level):
                month = f"{to_datetime(period.start_ms):%Y-%m}"
                self._refuse(f"an event of {isoformat(event.at_ms)} is outside of {month}, the month of the first; say --start and --end")

    def _with_aggregate(self, value: dict[str, Any]) -> Any:
        if set(value) - {"aggregate", "events"} or not isinstance(value.get("events"), list):
            self._refuse('write a number, a list of events, or {"aggregate": "unique", "events": […]}')
        self._aggregation = str(value.get("aggregate", self._aggregation))
        return value["events"]

    def _read(self, rows: list[Any]) -> Iterator[tuple[int | None, Event]]:
        seen: dict[str, Any] = {}
        for number, row in enumerate(rows):
            written = row if isinstance(row, dict) else {"value": row}
            where = f" event {number + 1}"
            if unknown := sorted(set(written) - _EVENT_WORDS):
                self._refuse(f"there is no word `{unknown[0]}` in an event{did_you_mean(unknown[0], _EVENT_WORDS)}", where)
            if (known := written.get("id")) is not None and seen.setdefault(str(known), row) is not row:
                if seen[str(known)] != row:
                    self._refuse(f"the id `{known}` stands for two events that differ", where)
                continue
            at_ms = _instant(written["at"], f"{self._name}{where}") if "at" in written else None
            yield at_ms, self._event(written, where)

    def _event(self, written: dict[str, Any], where: str) -> Event:
        key = str(written.get("key", ""))
        if self._aggregation == "unique":
            return Event(at_ms=0, key=key or str(written.get("value", "")))
        return Event(at_ms=0, value=self._units(written.get("value", Decimal(1)), where), key=key)

    def _units(self, value: Any, where: str) -> Decimal:
        """In base units. A number may have a point: the mean of a level does."""
        if isinstance(value, Decimal) and value.is_finite() and value >= 0:
            return value
        if not isinstance(value, str):
            self._refuse(f"{value} is no quantity; write a number of `{self._meter.unit}` that is not below zero", where)
        try:
            units = base_units(amount(value), self._meter)
        except ValueError as error:
            raise UsageFaulty(f"{self._name}{where}: {error}") from error
        if units is None:
            self._refuse("nobody uses `unlimited`; write a number", where)
        return Decimal(units)

    def _refuse(self, sentence: str, where: str = "") -> NoReturn:
        raise UsageFaulty(f"{self._name}{where}: {sentence}")
