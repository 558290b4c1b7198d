"""What usage that was born in Postgres (recorded, imported, voided) moves in the store. Pure.

Its transaction leaves sums by the hour and period; which counters they move is decided when the store takes them, by the quotas that the
gateways know then: the period's counter always, those of an hour, a day or a month where a quota counts in it, as calls do. A window that
has ended is moved no more. A level is not added: its counter says what is held, in this period and, so that it stands from its first
instant on, in the next.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from . import keys
from .period import period_at, window_at
from .quota import Window


@dataclass(frozen=True, slots=True)
class Sum:
    """Base units of one meter in one hour of one period."""

    meter: str
    hour_ms: int
    start_ms: int
    end_ms: int
    units: int


@dataclass(frozen=True, slots=True)
class Held:
    """What is held of a level in all, and the periods whose counters say so."""

    meter: str
    units: int
    periods: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Moves:
    """What one transaction moves of one organization."""

    org_id: str
    sums: tuple[Sum, ...] = ()
    levels: tuple[Held, ...] = ()

    def to_json(self) -> str:
        sums = [[s.meter, s.hour_ms, s.start_ms, s.end_ms, s.units] for s in self.sums]
        return json.dumps({"sums": sums, "levels": [[h.meter, h.units, h.periods] for h in self.levels]})


def from_json(org_id: str, text: str) -> Moves:
    found = json.loads(text)
    levels = tuple(Held(meter, units, tuple((start, end) for start, end in periods)) for meter, units, periods in found["levels"])
    return Moves(org_id, tuple(Sum(*each) for each in found["sums"]), levels)


@dataclass(frozen=True, slots=True)
class CounterMove:
    """One counter: `add` to it, or make it so."""

    key: str
    add: bool
    units: int
    expires_ms: int


def counter_moves(moves: Moves, counted: Iterable[tuple[str, Window]], now_ms: int) -> list[CounterMove]:
    """`counted`: the meters and windows that the gateways count in beside the period (seeding.kinds)."""
    kinds = set(counted)
    added: dict[str, list[int]] = {}
    for each in moves.sums:
        windows = [(Window.PERIOD, each.start_ms, each.end_ms)]
        windows += [(w, *window_at(w, 0, each.hour_ms)) for w in _HOURLY if (each.meter, w) in kinds]
        for window, start_ms, end_ms in windows:
            if end_ms > now_ms:
                at = added.setdefault(_counter(moves.org_id, each.meter, window, start_ms), [0, keys.counter_expires_ms(window, end_ms)])
                at[0] += each.units
    found = [CounterMove(key, True, units, expires) for key, (units, expires) in added.items() if units]
    for held in moves.levels:
        for start_ms, end_ms in held.periods:
            if end_ms > now_ms:
                key = _counter(moves.org_id, held.meter, Window.PERIOD, start_ms)
                found.append(CounterMove(key, False, held.units, keys.counter_expires_ms(Window.PERIOD, end_ms)))
    return found


def level_periods(anchor_ms: int, now_ms: int) -> Sequence[tuple[int, int]]:
    """Those whose counters say what is held now: this one and the next."""
    this = period_at(anchor_ms, now_ms)
    return this, period_at(anchor_ms, this[1])


_HOURLY = (Window.HOUR, Window.DAY, Window.MONTH)


def _counter(org_id: str, meter: str, window: Window, start_ms: int) -> str:
    return keys.counter(org_id, meter, keys.ORGANIZATION, window, start_ms)
