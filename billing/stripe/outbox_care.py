"""Outbox rows that stopped: look at them, and send them again where that cannot double anything.

- A dead row was refused. Once its cause is gone it may go again; a meter event of which an earlier attempt may have been accepted, only
  while Stripe remembers its identifier.
- An unknown row may stand at Stripe or not. Stripe is asked what it has added up in the minute of the event: with this row, the row is
  delivered; without it, it goes again; anything else is for a person.
"""

import asyncio

import asyncpg

from billing.model.delivery import FORGOTTEN_AFTER_MS, State
from billing.services.logs import OutboxLog
from billing.services.ports_outbox import Kept, MayDouble
from billing.stripe.client import StripeApi
from billing.stripe.rows import METER_EVENT, StoredIds
from metering.model.clock import Clock, to_datetime
from metering.model.errors import Conflict, DependencyUnavailable
from metering.store.postgres import Queries

SQL = Queries.load("billing.store", "outbox_care.sql")
_MINUTE = 60


class OutboxCare:
    """`stripe` None: dead rows can go again, unknown ones wait for somebody who can ask. `settle_seconds` lie between the two looks at
    Stripe's sums, which become consistent in time."""

    def __init__(self, pool: asyncpg.Pool, rows: OutboxLog, stripe: StripeApi | None, clock: Clock, *, settle_seconds: float = 3.0) -> None:
        self._pool, self._rows, self._stripe, self._clock, self._settle = pool, rows, stripe, clock, settle_seconds

    async def retry(self, ref: str) -> Kept:
        """As it stands afterwards. Raises NoSuchRow, MayDouble, Conflict for a row that has not stopped, DependencyUnavailable."""
        row = await self._rows.one(ref)
        if row.state is State.DEAD:
            await self._again(row, self._first_attempt(row))
        elif row.state is State.UNKNOWN:
            await self._reconciled(row)
        else:
            raise Conflict(f"outbox row {row.id} is {row.state}: only one that is dead or unknown is sent again by hand")
        return await self._rows.one(str(row.id))

    def _first_attempt(self, row: Kept) -> int | None:
        """What a dead row begins again with. Raises MayDouble."""
        if row.kind != METER_EVENT or row.attempts <= 1 or row.first_attempt_ms is None:
            return None  # it looks for itself first, or its only attempt was refused
        if self._clock.now_ms() >= row.first_attempt_ms + FORGOTTEN_AFTER_MS:
            raise MayDouble(
                f"outbox row {row.id} was tried {row.attempts} times, the first more than 23 hours ago: Stripe may hold it and have "
                "forgotten its identifier. Run `weighbridge reconcile`, and correct what it names."
            )
        return row.first_attempt_ms

    async def _reconciled(self, row: Kept) -> None:
        at = int(row.payload["timestamp"]) // _MINUTE * _MINUTE
        beside = await self._pool.fetch(SQL["same_minute"], row.org_id, row.payload["meter"], at, at + _MINUTE)
        if any(each["state"] == State.PENDING for each in beside):
            raise MayDouble(f"another row of this minute is on its way: retry {row.id} once `weighbridge outbox list` shows none")
        told = sum(each["value"] for each in beside if each["state"] == State.DELIVERED)
        lost = sum(each["value"] for each in beside if each["state"] == State.UNKNOWN)
        there = await self._sum(row, at)
        if there == told + lost and lost:
            for each in beside:
                if each["state"] == State.UNKNOWN:
                    await self._pool.fetchval(SQL["was_delivered"], each["id"], to_datetime(self._clock.now_ms()))
        elif there == told:
            await self._again(row, None)
        else:
            raise MayDouble(
                f"Stripe has {there} {row.payload['meter']} in the minute of outbox row {row.id}; {told} were told and {lost} may have "
                "been: neither all of it nor none. Compare with `weighbridge reconcile`."
            )

    async def _sum(self, row: Kept, at: int) -> int:
        """Twice the same, or it is not believed. Raises MayDouble, DependencyUnavailable."""
        if self._stripe is None:
            raise DependencyUnavailable("an unknown row is held against Stripe's sums, and there is no Stripe to ask: set STRIPE_API_KEY")
        ids = StoredIds(self._pool, self._clock.now_ms())
        customer, meter = await ids.get("customer", row.org_id), await ids.get("meter", row.payload["meter"])
        if customer is None or meter is None:
            return 0  # nothing could have been accepted
        first = await self._stripe.usage_sum(meter, customer, at, at + _MINUTE)
        await asyncio.sleep(self._settle)
        if await self._stripe.usage_sum(meter, customer, at, at + _MINUTE) != first:
            raise MayDouble(f"Stripe's sum in the minute of outbox row {row.id} is still moving: try again in some minutes")
        return first

    async def _again(self, row: Kept, first_attempt_ms: int | None) -> None:
        """Its idempotency key counts on from the attempts it had."""
        first = to_datetime(first_attempt_ms) if first_attempt_ms is not None else None
        if await self._pool.fetchval(SQL["again"], row.id, row.state.value, first, row.attempts) is None:
            raise Conflict(f"outbox row {row.id} changed in the meantime: look at it again")
