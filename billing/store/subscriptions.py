"""Subscriptions in Postgres. The SQL is in subscriptions.sql."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from billing.model import subscription_terms
from billing.model.cycle import Bounds
from billing.model.subscription import GOING_ON, PlanVersion, Subscription
from billing.store import rows
from metering.model.clock import to_datetime
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "subscriptions.sql")
_INSERT, _OF_ORG, _LATEST, _PUT = _SQL["insert"], _SQL["of_org"], _SQL["latest"], _SQL["put"]
_BEHIND, _MOVE, _SCHEDULE, _DUE, _END = _SQL["behind"], _SQL["move"], _SQL["schedule"], _SQL["due"], _SQL["end"]
_ORGS_DUE, _END_USAGE_PERIOD = _SQL["orgs_due"], _SQL["end_usage_period"]
_AUTO_DOWNGRADE, _SET_AUTO_DOWNGRADE = _SQL["auto_downgrade"], _SQL["set_auto_downgrade"]
_NOBODY = str(UUID(int=0))


class SubscriptionTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def insert(self, subscription: Subscription, now_ms: int) -> None:
        s, trial = subscription, subscription.trial
        await self._connection.execute(
            _INSERT, s.id, s.org_id, s.plan, s.plan_version, s.state.value, to_datetime(s.anchor_ms), s.interval.value, s.currency,
            s.amount, s.trial_days, to_datetime(now_ms), s.interval_count, s.zone, *_bounds(s.period), s.paid,
            *_bounds((trial.start_ms, trial.end_ms) if trial else None), _terms(s),
        )  # fmt: skip

    async def of_org(self, org_id: str) -> Subscription | None:
        row = await self._connection.fetchrow(_OF_ORG, org_id)
        return rows.subscription(row) if row else None

    async def latest(self, org_id: str) -> Subscription | None:
        row = await self._connection.fetchrow(_LATEST, org_id)
        return rows.subscription(row) if row else None

    async def put(self, subscription: Subscription) -> None:
        s, trial, awaited = subscription, subscription.trial, subscription.awaited
        former = trial.former if trial else None
        due_ms = None if awaited is None else s.period[1] if s.period else s.anchor_ms
        await self._connection.execute(
            _PUT, s.id, s.plan, s.plan_version, s.state.value, to_datetime(s.anchor_ms), s.interval.value, s.amount, s.interval_count,
            s.zone, *_bounds(s.period), s.paid, rows.instant(s.next_anchor_ms), *_version(awaited), rows.instant(due_ms),
            *_bounds((trial.start_ms, trial.end_ms) if trial else None), *_version(former), rows.instant(s.cancel_at_ms), s.cancel_reason,
            rows.instant(s.canceled_at_ms), rows.instant(s.paused_at_ms), s.auto_renew, _terms(s), s.revision, rows.instant(s.ended_at_ms),
        )  # fmt: skip

    async def behind(self, plan: str, version: int) -> list[tuple[Subscription, int | None]]:
        found = await self._connection.fetch(_BEHIND, plan, version)
        return [(s, row["next_plan_version"]) for row in found if (s := rows.subscription(row))]

    async def move(self, moved: Sequence[Subscription]) -> None:
        await self._connection.execute(_MOVE, [s.org_id for s in moved], [s.plan_version for s in moved], [s.amount for s in moved])

    async def schedule(self, org_ids: Sequence[str], version: int, at_ms: Sequence[int]) -> None:
        await self._connection.execute(_SCHEDULE, list(org_ids), version, [to_datetime(at) for at in at_ms])

    async def due(self, now_ms: int, limit: int) -> list[tuple[Subscription, int]]:
        found = await self._connection.fetch(_DUE, to_datetime(now_ms), limit)
        return [(s, row["next_plan_version"]) for row in found if (s := rows.subscription(row))]

    async def end(self, org_id: str, state: str, now_ms: int) -> None:
        await self._connection.execute(_END, org_id, state, to_datetime(now_ms))

    async def orgs_due(self, now_ms: int, after: str | None, limit: int) -> list[str]:
        found = await self._connection.fetch(_ORGS_DUE, to_datetime(now_ms), after or _NOBODY, limit, [state.value for state in GOING_ON])
        return [str(row["org_id"]) for row in found]

    async def end_usage_period(self, org_id: str, at_ms: int) -> None:
        await self._connection.execute(_END_USAGE_PERIOD, org_id, to_datetime(at_ms))

    async def auto_downgrade(self) -> bool:
        return bool(await self._connection.fetchval(_AUTO_DOWNGRADE))

    async def set_auto_downgrade(self, enabled: bool) -> None:
        await self._connection.execute(_SET_AUTO_DOWNGRADE, enabled)


def _bounds(bounds: Bounds | None) -> tuple[datetime | None, datetime | None]:
    return (to_datetime(bounds[0]), to_datetime(bounds[1])) if bounds else (None, None)


def _version(version: PlanVersion | None) -> tuple[str | None, int | None]:
    return (version.plan, version.version) if version else (None, None)


def _terms(subscription: Subscription) -> str | None:
    return rows.jsonb(subscription_terms.to_json(subscription.terms)) if subscription.terms else None
