"""The mail outbox in Postgres. The SQL is in mails.sql."""

from collections.abc import Collection, Sequence

import asyncpg

from billing.model.letters.letter import Reader
from billing.model.mail import Mail, MailKind
from billing.model.mail_delivery import Verdict
from billing.services.ports_mail import ClaimedMail, MailRow
from billing.store.rows import from_jsonb, instant, jsonb, ms
from metering.model.clock import to_datetime, to_ms
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "mails.sql")
_ADD, _DROP, _DUE, _CLAIM = _SQL["add"], _SQL["drop"], _SQL["due"], _SQL["claim"]
_FINISH, _GIVE_BACK, _EXPIRE, _NEWEST = _SQL["finish"], _SQL["give_back"], _SQL["expire"], _SQL["newest"]


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

    async def due(self, now_ms: int) -> int:
        return int(await self._connection.fetchval(_DUE, to_datetime(now_ms)))

    async def claim(self, now_ms: int, until_ms: int) -> ClaimedMail | None:
        row = await self._connection.fetchrow(_CLAIM, to_datetime(now_ms), to_datetime(until_ms))
        if row is None:
            return None
        return ClaimedMail(
            mail=_mail(row),
            attempt=row["attempts"],
            address=row["recipient"] or row["email"],
            reader=Reader(organization=row["organization"], name=row["contact"], language=row["language"]),
            deleted=row["deleted"],
        )

    async def finish(self, claimed: ClaimedMail, verdict: Verdict, now_ms: int) -> bool:
        found = await self._connection.fetchval(
            _FINISH,
            claimed.mail.id,
            claimed.attempt,
            verdict.state.value,
            instant(verdict.next_attempt_ms),
            verdict.reason,
            to_datetime(now_ms),
        )
        return found is not None

    async def give_back(self, claimed: ClaimedMail) -> None:
        await self._connection.execute(_GIVE_BACK, claimed.mail.id, claimed.attempt)

    async def expire(self, due_before_ms: int, reason: str, now_ms: int) -> int:
        return len(await self._connection.fetch(_EXPIRE, to_datetime(due_before_ms), reason, to_datetime(now_ms)))

    async def newest(self, org_id: str | None, state: str | None, limit: int, before_id: int | None = None) -> list[MailRow]:
        return [
            MailRow(
                mail=_mail(row),
                slug=row["slug"],
                state=row["state"],
                attempts=row["attempts"],
                next_attempt_ms=ms(row["next_attempt_at"]),
                closed_ms=ms(row["closed_at"]),
                error=row["last_error"],
            )
            for row in await self._connection.fetch(_NEWEST, org_id, state, limit, before_id)
        ]


def _mail(row: asyncpg.Record) -> Mail:
    return Mail(
        id=row["id"],
        org_id=str(row["org_id"]),
        kind=MailKind(row["kind"]),
        identifier=row["identifier"],
        due_ms=to_ms(row["due_at"]),
        facts=from_jsonb(row["facts"]),
        to=row["recipient"],
    )
