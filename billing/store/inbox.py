"""Stripe's events in Postgres. The SQL is in inbox.sql."""

from collections.abc import Sequence

import asyncpg

from billing.model.webhook import Status, StripeEvent
from billing.services.ports_stripe import InboxRow, Side
from billing.store import rows
from metering.model.clock import to_datetime, to_ms
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "inbox.sql")
_ADD, _CLAIM, _FINISH, _FIND, _NEWEST = _SQL["add"], _SQL["claim"], _SQL["finish"], _SQL["find"], _SQL["newest"]
_AGAIN, _STANDS, _SIDE, _GIVE_BACK = _SQL["again"], _SQL["stands"], _SQL["side"], _SQL["give_back"]


class InboxTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add(self, events: Sequence[StripeEvent], now_ms: int) -> list[str]:
        # Postgres holds no NUL in jsonb, and whoever signs may send one.
        payloads = [rows.jsonb(event.payload).replace("\\u0000", "\\ufffd") for event in events]
        found = await self._connection.fetch(
            _ADD, [e.id for e in events], [e.type for e in events], [e.object_id for e in events], payloads,
            [to_datetime(e.created_ms) for e in events], to_datetime(now_ms),
        )  # fmt: skip
        return [row["event_id"] for row in found]

    async def claim(self, now_ms: int, until_ms: int, limit: int, event_id: str | None = None) -> list[InboxRow]:
        found = await self._connection.fetch(_CLAIM, to_datetime(now_ms), to_datetime(until_ms), limit, event_id)
        return [_row(row) for row in sorted(found, key=lambda row: row["seq"])]

    async def finish(self, row: InboxRow, status: Status, error: str | None, next_ms: int | None, now_ms: int) -> bool:
        values = (row.event_id, row.attempts, status.value, error, rows.instant(next_ms), to_datetime(now_ms))
        return await self._connection.fetchval(_FINISH, *values) is not None

    async def give_back(self, row: InboxRow, next_ms: int, reason: str) -> None:
        await self._connection.execute(_GIVE_BACK, row.event_id, row.attempts, to_datetime(next_ms), reason)

    async def find(self, event_id: str) -> InboxRow | None:
        row = await self._connection.fetchrow(_FIND, event_id)
        return _row(row) if row else None

    async def newest(self, limit: int, status: Status | None = None, before: str | None = None) -> list[InboxRow]:
        return [_row(row) for row in await self._connection.fetch(_NEWEST, limit, status.value if status else None, before)]

    async def again(self, event_id: str) -> bool:
        return await self._connection.fetchval(_AGAIN, event_id) is not None

    async def stands(self) -> int | None:
        return rows.ms(await self._connection.fetchval(_STANDS))

    async def side(self) -> Side | None:
        row = await self._connection.fetchrow(_SIDE)
        return Side(mode=row["stripe_mode"], account=row["account"]) if row else None


def _row(row: asyncpg.Record) -> InboxRow:
    return InboxRow(
        event_id=row["event_id"],
        type=row["type"],
        object_id=row["object_id"],
        status=Status(row["status"]),
        payload=rows.from_jsonb(row["payload"]),
        received_at_ms=to_ms(row["received_at"]),
        processed_at_ms=rows.ms(row["processed_at"]),
        attempts=row["attempts"],
        next_attempt_ms=rows.ms(row["next_attempt_at"]),
        last_error=row["last_error"],
    )
