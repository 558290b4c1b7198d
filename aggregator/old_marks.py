"""Forget how far Postgres has the journals of gateway processes that are long gone, here and in the store.

A mark outlives its journal, which may be handed in again. After a hundred days nobody takes such a journal any more
(gateway/adoption.py, weighbridge/handed_in.py), so its marks say nothing to anybody. Who has a heartbeat is kept however long
ago it shipped: it lives, or its journal is still on its way.
"""

from datetime import timedelta

import asyncpg
from redis.asyncio import Redis

from aggregator.flush import run
from metering.model import keys
from metering.model.clock import Clock, to_datetime
from metering.model.ledger import MARKS_KEPT_DAYS
from metering.store.postgres import Queries

SQL = Queries.load("aggregator", "sql/old_marks.sql")
_AT_ONCE = 500


async def forget(pool: asyncpg.Pool, redis: Redis, clock: Clock) -> int:
    """Returns how many workers were forgotten. May end at any step: what Postgres still has is forgotten the next time."""
    before = to_datetime(clock.now_ms()) - timedelta(days=MARKS_KEPT_DAYS)
    found = [row["worker"] for row in await pool.fetch(SQL["long_gone"], before, _AT_ONCE)]
    (beats,) = await run(redis, [("HKEYS", keys.WORKERS)])
    gone = sorted(set(found) - {name.decode() for name in beats})
    if not gone:
        return 0
    fields = [f"{kind}:{worker}" for worker in gone for kind in ("s", "a", "r")]
    await run(
        redis,
        [command for b in range(keys.BUCKETS) for command in (("HDEL", keys.marks(b), *fields), ("HDEL", keys.committed(b), *gone))],
    )
    await pool.execute(SQL["forget"], gone, before)
    return len(gone)
