"""The outbox and the ids of Stripe's objects in Postgres, as delivery needs them. The SQL is billing/store/delivery.sql."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import asyncpg

from billing.model.delivery import Attempt, State, Verdict
from metering.model.clock import to_datetime, to_ms
from metering.store.postgres import Queries

SQL = Queries.load("billing.store", "delivery.sql")
METER_EVENT = "meter_event"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One claimed row. `attempts` counts the attempt that it was claimed for."""

    id: int
    kind: str
    org_id: str
    identifier: str
    payload: Mapping[str, Any]
    attempts: int
    claimed_ms: int
    before_ms: int | None

    @property
    def attempt(self) -> Attempt:
        """Everything but a meter event looks for itself at Stripe before it creates."""
        looks_first = self.kind != METER_EVENT
        return Attempt(attempts=self.attempts, claimed_ms=self.claimed_ms, before_ms=self.before_ms, looks_first=looks_first)


@dataclass(frozen=True, slots=True)
class Backlog:
    """Rows of one state that are not delivered."""

    rows: int
    oldest_ms: int


class Ids(Protocol):
    """Which object at Stripe stands for which thing of ours."""

    async def get(self, kind: str, key: str) -> str | None: ...

    async def under(self, kind: str, prefix: str) -> dict[str, str]: ...

    async def keep(self, kind: str, key: str, stripe_id: str) -> None: ...

    async def forget(self, kind: str, key: str) -> None: ...


class Outbox:
    """The rows. None of these methods keeps a transaction open after it returned."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def claim(self, kinds: Sequence[str], now_ms: int, lease_ms: int, limit: int) -> list[Row]:
        records = await self._pool.fetch(SQL["claim_due"], to_datetime(now_ms), to_datetime(now_ms + lease_ms), limit, kinds)
        return sorted((_row(record, now_ms) for record in records), key=lambda row: row.id)

    async def finish(self, row: Row, verdict: Verdict, now_ms: int) -> bool:
        """False where another deliverer has the row by now, and the verdict was left to it."""
        first, following = _instant(verdict.first_attempt_at_ms), _instant(verdict.next_attempt_at_ms)
        values = (row.id, row.attempts, verdict.state.value, first, following, verdict.error, to_datetime(now_ms))
        return await self._pool.fetchval(SQL["finish"], *values) is not None

    async def give_back(self, row: Row, next_ms: int, reason: str) -> None:
        await self._pool.fetchval(SQL["give_back"], row.id, row.attempts, _instant(row.before_ms), to_datetime(next_ms), reason)

    async def backlog(self) -> dict[State, Backlog]:
        records = await self._pool.fetch(SQL["backlog"])
        return {State(record["state"]): Backlog(record["rows"], to_ms(record["oldest"])) for record in records}


class StoredIds:
    """`Ids` in billing.stripe_objects."""

    def __init__(self, pool: asyncpg.Pool, now_ms: int) -> None:
        self._pool, self._now = pool, to_datetime(now_ms)

    async def get(self, kind: str, key: str) -> str | None:
        found: str | None = await self._pool.fetchval(SQL["stripe_id"], kind, key)
        return found

    async def under(self, kind: str, prefix: str) -> dict[str, str]:
        return {record["key"]: record["stripe_id"] for record in await self._pool.fetch(SQL["stripe_ids_under"], kind, prefix)}

    async def keep(self, kind: str, key: str, stripe_id: str) -> None:
        await self._pool.execute(SQL["keep_stripe_id"], kind, key, stripe_id, self._now)

    async def forget(self, kind: str, key: str) -> None:
        await self._pool.execute(SQL["forget_stripe_id"], kind, key)


def _row(record: asyncpg.Record, claimed_ms: int) -> Row:
    return Row(
        id=record["id"],
        kind=record["kind"],
        org_id=record["org_id"],
        identifier=record["identifier"],
        payload=json.loads(record["payload"]),
        attempts=record["attempts"],
        claimed_ms=claimed_ms,
        before_ms=to_ms(record["before"]) if record["before"] is not None else None,
    )


def _instant(instant_ms: int | None) -> datetime | None:
    return to_datetime(instant_ms) if instant_ms is not None else None
