"""Caps on spending and units carried over, in Postgres. The SQL is in spend_caps.sql."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

import asyncpg

from billing.model.rollover import Period
from billing.services.ports import QuotaRow
from billing.services.ports_wallet import CapRow
from billing.store import rows as r
from metering.model.clock import to_datetime
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "spend_caps.sql")
_PUT, _REMOVE, _OF_ORGS, _CAPPED, _ROLLING = _SQL["put"], _SQL["remove"], _SQL["of_orgs"], _SQL["capped"], _SQL["rolling"]
_USED, _OVERRIDES, _CARRIED, _CARRY, _FLUSHED = _SQL["used"], _SQL["overrides"], _SQL["carried"], _SQL["carry"], _SQL["flushed_at"]


class SpendCapTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def put(self, org_id: str, set_by: str, amount: Decimal | None, currency: str, now_ms: int) -> None:
        await self._connection.execute(_PUT, org_id, set_by, amount, currency, to_datetime(now_ms))

    async def remove(self, org_id: str, set_by: str) -> None:
        await self._connection.execute(_REMOVE, org_id, set_by)

    async def of_orgs(self, org_ids: Sequence[str]) -> dict[str, list[CapRow]]:
        found = await self._connection.fetch(_OF_ORGS, list(org_ids))
        return r.grouped(found, lambda row: CapRow(set_by=row["set_by"], amount=row["amount"], currency=row["currency"]))

    async def capped(self, after: str | None, limit: int) -> list[str]:
        return [str(row["id"]) for row in await self._connection.fetch(_CAPPED, after, limit)]


class PeriodTable:
    """Running and past periods of many organizations at once."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def rolling(self, after: str | None, limit: int) -> list[str]:
        return [str(row["id"]) for row in await self._connection.fetch(_ROLLING, after, limit)]

    async def used(self, starts: Mapping[str, int]) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for row in await self._connection.fetch(_USED, *_columns(starts)):
            found.setdefault(str(row["org_id"]), {})[row["service"]] = row["cumulative"]
        return found

    async def overrides(self, org_ids: Sequence[str]) -> dict[str, list[QuotaRow]]:
        return r.grouped(await self._connection.fetch(_OVERRIDES, list(org_ids)), r.quota_row)

    async def carried(self, starts: Mapping[str, int]) -> dict[str, dict[str, Period]]:
        found: dict[str, dict[str, Period]] = {}
        for row in await self._connection.fetch(_CARRIED, *_columns(starts)):
            found.setdefault(str(row["org_id"]), {})[row["meter"]] = Period(base=row["base"], carried=row["carried"])
        return found

    async def carry(self, starts: Mapping[str, int], periods: Mapping[str, Mapping[str, Period]]) -> None:
        rows = [(org, meter, to_datetime(starts[org]), p.base, p.carried) for org, of in periods.items() for meter, p in of.items()]
        if rows:
            await self._connection.execute(_CARRY, *map(list, zip(*rows, strict=True)))

    async def flushed_at_ms(self) -> int | None:
        return r.ms(await self._connection.fetchval(_FLUSHED))


def _columns(starts: Mapping[str, int]) -> tuple[list[str], list[object]]:
    return list(starts), [to_datetime(start_ms) for start_ms in starts.values()]
