"""Postgres's faults: away, restarted within a flush, cut off around COMMIT, its disk full, a deadlock. No call waits for any of them.

Usage stays in the store meanwhile: one growing live hash a bucket, at most one batch under way; journals keep it as well.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from typing import ClassVar

import asyncpg

from tests.chaos.fault import Fault
from tests.chaos.load import Load
from tests.chaos.world import World
from weighbridge.child import unprivileged_user
from weighbridge.stores import start

_BLOCKED = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE application_name = 'weighbridge-aggregator' AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO billing.usage_period%'
)
"""
_PARTITION = "SELECT 'billing.usage_events_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')"


class PostgresFault(Fault):
    """Clients notice nothing: no call asks Postgres. (A store that does not answer within its 50 ms, as the machine does other work as
    well, may refuse one by its rule.)"""

    refused = frozenset({503})

    def holds(self, world: World, load: Load) -> list[str]:
        refused, every = sum(a.status == 503 for a in load.meanwhile()), len(load.meanwhile())
        return [f"{refused} of {every} calls were refused"] if refused * 100 > every else []


class Away(PostgresFault):
    """Killed as a power cut kills it, and gone for several flushes."""

    name = "Postgres away for 8 s, four flushes"
    lasts_seconds = 8.0

    async def inject(self, world: World) -> None:
        await kill(world)

    async def undo(self, world: World) -> None:
        await start(world.postgres)


class RestartedWithinAFlush(PostgresFault):
    """Killed three times while a flush has rows in an open transaction."""

    name = "Postgres killed within a flush and restarted, three times"

    async def inject(self, world: World) -> None:
        for _ in range(3):
            async with flush_held(world):
                await kill(world)
            await start(world.postgres)

    async def undo(self, world: World) -> None:
        if not world.postgres.alive():
            await start(world.postgres)


class _Cut(PostgresFault):
    moment: ClassVar[str]

    async def inject(self, world: World) -> None:
        world.between.times, world.between.cut = 3, self.moment  # type: ignore[assignment]
        await world.until(lambda: self._cut(world), "three flushes were cut off")

    async def _cut(self, world: World) -> bool:
        return world.between.times == 0

    async def undo(self, world: World) -> None:
        world.between.cut = None


class CutBeforeCommit(_Cut):
    """The connection breaks with everything written and COMMIT not said."""

    name = "connection to Postgres cut before COMMIT, three times"
    moment = "before"


class CutAfterCommit(_Cut):
    """Postgres has committed, and the aggregator never hears of it."""

    name = "connection to Postgres cut after COMMIT, before its answer, three times"
    moment = "after"
    quick = True


class DiskFull(PostgresFault):
    """The ledger's newest partition lies on a small disk, and that is full."""

    name = "Postgres's disk full for 8 s (a tmpfs of 16 MB)"
    lasts_seconds = 8.0
    _said = 0

    async def inject(self, world: World) -> None:
        self._disk = world.folder / "small"
        self._disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs", str(self._disk)], check=True)  # noqa: ASYNC221
        (self._disk / "space").mkdir(mode=0o700)
        owner = unprivileged_user()
        for folder in (self._disk, self._disk / "space"):
            os.chown(folder, *owner)
        self._said = len(world.bench.house.log.read_bytes())
        async with connected(world) as connection:
            await connection.execute(f"CREATE TABLESPACE small LOCATION '{self._disk / 'space'}'")
            partition = await connection.fetchval(_PARTITION)
            await connection.execute(f"ALTER TABLE {partition} SET (fillfactor = 10)")  # so that a few rows need a new page
            await connection.execute(f"ALTER TABLE {partition} SET TABLESPACE small")
        with contextlib.suppress(OSError), (self._disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))

    async def undo(self, world: World) -> None:
        (self._disk / "filler").unlink()
        async with connected(world) as connection:
            partition = await connection.fetchval(_PARTITION)
            await connection.execute(f"ALTER TABLE {partition} SET TABLESPACE pg_default")
            await connection.execute(f"ALTER TABLE {partition} RESET (fillfactor)")
            await connection.execute("DROP TABLESPACE small")
        subprocess.run(["umount", str(self._disk)], check=True)  # noqa: ASYNC221
        shutil.rmtree(self._disk)

    def holds(self, world: World, load: Load) -> list[str]:
        said = world.bench.house.log.read_bytes()[self._said :]
        return super().holds(world, load) + ([] if b"No space left" in said else ["no flush ever met the full disk"])


class Deadlock(PostgresFault):
    """Somebody holds a period's row and then asks for the bucket that the flush holds: Postgres ends the flush."""

    name = "a flush ended by Postgres for a deadlock"
    _said = 0

    async def inject(self, world: World) -> None:
        self._said = len(world.bench.house.log.read_bytes())
        async with connected(world) as connection:
            await connection.execute("SET deadlock_timeout = '20s'")  # the flush, with a second, is the one that is ended
            async with connection.transaction():
                await connection.execute("LOCK TABLE billing.usage_period IN SHARE MODE")
                await world.until(lambda: _blocked(connection), "a flush waits for the period's row")
                await connection.execute("LOCK TABLE billing.bucket_state IN EXCLUSIVE MODE")

    def holds(self, world: World, load: Load) -> list[str]:
        said = world.bench.house.log.read_bytes()[self._said :]
        return super().holds(world, load) + ([] if b"deadlock detected" in said else ["Postgres ended no flush"])


# --- ways ----------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def connected(world: World):  # type: ignore[no-untyped-def]
    """A connection of our own, past what cuts."""
    connection = await asyncpg.connect(world.postgres.url, server_settings={"application_name": "chaos"})
    try:
        yield connection
    finally:
        connection.terminate()


@contextlib.asynccontextmanager
async def flush_held(world: World):  # type: ignore[no-untyped-def]
    """A flush stands in the middle of its transaction, its rows written and its sums not."""
    async with connected(world) as connection:
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):  # it is killed with the server
            async with connection.transaction():
                await connection.execute("LOCK TABLE billing.usage_period IN SHARE MODE")
                await world.until(lambda: _blocked(connection), "a flush waits in its transaction")
                yield


async def _blocked(connection: asyncpg.Connection) -> bool:
    await connection.execute("SELECT pg_stat_clear_snapshot()")  # else a transaction sees for ever what it saw first
    return bool(await connection.fetchval(_BLOCKED))


async def kill(world: World) -> None:
    os.kill(world.postgres.pid, signal.SIGQUIT)  # at once, without a last word: it recovers from its log
    await asyncio.to_thread(world.postgres.process.wait)


FAULTS = (Away, RestartedWithinAFlush, CutBeforeCommit, CutAfterCommit, DiskFull, Deadlock)
