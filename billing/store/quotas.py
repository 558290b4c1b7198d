"""Overridden quotas, rates and calls in flight in Postgres. The SQL is in quotas.sql."""

from collections.abc import Sequence

import asyncpg

from billing.services.ports import LimitRow, QuotaRow
from billing.store import rows as r
from metering.model.clock import to_datetime
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "quotas.sql")
_MANAGED, _OF_ORG, _REMOVE, _PUT = _SQL["managed"], _SQL["of_org"], _SQL["remove"], _SQL["put"]
_LIMITS_MANAGED, _LIMITS_OF_ORG = _SQL["limits_managed"], _SQL["limits_of_org"]
_LIMITS_REMOVE, _LIMITS_PUT = _SQL["limits_remove"], _SQL["limits_put"]
_ORG, _METER, _WINDOW, _PER = 0, 1, 3, 5  # where rows.quota_values has what a quota stands in for
_KIND, _SLOT = 1, 2  # and rows.limit_values


class QuotaTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def managed(self, managed_by: str) -> list[QuotaRow]:
        return [r.quota_row(row) for row in await self._connection.fetch(_MANAGED, managed_by)]

    async def of_org(self, org_id: str) -> list[QuotaRow]:
        return [r.quota_row(row) for row in await self._connection.fetch(_OF_ORG, org_id)]

    async def replace(self, org_ids: Sequence[str], managed_by: str, rows: Sequence[QuotaRow], now_ms: int) -> None:
        values = [r.quota_values(row) for row in rows]
        slots = [[v[i] for v in values] for i in (_ORG, _METER, _WINDOW, _PER)]
        await self._connection.execute(_REMOVE, list(org_ids), managed_by, *slots)
        await self._connection.executemany(_PUT, [(*v, to_datetime(now_ms)) for v in values])

    async def put(self, row: QuotaRow, now_ms: int) -> None:
        await self._connection.execute(_PUT, *r.quota_values(row), to_datetime(now_ms))


class LimitTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def managed(self, managed_by: str) -> list[LimitRow]:
        return [r.limit_row(row) for row in await self._connection.fetch(_LIMITS_MANAGED, managed_by)]

    async def of_org(self, org_id: str) -> list[LimitRow]:
        return [r.limit_row(row) for row in await self._connection.fetch(_LIMITS_OF_ORG, org_id)]

    async def replace(self, org_ids: Sequence[str], managed_by: str, rows: Sequence[LimitRow], now_ms: int) -> None:
        values = [r.limit_values(row) for row in rows]
        slots = [[v[i] for v in values] for i in (_ORG, _KIND, _SLOT)]
        await self._connection.execute(_LIMITS_REMOVE, list(org_ids), managed_by, *slots)
        await self._connection.executemany(_LIMITS_PUT, [(*v, to_datetime(now_ms)) for v in values])

    async def put(self, row: LimitRow, now_ms: int) -> None:
        await self._connection.execute(_LIMITS_PUT, *r.limit_values(row), to_datetime(now_ms))
