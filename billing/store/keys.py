"""API keys in Postgres. The SQL is in keys.sql."""

from collections.abc import Sequence
from dataclasses import replace

import asyncpg

from billing.model.organization import ApiKey, Grants
from billing.store import rows
from metering.model.clock import to_datetime
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "keys.sql")
_INSERT, _OF_ORG, _FIND = _SQL["insert"], _SQL["of_org"], _SQL["find"]
_EXPIRE, _REVOKE, _OWNERS = _SQL["expire"], _SQL["revoke"], _SQL["owners"]
_REPLACE, _GRANT = _SQL["replace"], _SQL["grant"]


class KeyTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def insert(self, key: ApiKey) -> ApiKey | None:
        number = await self._connection.fetchval(
            _INSERT, key.org_id, key.sha256, key.hint, key.label, key.test, key.imported, to_datetime(key.created_at_ms),
            rows.instant(key.expires_at_ms), key.kind.value, list(key.grants.scopes), rows.limits_of(key.grants),
        )  # fmt: skip
        return None if number is None else replace(key, id=number)

    async def of_org(self, org_id: str) -> list[ApiKey]:
        return [rows.api_key(row) for row in await self._connection.fetch(_OF_ORG, org_id)]

    async def find(self, *, key_id: int | None = None, sha256: str | None = None) -> ApiKey | None:
        row = await self._connection.fetchrow(_FIND, key_id, sha256)
        return rows.api_key(row) if row else None

    async def expire(self, key_id: int, at_ms: int) -> None:
        await self._connection.execute(_EXPIRE, key_id, to_datetime(at_ms))

    async def replace(self, key_id: int, by: int) -> None:
        await self._connection.execute(_REPLACE, key_id, by)

    async def grant(self, key_id: int, grants: Grants) -> None:
        await self._connection.execute(_GRANT, key_id, list(grants.scopes), rows.limits_of(grants))

    async def revoke(self, key_ids: Sequence[int], now_ms: int) -> None:
        await self._connection.execute(_REVOKE, list(key_ids), to_datetime(now_ms))

    async def owners(self, hashes: Sequence[str], now_ms: int) -> dict[str, str]:
        found = await self._connection.fetch(_OWNERS, list(hashes), to_datetime(now_ms))
        return {row["sha256"]: str(row["org_id"]) for row in found}
