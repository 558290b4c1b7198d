"""How far Postgres has the journals of workers that are long gone is forgotten; of all others it is kept."""

import json
from typing import Any

from aggregator import old_marks
from metering.model import keys
from metering.model.clock import to_datetime
from metering.model.ledger import MARKS_KEPT_DAYS

DAY_MS = 86_400_000


async def shipped(house: Any, worker: str, days_ago: float, *, bucket: int, seq: int = 5) -> None:
    moved = to_datetime(house.now_ms - int(days_ago * DAY_MS))
    await house.pool.execute("INSERT INTO billing.worker_marks VALUES ($1, $2, $3, $4)", bucket, worker, seq, moved)
    await house.redis.hset(keys.marks(bucket), f"s:{worker}", seq)
    await house.redis.hset(keys.marks(bucket), f"r:{worker}", 1)
    await house.redis.hset(keys.committed(bucket), worker, seq)


async def known(house: Any) -> tuple[set[str], set[str], set[str]]:
    """By Postgres, by the store's marks, by what it says is committed."""
    marks, committed = set[str](), set[str]()
    for bucket in (1, 2):
        marks |= {name.decode().partition(":")[2] for name in await house.redis.hkeys(keys.marks(bucket))}
        committed |= {name.decode() for name in await house.redis.hkeys(keys.committed(bucket))}
    return {worker for _, worker in await house.marks()}, marks, committed


async def test_only_who_has_not_shipped_for_long_and_has_no_heartbeat_is_forgotten(house: Any) -> None:
    await shipped(house, "gone", MARKS_KEPT_DAYS + 1, bucket=1)
    await shipped(house, "gone", MARKS_KEPT_DAYS + 9, bucket=2)
    await shipped(house, "young", MARKS_KEPT_DAYS - 1, bucket=1)
    await shipped(house, "busy elsewhere", MARKS_KEPT_DAYS + 9, bucket=1)
    await shipped(house, "busy elsewhere", 0, bucket=2)
    await shipped(house, "alive", MARKS_KEPT_DAYS + 9, bucket=2)
    await house.redis.hset(keys.WORKERS, "alive", json.dumps({"at_ms": 0}))
    assert await old_marks.forget(house.pool, house.redis, house.clock) == 1
    assert await known(house) == ({"young", "busy elsewhere", "alive"},) * 3
    assert await old_marks.forget(house.pool, house.redis, house.clock) == 0


async def test_where_the_store_forgot_first_it_is_forgotten_in_postgres_all_the_same(house: Any) -> None:
    await shipped(house, "gone", MARKS_KEPT_DAYS + 1, bucket=1)
    await house.redis.delete(keys.marks(1), keys.committed(1))
    assert await old_marks.forget(house.pool, house.redis, house.clock) == 1
    assert await known(house) == (set(), set(), set())
