"""Levels: what is held, its mean over time, the counter that says it, and what is billed."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

import pytest

from aggregator.counters import from_ledger
from billing.model.aggregation import Event, weighted_sum
from billing.model.event import BadEvent
from billing.model.invoice import Issuer
from billing.model.plan import PerUnit, PlanSpec
from billing.operations import events, usage
from billing.operations.events import CorrectAsk, EventIn, VoidAsk
from billing.wiring import Invoicing, open_billing
from metering.model import keys
from metering.model.clock import to_datetime, to_ms
from metering.model.meter import Kind, Meter
from metering.model.quota import Mode, Quota

from . import conftest
from .conftest import METERS, NOW, Desk
from .test_events import counters, do, org_id

GB = 10**9
STORAGE = Meter(name="storage", unit="byte", kind=Kind.LEVEL, title="Storage", show="GB", show_size=GB, report="MB", report_size=10**6)
PLAN = PlanSpec(
    name="pro", title="Pro", price={"usd": Decimal(49)}, quotas=(Quota(meter="storage", limit=10 * GB, mode=Mode.OVERAGE),),
    prices={"storage": PerUnit(each=Decimal("0.10"), per_unit_size=GB)},
)  # fmt: skip
JANUARY, FEBRUARY, MARCH = (to_ms(datetime(2041, month, 1, tzinfo=UTC)) for month in (1, 2, 3))


@pytest.fixture
async def acme(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    meters = {**METERS, "storage": STORAGE}
    monkeypatch.setattr(conftest, "METERS", meters)
    desk.clock.advance((datetime(2041, 1, 1, tzinfo=UTC) - NOW).total_seconds())
    desk.billing = open_billing(
        desk.pool, desk.redis, desk.clock, meters=meters, invoicing=Invoicing(issuer=Issuer.WEIGHBRIDGE, delay_seconds=0)
    )
    await desk.billing.plans.apply({"pro": PLAN}, {})
    org = (await desk.billing.orgs.create("Acme", plan="pro")).org
    await desk.redis.set(keys.epoch(keys.bucket_of(org.id)), "1 here")
    return desk


def at(desk: Desk, ms: int) -> None:
    desk.clock.advance((ms - desk.clock.now_ms()) / 1000)


async def hold(desk: Desk, gigabytes: str, day: int | None = None, part: str | None = None) -> int:
    instant = None if day is None else datetime(2041, 1, day, tzinfo=UTC)
    found = await do(
        desk, events.record,
        EventIn(service="storage", quantity=Decimal(gigabytes), timestamp=instant, metadata={"type": part} if part else None),
    )  # fmt: skip
    return int(found.id)


async def mean(desk: Desk, start_ms: int = JANUARY) -> Decimal:
    """In GB."""
    found = await desk.pool.fetchval(
        "SELECT cumulative FROM billing.usage_period WHERE service = 'storage' AND period_start = $1", to_datetime(start_ms)
    )
    return Decimal(found) / GB


async def test_the_counter_says_what_is_held_now_in_this_period_and_the_next(acme: Desk) -> None:
    await hold(acme, "5.5")
    assert await counters(acme) == {"storage period 01-01": 5_500_000_000, "storage period 02-01": 5_500_000_000}
    await hold(acme, "2", part="backups")
    await hold(acme, "3", part="backups")
    assert (await counters(acme))["storage period 01-01"] == 8_500_000_000
    org = await org_id(acme)
    async with acme.pool.acquire() as connection:
        truth = (await from_ledger(connection, [keys.bucket_of(org)], acme.clock.now_ms()))[keys.bucket_of(org)]
    async for key in acme.redis.scan_iter(match=keys.counters_of(org)):
        assert int(await acme.redis.get(key)) == truth[key.decode()][0]
    shown = await do(acme, usage.quota, usage.AskService(service="storage"))
    assert (shown.current_usage, shown.base.current_usage, shown.source) == (8.5, 8_500_000_000, "live")
    await acme.redis.flushall()
    shown = await do(acme, usage.quota, usage.AskService(service="storage"))
    assert (shown.current_usage, shown.source) == (8.5, "stored")


async def test_what_is_billed_is_the_mean_over_time_whatever_the_order_it_was_stated_in(acme: Desk) -> None:
    at(acme, JANUARY + 20 * 86_400_000)
    await hold(acme, "30", day=17)
    await hold(acme, "20", day=16)
    await hold(acme, "0", day=10)
    at(acme, FEBRUARY)
    assert await acme.billing.recording.look_after_levels() == 1
    assert await mean(acme) == Decimal("15.161290323")  # 20 for a day, 30 for 15, of 31
    assert await mean(acme, FEBRUARY) == 30
    assert await acme.billing.recording.look_after_levels() == 0
    assert "storage period 03-01" in await counters(acme)
    await acme.pool.execute("UPDATE billing.job_state SET done_at = $1 WHERE name = 'flush'", to_datetime(FEBRUARY))
    at(acme, FEBRUARY + 1_000)
    report = await acme.billing.issuing.run()
    assert report.faults == {}
    lines = await acme.pool.fetch("SELECT description, amount FROM billing.invoice_items WHERE kind = 'overage'")
    assert [row["amount"] for row in lines] == [Decimal("0.52")]  # 5.161290323 GB beyond 10


async def test_a_void_and_a_correction_change_the_mean_and_what_is_held(acme: Desk) -> None:
    at(acme, JANUARY + 86_400_000)
    wrong = await hold(acme, "999", day=1)
    at(acme, JANUARY + 2 * 86_400_000)
    assert await mean(acme) == 999
    corrected = await do(acme, events.correct, CorrectAsk(id=wrong, quantity=Decimal(9)))
    assert (corrected.quantity, corrected.level) == (9, True)
    assert (await mean(acme), (await counters(acme))["storage period 01-01"]) == (9, 9 * GB)
    second = await hold(acme, "20")
    assert (await counters(acme))["storage period 01-01"] == 20 * GB
    await do(acme, events.void, VoidAsk(id=second))
    assert (await mean(acme), (await counters(acme))["storage period 01-01"]) == (9, 9 * GB)
    await do(acme, events.void, VoidAsk(id=wrong))
    assert (await mean(acme), (await counters(acme))["storage period 01-01"]) == (0, 0)
    with pytest.raises(BadEvent):
        await hold(acme, "-1")


async def test_a_part_of_a_level_is_put_right_in_its_place(acme: Desk) -> None:
    at(acme, JANUARY + 86_400_000)
    await hold(acme, "5")
    wrong = await hold(acme, "10", part="postgres")
    assert (await counters(acme))["storage period 01-01"] == 15 * GB
    await do(acme, events.correct, CorrectAsk(id=wrong, quantity=Decimal(7)))
    assert (await counters(acme))["storage period 01-01"] == 12 * GB
    await do(acme, events.void, VoidAsk(id=wrong))
    assert (await counters(acme))["storage period 01-01"] == 5 * GB


async def test_the_database_and_the_model_come_to_the_same_mean_and_peak(acme: Desk) -> None:
    rng, org = random.Random(7), await org_id(acme)
    for turn in range(8):
        service = f"m{turn}"
        stated = [(f"p{rng.randrange(3)}", rng.randrange(-20, 70) * 3_600_000, rng.randrange(50) * GB) for _ in range(rng.randrange(12))]
        for number, (part, offset, units) in enumerate(stated):
            await acme.pool.execute(
                "INSERT INTO billing.usage_levels VALUES ($1, $2, $3, $4, $5, $6)",
                org, service, part, to_datetime(JANUARY + offset), number, units,
            )  # fmt: skip
            await acme.pool.execute(
                "INSERT INTO billing.levels_current VALUES ($1, $2, $3, $4, 0, 1) ON CONFLICT DO NOTHING",
                org, service, part, to_datetime(JANUARY),
            )  # fmt: skip
        end_ms, over = JANUARY + 48 * 3_600_000, "SELECT * FROM billing.level_over($1, $2, $3, $4)"
        found = await acme.pool.fetchrow(over, org, service, to_datetime(JANUARY), to_datetime(end_ms))
        assert (found["mean"], found["peak"]) == expected(stated, end_ms), stated


def expected(stated: Sequence[tuple[str, int, int]], end_ms: int) -> tuple[int, int]:
    total, peak = Decimal(0), 0
    for name in {part for part, _, _ in stated}:
        mine = [Event(at_ms=JANUARY + offset, value=Decimal(units)) for part, offset, units in stated if part == name]
        total += weighted_sum(sorted(mine, key=lambda event: event.at_ms), JANUARY, end_ms)
    for instant in {0, *(offset for _, offset, _ in stated if 0 <= offset < end_ms - JANUARY)}:
        held = {part: units for part, offset, units in sorted(stated, key=lambda each: each[1]) if offset <= instant}
        peak = max(peak, sum(held.values()))
    return int(total.quantize(Decimal(1), rounding=ROUND_HALF_UP)), peak
