"""The outbox in Postgres. The SQL is in outbox.sql."""

from collections.abc import Sequence

import asyncpg

from billing.model.outbox import OutboxRow
from billing.store.rows import jsonb
from metering.model.clock import to_datetime
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "outbox.sql")
_ADD, _HAS, _WAITING = _SQL["add"], _SQL["has"], _SQL["waiting"]


class OutboxTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add(self, rows: Sequence[OutboxRow], now_ms: int) -> None:
        """In this order: delivery follows the ids."""
        now = to_datetime(now_ms)
        await self._connection.executemany(_ADD, [(row.kind, row.org_id, row.identifier, jsonb(row.payload), now) for row in rows])

    async def has(self, org_id: str, kind: str) -> bool:
        return bool(await self._connection.fetchval(_HAS, org_id, kind))

    async def waiting(self, org_id: str) -> bool:
        return bool(await self._connection.fetchval(_WAITING, org_id))
