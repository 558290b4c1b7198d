"""Deliver the events that are due, in whatever number of processes at once. What an answer means is in billing/model/hook_delivery.py.

A delivery is claimed, with its attempt counted, in a transaction of its own; sent with no transaction open; and what came of it is stored
right after. A process killed in between leaves one that comes back when its claim runs out, and goes out again under the same id.
Endpoints are served beside each other, and one that does not answer is left alone until the next run: it holds up no other for longer
than a single answer may take.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from billing.model.hook import signed
from billing.model.hook_delivery import DeliveryState, judge
from billing.services.hooks import KEPT_DAYS
from billing.services.ports import Books
from billing.services.ports_hooks import Claimed, HookChannel
from metering.model.clock import Clock

_CLAIM_MS = 60_000  # an attempt fits in: the channel ends it before
_AT_ONCE = 16  # endpoints served beside each other
_MOST_A_RUN = 200  # deliveries of one endpoint; the next run goes on
_DAY_MS = 86_400_000


@dataclass(slots=True)
class HookReport:
    """What one run did, by `state`: delivered, retried, failed. `disabled`: endpoints that get no more events, and why."""

    states: Counter[str] = field(default_factory=Counter)
    disabled: dict[str, str] = field(default_factory=dict)


class HookDelivery:
    def __init__(self, books: Books, channel: HookChannel, clock: Clock, *, jitter: Callable[[], float] = random.random) -> None:
        self._books, self._channel, self._clock, self._jitter = books, channel, clock, jitter

    async def send_due(self) -> HookReport:
        """Until nothing is due, or an endpoint had enough for one run. Raises DatabaseUnreachable."""
        report, places = HookReport(), asyncio.Semaphore(_AT_ONCE)
        async with self._books.transaction() as unit:
            due = await unit.hooks.endpoints_due(self._clock.now_ms())

        async def serve(endpoint_id: str) -> None:
            async with places:
                await self._serve(endpoint_id, report)

        ended = await asyncio.gather(*(serve(endpoint_id) for endpoint_id in due), return_exceptions=True)
        for fault in ended:  # one that could not be served held up no other
            if fault is not None:
                raise fault
        return report

    async def forget(self) -> int:
        """Events that are older than they are kept. How many."""
        async with self._books.transaction() as unit:
            return await unit.hooks.forget(self._clock.now_ms() - KEPT_DAYS * _DAY_MS)

    async def _serve(self, endpoint_id: str, report: HookReport) -> None:
        for _ in range(_MOST_A_RUN):
            now_ms = self._clock.now_ms()
            async with self._books.transaction() as unit:
                claimed = await unit.hooks.claim(endpoint_id, now_ms, now_ms + _CLAIM_MS)
            if claimed is None or not await self._one(claimed, report):
                return

    async def _one(self, claimed: Claimed, report: HookReport) -> bool:
        """Whether the next is worth trying now."""
        post = signed(claimed.event, claimed.endpoint.url, claimed.secrets, self._clock.now_ms())
        reply = await self._channel.post(post)
        now_ms = self._clock.now_ms()
        failing_ms = claimed.endpoint.failing_since_ms
        verdict = judge(reply, claimed.attempt, failing_since_ms=failing_ms, now_ms=now_ms, jitter=self._jitter())
        async with self._books.transaction() as unit:
            stored = await unit.hooks.finish(claimed, verdict, reply, now_ms)
        if stored:
            report.states["retried" if verdict.state is DeliveryState.WAITING else verdict.state.value] += 1
        if verdict.disable:
            report.disabled[claimed.endpoint.id] = verdict.disable
        return not reply.hopeless and verdict.disable is None
