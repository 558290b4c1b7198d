"""Bypasses in Postgres. The SQL is in bypasses.sql."""

import asyncpg

from billing.services.ports import BypassRow
from billing.store.rows import ms
from metering.model.clock import to_datetime, to_ms
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "bypasses.sql")
_INSERT, _ALL, _IN_FORCE, _END, _ALONE = _SQL["insert"], _SQL["all"], _SQL["in_force"], _SQL["end"], _SQL["one_publisher"]


class BypassTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def insert(self, row: BypassRow) -> int:
        made_at, until = to_datetime(row.created_at_ms), to_datetime(row.until_ms)
        return int(await self._connection.fetchval(_INSERT, row.org_id, row.meter, row.reason, row.created_by, made_at, until))

    async def all(self, limit: int, before_id: int | None = None) -> list[BypassRow]:
        return [_row(row) for row in await self._connection.fetch(_ALL, limit, before_id)]

    async def in_force(self, now_ms: int, *, lock: bool = False) -> list[BypassRow]:
        if lock:
            await self._connection.execute(_ALONE)
        return [_row(row) for row in await self._connection.fetch(_IN_FORCE, to_datetime(now_ms))]

    async def end(self, number: int, by: str, now_ms: int) -> bool:
        return await self._connection.fetchval(_END, number, to_datetime(now_ms), by) is not None


def _row(row: asyncpg.Record) -> BypassRow:
    return BypassRow(
        id=row["id"],
        org_id=str(row["org_id"]) if row["org_id"] else None,
        slug=row["slug"],
        meter=row["meter"],
        reason=row["reason"],
        created_by=row["created_by"],
        created_at_ms=to_ms(row["created_at"]),
        until_ms=to_ms(row["until"]),
        ended_at_ms=ms(row["ended_at"]),
        ended_by=row["ended_by"],
    )
