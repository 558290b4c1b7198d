"""Ids of Stripe's objects in Postgres. The SQL is in stripe_ids.sql."""

import asyncpg

from metering.model.clock import to_datetime
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "stripe_ids.sql")
_OF, _KEY_OF, _KEEP, _CLAIM, _FORGET = _SQL["of"], _SQL["key_of"], _SQL["keep"], _SQL["claim"], _SQL["forget"]


class StripeIdTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def of(self, kind: str, key: str) -> str | None:
        found: str | None = await self._connection.fetchval(_OF, kind, key)
        return found

    async def key_of(self, kind: str, stripe_id: str) -> str | None:
        found: str | None = await self._connection.fetchval(_KEY_OF, kind, stripe_id)
        return found

    async def keep(self, kind: str, key: str, stripe_id: str, now_ms: int) -> None:
        await self._connection.execute(_KEEP, kind, key, stripe_id, to_datetime(now_ms))

    async def claim(self, kind: str, key: str, stripe_id: str, now_ms: int) -> bool:
        await self._connection.execute(_CLAIM, kind, key, stripe_id, to_datetime(now_ms))
        return await self.of(kind, key) == stripe_id

    async def forget(self, kind: str, key: str) -> None:
        await self._connection.execute(_FORGET, kind, key)
