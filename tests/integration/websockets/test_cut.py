"""Tunnels and limits: one that stands while a limit is reached is cut off, and its client is told why where that can be said."""

import asyncio
import contextlib

import aiohttp
import pytest
from aiohttp import web

from tests.integration.rules.parties import Way, get, until
from tests.integration.rules.rig import Payer, Rig

from .conftest import Caller, Talk

pytestmark = pytest.mark.long

FEW, NARROW_BYTES = 50, 100_000


async def until_cut(socket: aiohttp.ClientWebSocketResponse, send: bytes = b"x") -> int:
    """Speak until the tunnel ends; how many messages came back."""
    back = 0
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(ConnectionError):  # what was said before it ended can still be heard
                await socket.send_bytes(send)
            message = await socket.receive(timeout=20)
            if message.type is not aiohttp.WSMsgType.BINARY:
                return back
            back += 1
            await asyncio.sleep(0.01)


async def refused(rig: Rig, payer: Payer, path: bytes) -> bool:
    return (await Way("direct", rig.host, rig.port).ask(get(path, key=payer.key))).status == 429


async def test_a_tunnel_is_cut_when_its_messages_are_used_up_and_the_client_told_why(rig: Rig, caller: Caller, talk: Talk) -> None:
    socket = await caller.open("/few")
    back = await until_cut(socket)
    assert back >= FEW // 2  # each message went there and came back
    assert socket.close_code == 1008
    await until(lambda: talk.over == 1)
    await until(lambda: caller.payer.counter("words") >= FEW)
    assert await refused(rig, caller.payer, b"/few")
    await until(lambda: rig.metric("weighbridge_cut_total") > 0)


async def test_a_tunnel_is_cut_when_its_bytes_are_used_up(rig: Rig, caller: Caller, talk: Talk) -> None:
    socket = await caller.open("/narrow")
    await until_cut(socket, b"x" * 10_000)
    await until(lambda: talk.over == 1)
    await until(lambda: caller.payer.counter("volume") >= NARROW_BYTES)
    assert await refused(rig, caller.payer, b"/narrow")


async def test_what_a_tunnel_of_another_worker_uses_up_cuts_this_one_too(rig: Rig, caller: Caller, talk: Talk) -> None:
    """They are many, so that both workers have some; none of them speaks enough alone."""
    sockets = [await caller.open("/few") for _ in range(12)]
    for _ in range(3):
        for socket in sockets:
            await socket.send_str("x")
    await until(lambda: caller.payer.counter("words") >= FEW)
    await asyncio.gather(*(until_cut(socket) for socket in sockets))
    await until(lambda: talk.over == len(sockets))


async def test_a_silent_tunnel_stands_until_it_speaks(rig: Rig, caller: Caller, talk: Talk) -> None:
    silent, loud = await caller.open("/few"), await caller.open("/few")
    await until_cut(loud)
    await until(lambda: talk.over == 1)
    assert not silent.closed
    await until_cut(silent)
    await until(lambda: talk.over == 2)


async def test_the_client_is_told_between_two_frames_or_not_at_all(rig: Rig, caller: Caller, talk: Talk) -> None:
    """A service in the middle of a message of its own: a Close frame there would be taken for payload."""

    async def half(socket: web.WebSocketResponse, _: Talk) -> None:
        assert socket._writer is not None
        socket._writer.transport.write(b"\x82\x7f" + (1 << 40).to_bytes(8, "big"))
        while True:
            message = await socket.receive()
            if message.type is not aiohttp.WSMsgType.BINARY:
                return
            socket._writer.transport.write(b"\0")

    talk.talk = half
    socket = await caller.open("/few")
    sent = 0
    async with asyncio.timeout(20):
        while not socket.closed and talk.over == 0:
            try:
                await socket.send_bytes(b"x")
            except ConnectionError:
                break
            sent += 1
            await asyncio.sleep(0.01)
    await until(lambda: talk.over == 1)
    assert sent >= FEW
    assert (await socket.receive(timeout=20)).type in (aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING)
    assert socket.close_code != 1008


async def test_a_limit_of_another_meter_leaves_a_tunnel_alone(rig: Rig, caller: Caller, talk: Talk) -> None:
    socket = await caller.open("/both")
    assert not await refused(rig, caller.payer, b"/few")
    await until_cut(await caller.open("/few"))
    for _ in range(5):
        await socket.send_str("x")
        assert await socket.receive_str(timeout=20) == "x"
        await asyncio.sleep(0.3)
    await socket.close()


async def test_where_bytes_are_cut_off_exactly_messages_count_beside_them(rig: Rig, caller: Caller, talk: Talk) -> None:
    """A quota that cuts draws its bytes before they pass: nothing of it is looked at, and what is drawn can still be had."""
    socket = await caller.open("/exact")
    back = await until_cut(socket, b"x" * 1_000)
    await until(lambda: talk.over == 1)
    assert 2 * 1_000 * back <= NARROW_BYTES
    await until(lambda: 2 * 1_000 * back < caller.payer.counter("tight") <= NARROW_BYTES, lambda: (back, caller.payer.counter("tight")))
    await until(lambda: 2 * back <= caller.payer.counter("chatter") <= 2 * back + 2, lambda: (back, caller.payer.counter("chatter")))
