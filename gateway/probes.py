"""Active health: each target is asked on its own, over a connection of its own, in every worker.

GET path, then the status alone is read, and the connection closed. What the answers mean is in gateway/health.py.
"""

import asyncio
import logging
import random
from collections.abc import Mapping
from typing import Protocol

from config.gateway import Health
from gateway.dial import Address
from gateway.health import Streak

log = logging.getLogger("weighbridge.gateway")

_LONGEST_LINE = 16_384
_MOST_LINES = 200
_SPREAD = 0.1  # so that workers and targets do not ask in step


class Probed(Protocol):
    """A target; gateway.target.Target."""

    @property
    def address(self) -> Address: ...

    def probed(self, well: bool | None, good: bool) -> None: ...


class Probes:
    """Asks every target that it is `set` to, until `run` is cancelled."""

    def __init__(self, via: bytes) -> None:
        """`via`: who we are, so that a gateway that is asked knows itself."""
        self._via = via
        self._wanted: dict[Probed, Health] = {}
        self._tasks: dict[Probed, tuple[Health, asyncio.Task[None]]] = {}
        self._running = False
        self._broken: asyncio.Future[None] | None = None

    def set(self, wanted: Mapping[Probed, Health]) -> None:
        """Ask these from now on; who is asked already, and in the same way, is not asked anew."""
        self._wanted = dict(wanted)
        if self._running:
            self._follow()

    async def run(self) -> None:
        """For ever; a fault of ours ends it."""
        self._broken = asyncio.get_running_loop().create_future()
        self._running = True
        self._follow()
        try:
            await self._broken
        finally:
            self._running = False
            self._wanted = {}
            self._follow()

    def _follow(self) -> None:
        for target, (health, task) in list(self._tasks.items()):
            if self._wanted.get(target) != health:
                task.cancel()
                del self._tasks[target]
        for target, health in self._wanted.items():
            if target not in self._tasks:
                task = asyncio.get_running_loop().create_task(_ask_for_ever(target, health, self._via))
                task.add_done_callback(self._done)
                self._tasks[target] = (health, task)

    def _done(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and self._broken is not None and not self._broken.done():
            self._broken.set_exception(task.exception() or RuntimeError("a probe ended by itself"))


async def _ask_for_ever(target: Probed, health: Health, via: bytes) -> None:
    streak = Streak(health.healthy, health.unhealthy)
    said: str | None = None
    while True:
        fault = await ask(target.address, health, via)
        well = streak.heard(not fault)
        target.probed(well, not fault)
        if well is False:
            log.warning("target %s fails its health check, GET %s: %s", target.address.url, health.path, fault)
        elif well and said:
            log.info("target %s passes its health check again", target.address.url)
        said = fault if well is False else "" if well else said
        await asyncio.sleep(health.interval_s * random.uniform(1 - _SPREAD, 1 + _SPREAD))


async def ask(address: Address, health: Health, via: bytes) -> str:
    """What is wrong with the answer of the service at `address`; empty if nothing is."""
    reader = asyncio.StreamReader(limit=_LONGEST_LINE)
    request = b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: weighbridge-health\r\nVia: %b\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    transport: asyncio.BaseTransport | None = None
    try:
        async with asyncio.timeout(health.timeout_s):
            protocol = await address.open(lambda: _Asking(reader), health.timeout_s)
            transport = protocol.transport
            protocol.transport.write(request % (address.base_path + health.path.encode(), address.authority, via))
            status = await _status(reader)
    except TimeoutError:
        return f"no answer within {health.timeout_s:g} s"
    except OSError as error:
        return str(error) or type(error).__name__
    except ValueError:
        return "its answer is no HTTP"
    finally:
        if isinstance(transport, asyncio.Transport):
            transport.abort()
    return "" if health.lowest_status <= status <= health.highest_status else f"it answers {status}"


class _Asking(asyncio.StreamReaderProtocol):
    """A protocol that keeps its transport."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] # a stream's transport is one
        super().connection_made(transport)


async def _status(reader: asyncio.StreamReader) -> int:
    """Of the final answer; 1xx ones before it are passed over. Raises ValueError for what is no HTTP."""
    for _ in range(_MOST_LINES):
        line = await reader.readline()
        if not line:
            raise ConnectionResetError("it closed the connection without an answer")
        version, _, rest = line.partition(b" ")
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or not rest[:3].isdigit():
            raise ValueError("no status line")
        status = int(rest[:3])
        if status >= 200:
            return status
        while (await reader.readline()).strip():
            pass
    raise ValueError("too many interim answers")
