"""What an organization owes is cut before what it pays for changes. Real Postgres; the aggregator's own cut."""

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

import config
from aggregator.overage import cutter
from billing.api.wiring import open_control
from billing.model.plan import PlanSpec, Rollout
from billing.wiring import open_billing
from config.load import load_good, read_set
from config.settings import Settings
from metering.model import keys
from metering.model.quota import Mode, Quota
from tests.integration.billing.conftest import FREE, METERS, NOW, PRO, Desk, OverrideTerms
from weighbridge.database import billing_over

HARD = Quota(meter="api", limit=5, mode=Mode.HARD)


@dataclass
class Debtor:
    """An organization on pro, 7 requests beyond its quota, and nothing cut yet."""

    desk: Desk
    org_id: str

    async def told(self) -> list[tuple[str, str]]:
        """(kind, value of a meter event) since it was made, in the order of delivery."""
        rows = await self.desk.pool.fetch("SELECT kind, payload FROM billing.outbox ORDER BY id OFFSET 3")
        return [(r["kind"], json.loads(r["payload"]).get("value", "")) for r in rows]


async def owe(pool: object, org_id: str, units: int = 200_007) -> None:
    sql = """INSERT INTO billing.usage_period (org_id, service, period_start, period_end, bucket, cumulative)
             VALUES ($1, 'api', $2, $3, $4, $5)"""
    await pool.execute(sql, UUID(org_id), NOW, NOW + timedelta(days=28), keys.bucket_of(org_id), units)  # type: ignore[attr-defined]


@pytest.fixture
async def debtor(sold: Desk) -> Debtor:
    cut = cutter(sold.pool, sold.clock, METERS, bills=True)
    sold.billing = open_billing(sold.pool, sold.redis, sold.clock, meters=METERS, cut=cut)
    made = await sold.billing.orgs.create("Acme", plan="pro")
    await owe(sold.pool, made.org.id)
    return Debtor(sold, made.org.id)


def unpriced(rollout: Rollout) -> dict[str, PlanSpec]:
    return {"free": FREE, "pro": replace(PRO, quotas=(Quota(meter="api", limit=None),), prices={}, rollout=rollout)}


async def test_a_deleted_organization_owes_what_it_used_and_is_cancelled_after_it(debtor: Debtor) -> None:
    await debtor.desk.billing.orgs.delete("acme")
    assert await debtor.told() == [("meter_event", "7"), ("cancel_subscription", "")]


async def test_a_plan_that_loses_its_price_now_is_billed_up_to_now(debtor: Debtor) -> None:
    applied = await debtor.desk.billing.plans.apply(unpriced(Rollout.NOW), {})
    assert (applied.orgs_affected, applied.published) == (1, True)
    assert await debtor.told() == [("meter_event", "7"), ("ensure_plan", ""), ("ensure_subscription", "")]


async def test_the_same_by_one_plan_alone(debtor: Debtor) -> None:
    new = unpriced(Rollout.NOW)["pro"]
    await debtor.desk.pool.execute("UPDATE billing.plans SET managed_by = 'api'")
    await debtor.desk.billing.plans.put(new)
    assert (await debtor.told())[0] == ("meter_event", "7")


async def test_a_plan_that_loses_its_price_at_renewal_is_billed_to_the_end_of_the_period(debtor: Debtor) -> None:
    await debtor.desk.billing.plans.apply(unpriced(Rollout.RENEWAL), {})
    assert await debtor.told() == []
    debtor.desk.clock.advance(28 * 86_400)
    assert await debtor.desk.billing.plans.renew_due() == 1
    assert (await debtor.told())[0] == ("meter_event", "7")


async def test_a_rehearsal_cuts_nothing(debtor: Debtor) -> None:
    await debtor.desk.billing.plans.apply(unpriced(Rollout.NOW), {"acme": OverrideTerms((HARD,))}, dry_run=True)
    assert await debtor.told() == []


async def test_an_override_comes_after_what_the_old_quotas_make_due(debtor: Debtor) -> None:
    overrides, free = debtor.desk.billing.overrides, Quota(meter="api", limit=200_005, mode=Mode.OVERAGE)
    await overrides.put("acme", [free], reason="a favour", until_ms=None)
    assert await debtor.told() == [("meter_event", "7")]
    await overrides.reset("acme")  # by the quotas until then, 2 were due
    assert await debtor.told() == [("meter_event", "7"), ("meter_event", "-5")]


async def test_an_override_of_the_files_too(debtor: Debtor) -> None:
    await debtor.desk.billing.plans.apply({"free": FREE, "pro": PRO}, {"acme": OverrideTerms((HARD,))})
    assert await debtor.told() == [("meter_event", "7")]


async def test_where_nothing_is_billed_nothing_is_cut(debtor: Debtor) -> None:
    desk = debtor.desk
    cut = cutter(desk.pool, desk.clock, METERS, bills=False)
    await open_billing(desk.pool, desk.redis, desk.clock, meters=METERS, bills=False, cut=cut).overrides.reset("acme")
    assert await debtor.told() == []


async def test_the_command_line_and_control_cut_before_they_delete(debtor: Debtor, database: str, redis: str, tmp_path: Path) -> None:
    shipped = Path(config.__file__).parent
    environ = {
        "DATABASE_URL": database, "REDIS_URL": redis, "WEIGHBRIDGE_CONFIG": str(shipped), "WEIGHBRIDGE_CONTROL_PORT": "0",
        "WEIGHBRIDGE_DATA_DIR": str(tmp_path),
    }  # fmt: skip
    settings, desk = Settings.load(environ, None), debtor.desk
    async with billing_over(settings, load_good(read_set(shipped)), desk.pool, redis, desk.clock) as billing:
        await billing.orgs.delete("acme")
    assert await debtor.told() == [("meter_event", "7"), ("cancel_subscription", "")]
    async with open_control(settings, desk.clock) as control, control.serve():
        made = await control.billing.orgs.create("Acme", plan="pro")
        await owe(desk.pool, made.org.id)
        await control.billing.orgs.delete("acme")
    assert (await debtor.told())[-2:] == [("meter_event", "7"), ("cancel_subscription", "")]
