"""What control does unasked: answer what gateways miss, tell them what they were not told, renew, watch the files.

Each duty runs for ever. A store that is away makes it wait and try again, counted and logged once each time it begins.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from billing.api.metrics import ControlMetrics
from metering.model import keys
from metering.model.errors import DependencyUnavailable

log = logging.getLogger(__name__)

AWAY = (RedisError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, DependencyUnavailable)
LISTEN_SECONDS = 5
_AT_ONCE = 256


async def for_ever(name: str, duty: Callable[[], Awaitable[Any]], every_seconds: float, metrics: ControlMetrics) -> None:
    """Do it, wait, do it again."""
    failing = False
    while True:
        try:
            await duty()
            failing = False
        except AWAY as exc:
            metrics.duty_failures.labels(name).inc()
            if not failing:
                log.error("%s must wait: %s", name, exc)
            failing = True
            await asyncio.sleep(1)
        await asyncio.sleep(every_seconds)


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: before Python 3.12, wait_for swallows a cancellation that meets its result."""
    while any(not task.done() for task in tasks):
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=0.5)


async def asked(redis: Redis) -> list[str]:
    """What gateways miss, as soon as there is something; empty after a few quiet seconds."""
    first = await redis.blpop([keys.ASKED], timeout=LISTEN_SECONDS)
    if first is None:
        return []
    more = await redis.lpop(keys.ASKED, _AT_ONCE - 1) or []
    return [entry.decode(errors="replace") for entry in (first[1], *more)]
