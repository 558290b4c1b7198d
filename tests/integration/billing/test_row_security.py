"""A forgotten WHERE leaks nothing: every table and view, asked for all it has in the role of one organization.

Each test works over two organizations with a row in every table that belongs to one.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from billing.store.books import PostgresBooks
from metering.store import migrate
from metering.store.postgres import SERVICE, open_pool
from tests.conftest import fresh, in_database, run
from weighbridge.embedded import start_postgres

APP = "weighbridge_app"
A, B = uuid.UUID("aaaaaaaa-0000-4000-8000-00000000000a"), uuid.UUID("bbbbbbbb-0000-4000-8000-00000000000b")

_RELATIONS = """
SELECT c.relname AS name, c.relkind::text AS kind, c.relispartition AS partition,
    EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id' AND NOT a.attisdropped) AS of_org
FROM pg_class c
WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
ORDER BY 1
"""
_UNHELD = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p')
    AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id' AND NOT a.attisdropped)
    AND NOT (c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid))
"""
_UNGUARDED_VIEWS = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'billing'::regnamespace
    AND (c.relkind = 'm' OR (c.relkind = 'v' AND NOT coalesce('security_invoker=true' = ANY (c.reloptions), false)))
"""


async def furnish(connection: asyncpg.Connection, org: uuid.UUID) -> None:
    """A row in every table that belongs to an organization."""
    sha = org.hex * 2
    await connection.execute(
        "INSERT INTO billing.organizations (id, slug, name, created_at) VALUES ($1, $2, 'O', now())", org, f"o-{org.hex}"
    )
    await connection.execute("INSERT INTO billing.api_keys (org_id, sha256, hint, created_at) VALUES ($1, $2, '', now())", org, sha)
    await connection.execute(
        "INSERT INTO billing.api_tokens (org_id, sha256, hint, scopes, created_by, created_at) VALUES ($1, $2, '', '{read}', 'x', now())",
        org, sha,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO billing.bypasses (org_id, reason, created_by, created_at, until) VALUES ($1, 'r', 'x', now(), now() + '1h')", org
    )
    await connection.execute("INSERT INTO billing.customers (org_id, name, currency, created_at) VALUES ($1, 'c', 'usd', now())", org)
    await connection.execute(
        "INSERT INTO billing.invoices (id, org_id, status, currency, subtotal, total, period_start, period_end, created_at)"
        " VALUES ($2, $1, 'open', 'usd', 1, 1, now(), now(), now())", org, f"in_{org.hex}",
    )  # fmt: skip
    await connection.execute("INSERT INTO billing.invoice_lines VALUES ($1, 1, 'api', 'd', 1, 1, 1)", f"in_{org.hex}")
    invoice = f"in_{org.hex}"
    await connection.execute(
        "INSERT INTO billing.credit_notes (id, org_id, invoice_id, currency, subtotal, total, off_due, reason, created_at)"
        " VALUES ($2, $1, $3, 'usd', 1, 1, 1, 'r', now())", org, f"cn_{org.hex}", invoice,
    )  # fmt: skip
    await connection.execute("INSERT INTO billing.credit_note_lines VALUES ($2, $1, 1, 'd', 1)", org, f"cn_{org.hex}")
    await connection.execute(
        "INSERT INTO billing.receipts (org_id, invoice_id, kind, amount, currency, reference, at)"
        " VALUES ($1, $2, 'payment', 1, 'usd', 'r', now())", org, invoice,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO billing.balance_entries (org_id, currency, identifier, amount, invoice_id, at) VALUES ($1, 'usd', $2, 1, $2, now())",
        org, invoice,
    )  # fmt: skip
    await connection.execute("INSERT INTO billing.invoicing VALUES ($1, now(), now(), now())", org)
    await connection.execute("INSERT INTO billing.rated_periods VALUES ($1, now(), now(), 'usd', '{}', '{}', '{}', 1, now())", org)
    await connection.execute("INSERT INTO billing.terms_kept VALUES ($1, now(), '{}')", org)
    await connection.execute(
        "INSERT INTO billing.invoice_items"
        " (org_id, identifier, kind, description, quantity, amount, currency, period_start, period_end, created_at)"
        " VALUES ($1, $2, 'base', 'd', 1, 1, 'usd', now(), now(), now())", org, org.hex,
    )  # fmt: skip
    await connection.execute("INSERT INTO billing.dunning (invoice_id, org_id) VALUES ($2, $1)", org, f"in_{org.hex}")
    await connection.execute(
        "INSERT INTO billing.mails (org_id, identifier, kind, due_at, created_at) VALUES ($1, $2, 'trial_ended', now(), now())",
        org,
        org.hex,
    )
    await connection.execute(
        "INSERT INTO billing.coupons (code, percent_off, duration, created_at) VALUES ('half', 50, 'once', now()) ON CONFLICT DO NOTHING"
    )
    discount = await connection.fetchval(
        "INSERT INTO billing.discounts (org_id, coupon, start_at) VALUES ($1, 'half', now()) RETURNING id", org
    )
    await connection.execute("INSERT INTO billing.discount_uses VALUES ($1, $2, $3, 1, now())", discount, f"in_{org.hex}", org)
    grant = await connection.fetchval(
        "INSERT INTO billing.credit_grants (org_id, identifier, kind, amount, amount_left, currency, reason, priority, granted_at)"
        " VALUES ($1, $2, 'paid', 2, 1, 'usd', 'r', 50, now()) RETURNING id", org, org.hex,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO billing.credit_burns (org_id, grant_id, invoice_id, amount, burned_at) VALUES ($1, $2, $3, 1, now())",
        org, grant, f"in_{org.hex}",
    )  # fmt: skip
    await connection.execute("INSERT INTO billing.rollovers VALUES ($1, 'api', now(), 1, 1)", org)
    await connection.execute("INSERT INTO billing.spend_caps VALUES ($1, 'customer', 1, 'usd', now())", org)
    await connection.execute(
        "INSERT INTO billing.outbox (kind, org_id, customer_key, identifier, payload, created_at)"
        " VALUES ('ensure_customer', $1, 'k', $2, '{}', now())", org, org.hex,
    )  # fmt: skip
    await connection.execute(
        "WITH c AS (INSERT INTO billing.cutovers (from_mode, to_mode, at) VALUES ('sandbox', 'test', now()) RETURNING id)"
        " INSERT INTO billing.outbox_before (cutover_id, id, kind, org_id, identifier, payload, state, attempts, created_at)"
        " SELECT id, 1, 'ensure_customer', $1, 'x', '{}', 'delivered', 1, now() FROM c", org,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO billing.payment_methods (id, org_id, type, created_at) VALUES ($2, $1, 'card', now())", org, org.hex
    )
    await connection.execute(
        "INSERT INTO billing.payment_attempts (invoice_id, attempt, org_id, amount_minor, currency, begun_at)"
        " VALUES ($2, 1, $1, 1, 'usd', now())", org, f"in_{org.hex}",
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO billing.quotas (org_id, meter, limit_units, time_window, mode, reason, managed_by, created_at)"
        " VALUES ($1, 'api', 100, 'period', 'hard', 'r', 'api', now())", org,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO billing.override_limits (org_id, kind, slot, terms, reason, managed_by, created_at)"
        " VALUES ($1, 'rate', 's', '{}', 'r', 'api', now())", org,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO billing.subscriptions (org_id, plan, plan_version, status, anchor, billing_interval, currency, created_at)"
        " VALUES ($1, 'p', 1, 'active', now(), 'month', 'usd', now())", org,
    )  # fmt: skip
    await connection.execute("INSERT INTO billing.quota_alerts VALUES ($1, 'api', '[]', '{}', true)", org)
    await connection.execute("INSERT INTO billing.alert_destinations VALUES ($1, '[]', '{}')", org)
    hook = f"hook_{org.hex}"
    await connection.execute(
        "INSERT INTO billing.hook_endpoints (id, org_id, url, types, created_by, created_at)"
        " VALUES ($2, $1, 'https://example.com', '{*}', 'x', now())", org, hook,
    )  # fmt: skip
    event = await connection.fetchval(
        "INSERT INTO billing.hook_events (org_id, type, data) VALUES ($1, 'hook.test', '{}') RETURNING id", org
    )
    await connection.execute("INSERT INTO billing.hook_deliveries (event_id, endpoint_id, org_id) VALUES ($2, $3, $1)", org, event, hook)
    await connection.execute("INSERT INTO billing.tenants VALUES ($1, now(), 't')", org)
    await connection.execute("INSERT INTO billing.traffic_hourly VALUES ($1, now(), 1, 'GET', 1, 1, 1, 1, 1, 1, 1, 1)", org)
    await connection.execute("INSERT INTO billing.usage_daily VALUES (now(), $1, 'api', 1, 1)", org)
    await connection.execute(
        'INSERT INTO billing.usage_events ("timestamp", period_start, org_id, service, quantity, route_id, method, key_id)'
        " VALUES (now(), now(), $1, 'api', 1, 1, 'GET', 1)", org,
    )  # fmt: skip
    await connection.execute("INSERT INTO billing.usage_hourly VALUES ($1, 'api', now(), now(), 1, 'GET', 1, '{}', 1, 1, 0, 1)", org)
    await connection.execute(
        "INSERT INTO billing.usage_period (org_id, service, period_start, period_end, bucket, cumulative)"
        " VALUES ($1, 'api', now() - interval '1 day', now() + interval '1 day', 1, 1)", org,
    )  # fmt: skip
    await connection.execute("INSERT INTO billing.event_keys VALUES ($1, 'k', 1, '')", org)
    await connection.execute(
        "INSERT INTO billing.counter_moves VALUES (1, (SELECT count(*) FROM billing.counter_moves), $1, '{}', now())", org
    )
    await connection.execute("INSERT INTO billing.usage_levels VALUES ($1, 'storage', '', now(), 1, 1)", org)
    await connection.execute("INSERT INTO billing.levels_current VALUES ($1, 'storage', '', now(), 1, 1)", org)
    await connection.execute("INSERT INTO billing.import_pieces VALUES ($1, '', 1, '', 1, 0, now())", org)


PLAN = """
INSERT INTO billing.plans (name, version, managed_by, created_at, updated_at) VALUES ('p', 1, 'api', now(), now());
INSERT INTO billing.plan_versions (plan, version, spec, managed_by, created_at) VALUES ('p', 1, '{"quotas": []}', 'api', now());
"""


async def _furnish(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(PLAN)
    for org in (A, B):
        await furnish(connection, org)
    await connection.close()


@pytest.fixture(scope="module")
def furnished(postgres_url: str, _template: str) -> Iterator[str]:
    """One database with two organizations for all tests that leave their rows as they are."""
    for url in fresh(postgres_url, _template):
        run(_furnish(url))
        yield url


@pytest.fixture
async def server(furnished: str) -> AsyncIterator[asyncpg.Connection]:
    """As its superuser."""
    connection = await asyncpg.connect(furnished)
    yield connection
    await connection.close()


@dataclass
class Seen:
    """What one relation gave: rows, or None where it may not even be asked."""

    name: str
    rows: list[asyncpg.Record] | None


async def all_there_is(connection: asyncpg.Connection, org: uuid.UUID | None, role: str | None = None) -> list[Seen]:
    found = []
    for relation in await connection.fetch(_RELATIONS):
        transaction = connection.transaction()
        await transaction.start()
        try:
            if role is not None:
                await connection.execute(f"SET LOCAL ROLE {role}")
            if org is not None:
                await connection.execute("SELECT billing.bind($1)", org)
            found.append(Seen(relation["name"], await connection.fetch(f'TABLE billing."{relation["name"]}"')))
        except asyncpg.InsufficientPrivilegeError:
            found.append(Seen(relation["name"], None))
        finally:
            await transaction.rollback()
    return found


def of(rows: list[asyncpg.Record] | None, org: uuid.UUID) -> bool:
    """Whether one of them belongs to the organization, by its id or by an id made of it."""
    return any(org.hex in str(value).replace("-", "") for row in rows or [] for value in row.values())


async def test_bound_to_one_organization_no_table_or_view_shows_a_row_of_another(server: asyncpg.Connection) -> None:
    seen = await all_there_is(server, A)
    assert [s.name for s in seen if of(s.rows, B)] == []
    assert {s.name for s in seen if of(s.rows, A)} >= {
        "organizations", "api_keys", "subscriptions", "quotas", "usage_hourly", "usage_events", "usage_current", "invoices",
        "invoice_lines", "invoice_items",
    }  # fmt: skip


async def test_the_test_has_a_row_of_both_wherever_a_table_belongs_to_an_organization(server: asyncpg.Connection) -> None:
    seen = {s.name: s.rows for s in await all_there_is(server, None)}
    relations = [r["name"] for r in await server.fetch(_RELATIONS) if r["of_org"] and not r["partition"] and r["name"] != "audit_log"]
    assert [name for name in relations if not (of(seen[name], A) and of(seen[name], B))] == []


async def test_bound_to_nobody_the_role_for_requests_sees_nobody(server: asyncpg.Connection) -> None:
    seen = await all_there_is(server, None, APP)
    assert [s.name for s in seen if of(s.rows, A) or of(s.rows, B)] == []


async def test_every_table_with_an_organization_has_a_policy_and_forces_it(server: asyncpg.Connection) -> None:
    assert [row["relname"] for row in await server.fetch(_UNHELD)] == []
    transaction = server.transaction()
    await transaction.start()
    await server.execute("CREATE TABLE billing.careless (org_id uuid)")
    assert [row["relname"] for row in await server.fetch(_UNHELD)] == ["careless"]
    await transaction.rollback()


async def test_every_view_reads_with_the_rights_of_who_asks(server: asyncpg.Connection) -> None:
    assert await server.fetch(_UNGUARDED_VIEWS) == []


async def test_a_partition_that_is_made_later_is_held_too(server: asyncpg.Connection) -> None:
    await server.execute(f"SET ROLE {SERVICE}")
    assert await server.fetchval("SELECT billing.ensure_usage_partitions(now() + interval '1 year', 2)") > 0
    await server.execute("RESET ROLE")
    assert await server.fetch(_UNHELD) == []


async def test_a_row_that_waits_in_the_default_partition_is_moved_for_who_may_not_touch_it(server: asyncpg.Connection) -> None:
    await server.execute(
        'INSERT INTO billing.usage_events ("timestamp", period_start, org_id, service, quantity, route_id, method, key_id)'
        " VALUES (now() + interval '2 years', now(), $1, 'api', 7, 1, 'GET', 1)", A,
    )  # fmt: skip
    await server.execute(f"SET ROLE {SERVICE}")
    await server.execute("SELECT billing.ensure_usage_partitions(now() + interval '2 years', 1)")
    assert await server.fetchval("SELECT quantity FROM billing.usage_events WHERE org_id = $1 AND quantity = 7", A) == 7
    await server.execute("RESET ROLE")
    assert await server.fetchval("SELECT count(*) FROM billing.usage_events_default") == 0


CHANGES = [
    "INSERT INTO billing.quotas (org_id, meter, time_window, mode, reason, managed_by, created_at)"
    " VALUES ('bbbbbbbb-0000-4000-8000-00000000000b', 'x', 'hour', 'hard', 'r', 'api', now())",
    "UPDATE billing.quotas SET limit_units = 9",
    "DELETE FROM billing.api_keys",
    "TRUNCATE billing.usage_hourly",
    "DELETE FROM billing.plans",
]


async def test_the_role_for_requests_changes_nothing(server: asyncpg.Connection) -> None:
    async with server.transaction():
        await server.execute("SELECT billing.bind($1)", A)
        for statement in CHANGES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with server.transaction():
                    await server.execute(statement)


async def test_the_service_sees_everybody_and_keeps_its_role_from_one_use_of_a_connection_to_the_next(
    server: asyncpg.Connection, furnished: str
) -> None:
    pool = await open_pool(furnished, application="test", max_size=1, role=SERVICE)
    for _ in range(2):
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT current_user") == SERVICE
            assert await connection.fetchval("SELECT count(*) FROM billing.organizations") == 2
    async with PostgresBooks(pool).transaction(org=str(A)) as unit:
        assert [org.slug for org, _ in await unit.orgs.living()] == [f"o-{A.hex}"]
        assert await unit.orgs.find(str(B)) is None
    assert await pool.fetchval("SELECT current_user || current_setting('weighbridge.org', true)") == SERVICE
    await pool.close()


@pytest.fixture
async def plain(postgres_url: str) -> AsyncIterator[str]:
    """A database of its own for a login that is no superuser and may create nothing but in it."""
    name, connection = f"plain_{uuid.uuid4().hex[:8]}", await asyncpg.connect(postgres_url)
    await connection.execute(f"CREATE ROLE {name} LOGIN")
    await connection.execute(f"CREATE DATABASE {name} OWNER {name}")
    yield in_database(postgres_url, name).replace("://weighbridge@", f"://{name}@")
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.execute(f"DROP ROLE {name}")
    await connection.close()


async def test_a_plain_owner_migrates_and_is_held_itself_while_it_is_bound(plain: str) -> None:
    assert await migrate.migrate(plain)
    assert await migrate.migrate(plain) == []
    pool = await open_pool(plain, application="test", max_size=1, role=SERVICE)
    async with pool.acquire() as connection:
        await connection.execute(PLAN)
        for org in (A, B):
            await furnish(connection, org)
        assert await connection.fetchval("SELECT current_user <> $1 AND NOT rolsuper FROM pg_roles WHERE rolname = current_user", SERVICE)
        assert await connection.fetchval("SELECT count(*) FROM billing.organizations") == 2
        seen = await all_there_is(connection, A)
        assert [s.name for s in seen if of(s.rows, B)] == []
        assert await connection.fetchval("SELECT billing.ensure_usage_partitions(now() + interval '1 year', 2)") > 0
    await pool.close()


@pytest.mark.long
async def test_an_owner_who_may_create_roles_makes_them_and_works_in_them(tmp_path: Path) -> None:
    """On a server of its own, which has no such roles yet."""
    postgres = await asyncio.to_thread(start_postgres, tmp_path / "postgres", durable=False)
    try:
        server = await asyncpg.connect(postgres.url)
        await server.execute("CREATE ROLE tenant LOGIN CREATEROLE")
        await server.execute("CREATE DATABASE theirs OWNER tenant")
        await server.close()
        url = in_database(postgres.url, "theirs").replace("://weighbridge@", "://tenant@")
        await migrate.migrate(url)
        await migrate.migrate(url)
        pool = await open_pool(url, application="test", max_size=1, role=SERVICE)
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT current_user") == SERVICE
            await held(connection)
        await pool.close()
    finally:
        await asyncio.to_thread(postgres.stop)


async def held(connection: asyncpg.Connection) -> None:
    """With two organizations, `parted`."""
    await connection.execute(PLAN)
    for org in (A, B):
        await furnish(connection, org)
    await parted(connection)


async def parted(connection: asyncpg.Connection) -> None:
    """Bound to one organization the other does not exist."""
    seen = await all_there_is(connection, A)
    assert [s.name for s in seen if of(s.rows, B)] == []
    async with connection.transaction():
        await connection.execute("SELECT billing.bind($1)", A)
        assert await connection.fetchval("SELECT current_user") == APP


async def test_a_login_that_owns_nothing_works_in_the_roles_and_changes_no_table(postgres_url: str, furnished: str) -> None:
    name, server = f"runtime_{uuid.uuid4().hex[:8]}", await asyncpg.connect(postgres_url)
    await server.execute(f"CREATE ROLE {name} LOGIN IN ROLE {APP}, {SERVICE}")
    url = furnished.replace("://weighbridge@", f"://{name}@")
    assert await migrate.migrate(url) == []
    pool = await open_pool(url, application="test", max_size=1, role=SERVICE)
    async with pool.acquire() as connection:
        await parted(connection)
        for statement in ("ALTER TABLE billing.quotas DISABLE ROW LEVEL SECURITY", "DROP POLICY of_bound_org ON billing.quotas"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    await pool.close()
    await server.execute(f"DROP ROLE {name}")
    await server.close()


async def test_an_owner_who_is_given_the_roles_works_in_them_from_the_next_start_on(postgres_url: str, plain: str) -> None:
    await migrate.migrate(plain)
    login = plain.partition("://")[2].partition("@")[0]
    server = await asyncpg.connect(postgres_url)
    await server.execute(f"DO $$ BEGIN CREATE ROLE {APP} NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    await server.execute(f"DO $$ BEGIN CREATE ROLE {SERVICE} NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    await server.execute(f"GRANT {APP}, {SERVICE} TO {login}")
    await migrate.migrate(plain)  # nothing to apply; the roles get what they need
    pool = await open_pool(plain, application="test", max_size=1, role=SERVICE)
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT current_user") == SERVICE
        await held(connection)
    await pool.close()
    await server.close()


async def test_the_service_has_its_temporary_tables_where_not_everybody_may_have_any(plain: str, postgres_url: str) -> None:
    name, server = plain.partition("://")[2].partition("@")[0], await asyncpg.connect(postgres_url)
    await server.execute(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC; GRANT {APP}, {SERVICE} TO {name}")
    await server.close()
    await migrate.migrate(plain)
    pool = await open_pool(plain, application="test", max_size=1, role=SERVICE)
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT current_user") == SERVICE
        await connection.execute("CREATE TEMP TABLE flush_usage (id int)")
    await pool.close()
