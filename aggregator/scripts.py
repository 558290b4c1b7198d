"""The aggregator's Lua, and the keys that each script names. Bodies travel with every call: 256 small ones a minute."""

from collections.abc import Sequence
from typing import Any

from metering.model import keys
from metering.store.redis import scripts

DRAIN, DELETE = scripts.load("aggregator", "drain"), scripts.load("aggregator", "delete")
CLOSE, RESTORE, OPEN = (scripts.load("aggregator", name) for name in ("close", "restore", "open"))

Command = tuple[Any, ...]


def _eval(script: scripts.Script, names: Sequence[str], *arguments: str | int) -> Command:
    return ("EVAL", script.body, len(names), *names, *arguments)


def _state(bucket: int) -> tuple[str, ...]:
    return (
        keys.epoch(bucket), keys.marks(bucket), keys.live(bucket), keys.flying(bucket), keys.generation(bucket), keys.committed(bucket),
    )  # fmt: skip


def drain(bucket: int) -> Command:
    return _eval(DRAIN, _state(bucket))


def delete(bucket: int, epoch: int, generation: int, marks: dict[str, int]) -> Command:
    flat = [part for worker, seq in marks.items() for part in (worker, seq)]
    return _eval(DELETE, (keys.flying(bucket), keys.committed(bucket)), epoch, generation, *flat)


def close(bucket: int, epoch: int) -> Command:
    return _eval(CLOSE, (keys.epoch(bucket), keys.versions(bucket), keys.generation(bucket)), epoch)


def restore(
    bucket: int,
    *,
    epoch: int,
    run_id: str,
    generation: int,
    marks: dict[str, int],
    forget: Sequence[str],
    counters: dict[str, tuple[int, int]],
    moves: int = 0,
) -> Command:
    """`counters` maps a key to its value and the instant (ms) at which it expires; what Postgres moves itself is in them up to `moves`."""
    arguments: list[str | int] = [epoch, run_id, generation, moves, len(marks)]
    arguments += [part for worker, seq in marks.items() for part in (worker, seq)]
    arguments += [len(forget), *(part for pair in counters.values() for part in pair)]
    return _eval(RESTORE, (*_state(bucket), *forget, *counters), *arguments)


def open_bucket(bucket: int, tag: str, workers: Sequence[str]) -> Command:
    return _eval(OPEN, (keys.epoch(bucket), keys.marks(bucket)), tag, *workers)
