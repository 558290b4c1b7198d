"""Changes that were asked for under an Idempotency-Key, in Postgres. The SQL is in repeats.sql."""

import asyncpg

from billing.services.ports_repeats import RepeatRow
from metering.model.clock import to_datetime, to_ms
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "repeats.sql")
_CLAIM, _FIND, _KEEP, _FAIL, _FORGET, _SWEEP = (_SQL[name] for name in ("claim", "find", "keep", "fail", "forget", "sweep"))


class RepeatTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def claim(self, repeat_id: bytes, fingerprint: bytes, now_ms: int) -> bool:
        return await self._connection.fetchval(_CLAIM, repeat_id, fingerprint, to_datetime(now_ms)) is not None

    async def find(self, repeat_id: bytes) -> RepeatRow | None:
        row = await self._connection.fetchrow(_FIND, repeat_id)
        if row is None:
            return None
        return RepeatRow(
            fingerprint=row["fingerprint"], begun_at_ms=to_ms(row["begun_at"]), status=row["status"], answer=row["answer"],
            failed=row["failed"],
        )  # fmt: skip

    async def keep(self, repeat_id: bytes, status: int, answer: bytes) -> None:
        await self._connection.execute(_KEEP, repeat_id, status, answer)

    async def fail(self, repeat_id: bytes) -> None:
        await self._connection.execute(_FAIL, repeat_id)

    async def forget(self, repeat_id: bytes) -> None:
        await self._connection.execute(_FORGET, repeat_id)

    async def sweep(self, before_ms: int, most: int) -> int:
        gone: int = await self._connection.fetchval(_SWEEP, to_datetime(before_ms), most)
        return gone
