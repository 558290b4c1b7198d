"""Usage in Postgres, read only: the aggregator writes it. The SQL is in usage.sql."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from metering.model.clock import to_datetime
from metering.model.quota import Window
from metering.model.seeding import Begun
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "usage.sql")
_OF_PERIOD, _OF_WINDOWS, _OF_TENANTS, _OFFSETS = _SQL["of_period"], _SQL["of_windows"], _SQL["of_tenants"], _SQL["offsets"]


class UsageTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def of_period(self, org_id: str, start_ms: int) -> dict[str, int]:
        found = await self._connection.fetch(_OF_PERIOD, org_id, to_datetime(start_ms))
        return {row["service"]: row["cumulative"] for row in found}

    async def of_windows(self, org_id: str, hour_ms: int, day_ms: int, month_ms: int) -> dict[str, dict[Window, int]]:
        starts = (to_datetime(hour_ms), to_datetime(day_ms), to_datetime(month_ms))
        found = await self._connection.fetch(_OF_WINDOWS, org_id, *starts)
        return {row["service"]: {Window.HOUR: row["in_hour"], Window.DAY: row["in_day"], Window.MONTH: row["in_month"]} for row in found}

    async def of_tenants(self, org_id: str, start_ms: int) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for row in await self._connection.fetch(_OF_TENANTS, org_id, to_datetime(start_ms)):
            found.setdefault(row["tenant"], {})[row["service"]] = row["quantity"]
        return found

    async def offsets(self, begun: Sequence[Begun]) -> list[int]:
        found = await self._connection.fetch(
            _OFFSETS, [UUID(b.org_id) for b in begun], [b.meter for b in begun],
            [to_datetime(b.start_ms) for b in begun], [to_datetime(b.period_start_ms) for b in begun],
        )  # fmt: skip
        return [row["units"] for row in found]
