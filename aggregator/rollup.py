"""What is derived from the ledger, or kept beside it: days from hours, next months' partitions, names of routes.

Every function may run at any time, again, and beside another aggregator.
"""

import json
from datetime import date

import asyncpg
from redis.asyncio import Redis

from aggregator.flush import run
from metering.model import keys
from metering.model.clock import Clock, to_datetime
from metering.store.postgres import Queries

SQL = Queries.load("aggregator", "sql/rollup.sql")
MONTHS_AHEAD = 3


async def roll_up_days(pool: asyncpg.Pool) -> list[date]:
    """Recompute every day that got rows since the last run; returns them."""
    began = await pool.fetchval(SQL["begin"])
    days = [row["day"] for row in await pool.fetch(SQL["touched_days"])]
    for day in days:
        await pool.execute(SQL["recompute_day"], day)
    await pool.execute(SQL["set_watermark"], began)
    await pool.execute(SQL["forget_tenants"])
    return days


async def ensure_partitions(pool: asyncpg.Pool, clock: Clock) -> int:
    """Make the months ahead ready; returns how many partitions were made."""
    return int(await pool.fetchval(SQL["ensure_partitions"], to_datetime(clock.now_ms()), MONTHS_AHEAD))


async def name_routes(pool: asyncpg.Pool, redis: Redis) -> int:
    """Keep the templates that gateways announced, so that reports can name a route; returns how many were announced."""
    (announced,) = await run(redis, [("HGETALL", keys.ROUTES)])
    rows = []
    for route_id, text in announced.items():
        try:
            route = json.loads(text)
            rows.append((int(route_id), str(route["template"]), str(route["host"]) if route.get("host") else None))
        except (ValueError, KeyError, TypeError):
            continue  # a name is a convenience: rows of a route without one are shown by their number
    if rows:
        await pool.execute(SQL["upsert_routes"], *[list(column) for column in zip(*rows, strict=True)])
    return len(rows)
