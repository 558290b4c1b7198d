"""From an empty or older database to one that holds this version's schema and the files' plans."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
from redis.asyncio import Redis

from aggregator.overage import cutter
from billing.services.plans import Applied
from billing.wiring import Billing, open_billing
from config.load import Configuration
from config.settings import Settings
from metering.model.clock import Clock
from metering.store.migrate import migrate

_REQUESTS = """
SELECT coalesce(sum(status_1xx + status_2xx + status_3xx + status_4xx + status_5xx), 0)::bigint FROM billing.traffic_hourly
"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Names of the migrations applied, and what applying the files changed."""

    migrations: list[str]
    applied: Applied


@contextlib.asynccontextmanager
async def billing_over(
    settings: Settings, config: Configuration, pool: asyncpg.Pool, redis_url: str, clock: Clock
) -> AsyncIterator[Billing]:
    """The use cases as these settings bind them."""
    async with Redis.from_url(redis_url) as client:
        yield open_billing(
            pool,
            client,
            clock,
            meters=config.meters,
            currency=settings.billing_currency,
            default_plan=settings.billing_default_plan,
            bills=settings.billing_enabled,
            cut=cutter(pool, clock, config.meters, bills=settings.billing_enabled),
        )


async def prepare(settings: Settings, config: Configuration, pool: asyncpg.Pool, redis_url: str, clock: Clock) -> Prepared:
    """Migrate, then apply plans and overrides. Doing it again changes nothing. Raises DatabaseUnsuitable, BadInput."""
    migrations = await migrate(pool)
    async with billing_over(settings, config, pool, redis_url, clock) as billing:
        applied = await billing.plans.apply(config.plans.plans, config.plans.overrides)
    return Prepared(migrations, applied)


async def requests_counted(pool: asyncpg.Pool) -> int:
    """Requests that Postgres knows of, of all organizations."""
    return int(await pool.fetchval(_REQUESTS))
