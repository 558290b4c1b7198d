"""The use cases over a fresh database and an emptied store, at a time that stands still."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg
import pytest
from redis.asyncio import Redis

from billing.model.plan import PerUnit, PlanSpec
from billing.operations.dispatch import Dispatch
from billing.operations.operation import Facts
from billing.services.use_cases import Billing
from billing.store.books import PostgresBooks
from billing.wiring import open_billing
from metering.model.clock import FrozenClock, to_ms
from metering.model.meter import Meter
from metering.model.quota import Concurrency, Mode, Quota, Rate
from metering.store.postgres import open_pool

METERS = {
    "api": Meter(name="api", unit="request", title="API Requests"),
    "bandwidth": Meter(name="bandwidth", unit="byte", title="Bandwidth", show="GB", show_size=10**9, report="MB", report_size=10**6),
}
FREE = PlanSpec(name="free", title="Free", price={"usd": Decimal(0)}, quotas=(Quota(meter="api", limit=10_000),))
PRO = PlanSpec(
    name="pro",
    title="Pro",
    price={"usd": Decimal("49.00")},
    quotas=(Quota(meter="api", limit=200_000, mode=Mode.OVERAGE), Quota(meter="bandwidth", limit=100 * 10**9, mode=Mode.OVERAGE)),
    prices={"api": PerUnit(each=Decimal("0.0003")), "bandwidth": PerUnit(each=Decimal("0.05"), per_unit_size=10**9)},
)
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@dataclass(frozen=True)
class OverrideTerms:
    quotas: tuple[Quota, ...] = ()
    rates: tuple[Rate, ...] = ()
    concurrency: tuple[Concurrency, ...] = ()
    reason: str = "launch week"
    until_ms: int | None = None


@dataclass
class Desk:
    """What a test works with."""

    billing: Billing
    pool: asyncpg.Pool
    redis: Redis
    clock: FrozenClock

    @property
    def books(self) -> PostgresBooks:
        return PostgresBooks(self.pool)

    async def outbox(self) -> list[tuple[str, str]]:
        rows = await self.pool.fetch("SELECT kind, identifier FROM billing.outbox ORDER BY id")
        return [(row["kind"], row["identifier"]) for row in rows]


def dispatch_of(desk: Desk) -> Dispatch:
    """Operations over the desk's use cases, as control has them: what is read for one organization is held to it."""

    def billing(org: str | None, actor: str | None) -> Billing:
        return open_billing(desk.pool, desk.redis, desk.clock, meters=METERS, org=org, actor=actor)

    return Dispatch(billing, Facts, desk.clock)


@pytest.fixture
async def desk(database: str, redis: str) -> AsyncIterator[Desk]:
    pool, client, clock = await open_pool(database, application="test"), Redis.from_url(redis), FrozenClock(to_ms(NOW))
    yield Desk(open_billing(pool, client, clock, meters=METERS), pool, client, clock)
    await client.aclose()
    await pool.close()


@pytest.fixture
async def sold(desk: Desk) -> Desk:
    """With the plans free and pro."""
    await desk.billing.plans.apply({"free": FREE, "pro": PRO}, {})
    return desk
