"""The configuration files that were applied, as they were written. The SQL is in config_sets.sql."""

import asyncpg

from billing.services.ports import ConfigSet
from billing.store.rows import from_jsonb, jsonb
from metering.model.clock import to_datetime
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "config_sets.sql")
_ADD, _NEWEST = _SQL["add"], _SQL["newest"]


class ConfigSetTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add(self, applied: ConfigSet, now_ms: int) -> None:
        await self._connection.execute(_ADD, applied.version, jsonb(dict(applied.files)), to_datetime(now_ms))

    async def newest(self) -> ConfigSet | None:
        row = await self._connection.fetchrow(_NEWEST)
        return ConfigSet(version=row["version"], files=from_jsonb(row["files"])) if row else None
