"""What control does unasked: answer what gateways miss, tell them what they were not told, renew, watch the files.

Each duty runs for ever. A store that is away makes it wait and try again, counted and logged once each time it begins.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from billing.api.metrics import ControlMetrics

log = logging.getLogger(__name__)

Errors = tuple[type[Exception], ...]


async def for_ever(name: str, duty: Callable[[], Awaitable[Any]], every_seconds: float, metrics: ControlMetrics, *, away: Errors) -> None:
    """Do it, wait, do it again. `away` are the errors of a store that is away; any other ends the process."""
    failing = False
    while True:
        try:
            await duty()
            failing = False
        except away as exc:
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
