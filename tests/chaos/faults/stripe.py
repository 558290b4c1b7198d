"""Stripe's faults, by the sandbox: what it does not answer, refuses, or answers twice, while overages are cut and delivered.

Afterwards its summary is what was overdrawn, to the unit; nothing is in doubt.
"""

import asyncio
from typing import Any, ClassVar

import aiohttp

from tests.chaos.world import World

from .postgres import PostgresFault

_EVENTS = "/v1/billing/meter_events"


class StripeFault(PostgresFault):
    """`wishes` are asked of the sandbox; then overage is cut and delivered a few times, into them."""

    wishes: ClassVar[tuple[dict[str, Any], ...]]

    async def inject(self, world: World) -> None:
        await world.told()  # the plans and meters stand
        for wish in self.wishes:
            await _ask(world, "POST", {"path": _EVENTS, **wish})
        for _ in range(3):
            await asyncio.sleep(0.5)
            await world.cut_and_delivered()

    async def undo(self, world: World) -> None:
        await _ask(world, "DELETE")
        await world.told()


async def _ask(world: World, method: str, wish: dict[str, Any] | None = None) -> None:
    url = f"{world.bench.house.ready['stripe']}/_sandbox/faults"
    async with aiohttp.ClientSession() as session, session.request(method, url, json=wish) as answer:
        assert answer.status == 200, await answer.text()


class TimesOutBefore(StripeFault):
    """Events are swallowed: the connection is held, then dropped."""

    name = "Stripe drops events unanswered, and has not taken them"
    wishes = ({"kind": "timeout_before", "times": 4, "hold_seconds": 0.3},)


class TimesOutAfter(StripeFault):
    """Events are taken, and nobody hears of it: the next try is told that there is one."""

    name = "Stripe takes events and does not answer"
    wishes = ({"kind": "timeout_after", "times": 4, "hold_seconds": 0.3},)


class RateLimits(StripeFault):
    """A storm of 429."""

    name = "Stripe answers 429, twenty times"
    wishes = ({"kind": "rate_limit", "times": 20},)


class StoredErrors(StripeFault):
    """A 500 that comes back for ever under its idempotency key: once for an event that was taken, once for one that was not."""

    name = "Stripe stores its 500, of events taken and not taken"
    wishes = ({"kind": "stored_error", "times": 2}, {"kind": "stored_error_after", "times": 2})


FAULTS = (TimesOutBefore, TimesOutAfter, RateLimits, StoredErrors)
