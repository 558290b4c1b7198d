"""Caps on spending and units carried over, from Postgres to what the gateways are told."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from billing.services.ports_wallet import CUSTOMER, OPERATOR
from billing.services.spend_caps import NothingToCap
from metering.model.clock import to_datetime, to_ms
from metering.model.errors import BadInput
from metering.model.period import period_at
from metering.model.quota import Mode, Quota

from .conftest import FREE, NOW, PRO, Desk

CAPPED = replace(PRO, spend_cap={"usd": Decimal("30.00")}, rollover={"api": 50_000})
AT = to_ms(NOW)
PERIOD_END = to_ms(datetime(2026, 2, 28, 12, tzinfo=UTC))


@pytest.fixture
async def capped(desk: Desk) -> Desk:
    """The organization acme on a plan with a cap of $30 and up to 50,000 units carried over."""
    await desk.billing.plans.apply({"free": FREE, "pro": CAPPED}, {})
    await desk.billing.orgs.create("Acme", plan="pro")
    return desk


async def org_id(desk: Desk) -> str:
    return (await desk.billing.orgs.show("acme")).org.id


async def use(desk: Desk, units: int, meter: str = "api") -> None:
    """So much in the running period, flushed."""
    start_ms, end_ms = period_at(AT, desk.clock.now_ms())
    await desk.pool.execute(
        "INSERT INTO billing.usage_period (org_id, service, period_start, period_end, bucket, cumulative) VALUES ($1, $2, $3, $4, 1, $5)"
        " ON CONFLICT (org_id, service, period_start) DO UPDATE SET cumulative = excluded.cumulative",
        UUID(await org_id(desk)), meter, to_datetime(start_ms), to_datetime(end_ms), units,
    )  # fmt: skip


async def told(desk: Desk) -> Quota:
    """The quota on api that holds now, as the gateways know it."""
    entitlement = await desk.billing.entitlements.of_org(await org_id(desk))
    assert entitlement is not None
    return next(q for q in entitlement.quotas_at(desk.clock.now_ms()) if q.meter == "api")


async def test_spending_below_the_cap_goes_on(capped: Desk) -> None:
    await use(capped, 299_999)  # $29.9997, rounded to $30.00
    assert (await capped.billing.spend_caps.check()).ended == 1
    await use(capped, 299_900)
    assert (await capped.billing.spend_caps.check()).lifted == 1
    assert (await told(capped)).stop_at is None


async def test_overage_ends_at_the_cap_for_the_rest_of_the_period(capped: Desk) -> None:
    await use(capped, 300_000)
    report = await capped.billing.spend_caps.check()
    assert (report.looked, report.ended) == (1, 1)
    quota = await told(capped)
    assert (quota.mode, quota.limit, quota.stop_at) == (Mode.OVERAGE, 200_000, 300_000)
    capped.clock.advance((PERIOD_END - AT) / 1000)
    assert (await told(capped)).stop_at is None


async def test_what_is_used_on_the_way_is_charged_and_moves_no_stop(capped: Desk) -> None:
    await use(capped, 300_000)
    await capped.billing.spend_caps.check()
    await use(capped, 300_040)
    report = await capped.billing.spend_caps.check()
    assert (report.ended, report.lifted) == (0, 0)
    assert (await told(capped)).stop_at == 300_000
    assert (await capped.billing.spend_caps.show("acme")).spent == Decimal("30.01")


async def test_it_is_told_once_and_stands_in_the_audit_log(capped: Desk) -> None:
    await use(capped, 300_000)
    for _ in range(3):
        await capped.billing.spend_caps.check()
    assert await capped.pool.fetchval("SELECT count(*) FROM billing.mails WHERE kind = 'spend_cap_reached'") == 1
    found = [e for e in await capped.billing.audit.entries(org_ref="acme", limit=1000) if e.action == "quota.created"]
    assert {(e.subject, (e.after or {})["reason"]) for e in found} == {
        (f"quota {meter} period org cap", "spend cap of 30.00 USD reached") for meter in ("api", "bandwidth")
    }


async def test_a_customer_sets_a_lower_cap_that_holds_at_once_and_no_higher_one(capped: Desk) -> None:
    await use(capped, 220_000)
    view = await capped.billing.spend_caps.set("acme", Decimal("5.00"), by=CUSTOMER)
    assert (view.spent, view.reached) == (Decimal("6.00"), True)
    assert (await told(capped)).stop_at == 220_000
    with pytest.raises(BadInput, match=r"30\.00 USD"):
        await capped.billing.spend_caps.set("acme", Decimal("31.00"), by=CUSTOMER)
    assert not (await capped.billing.spend_caps.remove("acme", by=CUSTOMER)).reached
    assert (await told(capped)).stop_at is None


async def test_the_operator_raises_or_lifts_the_plans_cap(capped: Desk) -> None:
    await use(capped, 400_000)
    await capped.billing.spend_caps.check()
    assert not (await capped.billing.spend_caps.set("acme", Decimal("100.00"), by=OPERATOR)).reached
    assert (await told(capped)).stop_at is None
    assert (await capped.billing.spend_caps.remove("acme", by=OPERATOR)).reached
    assert not (await capped.billing.spend_caps.lift("acme")).reached


async def test_a_cap_does_not_hide_an_override_that_is_set_afterwards(capped: Desk) -> None:
    await use(capped, 300_000)
    await capped.billing.spend_caps.check()
    await capped.billing.overrides.put("acme", [Quota(meter="api", limit=290_000, mode=Mode.OVERAGE)], reason="deal", until_ms=None)
    await capped.billing.spend_caps.check()
    assert (await told(capped)).limit == 290_000
    assert (await told(capped)).stop_at is None


async def test_who_has_no_subscription_has_nothing_to_cap(capped: Desk) -> None:
    await capped.pool.execute("UPDATE billing.subscriptions SET status = 'canceled', ended_at = now()")
    with pytest.raises(NothingToCap):
        await capped.billing.spend_caps.show("acme")


# --- units carried over --------------------------------------------------------------------------------------------


async def flushed(desk: Desk) -> None:
    await desk.pool.execute(
        "INSERT INTO billing.job_state (name, done_at) VALUES ('flush', $1) ON CONFLICT (name) DO UPDATE SET done_at = excluded.done_at",
        to_datetime(desk.clock.now_ms()),
    )


async def turn(desk: Desk) -> None:
    """Into the next period, and flushed in it."""
    end_ms = period_at(AT, desk.clock.now_ms())[1]
    desk.clock.advance((end_ms - desk.clock.now_ms()) / 1000 + 60)
    await flushed(desk)


async def begun(desk: Desk) -> None:
    desk.clock.advance(60)
    await flushed(desk)
    await desk.billing.rollovers.carry()


async def test_unused_units_go_on_into_the_next_period_and_end_with_it(capped: Desk) -> None:
    await begun(capped)
    await use(capped, 170_000)
    await turn(capped)
    assert (await capped.billing.rollovers.carry()).changed == 1
    assert (await told(capped)).limit == 230_000
    assert (await capped.billing.rollovers.carry()).changed == 0
    await use(capped, 240_000)
    await turn(capped)
    await capped.billing.rollovers.carry()
    assert (await told(capped)).limit == 200_000


async def test_no_more_than_the_bound_goes_on(capped: Desk) -> None:
    await begun(capped)
    await turn(capped)
    await capped.billing.rollovers.carry()
    assert (await told(capped)).limit == 250_000


async def test_nothing_is_carried_before_the_old_period_is_flushed(capped: Desk) -> None:
    await begun(capped)
    capped.clock.advance((period_at(AT, capped.clock.now_ms())[1] - capped.clock.now_ms()) / 1000 + 60)
    assert (await capped.billing.rollovers.carry()).changed == 0
    assert (await told(capped)).limit == 200_000


async def test_usage_that_arrives_late_takes_back_what_it_used(capped: Desk) -> None:
    await begun(capped)
    await use(capped, 170_000)
    start_ms = period_at(AT, capped.clock.now_ms())[0]
    await turn(capped)
    await capped.billing.rollovers.carry()
    await capped.pool.execute("UPDATE billing.usage_period SET cumulative = 180_000 WHERE period_start = $1", to_datetime(start_ms))
    await capped.billing.rollovers.carry()
    assert (await told(capped)).limit == 220_000


async def test_what_was_carried_is_not_charged(capped: Desk) -> None:
    await begun(capped)
    await turn(capped)
    await capped.billing.rollovers.carry()
    await use(capped, 250_000)
    assert (await capped.billing.spend_caps.show("acme")).spent == Decimal("0.00")


async def test_a_plan_that_carries_nothing_takes_what_was_carried_along(capped: Desk) -> None:
    await begun(capped)
    await turn(capped)
    await capped.billing.rollovers.carry()
    await capped.billing.plans.apply({"free": FREE, "pro": replace(PRO, rollout=PRO.rollout)}, {})
    await capped.pool.execute("UPDATE billing.subscriptions SET plan_version = 2")
    await capped.billing.rollovers.carry()
    assert (await told(capped)).limit == 200_000
