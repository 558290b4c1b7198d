"""Deliver what is due: claim rows, tell Stripe, write down what came of it. Any number of these may run at once.

No transaction is open while Stripe is called. What an outcome means for a row is decided in billing/model/delivery.py.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg

from billing.model.delivery import Outcome, State, Verdict, judge, may_send, too_late
from billing.stripe.client import StripeApi, StripeCallFailed
from billing.stripe.items import send_invoice_item
from billing.stripe.objects import CannotBeTold, NotYet, ensure_customer, ensure_plan, send_meter_event
from billing.stripe.rows import Backlog, Ids, Outbox, Row, StoredIds
from billing.stripe.subscription import cancel_subscription, ensure_subscription, set_next_price, update_subscription, with_subscription
from billing.stripe.terms import add_discount, remove_discount, send_credit, set_tax, update_customer
from metering.model.clock import Clock

_LEASE_MS = 300_000  # a round of claims fits in: _ROUND / _AT_ONCE calls one after another, each ended by its timeout
_ROUND, _AT_ONCE = 128, 16
_WAIT_MS = 10_000  # before a row whose prerequisite is missing is looked at again

Delivery = Callable[[StripeApi, Ids, Row, int], Awaitable[None]]
DELIVERIES: dict[str, Delivery] = {
    "ensure_customer": lambda api, ids, row, _now_ms: ensure_customer(api, ids, row),
    "ensure_plan": lambda api, ids, row, _now_ms: ensure_plan(api, ids, row),
    "ensure_subscription": ensure_subscription,
    "meter_event": lambda api, ids, row, _now_ms: send_meter_event(api, ids, row),
    "update_subscription": update_subscription,
    "next_price": lambda api, ids, row, _now_ms: set_next_price(api, ids, row),
    "update_customer": lambda api, ids, row, _now_ms: update_customer(api, ids, row),
    "set_tax": with_subscription(set_tax),
    "credit": lambda api, ids, row, _now_ms: send_credit(api, ids, row),
    "add_discount": with_subscription(add_discount),
    "remove_discount": with_subscription(remove_discount),
    "invoice_item": lambda api, ids, row, _now_ms: send_invoice_item(api, ids, row),
    "cancel_subscription": lambda api, ids, row, _now_ms: cancel_subscription(api, ids, row),
}


@dataclass(slots=True)
class DeliveryReport:
    """What one run did. `calls` counts (kind, outcome) for metrics; `errors` holds the newest sentence of each kind."""

    delivered: int = 0
    retried: int = 0
    dead: int = 0
    unknown: int = 0
    waiting: int = 0
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: dict[str, str] = field(default_factory=dict)
    backlog: Mapping[State, Backlog] = field(default_factory=dict)

    @property
    def pending(self) -> int:
        """Rows that are still to go, here or with another deliverer."""
        found = self.backlog.get(State.PENDING)
        return found.rows if found else 0

    def add(self, row: Row, outcome: str, verdict: Verdict) -> None:
        self.calls[row.kind, outcome] += 1
        self.delivered += verdict.state is State.DELIVERED
        self.retried += verdict.state is State.PENDING
        self.dead += verdict.state is State.DEAD
        self.unknown += verdict.state is State.UNKNOWN
        if verdict.error:
            self.errors[row.kind] = verdict.error


async def deliver_due(
    pool: asyncpg.Pool, stripe: StripeApi, clock: Clock, *, limit: int = 1000, jitter: Callable[[], float] = random.random
) -> DeliveryReport:
    """Deliver until nothing is due, or `limit` rows were tried. Never raises for what Stripe answers."""
    run = _Run(pool, stripe, clock, jitter)
    left = limit
    while left > 0 and (rows := await run.claim(min(left, _ROUND))):
        left -= len(rows)
        await run.all(rows)
    run.report.backlog = await run.outbox.backlog()
    return run.report


class _Run:
    def __init__(self, pool: asyncpg.Pool, stripe: StripeApi, clock: Clock, jitter: Callable[[], float]) -> None:
        self.outbox, self.report = Outbox(pool), DeliveryReport()
        self._pool, self._stripe, self._clock, self._jitter = pool, stripe, clock, jitter
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def claim(self, limit: int) -> list[Row]:
        return await self.outbox.claim(list(DELIVERIES), self._clock.now_ms(), _LEASE_MS, limit)

    async def all(self, rows: Sequence[Row]) -> None:
        """Every row to its end, also beside one that fails for a reason of ours (a lost database): that is raised after."""
        for result in await asyncio.gather(*(self._one(row) for row in rows), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _one(self, row: Row) -> None:
        async with self._at_once:
            if not may_send(row.attempt, self._clock.now_ms()):
                await self._finish(row, "not_sent", too_late(row.attempt))
                return
            try:
                outcome, reason = await self._attempt(row)
            except NotYet as exc:
                self.report.waiting += 1
                await self.outbox.give_back(row, self._clock.now_ms() + _WAIT_MS, str(exc))
                return
            now_ms = self._clock.now_ms()
            await self._finish(row, outcome.value, judge(row.attempt, outcome, reason=reason, now_ms=now_ms, jitter=self._jitter()))

    async def _attempt(self, row: Row) -> tuple[Outcome, str]:
        now_ms = self._clock.now_ms()
        try:
            await DELIVERIES[row.kind](self._stripe, StoredIds(self._pool, now_ms), row, now_ms)
        except StripeCallFailed as failure:
            return failure.outcome, str(failure)
        except CannotBeTold as fault:
            return Outcome.REFUSED, str(fault)
        except (KeyError, ValueError, ArithmeticError) as fault:
            # One row that nobody can read must not hold up the others for ever.
            return Outcome.REFUSED, f"the payload cannot be read: {fault!r}"
        return Outcome.ACCEPTED, ""

    async def _finish(self, row: Row, outcome: str, verdict: Verdict) -> None:
        if await self.outbox.finish(row, verdict, self._clock.now_ms()):
            self.report.add(row, outcome, verdict)
