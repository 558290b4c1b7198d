"""What is derived from the ledger: days, the present standing, names of routes, partitions. Real parts."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from aggregator import rollup
from billing.model.plan import PlanSpec
from metering.model import keys
from metering.model.quota import Quota


async def days(house: Any) -> list[tuple[date, int, int]]:
    rows = await house.pool.fetch("SELECT date, total_quantity, event_count FROM billing.usage_daily ORDER BY date")
    return [(r["date"], r["total_quantity"], r["event_count"]) for r in rows]


async def test_days_are_summed_from_hours_and_again_when_late_usage_comes(house: Any) -> None:
    midnight = house.minute - house.minute % 1440
    await house.settle({house.field(minute=midnight): 5, house.field(minute=midnight - 1): 2, house.field(minute=midnight + 60): 1})
    await house.flush()
    first, second = date(2026, 11, 17), date(2026, 11, 18)
    assert await rollup.roll_up_days(house.pool) == [first, second]
    assert await days(house) == [(first, 2, 1), (second, 6, 2)]
    await house.settle({house.field(minute=midnight - 1): 10}, seq=2)
    await house.flush()
    await rollup.roll_up_days(house.pool)
    assert await days(house) == [(first, 12, 2), (second, 6, 2)]
    await rollup.roll_up_days(house.pool)
    assert await days(house) == [(first, 12, 2), (second, 6, 2)]


async def test_days_without_new_usage_are_left_alone(house: Any) -> None:
    await house.settle({house.field(): 5})
    await house.flush()
    await rollup.roll_up_days(house.pool)
    await house.pool.execute("UPDATE billing.job_state SET watermark = watermark + interval '2 hours'")
    assert await rollup.roll_up_days(house.pool) == []


async def test_routes_get_the_names_that_gateways_announced(house: Any) -> None:
    named = {"7": json.dumps({"template": "/v1/{id}", "host": None}), "8": "no json", "9": json.dumps({"template": "/h", "host": "a.b"})}
    await house.redis.hset(keys.ROUTES, mapping=named)
    assert await rollup.name_routes(house.pool, house.redis) == 2
    await house.redis.hset(keys.ROUTES, "7", json.dumps({"template": "/v2/{id}"}))
    await rollup.name_routes(house.pool, house.redis)
    rows = await house.pool.fetch("SELECT id, template, host FROM billing.routes ORDER BY id")
    assert [tuple(r) for r in rows] == [(7, "/v2/{id}", None), (9, "/h", "a.b")]


async def test_months_ahead_are_ready(house: Any) -> None:
    house.clock.advance(200 * 86_400)
    assert await rollup.ensure_partitions(house.pool, house.clock) > 0
    assert await rollup.ensure_partitions(house.pool, house.clock) == 0


async def current(house: Any) -> dict[str, tuple[Any, ...]]:
    rows = await house.pool.fetch("SELECT * FROM billing.usage_current WHERE org_id = $1", UUID(house.org))
    return {r["service"]: (r["current_usage"], r["quota"], r["percentage_used"], r["status"]) for r in rows}


async def test_the_present_standing_shows_quota_use_and_status(house: Any) -> None:
    await house.subscribe(PlanSpec(name="free", quotas=(Quota(meter="api", limit=100), Quota(meter="storage", limit=5))))
    await house.settle({house.field(): 45, house.field("pages"): 3})
    await house.flush()
    this_month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    await house.pool.execute(
        "UPDATE billing.usage_period SET period_start = $1, period_end = $1::timestamptz + interval '1 month'", this_month
    )
    assert await current(house) == {
        "api": (45, 100, Decimal("45.00"), "ok"),
        "storage": (0, 5, Decimal("0.00"), "ok"),
        "pages": (3, None, None, "ok"),
    }
    await house.pool.execute(
        "INSERT INTO billing.quotas (org_id, meter, limit_units, time_window, mode, reason, managed_by, created_at)"
        " VALUES ($1, 'api', 50, 'period', 'hard', 'test', 'api', now()), ($1, 'api', 40, 'period', 'hard', 'test', 'file', now())",
        UUID(house.org),
    )
    assert (await current(house))["api"] == (45, 50, Decimal("90.00"), "warning")
    await house.pool.execute("UPDATE billing.quotas SET limit_units = 45")
    assert (await current(house))["api"][3] == "exceeded"
