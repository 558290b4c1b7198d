"""From one side of Stripe to the next, in Postgres. The SQL is in cutover.sql."""

import asyncpg

from billing.services.ports_stripe import Forgotten, InTheWay, Side
from metering.model.clock import to_datetime
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "cutover.sql")
_HOLD, _LOCK_OUTBOX, _IN_THE_WAY, _ORGS_WITH = _SQL["hold"], _SQL["lock_outbox"], _SQL["in_the_way"], _SQL["orgs_with"]
_BEGIN, _SET_ASIDE, _TELL_ANEW, _FORGET_OBJECTS = _SQL["begin"], _SQL["set_aside"], _SQL["tell_periods_anew"], _SQL["forget_objects"]
_FORGET_METHODS, _FORGET_DEFAULTS, _CLOSE_EVENTS = _SQL["forget_methods"], _SQL["forget_defaults"], _SQL["close_events"]
_STAMP = _SQL["stamp"]


class CutoverTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def hold(self) -> Side | None:
        row = await self._connection.fetchrow(_HOLD)
        await self._connection.execute(_LOCK_OUTBOX)
        return Side(mode=row["stripe_mode"], account=row["account"]) if row else None

    async def in_the_way(self) -> InTheWay:
        return InTheWay(**dict(await self._connection.fetchrow(_IN_THE_WAY)))

    async def orgs_with(self, kind: str) -> list[str]:
        return [row["id"] for row in await self._connection.fetch(_ORGS_WITH, kind)]

    async def move(self, before: Side, after: Side, now_ms: int) -> Forgotten:
        now = to_datetime(now_ms)
        number = await self._connection.fetchval(_BEGIN, before.mode, before.account, after.mode, after.account, now)
        await self._connection.execute(_SET_ASIDE, number, now)
        periods = await self._connection.fetch(_TELL_ANEW, now)
        objects = await self._connection.fetch(_FORGET_OBJECTS)
        methods = await self._connection.fetch(_FORGET_METHODS)
        await self._connection.execute(_FORGET_DEFAULTS)
        await self._connection.execute(_CLOSE_EVENTS, now)
        await self._connection.execute(_STAMP, after.mode, after.account, now)
        return Forgotten(objects=len(objects), methods=len(methods), periods=len(periods))
