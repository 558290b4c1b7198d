"""Work through the inbox: claim events, ask Stripe what their objects are now, write that here. Any number of these may run at once.

No transaction is open while Stripe is asked. Events of one object go one after another; an attempt that was overtaken (its claim ran
out, and somebody else finished the event) is undone whole, so that nothing older is written over something newer.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from billing.model.delivery import Outcome, back_off_ms
from billing.model.webhook import Status
from billing.services.entitlements import Entitlements
from billing.services.ports import Books
from billing.services.ports_stripe import InboxRow
from billing.stripe.client import StripeApi, StripeCallFailed
from billing.stripe.mirror.handling import Done, Found, Handling, NotYet
from billing.stripe.mirror.registry import HANDLINGS
from metering.model.clock import Clock
from metering.model.errors import DependencyUnavailable, WeighbridgeError

MOST_ATTEMPTS = 12  # some hours, by billing/model/delivery.py; a person can retry it for as long as it is kept
_LEASE_MS = 300_000
_ROUND, _AT_ONCE = 64, 8
_WAIT_MS = 10_000  # before an event that must wait is looked at again


class _Overtaken(Exception):
    """Somebody else claimed the event in the meantime."""


@dataclass(slots=True)
class InboxReport:
    """What one run did: (type, status) -> how often; `errors` holds the newest sentence of each type."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: dict[str, str] = field(default_factory=dict)

    def add(self, row: InboxRow, outcome: str) -> None:
        self.outcomes[row.type if row.type in HANDLINGS else "other", outcome] += 1


async def work_through(
    books: Books, stripe: StripeApi, entitlements: Entitlements, clock: Clock, *, limit: int = 1000, event_id: str | None = None,
    jitter: Callable[[], float] = random.random,
) -> InboxReport:  # fmt: skip
    """Until nothing is due, or `limit` were tried. With `event_id` that one alone. Never raises for what Stripe answers."""
    run = _Run(books, stripe, entitlements, clock, jitter)
    left = limit
    while left > 0 and (rows := await run.claim(min(left, _ROUND), event_id)):
        left -= len(rows)
        await run.all(rows)
    return run.report


class _Run:
    def __init__(self, books: Books, stripe: StripeApi, entitlements: Entitlements, clock: Clock, jitter: Callable[[], float]) -> None:
        self.report = InboxReport()
        self._books, self._stripe, self._entitlements, self._clock, self._jitter = books, stripe, entitlements, clock, jitter
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def claim(self, limit: int, event_id: str | None) -> list[InboxRow]:
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            return await unit.inbox.claim(now_ms, now_ms + _LEASE_MS, limit, event_id)

    async def all(self, rows: list[InboxRow]) -> None:
        """Every event to its end, also beside one that fails for a reason of ours (a lost database): that is raised after."""
        for result in await asyncio.gather(*(self._one(row) for row in rows), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _one(self, row: InboxRow) -> None:
        async with self._at_once:
            handling = HANDLINGS.get(row.type)
            if handling is None:
                await self._close(row, Status.IGNORED, "Weighbridge does nothing about events of this type")
                return
            try:
                done = await self._written(row, handling, await self._found(row, handling))
            except _Overtaken:
                return
            except NotYet as reason:
                self.report.add(row, "waiting")
                async with self._books.transaction() as unit:
                    await unit.inbox.give_back(row, self._clock.now_ms() + _WAIT_MS, str(reason))
            except StripeCallFailed as failure:
                await self._failed(row, str(failure), again=failure.outcome is not Outcome.REFUSED)
            except DependencyUnavailable:
                raise
            except (WeighbridgeError, KeyError, ValueError, TypeError, ArithmeticError) as fault:
                # One event that nobody can read must not hold up the others for ever.
                await self._failed(row, str(fault) if isinstance(fault, WeighbridgeError) else f"it cannot be read: {fault!r}", again=True)
            else:
                self.report.add(row, Status.IGNORED if done.ignored else Status.SUCCESS)
                if done.republish:
                    await self._entitlements.tell(done.republish)

    async def _found(self, row: InboxRow, handling: Handling) -> Found | None:
        if handling.resource is None:
            return row.payload
        found = await self._stripe.retrieve(handling.resource, row.object_id, expand=handling.expand)
        return await handling.act(self._stripe, row, found) if handling.act and found is not None else found

    async def _written(self, row: InboxRow, handling: Handling, found: Found | None) -> Done:
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            done = await handling.write(unit, row, found, now_ms)
            status = Status.IGNORED if done.ignored else Status.SUCCESS
            if not await unit.inbox.finish(row, status, done.ignored, None, now_ms):
                raise _Overtaken
        return done

    async def _failed(self, row: InboxRow, reason: str, *, again: bool) -> None:
        self.report.errors[row.type] = reason
        if again and row.attempts < MOST_ATTEMPTS:
            await self._close(row, Status.RECEIVED, reason, self._clock.now_ms() + back_off_ms(row.attempts, self._jitter()))
        else:
            await self._close(row, Status.FAILED, reason)

    async def _close(self, row: InboxRow, status: Status, reason: str, next_ms: int | None = None) -> None:
        async with self._books.transaction() as unit:
            if await unit.inbox.finish(row, status, reason, next_ms, self._clock.now_ms()):
                self.report.add(row, status)
