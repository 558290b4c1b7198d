"""A house of real parts: a migrated database, an emptied Valkey, and the gateway's own scripts to settle with."""

import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from redis.asyncio import Redis

from aggregator import flush, recovery
from aggregator.flush import ignore
from aggregator.truth import PostgresTruth
from billing.model.plan import PlanSpec, to_json
from metering.model import keys
from metering.model.clock import FrozenClock, to_datetime
from metering.model.ledger import row_field
from metering.store.postgres import open_pool
from metering.store.redis import scripts

NOW_MS = 1_795_000_000_000  # 2026-11-18T08:26:40Z
MINUTE = NOW_MS // 60_000
ORG = "00000000-0000-4000-8000-000000000001"
SETTLE = scripts.load("gateway", "settle")


class Store(Redis):
    """A client that may tell another run id than the server's own: to the aggregator, a failover."""

    run: str | None = None

    def pipeline(self, *args: Any, **kwargs: Any) -> Any:
        pipe = super().pipeline(*args, **kwargs)
        plain = pipe.execute

        async def execute(*a: Any, **k: Any) -> Any:
            replies = await plain(*a, **k)
            return [{**r, "run_id": self.run} if self.run and isinstance(r, dict) and "run_id" in r else r for r in replies]

        pipe.execute = execute
        return pipe


class House:
    """What the tests drive. `settle` is what a gateway does, `flush` and `recover` what the aggregator does."""

    now_ms, minute, org = NOW_MS, MINUTE, ORG

    def __init__(self, pool: asyncpg.Pool, redis: Store) -> None:
        self.pool, self.redis = pool, redis
        self.clock = FrozenClock(NOW_MS)
        self.republished = 0

    async def republish(self) -> None:
        self.republished += 1

    def recovery(self, observe: Callable[[str], None] = ignore) -> recovery.Recovery:
        return recovery.Recovery(PostgresTruth(self.pool), self.redis, self.clock, self.republish, observe=observe)

    async def flush(self, **options: Any) -> flush.FlushReport:
        return await flush.flush_once(self.pool, self.redis, **options)

    async def tag(self, bucket: int) -> str:
        return ((await self.redis.get(keys.epoch(bucket))) or b"").decode().removesuffix(" wait")

    async def settle(
        self, fields: dict[str, int], *, worker: str = "w1", seq: int = 1, org: str = ORG, counters: dict[str, int] | None = None
    ) -> list[Any]:
        """One batch of a worker, by the gateway's own script."""
        bucket, moves = keys.bucket_of(org), counters or {}
        names = [keys.epoch(bucket), keys.marks(bucket), keys.live(bucket), *moves]
        arguments: list[Any] = [await self.tag(bucket), worker, seq, len(fields), *fields, *fields.values()]
        for delta in moves.values():
            arguments += [delta, NOW_MS * 2]
        return await self.redis.eval(SETTLE.body, len(names), *names, *arguments)

    def field(
        self, quantity_of: str = "api", *, minute: int = MINUTE, org: str = ORG, period: int = 0, route: int = 7, key: int = 3, **more: Any
    ) -> str:
        return row_field(
            minute, period or self.period_start // 1000, org, quantity_of, route, more.get("method", "GET"), key, more.get("dimensions", "")
        )

    @property
    def period_start(self) -> int:
        return int(datetime.fromisoformat("2026-11-01T00:00:00+00:00").timestamp()) * 1000

    async def used(self, service: str = "api", org: str = ORG) -> dict[str, int]:
        """The same sum by every table that must agree on it."""
        return {
            table: int(await self.pool.fetchval(f"SELECT coalesce(sum({column}), 0) FROM billing.{table} WHERE org_id = $1 AND service = $2", UUID(org), service))  # noqa: S608, E501 (fixed names)
            for table, column in (("usage_events", "quantity"), ("usage_hourly", "quantity"), ("usage_period", "cumulative"))
        }  # fmt: skip

    async def marks(self) -> dict[tuple[int, str], int]:
        return {(r["bucket"], r["worker"]): r["seq"] for r in await self.pool.fetch("SELECT bucket, worker, seq FROM billing.worker_marks")}

    async def subscribe(self, spec: PlanSpec, *, org: str = ORG, version: int = 1, anchor_ms: int | None = None) -> None:
        """An organization that bought `spec`; called again, it moves to this plan version."""
        now, anchor = to_datetime(NOW_MS), to_datetime(anchor_ms or self.period_start)
        await self.pool.execute(
            "INSERT INTO billing.organizations (id, slug, name, created_at) VALUES ($1, $2, 'Acme', $3) ON CONFLICT DO NOTHING",
            UUID(org), "org-" + org[-6:], now,
        )  # fmt: skip
        await self.pool.execute(
            "INSERT INTO billing.plans (name, version, managed_by, created_at, updated_at)"
            " VALUES ($1, $2, 'file', $3, $3) ON CONFLICT DO NOTHING",
            spec.name, version, now,
        )  # fmt: skip
        await self.pool.execute(
            "INSERT INTO billing.plan_versions (plan, version, spec, managed_by, created_at)"
            " VALUES ($1, $2, $3, 'file', $4) ON CONFLICT DO NOTHING",
            spec.name, version, json.dumps(to_json(spec)), now,
        )  # fmt: skip
        moved = await self.pool.execute(
            "UPDATE billing.subscriptions SET plan = $2, plan_version = $3 WHERE org_id = $1 AND ended_at IS NULL",
            UUID(org), spec.name, version,
        )  # fmt: skip
        if moved == "UPDATE 0":
            await self.pool.execute(
                "INSERT INTO billing.subscriptions (org_id, plan, plan_version, status, anchor, billing_interval, currency, created_at)"
                " VALUES ($1, $2, $3, 'active', $4, 'month', 'usd', $5)",
                UUID(org), spec.name, version, anchor, now,
            )  # fmt: skip


@pytest.fixture
async def empty_house(database: str, redis: str) -> AsyncIterator[House]:
    """Nothing was ever opened: no bucket has an epoch."""
    pool = await open_pool(database, application="test", max_size=6)
    client = Store.from_url(redis)
    try:
        yield House(pool, client)
    finally:
        await client.aclose()
        await pool.close()


@pytest.fixture
async def house(empty_house: House) -> House:
    """Every bucket is open."""
    report = await empty_house.recovery().check()
    assert report.opened == keys.BUCKETS
    return empty_house
