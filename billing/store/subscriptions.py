"""Subscriptions in Postgres. The SQL is in subscriptions.sql."""

from collections.abc import Sequence

import asyncpg

from billing.model.subscription import Subscription
from billing.store import rows
from metering.model.clock import to_datetime
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "subscriptions.sql")
_INSERT, _OF_ORG, _BEHIND, _MOVE = _SQL["insert"], _SQL["of_org"], _SQL["behind"], _SQL["move"]
_SCHEDULE, _DUE, _END = _SQL["schedule"], _SQL["due"], _SQL["end"]


class SubscriptionTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def insert(self, subscription: Subscription, now_ms: int) -> None:
        s = subscription
        await self._connection.execute(
            _INSERT, s.org_id, s.plan, s.plan_version, s.state.value, to_datetime(s.anchor_ms), s.interval.value, s.currency,
            s.amount, s.trial_days, to_datetime(now_ms),
        )  # fmt: skip

    async def of_org(self, org_id: str) -> Subscription | None:
        row = await self._connection.fetchrow(_OF_ORG, org_id)
        return rows.subscription(row) if row else None

    async def behind(self, plan: str, version: int) -> list[tuple[Subscription, int | None]]:
        found = await self._connection.fetch(_BEHIND, plan, version)
        return [(s, row["next_plan_version"]) for row in found if (s := rows.subscription(row))]

    async def move(self, moved: Sequence[Subscription]) -> None:
        await self._connection.execute(
            _MOVE, [s.org_id for s in moved], [s.plan_version for s in moved], [s.amount for s in moved], [s.interval.value for s in moved]
        )

    async def schedule(self, org_ids: Sequence[str], version: int, at_ms: Sequence[int]) -> None:
        await self._connection.execute(_SCHEDULE, list(org_ids), version, [to_datetime(at) for at in at_ms])

    async def due(self, now_ms: int, limit: int) -> list[tuple[Subscription, int]]:
        found = await self._connection.fetch(_DUE, to_datetime(now_ms), limit)
        return [(s, row["next_plan_version"]) for row in found if (s := rows.subscription(row))]

    async def end(self, org_id: str, state: str, now_ms: int) -> None:
        await self._connection.execute(_END, org_id, state, to_datetime(now_ms))
