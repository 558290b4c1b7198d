"""The mail outbox in Postgres. The SQL is in mails.sql."""

from collections.abc import Collection, Sequence

import asyncpg

from billing.model.mail import Mail, MailKind
from billing.store.rows import jsonb
from metering.model.clock import to_datetime
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "mails.sql")
_ADD, _DROP = _SQL["add"], _SQL["drop"]


class MailTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add(self, mails: Sequence[Mail], now_ms: int) -> None:
        now = to_datetime(now_ms)
        await self._connection.executemany(
            _ADD, [(m.org_id, m.kind.value, m.identifier, m.to, jsonb(m.facts), to_datetime(m.due_ms), now) for m in mails]
        )

    async def drop(self, org_id: str, kinds: Collection[MailKind], now_ms: int) -> int:
        return len(await self._connection.fetch(_DROP, org_id, [kind.value for kind in kinds], to_datetime(now_ms)))
