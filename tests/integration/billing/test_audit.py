"""The audit log: every kind of change leaves an entry with who, from what and to what; nothing changes or deletes one."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from decimal import Decimal

import asyncpg
import pytest

from billing.model.organization import Grants
from billing.model.plan import Rollout
from billing.model.token import Scope
from billing.services.ports import AuditEntry, ConfigSet
from billing.wiring import open_billing
from metering.model.errors import NotFound
from metering.model.quota import Mode, Quota, Rate
from metering.store.postgres import SERVICE, open_pool

from .conftest import FREE, METERS, PRO, Desk, OverrideTerms


@pytest.fixture
async def audited(sold: Desk, database: str) -> AsyncIterator[Desk]:
    """As ann, in the role of services, with the organization acme."""
    pool = await open_pool(database, application="the test", role=SERVICE, actor="ann@ops")
    desk = Desk(open_billing(pool, sold.redis, sold.clock, meters=METERS), pool, sold.redis, sold.clock)
    await desk.billing.orgs.create("Acme", plan="pro")
    yield desk
    await pool.close()


async def log(desk: Desk, org: str | None = None) -> list[AuditEntry]:
    return await desk.billing.audit.entries(org_ref=org, limit=1000)


async def since(desk: Desk, change: Callable[[], Awaitable[object]]) -> list[AuditEntry]:
    """What a change adds."""
    before = {entry.id for entry in await log(desk)}
    await change()
    return [entry for entry in await log(desk) if entry.id not in before]


def quota(limit: int, mode: Mode = Mode.HARD) -> Quota:
    return Quota(meter="api", limit=limit, mode=mode)


async def test_a_new_organization_says_what_came_with_it(audited: Desk) -> None:
    entries = await since(audited, lambda: audited.billing.orgs.create("Bolt", plan="free"))
    assert {(e.action, e.slug, e.actor, e.program) for e in entries} == {
        (action, "bolt", "ann@ops", "the test") for action in ("org.created", "subscription.created", "key.created")
    }


async def test_a_quota_is_shown_from_what_to_what(audited: Desk) -> None:
    put = audited.billing.overrides.put
    await put("acme", [quota(100)], reason="trial", until_ms=None)
    (entry,) = await since(audited, lambda: put("acme", [quota(200, Mode.SOFT)], reason="trial", until_ms=None))
    assert (entry.action, entry.slug, entry.subject) == ("quota.changed", "acme", "quota api period org api")
    assert (entry.before, entry.after) == ({"limit_units": 100, "mode": "hard"}, {"limit_units": 200, "mode": "soft"})
    assert await since(audited, lambda: put("acme", [quota(200, Mode.SOFT)], reason="trial", until_ms=None)) == []
    (gone,) = await since(audited, lambda: audited.billing.overrides.reset("acme"))
    assert (gone.action, gone.after, gone.before["limit_units"] if gone.before else None) == ("quota.removed", None, 200)


async def test_overrides_of_the_files_name_only_what_differs(audited: Desk) -> None:
    day = Quota(meter="api", limit=5, window=quota(1).window.DAY)
    plans, rate = {"free": FREE, "pro": PRO}, Rate(meter="api", limit=5, per="second")
    await audited.billing.plans.apply(plans, {"acme": OverrideTerms(quotas=(quota(7), day), rates=(rate,))})
    entries = await since(
        audited, lambda: audited.billing.plans.apply(plans, {"acme": OverrideTerms(quotas=(quota(8), day), rates=(rate,))})
    )
    assert [(e.action, e.subject, e.before, e.after) for e in entries] == [
        ("quota.changed", "quota api period org file", {"limit_units": 7}, {"limit_units": 8})
    ]
    entries = await since(audited, lambda: audited.billing.plans.apply(plans, {"acme": OverrideTerms(quotas=(quota(8),))}))
    assert sorted(e.action for e in entries) == ["limit.removed", "quota.removed"]


async def test_a_plan_and_who_it_moves_are_shown(audited: Desk) -> None:
    dearer = replace(PRO, price={"usd": Decimal(59)}, rollout=Rollout.NOW)
    files = ConfigSet(version="v2", files={"plans.yaml": "…"})
    entries = await since(audited, lambda: audited.billing.plans.apply({"pro": dearer}, {}, files=files))
    by = {e.action: e for e in entries}
    assert set(by) == {"plan.changed", "subscription.changed", "config.applied"}
    changed = next(e for e in entries if e.subject == "plan pro version 2")
    assert (changed.before or {})["price"] != (changed.after or {})["price"]
    assert {e.subject for e in entries if e.action == "plan.changed"} == {"plan pro version 2", "plan free"}  # free was archived
    assert (by["subscription.changed"].slug, by["subscription.changed"].before) == ("acme", {"plan_version": 1, "amount": Decimal("49.00")})
    assert (by["config.applied"].after, by["config.applied"].org_id) == ({"version": "v2"}, None)


async def test_a_dry_run_and_a_change_that_fails_leave_nothing(audited: Desk) -> None:
    assert await since(audited, lambda: audited.billing.plans.apply({"pro": PRO, "new": replace(FREE, name="new")}, {}, dry_run=True)) == []

    async def fails() -> None:
        with pytest.raises(NotFound):
            await audited.billing.orgs.create("Bolt", plan="nothing")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await audited.pool.execute("UPDATE billing.organizations SET name = 'x'; SELECT 1 / 0")

    assert await since(audited, fails) == []


async def test_keys_tokens_and_bypasses_are_shown_from_their_making_to_their_end_and_never_themselves(audited: Desk) -> None:
    billing, secrets = audited.billing, []

    async def changes() -> None:
        made = await billing.keys.create("acme", label="ci")
        await billing.keys.grant(str(made.key.id), scopes=["reports"], limits=Grants(quotas=(quota(3),)))
        rotated = await billing.keys.rotate(str(made.key.id), overlap_seconds=0)
        token = await billing.tokens.create(org_ref="acme", scopes=[Scope.READ], label="dash", seconds=60, by="ann@ops")
        await billing.tokens.revoke(str(token.token.id), by="ann@ops")
        bypass, _ = await billing.bypasses.begin(org_ref="acme", meter=None, for_ms=60_000, reason="launch", by="ann@ops")
        await billing.bypasses.end(bypass.id, by="bob@ops")
        await billing.orgs.delete("acme")
        secrets.extend([made.api_key, rotated.api_key, token.text])

    entries = await since(audited, changes)
    assert [e.action for e in entries if e.action.startswith(("token", "bypass"))] == [
        "token.created", "token.revoked", "bypass.created", "bypass.ended",
    ]  # fmt: skip
    keys = [e for e in entries if e.action.startswith("key")]
    assert [e.action for e in keys][:2] == ["key.created", "key.changed"]
    assert any(e.action == "key.revoked" and (e.before, e.after) for e in keys)
    assert (keys[1].after or {})["scopes"] == ["reports"]
    assert "org.deleted" in {e.action for e in entries}
    raw = str([dict(row) for row in await audited.pool.fetch("SELECT * FROM billing.audit_log")])
    for secret in secrets:
        assert secret[4:-6] not in raw
    for sha in [row["sha256"] for row in await audited.pool.fetch("SELECT sha256 FROM billing.api_keys")]:
        assert sha not in raw


async def test_bookkeeping_is_no_change(audited: Desk) -> None:
    async def bookkeeping() -> None:
        await audited.pool.execute("UPDATE billing.organizations SET ent_version = ent_version + 1")
        await audited.billing.entitlements.publish_due()
        await audited.billing.entitlements.publish_all()
        await audited.pool.execute("UPDATE billing.api_keys SET withdrawn_at = now()")

    assert await since(audited, bookkeeping) == []


async def test_a_change_by_hand_stands_there_with_its_login(audited: Desk, database: str) -> None:
    async def by_hand() -> None:
        hand = await asyncpg.connect(database, server_settings={"application_name": "psql"})
        await hand.execute("UPDATE billing.quotas SET limit_units = 9; DELETE FROM billing.api_keys; TRUNCATE billing.bypasses")
        await hand.close()

    await audited.billing.overrides.put("acme", [quota(100)], reason="trial", until_ms=None)
    entries = await since(audited, by_hand)
    assert [(e.action, e.actor, e.login, e.program) for e in entries] == [
        (action, "weighbridge", "weighbridge", "psql") for action in ("quota.changed", "key.removed", "bypass.truncated")
    ]


FORBIDDEN = [
    "UPDATE billing.audit_log SET actor = 'nobody'",
    "DELETE FROM billing.audit_log",
    "TRUNCATE billing.audit_log",
    "INSERT INTO billing.audit_log (actor, login, program, action, subject) VALUES ('x', 'x', 'x', 'x', 'x')",
    "SELECT billing.write_audit('plan.changed', NULL, 'plan pro', NULL, NULL)",
    "CREATE TEMP TABLE mine (id int);"
    " CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION billing.audit_row('plan', 'id', '')",
    "ALTER TABLE billing.audit_log DISABLE TRIGGER ALL",
    "DROP TRIGGER audit ON billing.quotas",
    "SET session_replication_role = replica",
]


async def test_no_role_changes_deletes_or_forges_an_entry(audited: Desk) -> None:
    before = len(await log(audited))
    async with audited.pool.acquire() as connection:
        # What the login itself may do is left aside: it is a superuser here, and the roles are what processes work in.
        for role, statement in ((r, s) for r in ("weighbridge_app", SERVICE) for s in FORBIDDEN[:-1]):
            await connection.execute(f"SET ROLE {role}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await connection.execute(statement)
    assert len(await log(audited)) == before


async def test_not_even_a_superuser_changes_one_in_passing(audited: Desk, database: str) -> None:
    root, before = await asyncpg.connect(database), await log(audited)
    for _ in range(2):
        for statement in FORBIDDEN[:3]:
            with pytest.raises(asyncpg.RaiseError, match="append-only"):
                await root.execute(statement)
        await root.execute(FORBIDDEN[-1])  # and as replication would
    await root.close()
    assert await log(audited) == before


async def test_an_organization_is_shown_its_own_entries_and_a_deleted_one_by_its_id(audited: Desk) -> None:
    bolt = await audited.billing.orgs.create("Bolt", plan="free")
    await audited.billing.orgs.delete("bolt")
    assert {e.slug for e in await log(audited, "acme")} == {"acme"}
    assert {e.org_id for e in await log(audited, bolt.org.id)} == {bolt.org.id}
    assert (await log(audited, bolt.org.id))[-1].action == "org.deleted"
    with pytest.raises(NotFound):
        await log(audited, "bolt")


async def test_the_newest_come_in_the_order_they_happened(audited: Desk) -> None:
    everything = await log(audited)
    assert [e.id for e in everything] == sorted(e.id for e in everything)
    assert await audited.billing.audit.entries(limit=2) == everything[-2:]
    assert await audited.billing.audit.entries(since_ms=everything[-1].at_ms + 60_000) == []
