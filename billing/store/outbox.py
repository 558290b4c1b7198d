"""The outbox in Postgres. The SQL is in outbox.sql."""

from collections.abc import Sequence

import asyncpg

from billing.model.delivery import State
from billing.model.outbox import OutboxRow
from billing.services.ports_outbox import Kept
from billing.store.rows import from_jsonb, jsonb, ms
from metering.model.clock import to_datetime, to_ms
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "outbox.sql")
_ADD, _HAS, _WAITING, _KEPT, _FIND = _SQL["add"], _SQL["has"], _SQL["waiting"], _SQL["kept"], _SQL["find"]


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

    async def kept(self, states: Sequence[State], limit: int, before_id: int | None = None) -> list[Kept]:
        found = await self._connection.fetch(_KEPT, [state.value for state in states], limit, before_id)
        return [_kept(row) for row in found]

    async def find(self, ref: str) -> Kept | None:
        row = await self._connection.fetchrow(_FIND, ref)
        return _kept(row) if row else None


def _kept(row: asyncpg.Record) -> Kept:
    return Kept(
        id=row["id"],
        kind=row["kind"],
        org_id=row["org_id"],
        slug=row["slug"],
        identifier=row["identifier"],
        payload=from_jsonb(row["payload"]),
        state=State(row["state"]),
        attempts=row["attempts"],
        first_attempt_ms=ms(row["first_attempt_at"]),
        next_attempt_ms=ms(row["next_attempt_at"]),
        last_error=row["last_error"],
        created_ms=to_ms(row["created_at"]),
        delivered_ms=ms(row["delivered_at"]),
    )
