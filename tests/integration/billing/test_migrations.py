"""The schema, brought up on a real Postgres."""

import asyncio
import os
import socket

import asyncpg
import pytest

from metering.store import migrate, postgres
from metering.store.postgres import DatabaseUnreachable, DatabaseUnsuitable, DatabaseUrlFaulty, open_connection, open_pool


async def shape(url: str) -> list[tuple[str, ...]]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'billing' ORDER BY 1, 2"
        )
        indexes = await connection.fetch("SELECT indexname, indexdef, '' FROM pg_indexes WHERE schemaname = 'billing' ORDER BY 1")
        return [tuple(row) for row in (*rows, *indexes)]
    finally:
        await connection.close()


async def test_migrations_applied_a_second_time_change_nothing(empty_database: str) -> None:
    applied = await migrate.migrate(empty_database)
    before = await shape(empty_database)
    assert applied[0] == "0001_billing"
    assert await migrate.migrate(empty_database) == []
    assert await shape(empty_database) == before


async def test_processes_that_migrate_at_once_apply_each_file_once(empty_database: str) -> None:
    results = await asyncio.gather(*(migrate.migrate(empty_database) for _ in range(4)))
    assert sorted(len(names) for names in results)[:3] == [0, 0, 0]
    assert max(len(names) for names in results) == len(migrate.load())


async def test_the_guides_tables_exist(database: str) -> None:
    tables = {row[0] for row in await shape(database)}
    assert {"customers", "subscriptions", "quotas", "invoices", "plans"} <= tables


async def test_rows_that_wait_for_stripe_are_found_by_an_index_of_their_own(database: str) -> None:
    indexes = {row[0]: row[1] for row in await shape(database) if row[0].startswith("outbox_")}
    assert indexes["outbox_pending"].endswith("(id) WHERE (state = 'pending'::text)")


async def test_a_failed_migration_leaves_nothing_behind(empty_database: str) -> None:
    broken = migrate.Migration(1, "broken", "CREATE SCHEMA IF NOT EXISTS billing; CREATE TABLE billing.half (); SELECT 1/0;", "c")
    connection = await open_connection(empty_database, application="test")
    try:
        with pytest.raises(migrate.MigrationFailed, match="0001_broken"):
            await migrate.apply(connection, [broken])
    finally:
        await connection.close()
    assert await shape(empty_database) == []


async def test_an_edited_migration_is_noticed(database: str) -> None:
    first = migrate.load()[0]
    edited = migrate.Migration(first.number, first.name, first.sql + "\n", "other")
    connection = await open_connection(database, application="test")
    try:
        with pytest.raises(migrate.MigrationChanged):
            await migrate.apply(connection, [edited, *migrate.load()[1:]])
    finally:
        await connection.close()


async def test_a_database_of_a_newer_version_is_refused(database: str) -> None:
    connection = await open_connection(database, application="test")
    try:
        await connection.execute("INSERT INTO billing.schema_migrations (number, name, checksum) VALUES (9999, 'future', '')")
        with pytest.raises(migrate.DatabaseNewer):
            await migrate.apply(connection, migrate.load())
    finally:
        await connection.close()


async def test_a_missing_database_is_named(postgres_url: str) -> None:
    head, _, query = postgres_url.partition("?")
    with pytest.raises(DatabaseUnsuitable, match="no database 'nowhere'"):
        await open_pool(f"{head.rpartition('/')[0]}/nowhere?{query}", application="test")


async def test_a_server_that_does_not_answer_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(DatabaseUnreachable, match="cannot be reached"):
        await open_pool(f"postgresql://someone:secret-word@127.0.0.1:{port}/x", application="test")


@pytest.mark.parametrize("url", ["mysql://h/x", "", "postgresql://h:port/x", "postgresql://[::1/x"])
async def test_an_address_that_is_not_postgres_is_refused_without_connecting(url: str) -> None:
    with pytest.raises(DatabaseUrlFaulty):
        await open_pool(url, application="test")


async def test_a_pool_speaks_utc(database: str) -> None:
    pool = await open_pool(database, application=f"test {os.getpid()}")
    try:
        assert await pool.fetchval("SHOW timezone") == "UTC"
    finally:
        await pool.close()


async def test_a_server_that_is_too_old_is_refused_and_left(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "LEAST_VERSION", 99)
    with pytest.raises(DatabaseUnsuitable, match=r"is Postgres \d+\.\d+; Weighbridge needs Postgres 99 or newer"):
        await open_pool(database, application="too-old-test")
    monkeypatch.undo()
    connection = await open_connection(database, application="test")
    async with asyncio.timeout(20):
        while await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'too-old-test'"):
            await asyncio.sleep(0.02)
    await connection.close()
