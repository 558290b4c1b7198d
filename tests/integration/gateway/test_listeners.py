"""A worker accepts for slots that have nobody, for as long as it is told to. Real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from gateway.listeners import Listeners
from weighbridge.sockets import listen


@pytest.fixture
def slots() -> list[socket.socket]:
    return listen("127.0.0.1", 0, 2)


@pytest.fixture
async def runner() -> AsyncIterator[web.ServerRunner]:
    async def handler(_: web.BaseRequest) -> web.Response:
        return web.Response(text="here")

    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    yield runner
    await runner.cleanup()


async def served(address: tuple[str, int], connections: int = 40) -> int:
    """How many of so many connections are answered at once; the kernel spreads them over both slots."""

    async def one() -> bool:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        try:
            async with asyncio.timeout(1):
                return (await reader.read()).endswith(b"here")
        except TimeoutError:
            return False
        finally:
            writer.close()

    return sum(await asyncio.gather(*(one() for _ in range(connections))))


async def test_connections_for_a_slot_without_a_worker_are_accepted_while_it_is_covered(
    slots: list[socket.socket], runner: web.ServerRunner
) -> None:
    address = slots[0].getsockname()
    listeners = Listeners(runner, slots[0].dup().detach(), {1: slots[1].dup().detach()})
    await listeners.open()
    assert 0 < await served(address) < 40
    await listeners.cover([1])
    assert await served(address) == 40
    await listeners.cover([])
    assert 0 < await served(address) < 40
    await listeners.leave()
    for slot in slots:
        slot.close()


async def test_who_leaves_holds_no_socket_open(slots: list[socket.socket], runner: web.ServerRunner) -> None:
    address = slots[0].getsockname()
    listeners = Listeners(runner, slots[0].detach(), {1: slots[1].detach()})
    await listeners.open()
    await listeners.cover([1])
    await listeners.leave()
    await runner.cleanup()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)
