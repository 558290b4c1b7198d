"""Move what the gateways settled from the store to the ledger: drain, commit, delete, a group of buckets at a time.

May be killed between any two steps, and any number may run at once: a drained batch stays in the store until it is
deleted by its generation, and the ledger takes each generation once (aggregator/ledger.py). A batch whose epoch has
ended is dropped from the hand; the gateways replay it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from redis.asyncio import Redis

from aggregator import scripts
from aggregator.batch import Batch, read
from aggregator.ledger import Observe, Outcome, Settled, commit
from metering.model import keys

GROUP = 32  # buckets a transaction
_MOST_PASSES = 20  # a bucket whose batches keep being cut by others is left to them


@dataclass(slots=True)
class FlushReport:
    """What one flush did. `complete` says that all that had been settled before it is in Postgres."""

    batches: int = 0  # committed now
    replayed: int = 0
    fenced: int = 0
    gaps: int = 0
    fields: int = 0  # ledger fields read
    rows: int = 0  # rows of usage written
    quarantined: int = 0
    unready: int = 0  # buckets without an epoch
    interrupted: bool = False

    @property
    def complete(self) -> bool:
        return not (self.fenced or self.gaps or self.unready or self.interrupted)


def ignore(_step: str) -> None:
    """An observer who does not care."""


async def flush_once(
    pool: asyncpg.Pool,
    redis: Redis,
    *,
    observe: Observe = ignore,
    keep_going: Callable[[], bool] = lambda: True,
    buckets: Sequence[int] = range(keys.BUCKETS),
) -> FlushReport:
    """Bring everything that was settled before this call into Postgres.

    `redis` answers bytes (decode_responses=False). `observe(step)` is called after each step, for metrics; whatever it
    raises ends the flush there. `keep_going` is asked between groups. Raises what the drivers raise; call again then.
    """
    report = FlushReport()
    for start in range(0, len(buckets), GROUP):
        left: Sequence[int] = buckets[start : start + GROUP]
        for _ in range(_MOST_PASSES):
            if not keep_going():
                report.interrupted = True
                return report
            left = await _pass(pool, redis, left, report, observe)
            if not left:
                break
        else:
            report.interrupted = True
    return report


async def _pass(pool: asyncpg.Pool, redis: Redis, buckets: Sequence[int], report: FlushReport, observe: Observe) -> list[int]:
    """Drain, commit, delete once. Returns the buckets that may hold more of what had been settled before."""
    batches = await _drain(redis, buckets, report)
    observe("drain")
    if not batches:
        return []
    async with pool.acquire() as connection:
        settled = await commit(connection, batches, observe)
    for one in settled:
        _count(report, one)
    await _delete(redis, [s for s in settled if s.deletable])
    observe("delete")
    return [s.batch.bucket for s in settled if s.deletable and not s.batch.fresh]


async def _drain(redis: Redis, buckets: Sequence[int], report: FlushReport) -> list[Batch]:
    batches = []
    for bucket, (state, *flat) in zip(buckets, await run(redis, [scripts.drain(b) for b in buckets]), strict=True):
        if state == b"unready":
            report.unready += 1
        elif state != b"empty":
            batches.append(read(bucket, state, flat))
    return batches


async def _delete(redis: Redis, settled: Sequence[Settled]) -> None:
    commands = [scripts.delete(s.batch.bucket, s.batch.epoch, s.batch.generation, s.marks) for s in settled]
    if commands:
        await run(redis, commands)


def _count(report: FlushReport, settled: Settled) -> None:
    match settled.outcome:
        case Outcome.REPLAYED:
            report.replayed += 1
        case Outcome.FENCED:
            report.fenced += 1
        case Outcome.GAP:
            report.gaps += 1
        case Outcome.COMMITTED:
            report.batches += 1
            report.fields += settled.batch.fields
            report.rows += len(settled.batch.usage)
            report.quarantined += len(settled.batch.faults)


async def run(redis: Redis, commands: Sequence[scripts.Command]) -> list[Any]:
    """Send these commands in one trip. Raises the first error among the replies."""
    pipe = redis.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    return list(await pipe.execute())
