"""What is done about invoices that are not paid, in Postgres. The SQL is in dunning.sql."""

import asyncpg

from billing.services.ports_dunning import DunningRow
from billing.store.rows import instant, ms
from metering.model.clock import to_datetime
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "dunning.sql")
_ENROLL, _DUE, _GET, _SAVE, _OTHERS = (_SQL[name] for name in ("enroll", "due", "get", "save", "others"))


class DunningTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def enroll(self, *, charges: bool, now_ms: int) -> int:
        return len(await self._connection.fetch(_ENROLL, charges, to_datetime(now_ms)))

    async def due(self, now_ms: int, limit: int) -> list[str]:
        return [row["invoice_id"] for row in await self._connection.fetch(_DUE, to_datetime(now_ms), limit)]

    async def get(self, invoice_id: str) -> DunningRow | None:
        row = await self._connection.fetchrow(_GET, invoice_id)
        return None if row is None else _row(row)

    async def save(self, row: DunningRow) -> None:
        await self._connection.execute(
            _SAVE, row.invoice_id, row.org_id, instant(row.next_ms), row.failures, instant(row.failed_ms), instant(row.tried_ms),
            row.reason, row.marked, instant(row.warned_ms), instant(row.downgraded_ms), instant(row.returned_ms), instant(row.closed_ms),
        )  # fmt: skip

    async def others(self, org_id: str, invoice_id: str) -> bool:
        return bool(await self._connection.fetchval(_OTHERS, org_id, invoice_id))


def _row(row: asyncpg.Record) -> DunningRow:
    return DunningRow(
        invoice_id=row["invoice_id"],
        org_id=str(row["org_id"]),
        next_ms=ms(row["next_at"]),
        failures=row["failures"],
        failed_ms=ms(row["failed_at"]),
        tried_ms=ms(row["tried_at"]),
        reason=row["reason"],
        marked=row["marked"],
        warned_ms=ms(row["warned_at"]),
        downgraded_ms=ms(row["downgraded_at"]),
        returned_ms=ms(row["returned_at"]),
        closed_ms=ms(row["closed_at"]),
    )
