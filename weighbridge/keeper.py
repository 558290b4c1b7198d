"""Keep a running system running: start again what dies, and give up, with the reason, on what dies again and again."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from metering.model.clock import Clock
from metering.model.errors import DependencyUnavailable

from .house import House
from .processes import Child
from .stores import start

log = logging.getLogger("weighbridge.up")

_MOST_DEATHS, _WITHIN_SECONDS = 5, 60.0
_LOOK_SECONDS = 0.5
_BACK_OFF_SECONDS = 0.3


async def keep_alive(house: House, changed: Callable[[], None]) -> None:
    """For ever. `changed()` after a process id has changed. Raises DependencyUnavailable where starting again is no use."""
    try:
        async with asyncio.TaskGroup() as group:
            for child in house.children.values():
                group.create_task(_keep_child(child, house.clock, changed))
            group.create_task(_keep_stores(house, changed))
            group.create_task(_follow_workers(house, changed))
    except* DependencyUnavailable as several:
        raise several.exceptions[0] from None


class _Deaths:
    """Counts the deaths of the last minute."""

    def __init__(self, role: str, clock: Clock) -> None:
        self._role, self._clock, self._times = role, clock, deque[float](maxlen=_MOST_DEATHS)

    def add(self, reason: str) -> None:
        now = self._clock.monotonic()
        self._times.append(now)
        if len(self._times) == _MOST_DEATHS and now - self._times[0] < _WITHIN_SECONDS:
            raise DependencyUnavailable(f"{self._role} ended {_MOST_DEATHS} times within a minute: {reason}")


async def _keep_child(child: Child, clock: Clock, changed: Callable[[], None]) -> None:
    deaths = _Deaths(child.role, clock)
    while True:
        pid = child.pid
        code = await child.wait()
        if pid in child.ended_by_us:
            await asyncio.sleep(_LOOK_SECONDS)  # a restart is under way
            continue
        reason = child.last_line or f"exit code {code}"
        log.error("%s ended (exit code %s) and is started again: %s", child.role, code, reason)
        deaths.add(reason)
        await asyncio.sleep(_BACK_OFF_SECONDS)
        await child.start()
        changed()


async def _keep_stores(house: House, changed: Callable[[], None]) -> None:
    deaths = {server.title: _Deaths(server.title, house.clock) for server in house.stores.embedded()}
    while True:
        for server in house.stores.embedded():
            if not server.alive():
                log.error("the embedded %s died and is started again over its data", server.title)
                deaths[server.title].add(f"see {server.log_path}")
                await start(server)
                changed()
        await asyncio.sleep(_LOOK_SECONDS)


async def _follow_workers(house: House, changed: Callable[[], None]) -> None:
    """The supervisor replaces dead workers by itself; the ready file names the living."""
    while True:
        await asyncio.sleep(2)
        state = await house.gateway_state()
        pids = [worker["pid"] for worker in state["workers"]] if state else house.worker_pids
        if pids != house.worker_pids:
            house.worker_pids = pids
            changed()
