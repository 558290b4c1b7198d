"""RFC 9110 §7.8, 6455: an upgrade becomes a tunnel; an offer of h2c is passed over."""

import asyncio
import os

import pytest

from .parties import KEY, Call, Client, Origin, Way, answer_ok, get, request, until
from .rig import Payer, Rig

UPGRADE = (
    b"Connection: keep-alive, Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip
SWITCHED = b"\r\n".join(
    [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade",
     b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", b"", b""]
)  # fmt: skip


async def switch(call: Call) -> None:
    """Echo whatever comes, byte by byte, until the other side ends."""
    call.send(SWITCHED)
    while data := await call.reader.read(65_536):
        call.send(data)
        await call.writer.drain()


async def opened(way: Way, key: bytes, target: bytes = b"/") -> Client:
    client = await way.connect()
    client.send(get(target, *UPGRADE, key=key))
    answered = await client.head()
    assert (answered.status, (answered[b"upgrade"] or b"").lower()) == (101, b"websocket")
    assert b"upgrade" in (answered[b"connection"] or b"").lower()
    return client


def frame(payload: bytes, *, masked: bool = True, opcode: int = 2, final: bool = True) -> bytes:
    """One WebSocket frame (RFC 6455 §5.2)."""
    size, mask = len(payload), os.urandom(4) if masked else b""
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else b"\x7f" + size.to_bytes(8, "big")
    head = bytes([0x80 * final | opcode, length[0] | 0x80 * masked]) + length[1:]
    return head + mask + (bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if masked else payload)


async def test_7540_3_2_an_offer_of_h2c_is_passed_over(way: Way, origin: Origin) -> None:
    lines = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ")
    assert (await way.ask(get(b"/", *lines))).status == 200
    seen = origin.calls[0]
    assert not seen.has(b"upgrade")
    if way.direct:  # nginx drops Connection, and with it the word that HTTP2-Settings is a hop's affair
        assert not seen.has(b"http2-settings")


async def test_a_preflight_opens_no_tunnel(direct: Way, origin: Origin) -> None:
    """It needs no key and pays for nothing, so nothing may follow it."""
    origin.answer = switch
    client = await direct.connect()
    lines = (b"Origin: https://a", b"Access-Control-Request-Method: GET", *UPGRADE)
    client.send(b"\r\n".join((b"OPTIONS / HTTP/1.1", b"Host: a.example", *lines, b"", b"")))
    assert (await client.head()).status == 401
    assert origin.calls == []


async def test_6455_4_the_handshake_and_every_byte_pass_and_are_weighed(way: Way, origin: Origin, payer: Payer) -> None:
    origin.answer = switch
    client = await opened(way, payer.key)
    seen = origin.calls[0]
    assert (seen[b"upgrade"], seen[b"sec-websocket-key"]) == (b"websocket", b"dGhlIHNhbXBsZSBub25jZQ==")
    assert (seen[b"connection"] or b"").lower() == b"upgrade"
    assert seen[b"x-org-id"]
    moved = 0
    for size in (0, 1, 125, 126, 70_000):
        data = frame(os.urandom(size))
        client.send(data)
        assert await client.exactly(len(data)) == data
        moved += 2 * len(data)
    client.writer.write_eof()
    assert await client.closed()
    await until(lambda: origin.closed)
    await payer.pays(api=1, bandwidth=moved)


async def test_bytes_sent_behind_the_handshake_are_the_tunnels(direct: Way, origin: Origin) -> None:
    """They are never read as a request, however they look."""
    origin.answer = switch
    client = await direct.connect()
    smuggled = get(b"/smuggled")
    client.send(get(b"/", *UPGRADE) + smuggled)
    assert (await client.head()).status == 101
    assert await client.exactly(len(smuggled)) == smuggled
    assert origin.targets == [b"/"]


async def test_bytes_that_the_service_sends_with_its_101_arrive(way: Way, origin: Origin) -> None:
    async def answer(call: Call) -> None:
        call.send(SWITCHED + frame(b"hello", masked=False))
        await call.gone()

    origin.answer = answer
    client = await opened(way, KEY)
    assert await client.exactly(7) == frame(b"hello", masked=False)


async def test_9110_7_8_a_service_that_does_not_switch_is_heard_and_the_connection_goes_on(way: Way, origin: Origin) -> None:
    client = await way.connect()
    assert (await client.ask(get(b"/", *UPGRADE))).status == 200
    origin.answer = answer_ok
    assert (await client.ask(get(b"/next"))).status == 200


async def test_9110_15_2_2_a_switch_that_nobody_asked_for_is_a_502(direct: Way, origin: Origin) -> None:
    origin.says(SWITCHED + get(b"/smuggled"))
    client = await direct.connect()
    assert (await client.ask(get())).status == 502


async def test_9110_7_8_a_switch_to_what_was_not_offered_is_a_502(direct: Way, origin: Origin) -> None:
    origin.says(SWITCHED.replace(b"Upgrade: websocket", b"Upgrade: irc"))
    assert (await direct.ask(get(b"/", *UPGRADE))).status == 502


async def test_a_switch_in_http_1_0_is_not_made(direct: Way, origin: Origin) -> None:
    """RFC 9110 §7.8: a server ignores Upgrade in HTTP/1.0."""
    answered = await direct.ask(request(*UPGRADE, start=b"GET / HTTP/1.0"))
    assert (answered.status, origin.calls[0].has(b"upgrade")) == (200, False)


async def test_a_tunnel_to_a_service_of_tls_carries_every_byte(way: Way, tls_origin: Origin, payer: Payer) -> None:
    tls_origin.answer = switch
    client = await opened(way, payer.key, b"/tls")
    data = frame(os.urandom(300_000))
    client.send(data)
    assert await client.exactly(len(data)) == data
    client.leave()
    await payer.pays(api=1, bandwidth=2 * len(data))


@pytest.mark.parametrize("who", ["client", "service"])
async def test_either_end_closes_the_other(who: str, way: Way, origin: Origin) -> None:
    gone = asyncio.Event()

    async def answer(call: Call) -> None:
        call.send(SWITCHED)
        if who == "service":
            await call.reader.readexactly(1)
            call.writer.close()
        else:
            await call.gone()
        gone.set()

    origin.answer = answer
    client = await opened(way, KEY)
    if who == "service":
        client.send(b"x")
        assert await client.closed()
    else:
        client.leave()
    async with asyncio.timeout(10):
        await gone.wait()


async def test_a_tunnels_slow_reader_holds_the_other_end_back(direct: Way, origin: Origin, rig: Rig) -> None:
    sent = 0

    async def answer(call: Call) -> None:
        nonlocal sent
        call.send(SWITCHED)
        while sent < 1 << 30:
            call.send(bytes(65_536))
            await call.writer.drain()
            sent += 65_536

    origin.answer = answer
    before = rig.rss()
    client = await opened(direct, KEY)
    client.writer.transport.pause_reading()
    last = -1
    while sent != last:
        last = sent
        await asyncio.sleep(0.3)
    assert sent < 64 << 20
    assert rig.rss() - before < 48 << 20


async def test_a_refused_upgrade_never_reaches_the_service(way: Way, origin: Origin) -> None:
    answered = await way.ask(get(b"/", *UPGRADE, key=b"nobody"))
    assert (answered.status, origin.calls) == (401, [])


async def test_a_body_does_not_hide_behind_an_upgrade(direct: Way, origin: Origin) -> None:
    """RFC 9110 §7.8: a request's body comes first; what then follows a refused switch is a request again."""
    client = await direct.connect()
    client.send(request(*UPGRADE, b"Content-Length: 5", start=b"POST / HTTP/1.1", body=b"hello") + get(b"/next"))
    first = await client.answer()
    assert first.status in (200, 400, 501)
    if first.status == 200:
        assert (origin.calls[0].body_read, (await client.answer()).status) == (b"hello", 200)
