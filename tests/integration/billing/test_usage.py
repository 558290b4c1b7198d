"""Usage of the current period: the counters that decide, the ledger where they are silent."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from redis.asyncio import Redis

from billing.model.usage import Source, Status, report_json, tenant_json
from billing.wiring import open_billing
from metering.model import keys
from metering.model.clock import to_datetime, to_ms
from metering.model.errors import Unauthorized
from metering.model.quota import Quota, Window
from metering.store.postgres import DatabaseUnreachable
from tests.integration.billing.conftest import METERS, NOW, Desk

START_MS = to_ms(NOW)


async def count(desk: Desk, org_id: str, meter: str, units: int, window: Window = Window.PERIOD, start_ms: int = START_MS) -> None:
    await desk.redis.set(keys.counter(org_id, meter, "o", window, start_ms), units)


async def record(desk: Desk, org_id: str, meter: str, units: int) -> None:
    await desk.pool.execute(
        "INSERT INTO billing.usage_period (org_id, service, period_start, bucket, cumulative) VALUES ($1, $2, $3, 0, $4)",
        org_id, meter, to_datetime(START_MS), units,
    )  # fmt: skip


async def test_usage_is_what_the_counter_says_now(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    await count(sold, new.org.id, "api", 8_000)
    await record(sold, new.org.id, "api", 7_000)
    api = (await sold.billing.usage.report("acme")).meters[0]
    assert (api.used, api.source) == (8_000, Source.LIVE)
    assert api.main is not None
    assert (api.main.remaining, api.main.status) == (2_000, Status.WARNING)


async def test_without_a_counter_the_ledger_answers(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    await record(sold, new.org.id, "api", 7_000)
    away = Redis.from_url("redis://127.0.0.1:1")
    for billing in (sold.billing, open_billing(sold.pool, away, sold.clock, meters=METERS)):
        api = (await billing.usage.report("acme")).meters[0]
        assert (api.used, api.source) == (7_000, Source.STORED)
    await away.aclose()


async def test_a_report_names_org_plan_period_and_each_service(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="pro")
    await count(sold, new.org.id, "api", 250_000)
    await count(sold, new.org.id, "bandwidth", 12_300_000_000)
    body = report_json(await sold.billing.usage.report("acme"))
    assert body["org"] == {"id": new.org.id, "slug": "acme", "name": "Acme"}
    assert body["plan"] == {"name": "pro", "title": "Pro", "version": 1}
    assert body["period"] == {"start": "2026-01-31T12:00:00Z", "end": "2026-02-28T12:00:00Z"}
    api, bandwidth = body["usage"]
    assert {k: api[k] for k in ("service", "current_usage", "quota", "remaining", "percentage_used", "status", "reset_at")} == {
        "service": "api",
        "current_usage": 250_000,
        "quota": 200_000,
        "remaining": 0,
        "percentage_used": 125.0,
        "status": "exceeded",
        "reset_at": "2026-02-28T12:00:00Z",
    }
    assert (bandwidth["unit"], bandwidth["current_usage"], bandwidth["quota"], bandwidth["percentage_used"]) == ("GB", 12.3, 100, 12.3)
    assert bandwidth["base"] == {"unit": "byte", "current_usage": 12_300_000_000, "quota": 100_000_000_000}
    assert body["estimated_cost"]["total"] == "64.00"


async def test_a_meter_without_a_quota_is_unlimited(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    await count(sold, new.org.id, "bandwidth", 10**9)
    bandwidth = report_json(await sold.billing.usage.report("acme"))["usage"][1]
    assert [bandwidth[k] for k in ("current_usage", "quota", "remaining", "percentage_used", "status")] == [1, None, None, None, "ok"]


async def test_every_window_has_its_own_figures(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    await sold.billing.overrides.put("acme", [Quota(meter="api", limit=3, window=Window.HOUR)], reason="demo", until_ms=None)
    await count(sold, new.org.id, "api", 30)
    await count(sold, new.org.id, "api", 3, Window.HOUR, to_ms(datetime(2026, 1, 31, 12, tzinfo=UTC)))
    api = report_json(await sold.billing.usage.report("acme"))["usage"][0]
    assert (api["window"], api["current_usage"], api["status"]) == ("period", 30, "ok")
    hourly = next(limit for limit in api["limits"] if limit["name"] == "api-hourly")
    assert (hourly["current_usage"], hourly["remaining"], hourly["status"], hourly["reset_at"]) == (
        3,
        0,
        "exceeded",
        "2026-01-31T13:00:00Z",
    )


async def test_without_counters_every_window_is_the_ledgers(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    windows = (Window.HOUR, Window.DAY, Window.MONTH)
    await sold.billing.overrides.put("acme", [Quota(meter="api", limit=100, window=w) for w in windows], reason="x", until_ms=None)
    for hour, units in ((NOW, 1), (NOW.replace(hour=3), 10), (NOW.replace(day=2), 20), (NOW.replace(year=2025), 99)):
        await sold.pool.execute(
            "INSERT INTO billing.usage_hourly (org_id, service, hour, period_start, route_id, method, key_id, bucket, quantity, returned,"
            " event_count) VALUES ($1, 'api', $2, $3, 0, 'GET', 0, 0, $4, 0, 1)",
            new.org.id, hour, NOW, units,
        )  # fmt: skip
    api = (await sold.billing.usage.report("acme")).meters[0]
    assert {use.quota.window: use.used for use in api.limits} == {Window.PERIOD: 0, Window.HOUR: 1, Window.DAY: 11, Window.MONTH: 31}


async def test_a_period_starts_empty(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    await count(sold, new.org.id, "api", 30)
    sold.clock.advance(28 * 86_400)
    report = await sold.billing.usage.report("acme")
    assert (report.meters[0].used, to_datetime(report.end_ms)) == (0, datetime(2026, 3, 31, 12, tzinfo=UTC))


async def test_a_key_shows_its_own_organization_and_a_bad_one_shows_nothing(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    caller = await sold.billing.access.caller(new.api_key)
    assert (await sold.billing.usage.report_of(await sold.billing.access.organization(caller, None))).org.slug == "acme"
    await sold.billing.keys.revoke(new.api_key)
    for key in (new.api_key, "unknown-key", "wbk_live_nonsense", "", "wbk_live_ü", "\udcff"):
        with pytest.raises(Unauthorized):
            await sold.billing.access.caller(key)


async def test_an_estimate_adds_the_base_price_and_the_rounded_lines(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="pro")
    await count(sold, new.org.id, "api", 200_017)
    bill = (await sold.billing.usage.report("acme")).bill
    assert bill is not None
    assert (bill.overage, bill.total) == (Decimal("0.01"), Decimal("49.01"))


async def test_a_database_that_went_away_is_named_so(sold: Desk) -> None:
    await sold.pool.close()
    with pytest.raises(DatabaseUnreachable):
        await sold.billing.usage.report("acme")


async def test_what_test_keys_used_is_shown_beside_the_meter_and_priced_nowhere(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="pro")
    await count(sold, new.org.id, "api", 5)
    await record(sold, new.org.id, "?api", 900_000)
    await record(sold, new.org.id, "?bandwidth", 2 * 10**9)
    body = report_json(await sold.billing.usage.report("acme"))
    shown = {one["service"]: (one["title"], one["current_usage"], one["unit"], one["quota"]) for one in body["usage"]}
    assert shown["?api"] == ("API Requests (test keys)", 900_000, "request", None)
    assert shown["?bandwidth"] == ("Bandwidth (test keys)", 2, "GB", None)
    assert shown["api"][1] == 5
    assert body["estimated_cost"]["overage"] == "0.00"


async def test_usage_is_shown_by_tenant_for_the_present_period(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    period = (await sold.billing.usage.report("acme")).start_ms
    for tenant, service, units, start_ms in (
        ("emea", "api", 5, period), ("apac", "api", 9, period), ("emea", "bandwidth", 10**9, period), ("", "api", 1, period),
        ("emea", "api", 100, period - 86_400_000), ("gone", "api", 7, period - 86_400_000),
    ):  # fmt: skip
        await sold.pool.execute(
            "INSERT INTO billing.usage_hourly (org_id, service, hour, period_start, route_id, method, key_id, dimensions, bucket,"
            " quantity, returned, event_count) VALUES ($1, $2, $3, $3, 1, 'GET', 1, jsonb_build_object('tenant', $4::text), 0, $5, 0, 1)",
            new.org.id, service, to_datetime(start_ms), tenant, units,
        )  # fmt: skip
    uses = await sold.billing.usage.tenants("acme")
    assert [(use.tenant, dict(use.used)) for use in uses] == [
        ("apac", {"api": 9}),
        ("emea", {"api": 5, "bandwidth": 10**9}),
        ("", {"api": 1}),
    ]
    shown = tenant_json(uses[1], sold.billing.usage.meters(use.used for use in uses))
    assert [(one["service"], one["current_usage"], one["unit"]) for one in shown["usage"]] == [
        ("api", 5, "request"),
        ("bandwidth", 1, "GB"),
    ]
