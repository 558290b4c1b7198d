"""Bring a database's schema up to date: numbered .sql files, each once, each in its own transaction; then the roles.

Any number of processes may run it at once: an advisory lock lets one work and the others find nothing left to do.
What was applied is remembered with a checksum in billing.schema_migrations, so an edited file is noticed.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from metering.store.postgres import DatabaseUnsuitable, open_connection

_LOCK = 0x77656967  # "weig"; one number for all processes
_PATIENCE_SECONDS = 600  # for another process at the same work, and for a large table
_ROLES = (files("metering.store") / "roles.sql").read_text("utf-8")
_FILE = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")


class MigrationChanged(DatabaseUnsuitable):
    """A migration was edited after it had been applied."""

    code = "migration_changed"


class DatabaseNewer(DatabaseUnsuitable):
    """The database was migrated by a newer Weighbridge."""

    code = "database_newer"


class MigrationFailed(DatabaseUnsuitable):
    """A migration could not be applied; the database stands as before it."""

    code = "migration_failed"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. `checksum` is the SHA-256 of its text."""

    number: int
    name: str
    sql: str
    checksum: str


def load(package: str = "metering.store.migrations") -> list[Migration]:
    """All migrations by number. Raises ValueError for a number given twice or left out."""
    found = []
    for entry in files(package).iterdir():
        if match := _FILE.match(entry.name):
            sql = entry.read_text("utf-8")
            found.append(Migration(int(match[1]), match[2], sql, hashlib.sha256(sql.encode()).hexdigest()))
    found.sort(key=lambda m: m.number)
    if [m.number for m in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations are numbered 1, 2, 3 …; found {[m.number for m in found]}")
    return found


def pending(migrations: Sequence[Migration], applied: Mapping[int, str]) -> list[Migration]:
    """What is left to do, given number -> checksum of what was done. Pure. Raises MigrationChanged, DatabaseNewer."""
    known = {m.number: m for m in migrations}
    for number in sorted(applied):
        if number not in known:
            raise DatabaseNewer(f"The database has migration {number:04d}, which this Weighbridge does not know. Run the newer version.")
        if known[number].checksum != applied[number]:
            raise MigrationChanged(f"Migration {number:04d}_{known[number].name} differs from the one this database was built with.")
    return [m for m in migrations if m.number not in applied]


async def migrate(url: str) -> list[str]:
    """Bring the database up to date; returns the names applied, none if nothing was missing.

    Its connection is its own, as the login that `url` names: what processes work in afterwards may not change tables.
    Raises what `postgres.open_connection` and `apply` raise.
    """
    connection = await open_connection(url, application="weighbridge migrate")
    try:
        return await apply(connection, load())
    finally:
        await connection.close()


async def apply(connection: asyncpg.Connection, migrations: Sequence[Migration]) -> list[str]:
    """Apply what is missing, in order. Raises MigrationChanged, DatabaseNewer, MigrationFailed."""
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK, timeout=_PATIENCE_SECONDS)
    try:
        applied = await _applied(connection)
        done = [await _apply(connection, migration) for migration in pending(migrations, applied)]
        await _grant(connection)
        return done
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def _grant(connection: asyncpg.Connection) -> None:
    """Roles and what they may, each time: they may have been made since. Nothing where the schema is somebody else's."""
    if not await connection.fetchval(_OWNS):
        return
    try:
        async with connection.transaction():
            await connection.execute(_ROLES)
    except asyncpg.PostgresError as exc:
        raise MigrationFailed(f"The roles could not be granted what they need: {exc}") from exc


async def _applied(connection: asyncpg.Connection) -> dict[int, str]:
    if await connection.fetchval("SELECT to_regclass('billing.schema_migrations')") is None:
        return {}
    rows = await connection.fetch("SELECT number, checksum FROM billing.schema_migrations")
    return {row["number"]: row["checksum"] for row in rows}


_OWNS = "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'billing' AND to_regproc('billing.bind') IS NOT NULL"
_REMEMBER = """
CREATE SCHEMA IF NOT EXISTS billing;
CREATE TABLE IF NOT EXISTS billing.schema_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""


async def _apply(connection: asyncpg.Connection, migration: Migration) -> str:
    label = f"{migration.number:04d}_{migration.name}"
    try:
        async with connection.transaction():
            await connection.execute(_REMEMBER)
            await connection.execute(migration.sql, timeout=_PATIENCE_SECONDS)
            await connection.execute(
                "INSERT INTO billing.schema_migrations (number, name, checksum) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.checksum,
            )
    except asyncpg.PostgresError as exc:
        raise MigrationFailed(f"Migration {label} failed and was undone: {exc}") from exc
    return label
