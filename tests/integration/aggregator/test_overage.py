"""Overages become outbox rows: whole report units, each unit once, back when the quota was raised. Real Postgres."""

import asyncio
import json
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from aggregator.overage import CutReport, cut_overage, event_timestamp, short_id
from billing.model.plan import PlanSpec
from billing.model.pricing import Graduated, PerUnit, Spend, Tier
from metering.model.clock import to_datetime
from metering.model.meter import Meter
from metering.model.quota import Mode, Quota

METERS = {
    "api": Meter(name="api", unit="request"),
    "bandwidth": Meter(name="bandwidth", unit="byte", report="MB", report_size=10**6),
}
PRICE = {"api": PerUnit(each=Decimal("0.0003")), "bandwidth": PerUnit(each=Decimal("0.05"), per_unit_size=10**9)}
DAY_MS = 86_400_000


def plan(limit: int | None = 100, mode: Mode = Mode.OVERAGE, *, name: str = "pro", prices: Any = None) -> PlanSpec:
    quotas = (Quota(meter="api", limit=limit, mode=mode), Quota(meter="bandwidth", limit=5 * 10**6, mode=Mode.OVERAGE))
    return PlanSpec(name=name, quotas=quotas, prices=PRICE if prices is None else prices)


async def use(house: Any, units: int, meter: str = "api", *, seq: int) -> None:
    await house.settle({house.field(meter): units}, seq=seq)
    await house.flush()


async def cut(house: Any, **options: Any) -> CutReport:
    return await cut_overage(house.pool, house.clock, METERS, **options)


async def outbox(house: Any) -> list[tuple[str, int]]:
    rows = await house.pool.fetch("SELECT payload FROM billing.outbox WHERE kind = 'meter_event' ORDER BY id")
    return [(p["meter"], int(p["value"])) for p in (json.loads(r["payload"]) for r in rows)]


async def test_only_what_is_beyond_the_quota_is_cut_and_only_once(house: Any) -> None:
    await house.subscribe(plan())
    await use(house, 90, seq=1)
    assert (await cut(house)).rows == 0
    await use(house, 30, seq=2)
    assert (await cut(house)).rows == 1
    assert (await cut(house)).rows == 0
    await use(house, 5, seq=3)
    await cut(house)
    assert await outbox(house) == [("api", 20), ("api", 5)]


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0], ids=["set back an hour", "an hour missed"])
async def test_a_clock_that_jumps_reports_each_unit_once(house: Any, seconds: float) -> None:
    await house.subscribe(plan())
    await use(house, 120, seq=1)
    await cut(house)
    house.clock.advance(seconds)
    minutes = {house.field(minute=house.minute + n): 1 for n in range(60)}  # an hour that nobody flushed
    await house.settle(minutes, seq=2)
    await house.flush()
    await cut(house)
    await cut(house)
    assert await outbox(house) == [("api", 20), ("api", 60)]
    stamps = [int(json.loads(r["payload"])["timestamp"]) for r in await house.pool.fetch("SELECT payload FROM billing.outbox")]
    assert all(house.period_start // 1000 <= stamp for stamp in stamps)
    assert await house.used() == {"usage_events": 180, "usage_hourly": 180, "usage_period": 180}


async def test_a_clock_set_back_into_an_ended_period_cuts_nothing_again(house: Any) -> None:
    await house.subscribe(plan())
    await use(house, 120, seq=1)
    house.clock.advance(30 * 86_400)
    assert (await cut(house)).rows == 1
    house.clock.advance(-30 * 86_400)
    assert (await cut(house)).rows == 0
    assert await outbox(house) == [("api", 20)]


async def test_a_row_says_all_that_delivery_needs(house: Any) -> None:
    await house.subscribe(plan())
    await use(house, 120, seq=1)
    await cut(house)
    row = await house.pool.fetchrow("SELECT * FROM billing.outbox")
    assert row["identifier"] == f"ov1:{short_id(UUID(house.org))}:api:{house.period_start // 1000}:1"
    assert (row["customer_key"], row["state"]) == (f"{house.org}:api", "pending")
    assert json.loads(row["payload"]) == {
        "meter": "api",
        "value": "20",
        "timestamp": house.now_ms // 1000,
        "org_id": house.org,
        "period_start": "2026-11-01T00:00:00Z",
        "cumulative_after": 20,
    }


async def test_bytes_are_reported_in_whole_megabytes_and_the_remainder_waits(house: Any) -> None:
    await house.subscribe(plan())
    await use(house, 7_400_000, "bandwidth", seq=1)
    await cut(house)
    await use(house, 500_000, "bandwidth", seq=2)
    await cut(house)
    await use(house, 100_000, "bandwidth", seq=3)
    await cut(house)
    assert await outbox(house) == [("bandwidth", 2), ("bandwidth", 1)]


async def test_what_is_rated_here_is_never_reported_and_stays_so_when_another_plan_follows(house: Any) -> None:
    await house.subscribe(plan(prices={"api": Spend(price=PRICE["api"], minimum=Decimal(5))}))
    await use(house, 150, seq=1)
    await cut(house)
    row = await house.pool.fetchrow("SELECT priced, included, native, reported FROM billing.usage_period")
    assert tuple(row) == (True, 100, False, 0)
    house.clock.advance(30 * 86_400)  # the period is over, and billed
    await house.subscribe(plan(name="pro-native"))
    await cut(house)
    assert await outbox(house) == []


async def test_tiers_over_all_usage_are_reported_from_the_first_unit(house: Any) -> None:
    await house.subscribe(PlanSpec(name="payg", prices={"api": Graduated(tiers=(Tier(to=100, each=Decimal(1)), Tier(each=Decimal(2))))}))
    await use(house, 150, seq=1)
    await cut(house)
    assert await outbox(house) == [("api", 150)]


async def test_a_raised_quota_gives_back(house: Any) -> None:
    await house.subscribe(plan(100))
    await use(house, 150, seq=1)
    await cut(house)
    await house.subscribe(plan(130, name="pro-more"))
    await cut(house)
    assert await outbox(house) == [("api", 50), ("api", -30)]


@pytest.mark.parametrize(
    ("mode", "limit", "expected"),
    [("overage", 140, [("api", 10)]), ("soft", 10, []), ("hard", 500, []), ("overage", None, [])],
)
async def test_an_override_stands_above_the_plan(house: Any, mode: str, limit: int | None, expected: list[Any]) -> None:
    await house.subscribe(plan())
    await house.pool.execute(
        "INSERT INTO billing.quotas (org_id, meter, limit_units, time_window, mode, reason, managed_by, created_at)"
        " VALUES ($1, 'api', $2, 'period', $3, 'agreed', 'file', now())",
        UUID(house.org), limit, mode,
    )  # fmt: skip
    await use(house, 150, seq=1)
    await cut(house)
    assert await outbox(house) == expected


async def test_an_override_that_ended_no_longer_counts(house: Any) -> None:
    await house.subscribe(plan())
    await house.pool.execute(
        "INSERT INTO billing.quotas (org_id, meter, limit_units, time_window, mode, reason, until, managed_by, created_at)"
        " VALUES ($1, 'api', 500, 'period', 'overage', 'agreed', $2, 'file', now())",
        UUID(house.org), to_datetime(house.now_ms + 3_600_000),
    )  # fmt: skip
    await use(house, 150, seq=1)
    await cut(house)
    assert await outbox(house) == []
    house.clock.advance(3600)
    await cut(house)
    assert await outbox(house) == [("api", 50)]


async def test_a_meter_without_a_quota_is_charged_from_its_first_unit(house: Any) -> None:
    await house.subscribe(PlanSpec(name="payg", prices=PRICE))
    await use(house, 7, seq=1)
    await cut(house)
    assert await outbox(house) == [("api", 7)]


@pytest.mark.parametrize("mode", [Mode.HARD, Mode.SOFT])
async def test_a_quota_that_blocks_or_warns_never_bills(house: Any, mode: Mode) -> None:
    await house.subscribe(plan(100, mode))
    await use(house, 150, seq=1)
    await cut(house)
    assert await outbox(house) == []


async def test_nobody_pays_without_a_price_or_a_subscription(house: Any) -> None:
    await house.subscribe(plan(prices={}, name="free"))
    await use(house, 150, seq=1)
    other = "00000000-0000-4000-8000-00000000000f"
    await house.settle({house.field(org=other): 500}, org=other)
    await house.flush()
    await cut(house)
    assert await outbox(house) == []


async def test_a_period_that_was_free_stays_free_when_a_plan_is_bought_after_it(house: Any) -> None:
    await house.subscribe(plan(prices={}, name="free"))
    await use(house, 150, seq=1)
    await cut(house)
    house.clock.advance(20 * 86_400)
    await house.subscribe(plan())
    await cut(house)
    assert await outbox(house) == []


async def test_late_usage_of_an_ended_period_is_cut_by_the_terms_it_had(house: Any) -> None:
    await house.subscribe(plan(100))
    await use(house, 90, seq=1)
    await cut(house)
    house.clock.advance(20 * 86_400)
    await house.subscribe(plan(1000, name="pro-more"))
    await use(house, 30, seq=2)
    await cut(house)
    assert await outbox(house) == [("api", 20)]
    payload = json.loads(await house.pool.fetchval("SELECT payload FROM billing.outbox"))
    assert payload["timestamp"] == round((to_datetime(house.period_start) + timedelta(days=30)).timestamp()) - 1


async def test_the_last_cut_looks_only_at_periods_that_are_ending(house: Any) -> None:
    await house.subscribe(plan())
    await use(house, 150, seq=1)
    end = house.period_start + 30 * DAY_MS
    assert (await cut(house, ending=(house.now_ms, end - 1))).periods == 0
    assert (await cut(house, ending=(house.now_ms, end))).rows == 1


async def test_a_period_that_stripe_would_refuse_is_left_alone(house: Any) -> None:
    await house.subscribe(plan())
    await use(house, 150, seq=1)
    house.clock.advance((12 + 36) * 86_400)
    assert (await cut(house)).rows == 0


async def test_only_the_organizations_asked_for(house: Any) -> None:
    await house.subscribe(plan())
    await use(house, 150, seq=1)
    assert (await cut(house, org_ids=["00000000-0000-4000-8000-00000000000f"])).periods == 0
    assert (await cut(house, org_ids=[house.org])).rows == 1


async def test_cuts_and_flushes_at_once_report_each_unit_once(house: Any) -> None:
    await house.subscribe(plan(0))
    orgs = [house.org, *(f"00000000-0000-4000-8000-0000000001{n:02}" for n in range(10))]
    for org in orgs:
        await house.subscribe(plan(0), org=org)

    async def serve() -> None:
        for seq in range(1, 11):
            for org in orgs:
                await house.settle({house.field(org=org): 3}, org=org, worker=f"w-{org}", seq=seq)
            await house.flush()

    async def cut_often() -> None:
        for _ in range(20):
            await cut(house)

    await asyncio.gather(serve(), cut_often(), cut_often())
    await cut(house)
    sums = await house.pool.fetch("SELECT org_id, sum((payload ->> 'value')::int) AS sum FROM billing.outbox GROUP BY org_id")
    assert {str(r["org_id"]): r["sum"] for r in sums} == dict.fromkeys(orgs, 30)
    assert await house.pool.fetchval("SELECT bool_and(reported = cumulative) FROM billing.usage_period")


async def test_a_meter_that_no_file_names_is_not_reported(house: Any, caplog: pytest.LogCaptureFixture) -> None:
    await house.subscribe(PlanSpec(name="payg", prices={"pages": PRICE["api"]}))
    await use(house, 7, "pages", seq=1)
    await cut(house)
    assert await outbox(house) == []
    assert "pages" in caplog.text


@pytest.mark.parametrize(("now", "expected"), [(5_500, 5), (20_000, 9), (1_000, 2)])
def test_an_events_instant_lies_inside_its_period(now: int, expected: int) -> None:
    assert event_timestamp(2_000, 10_000, now) == expected


def test_a_short_id_tells_every_organization_apart() -> None:
    assert short_id(UUID(int=2**128 - 1)) == "f5lxx1zz5pnorynqglhzmsp33"
    assert short_id(UUID(int=0)) == "0" * 25


async def test_what_test_keys_used_is_kept_apart_and_costs_nothing(house: Any) -> None:
    await house.subscribe(plan(limit=1))
    await house.settle({house.field("api"): 1, house.field("?api"): 500, house.field("^?api"): 3}, seq=1)
    await house.flush()
    assert (await cut(house)).rows == 0
    rows = await house.pool.fetch("SELECT service, quantity, returned FROM billing.usage_events ORDER BY service")
    assert [tuple(row) for row in rows] == [("?api", 500, 3), ("api", 1, 0)]
    assert await house.pool.fetchval("SELECT cumulative FROM billing.usage_period WHERE service = 'api'") == 1
    assert await outbox(house) == []
