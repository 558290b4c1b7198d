"""Feature gates and quotas asked in SQL, the guide's policy as it stands there, and usage that a hand writes."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import asyncpg
import pytest

from billing.model.plan import Feature
from billing.model.subscription import STANDINGS, Standing
from billing.services.ports import CAP
from metering.model.clock import to_datetime, to_ms
from metering.model.errors import BadInput
from metering.model.period import period_at
from metering.model.quota import Mode, Quota, Window
from weighbridge import compat

from .conftest import FREE, PRO, Desk

ORGS, SSO = Feature(key="organizations", label="Organizations", number=10), Feature(key="sso", label="SSO")
GATED = replace(PRO, features=(SSO, ORGS, Feature(key="seats", label="Seats", number=None)))
LIMITED = replace(FREE, quotas=(Quota(meter="api", limit=100), Quota(meter="api", limit=60, window=Window.DAY)))
ALICE, BOB = uuid.UUID("aaaaaaaa-0000-4000-8000-00000000000a"), uuid.UUID("bbbbbbbb-0000-4000-8000-00000000000b")


@pytest.fixture
async def gated(desk: Desk) -> Desk:
    """The organizations acme on a plan with features, and bolt on one with quotas that block."""
    await desk.billing.plans.apply({"free": LIMITED, "pro": GATED}, {})
    await desk.billing.features.remember_fallback()
    await desk.billing.orgs.create("Acme", plan="pro")
    await desk.billing.orgs.create("Bolt", plan="free")
    return desk


async def id_of(desk: Desk, slug: str) -> uuid.UUID:
    return uuid.UUID((await desk.billing.orgs.show(slug)).org.id)


async def test_the_service_says_what_is_allowed_and_which_plan_has_it(gated: Desk) -> None:
    sso = await gated.billing.features.check("bolt", "sso")
    assert (sso.allowed, sso.required_plan, sso.label) == (False, "pro", "SSO")
    assert (await gated.billing.features.check("acme", "organizations")).number == 10


async def test_gateways_are_told_the_features_of_a_plan(gated: Desk) -> None:
    entitlement = await gated.billing.entitlements.of_org(str(await id_of(gated, "acme")))
    assert entitlement is not None
    assert entitlement.features == ("sso", "organizations=10", "seats")


FEATURES = [("acme", "sso", True, None), ("acme", "organizations", True, 10), ("acme", "seats", True, None), ("bolt", "sso", False, 0)]


async def test_sql_says_the_same(gated: Desk) -> None:
    for slug, key, allowed, number in FEATURES:
        org = await id_of(gated, slug)
        found = await gated.pool.fetchrow("SELECT billing.has_feature($1, $2), billing.feature_number($1, $2)", org, key)
        assert tuple(found) == (allowed, number)
    assert not await gated.pool.fetchval("SELECT billing.has_feature($1, 'sso')", uuid.uuid4())


async def test_a_subscription_that_ended_has_the_default_plan_in_sql_too(gated: Desk) -> None:
    org = await id_of(gated, "acme")
    for state, standing in STANDINGS.items():
        await gated.pool.execute("UPDATE billing.subscriptions SET status = $1 WHERE org_id = $2", state.value, org)
        plan = await gated.pool.fetchval("SELECT plan FROM billing.plan_in_force($1)", org)
        assert plan == ("pro" if standing is Standing.PLAN else "free"), state


async def test_bound_to_one_organization_sql_knows_no_other(gated: Desk) -> None:
    acme, bolt = await id_of(gated, "acme"), await id_of(gated, "bolt")
    async with gated.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT billing.bind($1)", bolt)
        assert not await connection.fetchval("SELECT billing.has_feature($1, 'sso')", acme)
        assert await connection.fetchval("SELECT billing.check_quota($1, 'api')", bolt)


ANCHORS = ["2026-01-31T12:00:00", "2024-02-29T00:00:00", "2025-12-01T23:59:59", "2026-03-30T05:06:07"]


async def test_periods_in_sql_are_those_of_the_gateway(gated: Desk) -> None:
    for anchor in (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in ANCHORS):
        for at in (anchor + timedelta(days=17 * n, seconds=n) for n in range(-30, 60)):
            found = await gated.pool.fetchval("SELECT billing.period_at($1, $2)", anchor, at)
            assert (to_ms(found.lower), to_ms(found.upper)) == period_at(to_ms(anchor), to_ms(at))


# --- usage by hand -------------------------------------------------------------------------------------------------

BY_HAND = (
    'INSERT INTO billing.usage_events ("timestamp", period_start, org_id, service, quantity, route_id, method, key_id)'
    " SELECT $4, $4, $1, $2, u, 0, '', 0 FROM unnest($3::bigint[]) u"
)


async def record(desk: Desk, org: uuid.UUID, *units: int, meter: str = "api", at: datetime | None = None) -> None:
    await desk.pool.execute(BY_HAND, org, meter, list(units), at or datetime.now(UTC))


async def held(desk: Desk, org: uuid.UUID) -> int:
    return int(await desk.pool.fetchval("SELECT coalesce(sum(quantity), 0) FROM billing.usage_events WHERE org_id = $1", org))


async def test_a_row_by_hand_that_does_not_fit_is_refused(gated: Desk) -> None:
    bolt = await id_of(gated, "bolt")
    await record(gated, bolt, 60)
    with pytest.raises(asyncpg.PostgresError, match="60 of 60 api a day are used, 1 more do not fit") as refused:
        await record(gated, bolt, 1)
    assert refused.value.sqlstate == "WB003"
    assert await held(gated, bolt) == 60


async def test_the_rows_of_one_statement_add_up(gated: Desk) -> None:
    bolt = await id_of(gated, "bolt")
    with pytest.raises(asyncpg.PostgresError, match="quota exceeded"):
        await record(gated, bolt, 30, 30, 1)
    await record(gated, bolt, 30, 30)


async def test_hands_that_write_at_once_never_pass_the_limit_together(gated: Desk) -> None:
    bolt = await id_of(gated, "bolt")
    found = await asyncio.gather(*(record(gated, bolt, 9) for _ in range(10)), return_exceptions=True)
    assert sum(outcome is None for outcome in found) == 6
    assert await held(gated, bolt) == 54


async def test_the_period_counts_over_its_days(gated: Desk) -> None:
    bolt = await id_of(gated, "bolt")
    await gated.pool.execute("UPDATE billing.subscriptions SET anchor = '2026-03-10T00:00:00Z' WHERE org_id = $1", bolt)
    march = datetime(2026, 3, 12, 12, tzinfo=UTC)
    await record(gated, bolt, 60, at=march)
    with pytest.raises(asyncpg.PostgresError, match="60 of 100 api a period"):
        await record(gated, bolt, 41, at=march + timedelta(days=1))
    await record(gated, bolt, 40, at=march + timedelta(days=2))
    await record(gated, bolt, 60, at=march - timedelta(days=3))  # the period before


async def test_overage_corrections_and_unlimited_meters_pass(gated: Desk) -> None:
    acme, bolt = await id_of(gated, "acme"), await id_of(gated, "bolt")
    await record(gated, acme, 999_999)
    await record(gated, bolt, 60)
    await record(gated, bolt, -10)
    await record(gated, bolt, 10)
    await record(gated, bolt, 10**9, meter="tokens")


async def test_an_override_and_the_stop_of_a_cap_hold_too(gated: Desk) -> None:
    acme = await id_of(gated, "acme")
    capped = Quota(meter="api", limit=200_000, mode=Mode.OVERAGE, stop_at=300_000)
    await gated.billing.overrides.put("acme", [capped], reason="r", until_ms=None)
    await gated.pool.execute("UPDATE billing.quotas SET managed_by = $1", CAP)
    with pytest.raises(asyncpg.PostgresError, match="of 300000 api a period"):
        await record(gated, acme, 300_001)


async def test_a_drained_batch_is_never_refused(gated: Desk) -> None:
    bolt = await id_of(gated, "bolt")
    async with gated.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('weighbridge.batch', 'on', true)")
        await connection.execute(BY_HAND, bolt, "api", [5_000], datetime.now(UTC))
    with pytest.raises(asyncpg.PostgresError, match="quota exceeded"):
        await record(gated, bolt, 1)


async def test_check_quota_tells_what_the_gateway_would_as_of_the_last_flush(gated: Desk) -> None:
    bolt = await id_of(gated, "bolt")
    anchor = await gated.pool.fetchval("SELECT anchor FROM billing.subscriptions WHERE org_id = $1", bolt)
    start_ms, end_ms = period_at(to_ms(anchor), to_ms(datetime.now(UTC)))
    await gated.pool.execute(
        "INSERT INTO billing.usage_period (org_id, service, period_start, period_end, bucket, cumulative)"
        " VALUES ($1, 'api', $2, $3, 1, 70)",
        bolt, to_datetime(start_ms), to_datetime(end_ms),
    )  # fmt: skip
    answers = [await gated.pool.fetchval("SELECT billing.check_quota($1, 'api', $2)", bolt, units) for units in (30, 31, 61)]
    assert answers == [True, False, False]
    assert await gated.pool.fetchval("SELECT billing.check_quota($1, 'api')", await id_of(gated, "acme"))
    assert not await gated.pool.fetchval("SELECT billing.check_quota($1, 'api')", uuid.uuid4())


# --- the guide's policy --------------------------------------------------------------------------------------------

APPLICATION = """
CREATE SCHEMA auth;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT nullif(current_setting('app.user', true), '')::uuid $$;
CREATE TABLE organizations (id serial PRIMARY KEY, owner_user_id uuid NOT NULL);
ALTER TABLE organizations ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON organizations FOR SELECT USING (true);
GRANT USAGE ON SCHEMA auth TO {role};
GRANT SELECT, INSERT ON organizations TO {role};
GRANT USAGE ON SEQUENCE organizations_id_seq TO {role};
"""
# Word for word: billing-guide, "Feature Gating", "In Database (RLS Policies)"; the first policy, which lets rows in, stands for the
# application's own.
POLICY = """
-- Only Pro+ can create more than 3 organizations
CREATE POLICY org_count_limit ON organizations
  FOR INSERT
  WITH CHECK (
    (
      SELECT COUNT(*)
      FROM organizations
      WHERE owner_user_id = auth.uid()
    ) < (
      SELECT
        CASE
          WHEN billing_plan = 'free' THEN 1
          WHEN billing_plan = 'starter' THEN 3
          WHEN billing_plan = 'pro' THEN 10
          ELSE 999999  -- Enterprise
        END
      FROM billing_customers
      WHERE user_id = auth.uid()
    )
  );
"""


@pytest.fixture
async def application(gated: Desk, database: str) -> AsyncIterator[tuple[Desk, str]]:
    """Alice pays for acme (pro), Bob for bolt (free); the role of the application's users."""
    role = f"app_{uuid.uuid4().hex[:8]}"
    await gated.pool.execute(f"CREATE ROLE {role}")
    await gated.pool.execute(APPLICATION.format(role=role))
    await gated.billing.customers.update("acme", user_id=str(ALICE))
    await gated.billing.customers.update("bolt", user_id=str(BOB))
    for _ in range(2):
        views = await compat.install(database, schema="public", role=role)
    assert "billing_customers" in views
    await gated.pool.execute(POLICY)
    yield gated, role
    await gated.pool.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def as_user(desk: Desk, role: str, user: uuid.UUID, statement: str, *arguments: object) -> list[asyncpg.Record]:
    async with desk.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL ROLE {role}")
        await connection.execute("SELECT set_config('app.user', $1, true)", str(user))
        return list(await connection.fetch(statement, *arguments))


async def test_the_guides_policy_runs_as_it_stands(application: tuple[Desk, str]) -> None:
    desk, role = application
    create = "INSERT INTO organizations (owner_user_id) VALUES ($1) RETURNING id"
    for user, most in ((ALICE, 10), (BOB, 1)):
        for _ in range(most):
            await as_user(desk, role, user, create, user)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await as_user(desk, role, user, create, user)


async def test_a_user_sees_its_own_customer_and_no_other_whatever_it_binds_itself_to(application: tuple[Desk, str]) -> None:
    desk, role = application
    views = ["billing_customers", "billing_subscriptions", "billing_usage_current", "billing_quotas"]
    acme = await id_of(desk, "acme")
    for view in views:
        assert {row["org_id"] for row in await as_user(desk, role, ALICE, f"TABLE {view}")} <= {acme}
    [mine] = await as_user(desk, role, BOB, "SELECT billing_plan, user_id FROM billing_customers")
    assert tuple(mine) == ("free", BOB)
    async with desk.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL ROLE {role}")
        await connection.execute("SELECT set_config('app.user', $1, true), set_config('weighbridge.org', $2, true)", str(BOB), str(acme))
        for view in views:
            assert acme not in {row["org_id"] for row in await connection.fetch(f"TABLE {view}")}


async def test_the_guides_queries_find_their_columns(application: tuple[Desk, str]) -> None:
    desk, role = application
    [row] = await as_user(
        desk, role, ALICE,
        "SELECT (SELECT sum(amount) FROM billing_subscriptions WHERE status = 'active') AS mrr,"
        " (SELECT count(*) FROM billing_customers WHERE created_at >= '2026-01-01') AS new,"
        " (SELECT count(*) FROM billing_subscriptions WHERE canceled_at >= '2026-01-01') AS churned,"
        " (SELECT count(*) FROM billing_usage_events WHERE service = 'api') AS events",
    )  # fmt: skip
    assert tuple(row) == (Decimal("49.00"), 1, 0, 0)


async def test_without_the_applications_function_nothing_is_made(gated: Desk, database: str) -> None:
    with pytest.raises(BadInput, match=r"auth\.uid"):
        await compat.install(
            database, schema="public", role="postgres" if await gated.pool.fetchval("SELECT to_regrole('postgres')") else "weighbridge"
        )
    with pytest.raises(BadInput, match="no role"):
        await compat.install(database, schema="public", role="nobody_of_that_name")
    assert await gated.pool.fetchval("SELECT to_regclass('public.billing_customers')") is None
