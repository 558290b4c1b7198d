"""Credits in Postgres. The SQL is in credits.sql."""

from collections.abc import Sequence
from decimal import Decimal

import asyncpg

from billing.model.wallet import Grant, GrantKind
from billing.services.ports_wallet import BurnRow, GrantRow
from billing.store.rows import instant, ms
from metering.model.clock import to_datetime, to_ms
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "credits.sql")
_INSERT, _OF_ORG, _LOCK_USABLE, _TAKE, _RECORD = _SQL["insert"], _SQL["of_org"], _SQL["lock_usable"], _SQL["take"], _SQL["record"]
_LOCK_BURNED, _BURNED, _BURNS_OF_ORG, _REVOKE = _SQL["lock_burned"], _SQL["burned"], _SQL["burns_of_org"], _SQL["revoke"]


class CreditTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def insert(self, grant: Grant) -> int | None:
        number = await self._connection.fetchval(
            _INSERT, grant.org_id, grant.identifier, grant.kind.value, grant.amount, grant.currency, grant.reason, grant.priority,
            to_datetime(grant.granted_at_ms), instant(grant.expires_at_ms),
        )  # fmt: skip
        return None if number is None else int(number)

    async def of_org(self, org_id: str) -> list[GrantRow]:
        return [GrantRow(_grant(row), ms(row["revoked_at"])) for row in await self._connection.fetch(_OF_ORG, org_id)]

    async def lock_usable(self, org_id: str, currency: str) -> list[Grant]:
        return [_grant(row) for row in await self._connection.fetch(_LOCK_USABLE, org_id, currency)]

    async def move(self, org_id: str, invoice_id: str, moved: Sequence[tuple[int, Decimal]], now_ms: int) -> None:
        grants, amounts = [grant for grant, _ in moved], [amount for _, amount in moved]
        await self._connection.execute(_TAKE, grants, amounts)
        await self._connection.execute(_RECORD, grants, amounts, org_id, invoice_id, to_datetime(now_ms))

    async def burned(self, invoice_id: str) -> list[tuple[Grant, Decimal]]:
        grants = {row["id"]: _grant(row) for row in await self._connection.fetch(_LOCK_BURNED, invoice_id)}
        # A statement of its own, so that it sees what was given back while the lock was waited for.
        return [(grants[row["grant_id"]], row["amount"]) for row in await self._connection.fetch(_BURNED, invoice_id)]

    async def burns(self, org_id: str) -> list[BurnRow]:
        return [
            BurnRow(grant_id=row["grant_id"], invoice_id=row["invoice_id"], amount=row["amount"], at_ms=to_ms(row["burned_at"]))
            for row in await self._connection.fetch(_BURNS_OF_ORG, org_id)
        ]

    async def revoke(self, org_id: str, grant_id: int, now_ms: int) -> Grant | None:
        row = await self._connection.fetchrow(_REVOKE, org_id, grant_id, to_datetime(now_ms))
        return _grant(row) if row else None


def _grant(row: asyncpg.Record) -> Grant:
    return Grant(
        id=row["id"],
        org_id=str(row["org_id"]),
        identifier=row["identifier"],
        kind=GrantKind(row["kind"]),
        amount=row["amount"],
        left=row["amount_left"],
        currency=row["currency"],
        reason=row["reason"],
        priority=row["priority"],
        granted_at_ms=to_ms(row["granted_at"]),
        expires_at_ms=ms(row["expires_at"]),
    )
