"""The outbox and the customers in Postgres. The SQL is in outbox.sql."""

from collections.abc import Sequence

import asyncpg

from billing.model.organization import Organization
from billing.model.outbox import OutboxRow
from billing.store.rows import jsonb
from metering.model.clock import to_datetime
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "outbox.sql")
_ADD, _HAS, _INSERT_CUSTOMER, _EMAILS = _SQL["add"], _SQL["has"], _SQL["insert_customer"], _SQL["emails"]
_WAITING, _MIRROR_CUSTOMER = _SQL["waiting"], _SQL["mirror_customer"]


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


class CustomerTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def insert(self, org: Organization, email: str | None, currency: str, now_ms: int) -> None:
        await self._connection.execute(_INSERT_CUSTOMER, org.id, email, org.name, currency, to_datetime(now_ms))

    async def emails(self, org_ids: Sequence[str]) -> dict[str, str]:
        return {str(row["org_id"]): row["email"] for row in await self._connection.fetch(_EMAILS, list(org_ids))}

    async def mirror(self, org_id: str, *, name: str | None, email: str | None) -> None:
        await self._connection.execute(_MIRROR_CUSTOMER, org_id, name, email)
