"""A change of plan or override tells the gateways what the counters that begin with it must begin with."""

from dataclasses import replace
from uuid import UUID

from billing.model.plan import Rollout
from metering.model import keys
from metering.model.clock import SystemClock, to_datetime
from metering.model.period import window_at
from metering.model.quota import Quota, Window

from .conftest import FREE, PRO, Desk

HOUR_MS = 3_600_000


async def used_before(desk: Desk) -> str:
    """An organization, some days into its period: 40 units before today and 7 today are in the ledger, 3 more in the store alone.

    The time is the store's, which forgets by it.
    """
    desk.clock.advance((SystemClock().now_ms() - desk.clock.now_ms()) / 1000)
    now_ms = desk.clock.now_ms()
    period_ms = (now_ms // 1000 - 10 * 86_400) * 1000
    org_id = (await desk.billing.orgs.create("Acme", slug="acme", plan="free", anchor_ms=period_ms)).org.id
    day_ms, _ = window_at(Window.DAY, 0, now_ms)
    for at_ms, units in ((day_ms - HOUR_MS, 40), (day_ms, 7)):
        await desk.pool.execute(
            """INSERT INTO billing.usage_hourly
               (org_id, service, hour, period_start, route_id, method, key_id, bucket, quantity, returned, event_count)
               VALUES ($1, 'api', $2, $3, 1, 'GET', 1, $4, $5, 0, 1)""",
            UUID(org_id), to_datetime(at_ms), to_datetime(period_ms), keys.bucket_of(org_id), units,
        )  # fmt: skip
    await desk.redis.set(keys.counter(org_id, "api", "o", Window.PERIOD, period_ms), 50)
    await desk.redis.set(keys.epoch(keys.bucket_of(org_id)), "1 runid")
    return org_id


async def today(desk: Desk, org_id: str) -> bytes | None:
    start_ms, _ = window_at(Window.DAY, 0, desk.clock.now_ms())
    value: bytes | None = await desk.redis.get(keys.counter(org_id, "api", "o", Window.DAY, start_ms))
    return value


async def test_a_plan_that_brings_a_daily_quota_brings_what_was_used_today(sold: Desk) -> None:
    org_id = await used_before(sold)
    daily = Quota(meter="api", limit=100, window=Window.DAY)
    await sold.billing.plans.apply({"free": replace(FREE, quotas=(daily,), rollout=Rollout.NOW), "pro": PRO}, {})
    assert await today(sold, org_id) == b"10"


async def test_an_override_that_brings_one_does_too(sold: Desk) -> None:
    org_id = await used_before(sold)
    await sold.billing.overrides.put("acme", [Quota(meter="api", limit=100, window=Window.DAY)], reason="a test", until_ms=None)
    assert await today(sold, org_id) == b"10"
