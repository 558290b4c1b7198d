"""The service's faults, and the clients': what was the service's fault is given back, what a client broke off is paid for.

Every call has its status within the route's time-outs, and every call is settled or returned.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from tests.chaos.fault import AMONG_OTHERS_MS, Fault
from tests.chaos.load import Load
from tests.chaos.world import IDLE_SECONDS, World
from tests.e2e.exactly import Ask, Crowd

_BAD, _LATE, _BROKEN = 502, 504, 0


class ServiceFault(Fault):
    """`answer` stands in the service's place for a while. One in three calls is answered as ever, so that both happen at once."""

    lasts_seconds = 4.0
    answer: ClassVar[Callable[[str, asyncio.StreamWriter], Awaitable[None]]]

    async def inject(self, world: World) -> None:
        service, calls = world.bench.service, 0
        well: Callable[..., Awaitable[None]] = service._answer

        async def answer(head: str, org: str, reader: Any, writer: asyncio.StreamWriter) -> None:
            nonlocal calls
            calls += 1
            if calls % 3 == 0:
                await well(head, org, reader, writer)
            else:
                await type(self).answer(head, writer)

        service._answer = answer  # type: ignore[method-assign]

    async def undo(self, world: World) -> None:
        del world.bench.service._answer

    def holds(self, world: World, load: Load) -> list[str]:
        met = sum(a.status in self.refused for a in load.meanwhile())
        return [] if met else ["no call met the fault"]


async def _hang(head: str, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(4 * IDLE_SECONDS)
    raise ConnectionResetError


async def _reset_within_body(head: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly the beginning")
    await writer.drain()
    await asyncio.sleep(0.02)
    writer.transport.abort()
    raise ConnectionResetError


async def _garbage(head: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n\x00\xff")
    await writer.drain()
    raise ConnectionResetError


async def _die(head: str, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    raise ConnectionResetError


class Hangs(ServiceFault):
    """It takes calls and says nothing."""

    name = "service hangs: two of three calls are never answered, for 4 s"
    refused = frozenset({_LATE})
    waits_ms = 1000 * IDLE_SECONDS + AMONG_OTHERS_MS
    waits = f"a service that says nothing is waited for as long as its route says, here {IDLE_SECONDS} s"
    answer = _hang


class ResetsWithinTheBody(ServiceFault):
    """It breaks off in the middle of an answer, which then never looks whole."""

    name = "service breaks off within the body of two of three answers, for 4 s"
    refused = frozenset({_BROKEN})
    answer = _reset_within_body


class AnswersGarbage(ServiceFault):
    """What it says is no HTTP."""

    name = "service answers two of three calls with garbage, for 4 s"
    refused = frozenset({_BAD})
    answer = _garbage


class DiesWithCalls(ServiceFault):
    """It takes calls and its connections break without a word."""

    name = "service dies with two of three calls, for 4 s"
    refused = frozenset({_BAD})
    answer = _die


class ClientsVanish(Fault):
    """Clients of the same customers break off at any moment of their calls; each is charged, or given back where it never went on."""

    name = "64 clients at a time that break off within their calls, for 4 s"

    async def inject(self, world: World) -> None:
        customers = await world.bench.customers("open", 2)
        crowd = Crowd(world.bench.house.gateway, 64)
        asks = [Ask("/slow", customer.keys[0], customer.id) for customer in customers for _ in range(400)]
        await crowd.leave(asks, lambda: world.rng.random() * 0.06)


class Slowloris(Fault):
    """Clients that send a head byte by byte and never end it, and clients that never read; the others are served on."""

    name = "200 clients that send heads byte by byte (slowloris), for 4 s"
    lasts_seconds = 4.0

    async def inject(self, world: World) -> None:
        address = Crowd(world.bench.house.gateway, 1).address
        self._clients = [asyncio.create_task(self._dawdle(address)) for _ in range(200)]

    async def _dawdle(self, address: Any) -> None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(*address)
            try:
                for byte in b"POST /x HTTP/1.1\r\nHost: api\r\nX-Slow: " + b"z" * 1000:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.2)
            finally:
                writer.transport.abort()

    async def undo(self, world: World) -> None:
        for client in self._clients:
            client.cancel()
        await asyncio.wait(self._clients)


FAULTS = (Hangs, ResetsWithinTheBody, AnswersGarbage, DiesWithCalls, ClientsVanish, Slowloris)
