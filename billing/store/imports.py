"""Files of usage, a piece a transaction. The SQL is in imports.sql."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

import asyncpg

from billing.services.ports_events import StagedSum
from billing.store.events import add_hours, add_periods
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "imports.sql")


class ImportTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def pieces(self, org_id: str, before: bytes) -> list[tuple[int, bytes]]:
        return [(row["lines"], row["after"]) for row in await self._connection.fetch(_SQL["pieces"], org_id, before)]

    async def begin(self, org_id: str, before: bytes, lines: int, after: bytes, rejected: int) -> bool:
        return await self._connection.fetchval(_SQL["begin"], org_id, before, lines, after, rejected) is not None

    async def stage(self, text: bytes) -> None:
        async def source() -> AsyncIterator[bytes]:
            yield text

        await self._connection.execute(_SQL["make_room"])
        await self._connection.copy_to_table("import_rows", source=source(), schema_name="pg_temp", format="text")
        await self._connection.execute(_SQL["facts"])
        await self._connection.execute(_SQL["take"])

    async def add_up(self, sums: Sequence[StagedSum]) -> None:
        if not sums:
            return
        periods = defaultdict[tuple[str, str, int, int], int](int)
        for each in sums:
            periods[each.org_id, each.meter, each.start_ms, each.end_ms] += each.units
        await add_hours(self._connection, sums)
        await add_periods(self._connection, periods)
