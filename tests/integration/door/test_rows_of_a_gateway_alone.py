"""What nobody drains leaves the store of a gateway alone after some hours, a few buckets at a time."""

from pathlib import Path

from redis.asyncio import Redis

from metering.model import keys
from metering.model.clock import SystemClock
from metering.model.ledger import row_field
from weighbridge.standalone import _BUCKETS_A_FOLD, KEPT_MINUTES, Standalone


async def test_rows_older_than_some_hours_leave_the_store_and_are_counted(redis: str, tmp_path: Path) -> None:
    clock, dropped = SystemClock(), list[int]()
    now = clock.now_ms() // 60_000

    async def nothing() -> None:
        return

    async with Redis.from_url(redis) as client:
        for bucket in (0, 7, 255):
            old = {row_field(now - KEPT_MINUTES - 5, 0, f"org-{n}", "api", 1, "GET", 1): 1 for n in range(1_200)}
            young = {row_field(now, 0, "org", "api", 1, "GET", 1): 1, "!": 1}
            await client.hset(keys.live(bucket), mapping={**old, **young})
        alone = Standalone(client, tmp_path, clock, nothing, dropped.append)
        for _ in range(keys.BUCKETS // _BUCKETS_A_FOLD):
            await alone.fold()
        assert sum(dropped) == 3 * 1_200
        assert [await client.hlen(keys.live(bucket)) for bucket in (0, 7, 255)] == [2, 2, 2]
