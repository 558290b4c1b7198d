"""The audit log in Postgres, read only. The SQL is in audit.sql."""

import json
from decimal import Decimal
from typing import Any

import asyncpg

from billing.services.ports import AuditEntry
from metering.model.clock import to_datetime, to_ms
from metering.store.postgres import Queries

_ENTRIES = Queries.load("billing.store", "audit.sql")["entries"]


class AuditTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def entries(self, org_id: str | None, since_ms: int, limit: int, before_id: int | None = None) -> list[AuditEntry]:
        return [_entry(row) for row in await self._connection.fetch(_ENTRIES, org_id, to_datetime(since_ms), limit, before_id)]


def _entry(row: asyncpg.Record) -> AuditEntry:
    return AuditEntry(
        id=row["id"],
        at_ms=to_ms(row["at"]),
        actor=row["actor"],
        login=row["login"],
        program=row["program"],
        action=row["action"],
        org_id=str(row["org_id"]) if row["org_id"] else None,
        slug=row["slug"],
        subject=row["subject"],
        before=_facts(row["before"]),
        after=_facts(row["after"]),
    )


def _facts(text: str | None) -> dict[str, Any] | None:
    """Amounts as they are, to the last digit."""
    facts: dict[str, Any] | None = None if text is None else json.loads(text, parse_float=Decimal)
    return facts
