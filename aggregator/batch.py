"""Read one drained batch: which rows of usage, which facts, which marks, and what nobody can read.

Pure. The batch comes from lua/drain.lua, its fields from metering.model.ledger; aggregator/ledger.py stores the result.
Whatever cannot be read becomes a fault and stands in the way of nothing else.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from metering.model import keys
from metering.model.clock import to_datetime
from metering.model.ledger import RETURNED, TEST, Row, parse

LARGEST = 2**53  # of one field: above it Lua's numbers stop being exact, and no minute holds that much
_BIGINT = 2**63
_LAST_MINUTE, _LAST_SECOND = 4_102_444_800 // 60, 4_102_444_800  # the year 2100
_LONGEST_METHOD, _LONGEST_DIMENSIONS, _LONGEST_WORKER = 64, 1000, 200  # what an index entry can hold
_METER = re.compile(r"[a-z][a-z0-9_]{0,62}")
FACTS = ("#1", "#2", "#3", "#4", "#5", "#ms", "#in", "#out")  # in the order of traffic_hourly's columns

# (timestamp, period start, org, service, route, method, key, dimensions, bucket, quantity, returned)
UsageRow = tuple[datetime, datetime, UUID, str, int, str, int, str, int, int, int]
# (org, hour, route, method, then the quantity of each of FACTS)
TrafficRow = tuple[UUID, datetime, int, str, int, int, int, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Fault:
    """A field that cannot be read, and why; both texts are fit for Postgres."""

    field: str
    value: str
    reason: str


@dataclass(slots=True)
class Batch:
    """What one generation of a bucket holds. `fresh` says that it was cut when it was drained."""

    bucket: int
    epoch: int
    generation: int
    fresh: bool
    marks: dict[str, int] = field(default_factory=dict)
    usage: list[UsageRow] = field(default_factory=list)
    traffic: list[TrafficRow] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    fields: int = 0


def read(bucket: int, state: bytes, flat: Sequence[bytes]) -> Batch:
    """The batch behind the reply of drain.lua: `state` ("pending" or "fresh"), then fields and values in turn."""
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    own = {name: value for name, value in pairs if name.startswith(b"@")}
    batch = Batch(bucket, int(own.pop(b"@e")), int(own.pop(b"@g")), state == b"fresh", fields=len(pairs))
    usage: dict[tuple[int, int, str, str, int, str, int, str], list[int]] = {}
    traffic: dict[tuple[str, int, int, str], list[int]] = {}
    for name, value in own.items():
        _take_mark(batch, name, value)
    for name, value in pairs:
        if name.startswith(b"@") or name == b"!":
            continue
        try:
            _take(name, value, usage, traffic)
        except (ValueError, RecursionError) as exc:
            batch.faults.append(Fault(_shown(name), _shown(value), _reason(exc)))
    batch.usage = [_usage_row(key, sums) for key, sums in usage.items() if sums != [0, 0]]
    batch.traffic = [(_uuid(o), _minute_at(hour * 60), r, m, *sums) for (o, hour, r, m), sums in traffic.items()]  # type: ignore[misc]
    return batch


def _take_mark(batch: Batch, name: bytes, value: bytes) -> None:
    try:
        worker, seq = name.decode().removeprefix("@s:"), int(value)
        if not name.startswith(b"@s:") or "\0" in worker or len(worker) > _LONGEST_WORKER or not 0 <= seq < _BIGINT:
            raise ValueError("not the mark of a worker")
    except ValueError as exc:
        batch.faults.append(Fault(_shown(name), _shown(value), _reason(exc)))
    else:
        batch.marks[worker] = seq


def _take(
    name: bytes,
    value: bytes,
    usage: dict[tuple[int, int, str, str, int, str, int, str], list[int]],
    traffic: dict[tuple[str, int, int, str], list[int]],
) -> None:
    row, quantity = parse(name.decode()), int(value)
    _check(row, quantity)
    if row.measure in FACTS:
        sums = traffic.setdefault((row.org_id, row.minute // 60, row.route_id, row.method), [0] * len(FACTS))
        sums[FACTS.index(row.measure)] += quantity
        return
    service = row.measure.removeprefix(RETURNED)
    if not _METER.fullmatch(service.removeprefix(TEST)):
        raise ValueError("no such measure")
    key = (row.minute, row.period_start, row.org_id, service, row.route_id, row.method, row.key_id, _dimensions(row.dimensions))
    usage.setdefault(key, [0, 0])[row.measure.startswith(RETURNED)] += quantity


def _check(row: Row, quantity: int) -> None:
    if not -LARGEST <= quantity <= LARGEST:
        raise ValueError("quantity out of bounds")
    if not 0 <= row.minute < _LAST_MINUTE or not 0 <= row.period_start < _LAST_SECOND:
        raise ValueError("instant out of bounds")
    if not -_BIGINT <= row.route_id < _BIGINT or not -_BIGINT <= row.key_id < _BIGINT:
        raise ValueError("route or key out of bounds")
    if "\0" in row.method or len(row.method) > _LONGEST_METHOD:
        raise ValueError("not a method")
    _uuid(row.org_id)


@lru_cache(maxsize=65_536)
def _uuid(org_id: str) -> UUID:
    found = UUID(org_id)
    if str(found) != org_id:
        raise ValueError("the organization's id is not written canonically")
    return found


@lru_cache(maxsize=4096)
def _dimensions(text: str) -> str:
    """The same object as Postgres takes it: text, whole numbers, true, false, null; nothing nested."""
    if not text:
        return "{}"
    if len(text) > _LONGEST_DIMENSIONS:
        raise ValueError("dimensions too long")
    value = json.loads(text)
    if not isinstance(value, dict) or not all(v is None or isinstance(v, str | int) for v in value.values()):
        raise ValueError("dimensions are no flat object")
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False)
    if "\\u0000" in canonical:
        raise ValueError("dimensions hold a NUL")
    canonical.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
    return canonical


@lru_cache(maxsize=4096)
def _minute_at(minute: int) -> datetime:
    return to_datetime(minute * 60_000)


@lru_cache(maxsize=4096)
def _second_at(second: int) -> datetime:
    return to_datetime(second * 1000)


def _usage_row(key: tuple[int, int, str, str, int, str, int, str], sums: list[int]) -> UsageRow:
    minute, period_start, org_id, service, route_id, method, key_id, dimensions = key
    return (
        _minute_at(minute), _second_at(period_start), _uuid(org_id), service, route_id, method, key_id, dimensions,
        keys.bucket_of(org_id), sums[0], sums[1],
    )  # fmt: skip


def _shown(raw: bytes) -> str:
    """Text of any bytes, without the NUL that Postgres refuses."""
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def _reason(exc: Exception) -> str:
    return str(exc).encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00") or type(exc).__name__
