"""Plans and their versions in Postgres. The SQL is in plans.sql."""

import asyncpg

from billing.model import plan as plans
from billing.model.plan import PlanSpec
from billing.services.ports import PlanRow
from billing.store.rows import from_jsonb, jsonb
from metering.model.clock import to_datetime
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "plans.sql")
_GET, _ALL, _LOCK_SHARED, _LOCK_ALL = _SQL["get"], _SQL["all"], _SQL["lock_shared"], _SQL["lock_all"]
_SET_PLAN, _ADD_VERSION, _ARCHIVE, _VERSION = _SQL["set_plan"], _SQL["add_version"], _SQL["archive"], _SQL["version"]
_MANAGE = _SQL["manage"]
_ONE_AT_A_TIME, _SET_FALLBACK, _NO_FALLBACK = _SQL["one_at_a_time"], _SQL["set_fallback"], _SQL["no_fallback"]


class PlanTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def get(self, name: str, *, lock: bool = False) -> PlanRow | None:
        """With `lock`, no new version appears until the transaction ends."""
        if lock:
            await self._connection.fetch(_LOCK_SHARED, name)
        row = await self._connection.fetchrow(_GET, name)
        return _row(row) if row else None

    async def all(self, *, lock: bool = False) -> dict[str, PlanRow]:
        """With `lock`, nobody else changes plans or subscribes to one until the transaction ends."""
        if lock:
            await self._connection.fetch(_ONE_AT_A_TIME)
            await self._connection.fetch(_LOCK_ALL)
        found = [_row(row) for row in await self._connection.fetch(_ALL)]
        return {row.spec.name: row for row in found}

    async def add_version(self, spec: PlanSpec, version: int, managed_by: str, now_ms: int) -> None:
        now = to_datetime(now_ms)
        await self._connection.execute(_SET_PLAN, spec.name, version, managed_by, now)
        await self._connection.execute(_ADD_VERSION, spec.name, version, jsonb(plans.to_json(spec)), managed_by, now)

    async def archive(self, name: str, archived: bool, now_ms: int) -> None:
        await self._connection.execute(_ARCHIVE, name, "archived" if archived else "active", to_datetime(now_ms))

    async def manage(self, name: str, by: str, now_ms: int) -> None:
        await self._connection.execute(_MANAGE, name, by, to_datetime(now_ms))

    async def set_fallback(self, name: str | None) -> None:
        await (self._connection.execute(_SET_FALLBACK, name) if name else self._connection.execute(_NO_FALLBACK))

    async def version(self, name: str, version: int) -> PlanSpec | None:
        spec = await self._connection.fetchval(_VERSION, name, version)
        return plans.from_json(from_jsonb(spec)) if spec else None


def _row(row: asyncpg.Record) -> PlanRow:
    return PlanRow(
        spec=plans.from_json(from_jsonb(row["spec"])),
        version=row["version"],
        managed_by=row["managed_by"],
        archived=row["status"] == "archived",
    )
