"""Usage in Postgres, read only: the aggregator writes it. The SQL is in usage.sql."""

import asyncpg

from metering.model.clock import to_datetime
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "usage.sql")
_OF_PERIOD = _SQL["of_period"]


class UsageTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def of_period(self, org_id: str, start_ms: int) -> dict[str, int]:
        found = await self._connection.fetch(_OF_PERIOD, org_id, to_datetime(start_ms))
        return {row["service"]: row["cumulative"] for row in found}
