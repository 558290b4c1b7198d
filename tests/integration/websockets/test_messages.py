"""WebSocket messages through running workers: what is counted, for whom, and that endpoints notice nothing of it."""

import asyncio
import os

import pytest
from aiohttp import web

from tests.integration.rules.parties import Client, Way, get, until
from tests.integration.rules.rig import Payer, Rig
from tests.integration.rules.test_tunnels import UPGRADE, frame

from .conftest import Caller, Talk, heard_back


async def settles(payer: Payer, meter: str, messages: int) -> None:
    """Wait until counter and ledger agree on it."""

    def stands() -> tuple[int, int]:
        return payer.counter(meter), payer.rig.ledger(meter, payer.org)

    await until(lambda: stands() == (messages, messages), stands)


async def opened(rig: Rig, payer: Payer, target: bytes, *lines: bytes) -> Client:
    """A WebSocket of raw bytes."""
    client = await Way("direct", rig.host, rig.port).connect()
    client.send(get(target, *(lines or UPGRADE), key=payer.key))
    assert (await client.head()).status == 101
    return client


@pytest.mark.parametrize(("path", "counted"), [("/both", 14), ("/in", 7), ("/out", 7)])
async def test_messages_count_both_ways_or_the_way_that_the_route_names(path: str, counted: int, caller: Caller, talk: Talk) -> None:
    socket = await caller.open(path)
    for size in (0, 1, 125, 126, 65_535, 65_536, 3_000_000):
        await socket.send_bytes(payload := os.urandom(size))
        assert (await socket.receive_bytes(timeout=20)) == payload
    await socket.close()
    await settles(caller.payer, "chatter", counted)
    await caller.payer.pays(api=1)


async def test_each_way_may_have_a_meter_of_its_own(caller: Caller, talk: Talk) -> None:
    async def twice(socket: web.WebSocketResponse, _: Talk) -> None:
        async for message in socket:
            await socket.send_str(message.data)
            await socket.send_str(message.data)

    talk.talk = twice
    socket = await caller.open("/apart")
    for _ in range(5):
        await socket.send_str("hello")
    await heard_back(socket, 10)
    await socket.close()
    await settles(caller.payer, "chatter", 5)
    await settles(caller.payer, "words", 10)


async def test_pings_pongs_and_closes_do_not_count(caller: Caller, talk: Talk) -> None:
    async def pings(socket: web.WebSocketResponse, _: Talk) -> None:
        for _ in range(4):
            await socket.ping(b"x" * 125)
        async for message in socket:
            await socket.send_str(message.data)

    talk.talk = pings
    socket = await caller.open("/both")
    await socket.ping()
    await socket.send_str("one")
    assert await socket.receive_str(timeout=20) == "one"
    await socket.close(code=1000, message=b"bye")
    await settles(caller.payer, "chatter", 2)


async def test_compressed_messages_count_like_others(caller: Caller, talk: Talk) -> None:
    socket = await caller.open("/both", compress=15)
    assert socket.compress
    for n in range(50):
        await socket.send_str(f"{n} " * 1_000)
        await socket.receive_str(timeout=20)
    await socket.close()
    await settles(caller.payer, "chatter", 100)


async def test_many_tunnels_over_two_workers_add_up(rig: Rig, caller: Caller, talk: Talk) -> None:
    async def speaks(count: int) -> None:
        socket = await caller.open("/both")
        for n in range(count):
            await socket.send_str(str(n))
        await heard_back(socket, count)
        await socket.close()

    assert len(rig.workers) == 2
    await asyncio.gather(*(speaks(count) for count in range(20, 60)))
    await settles(caller.payer, "chatter", 2 * sum(range(20, 60)))
    await caller.payer.pays(api=40)


async def test_fragments_are_one_message_however_the_bytes_are_cut(rig: Rig, payer: Payer, talk: Talk) -> None:
    client = await opened(rig, payer, b"/in")
    sent = [
        frame(b"a" * 200, final=False), frame(b"", opcode=9), frame(b"b" * 70_000, opcode=0, final=False), frame(b"c", opcode=0),
        frame(b"whole"), frame(b"", opcode=1),
    ]  # fmt: skip
    stream = b"".join(sent)
    for at in (*range(300), *range(300, len(stream), 997)):
        client.send(stream[at : at + 1] if at < 300 else stream[at : at + 997])
        if at < 300:
            await asyncio.sleep(0)
    await until(lambda: len(talk.heard) == 3)
    assert [len(message.data) for message in talk.heard] == [70_201, 5, 0]
    client.leave()
    await settles(payer, "chatter", 3)


async def test_messages_are_counted_while_a_tunnel_stands(caller: Caller, talk: Talk) -> None:
    socket = await caller.open("/both")
    for _ in range(3):
        await socket.send_str("x")
    await heard_back(socket, 3)
    await settles(caller.payer, "chatter", 6)
    await socket.send_str("x")
    await heard_back(socket, 1)
    await settles(caller.payer, "chatter", 8)
    await socket.close()


async def test_an_ordinary_call_has_no_messages(rig: Rig, payer: Payer, talk: Talk) -> None:
    answered = await Way("direct", rig.host, rig.port).ask(get(b"/both", key=payer.key))
    assert answered.status == 400  # the service's: no handshake
    await payer.pays(api=1)
    assert payer.counter("chatter") == 0


# --- what no one can count ---------------------------------------------------------------------------------------------


async def test_6455_5_1_frames_without_a_mask_go_no_further_and_the_client_is_told(rig: Rig, payer: Payer, talk: Talk) -> None:
    client = await opened(rig, payer, b"/in")
    client.send(frame(b"good"))
    await until(lambda: len(talk.heard) == 1)
    await client.exactly(6)  # its echo
    client.send(frame(b"bad", masked=False))
    told = await client.exactly(24)
    assert (told[:1], told[2:4], told[4:]) == (b"\x88", (1002).to_bytes(2, "big"), b"websocket_unreadable")
    await until(lambda: talk.over == 1)
    assert len(talk.heard) == 1
    await settles(payer, "chatter", 2)  # it counts, though it went nowhere


async def test_6455_5_2_a_length_beyond_63_bits_ends_the_tunnel(rig: Rig, payer: Payer, talk: Talk) -> None:
    client = await opened(rig, payer, b"/in")
    client.send(bytes([0x82, 0xFF]) + (1 << 63).to_bytes(8, "big") + os.urandom(100))
    assert (await client.exactly(24))[:1] == b"\x88"
    await until(lambda: talk.over == 1)
    assert talk.heard == []


async def test_where_only_bytes_are_charged_nobody_looks_at_frames(rig: Rig, payer: Payer, talk: Talk) -> None:
    client = await opened(rig, payer, b"/plain")
    client.send(frame(b"bad", masked=False))
    assert await client.exactly(5) == frame(b"bad", masked=False)  # this service does not mind
    client.leave()
    await payer.pays(api=1, bandwidth=10)


@pytest.mark.parametrize("version", [(), (b"Sec-WebSocket-Version: 0",), (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 0")])
async def test_a_draft_of_websocket_is_no_way_around_the_count(version: tuple[bytes, ...], rig: Rig, payer: Payer) -> None:
    """A service that takes it would be sent messages in frames of another kind."""

    async def switches(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        await reader.read()
        writer.close()

    service = await asyncio.start_server(switches, sock=rig.service.dup())
    try:
        lines = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *version)
        client = await Way("direct", rig.host, rig.port).connect()
        client.send(get(b"/in", *lines, key=payer.key))
        assert (await client.head()).status == 502
        client.leave()
    finally:
        service.close()
        await service.wait_closed()
