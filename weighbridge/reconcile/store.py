"""What the store says: of each bucket its state, what is settled and on its way, and the counters, all of one instant."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from redis.asyncio import Redis

from aggregator.flush import run
from billing.model.conservation import Key
from metering.model import keys
from metering.model.quota import Window

from .journals import Rows, period_counter, rows_of

_SCAN_COUNT = 1000
_AT_ONCE = 16
_PERIOD = keys.scope(route_id=None, key_id=None)


@dataclass(slots=True)
class Bucket:
    """One bucket at one instant. `flying` is the batch under way, `flying_generation` 0 where none has a number yet."""

    bucket: int
    shown: str
    generation: int
    marks: dict[str, int]
    live: Rows
    flying: Rows
    flying_generation: int
    unreadable: int = 0
    counters: dict[str, int | None] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """0 where none stands."""
        number = self.shown.split(" ", 1)[0]
        return int(number) if number.isdecimal() else 0


async def period_counters(client: Redis, org_ids: Sequence[str] | None) -> dict[int, set[Key]]:
    """Bucket -> the organizations' period counters that stand in it."""
    patterns = [keys.EVERY_COUNTER] if org_ids is None else [keys.counters_of(org_id) for org_id in org_ids]
    found: dict[int, set[Key]] = {}
    for pattern in patterns:
        async for raw in client.scan_iter(match=pattern, count=_SCAN_COUNT):
            key = key_of(raw.decode())
            if key is not None:
                found.setdefault(keys.bucket_of(key.org_id), set()).add(key)
    return found


def key_of(name: str) -> Key | None:
    """The key whose period counter this is; None for any other counter."""
    counter = keys.parse_counter(name)
    if counter is None or counter.scope != _PERIOD or counter.window is not Window.PERIOD or counter.org_id.startswith("@"):
        return None
    return Key(counter.org_id, counter.meter, counter.start_ms)


async def read_buckets(client: Redis, buckets: Sequence[int], wanted: dict[int, set[Key]]) -> list[Bucket]:
    """Each at one instant; several at once, so that little happens between the first and the last."""
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def one(bucket: int) -> Bucket:
        async with at_once:
            return await _read(client, bucket, sorted(wanted.get(bucket, ())))

    return await asyncio.gather(*(one(bucket) for bucket in buckets))


async def _read(client: Redis, bucket: int, wanted: Sequence[Key]) -> Bucket:
    names = [period_counter(key) for key in wanted]
    pipe = client.pipeline(transaction=True)
    pipe.get(keys.epoch(bucket))
    pipe.get(keys.generation(bucket))
    pipe.hgetall(keys.marks(bucket))
    pipe.hgetall(keys.live(bucket))
    pipe.hgetall(keys.flying(bucket))
    if names:
        pipe.mget(names)
    shown, generation, marks, live, flying, *counters = await pipe.execute()
    number = (generation or b"0").decode()
    values = counters[0] if counters else ()
    rows, faults = _rows(live)
    under_way, more_faults = _rows(flying)
    return Bucket(
        bucket=bucket, shown=(shown or b"").decode(), generation=int(number) if number.isdecimal() else -1,
        marks={name.decode()[2:]: int(seq) for name, seq in marks.items() if name.startswith(b"s:")},
        live=rows, flying=under_way, flying_generation=int(flying.get(b"@g", 0)), unreadable=faults + more_faults,
        counters={name: int(value) if value is not None else None for name, value in zip(names, values, strict=True)},
    )  # fmt: skip


def _rows(fields: dict[bytes, bytes]) -> tuple[Rows, int]:
    """The rows, and how many fields nobody can read."""
    readable, faults = [], 0
    for name, value in fields.items():
        if name == b"!" or name.startswith(b"@"):
            continue
        try:
            pair = name.decode(), int(value)
            rows_of([pair])
        except ValueError:
            faults += 1
        else:
            readable.append(pair)
    return rows_of(readable), faults


async def read_counters(client: Redis, names: Sequence[str]) -> list[int]:
    """Counters again, a while later: what moved is told by it."""
    replies = await run(client, [("GET", name) for name in names]) if names else []
    return [int(value or 0) for value in replies]
