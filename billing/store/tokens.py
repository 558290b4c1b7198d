"""Tokens of the control API in Postgres. The SQL is in tokens.sql."""

from dataclasses import replace

import asyncpg

from billing.model.token import Scope, Token
from billing.store.rows import instant, ms
from metering.model.clock import to_datetime, to_ms
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "tokens.sql")
_INSERT, _ALL, _FIND, _REVOKE = _SQL["insert"], _SQL["all"], _SQL["find"], _SQL["revoke"]


class TokenTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def insert(self, token: Token) -> Token | None:
        number = await self._connection.fetchval(
            _INSERT, token.org_id, token.sha256, token.hint, token.label, [scope.value for scope in token.scopes], token.created_by,
            to_datetime(token.created_at_ms), instant(token.expires_at_ms),
        )  # fmt: skip
        return None if number is None else replace(token, id=number)

    async def all(self, org_id: str | None, limit: int | None = None, before_id: int | None = None) -> list[Token]:
        return [_token(row) for row in await self._connection.fetch(_ALL, org_id, limit, before_id)]

    async def find(self, *, token_id: int | None = None, sha256: str | None = None) -> Token | None:
        row = await self._connection.fetchrow(_FIND, token_id, sha256)
        return _token(row) if row else None

    async def revoke(self, token_id: int, by: str, now_ms: int) -> bool:
        return await self._connection.fetchval(_REVOKE, token_id, to_datetime(now_ms), by) is not None


def _token(row: asyncpg.Record) -> Token:
    return Token(
        id=row["id"],
        org_id=str(row["org_id"]) if row["org_id"] else None,
        slug=row["slug"],
        sha256=row["sha256"],
        hint=row["hint"],
        label=row["label"],
        scopes=tuple(Scope(scope) for scope in row["scopes"]),
        created_by=row["created_by"],
        created_at_ms=to_ms(row["created_at"]),
        expires_at_ms=ms(row["expires_at"]),
        revoked_at_ms=ms(row["revoked_at"]),
        revoked_by=row["revoked_by"],
    )
