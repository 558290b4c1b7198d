"""From an empty or older database to one that holds this version's schema and the files' plans."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import asyncpg
from redis.asyncio import Redis

from aggregator.overage import cutter
from billing.channels.wiring import house_of
from billing.operations.dispatch import Dispatch
from billing.operations.operation import Facts
from billing.services.plans import Applied
from billing.services.ports import ConfigSet
from billing.services.ports_stripe import PaymentDesk
from billing.services.use_cases import Billing
from billing.store.books import PostgresBooks
from billing.wiring import hooks_reach, invoicing_of, open_billing, trial_rules
from config.load import Configuration
from config.settings import Settings
from metering.model.clock import Clock
from metering.store.migrate import migrate
from metering.store.postgres import SERVICE, open_pool

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
    settings: Settings, config: Configuration, pool: asyncpg.Pool, redis_url: str | None, clock: Clock
) -> AsyncIterator[Billing]:
    """The use cases as these settings bind them. Without a store, what gateways must hear waits for control."""
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(Redis.from_url(redis_url)) if redis_url else None
        yield _bound(settings, config, pool, client, clock)


def dispatch_over(
    settings: Settings, config: Configuration, pool: asyncpg.Pool, store: Redis | None, clock: Clock, *, back_to: str,
    payments: PaymentDesk | None = None,
) -> Dispatch:  # fmt: skip
    """Operations over the same."""
    facts = Facts(
        currency=settings.billing_currency, default_plan=settings.billing_default_plan, issuer=config.plans.issuer, back_to=back_to,
        house=house_of(settings),
    )  # fmt: skip

    def billing(org: str | None, actor: str | None) -> Billing:
        return _bound(settings, config, pool, store, clock, org=org, actor=actor, payments=payments)

    return Dispatch(billing, lambda: facts, clock)


def _bound(
    settings: Settings,
    config: Configuration,
    pool: asyncpg.Pool,
    store: Redis | None,
    clock: Clock,
    *,
    org: str | None = None,
    actor: str | None = None,
    payments: PaymentDesk | None = None,
) -> Billing:
    return open_billing(
        pool,
        store,
        clock,
        meters=config.meters,
        currency=settings.billing_currency,
        default_plan=settings.billing_default_plan,
        bills=settings.billing_enabled,
        marketplaces=settings.billing_marketplace_enabled,
        cut=cutter(pool, clock, config.meters, bills=settings.billing_enabled),
        invoicing=invoicing_of(settings, config.plans.issuer),
        trials=trial_rules(settings),
        hooks_reach=hooks_reach(settings),
        org=org,
        actor=actor,
        payments=payments,
    )


async def prepare(
    settings: Settings, config: Configuration, database_url: str, redis_url: str | None, clock: Clock, *, by: str
) -> Prepared:
    """Migrate, then apply plans and overrides, on behalf of `by`. Doing it again changes nothing. Raises DatabaseUnsuitable, BadInput."""
    migrations = await migrate(database_url)
    pool = await open_pool(database_url, application="weighbridge prepare", max_size=2, role=SERVICE, actor=by)
    try:
        async with billing_over(settings, config, pool, redis_url, clock) as billing:
            prepared = Prepared(migrations, await apply(billing, config))
            await billing.features.remember_fallback()
            return prepared
    finally:
        await pool.close()


async def apply(billing: Billing, config: Configuration, *, dry_run: bool = False) -> Applied:
    """Plans and overrides of the files, and the files as the set in force."""
    files = ConfigSet(version=config.version, files=config.texts)
    return await billing.plans.apply(config.plans.plans, config.plans.overrides, files=files, dry_run=dry_run)


async def files_in_force(pool: asyncpg.Pool) -> Mapping[str, str] | None:
    """The configuration files that were applied to this database last; None where none ever were."""
    try:
        async with PostgresBooks(pool).transaction() as unit:
            applied = await unit.config_sets.newest()
    except asyncpg.UndefinedTableError:  # not even the schema
        return None
    return applied.files if applied else None


async def requests_counted(pool: asyncpg.Pool) -> int:
    """Requests that Postgres knows of, of all organizations."""
    return int(await pool.fetchval(_REQUESTS))
