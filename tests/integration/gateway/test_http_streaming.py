"""Bodies flow as fast as the slower side takes them, and are never collected."""

import asyncio
import resource

from config.gateway import Timeouts

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
PIECE = b"x" * 65_536
LARGE = 200_000_000  # more than kernel buffers and the gateway's could ever hold between two sockets
HELD_AT_MOST = 20_000_000
PATIENT = Timeouts(connect_s=1, idle_s=30)


async def standstill(amount) -> int:
    """What `amount()` says once it has not grown for a while."""
    last, still = amount(), 0
    async with asyncio.timeout(20):
        while still < 20:
            await asyncio.sleep(0.01)
            last, still = amount(), still + 1 if amount() == last else 0
    return last


async def test_a_client_that_reads_slowly_slows_the_service_down(serve, gateway, connect):
    sent = 0

    async def script(reader, writer, number):
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
        while sent < LARGE:
            writer.write(PIECE[: LARGE - sent])
            sent += min(len(PIECE), LARGE - sent)
            await writer.drain()

    front = await gateway(await serve(script), timeouts=PATIENT)
    client = await connect(front)
    client.send(GET)
    await client.head()
    assert await standstill(lambda: sent) < HELD_AT_MOST
    got = 0
    while got < LARGE:
        got += len(await client.reader.read(1 << 20))
    outcome = await front.outcome()
    assert (outcome.ended, outcome.bytes_out) == ("complete", LARGE)


async def test_a_service_that_reads_slowly_slows_the_client_down(serve, gateway, connect):
    go, seen = asyncio.Event(), 0

    async def script(reader, writer, number):
        nonlocal seen
        await reader.readuntil(b"\r\n\r\n")
        await go.wait()
        while seen < LARGE:
            seen += len(await reader.read(1 << 20))
        writer.write(OK)

    front = await gateway(await serve(script), timeouts=PATIENT)
    client = await connect(front)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % LARGE)
    sent = 0

    async def send() -> None:
        nonlocal sent
        while sent < LARGE:
            client.send(PIECE[: LARGE - sent])
            sent += min(len(PIECE), LARGE - sent)
            await client.writer.drain()

    sending = asyncio.create_task(send())
    assert await standstill(lambda: sent) < HELD_AT_MOST
    go.set()
    await sending
    assert (await client.answer())[1] == b"ok"
    outcome = await front.outcome()
    assert (outcome.ended, outcome.bytes_in) == ("complete", LARGE)


async def test_a_body_nobody_asked_for_yet_waits_outside(serve, gateway, connect):
    go = asyncio.Event()
    requests = []

    async def later(request, forward):
        requests.append(request)
        await go.wait()
        forward(request)

    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        left = 5_000_000
        while left:
            left -= len(await reader.read(min(left, 1 << 20)))
        writer.write(OK)

    front = await gateway(await serve(script), handler=later)
    client = await connect(front)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 5_000_000)
    await standstill(lambda: requests[0].body_bytes if requests else 0)
    assert 0 < requests[0].body_bytes < 1_000_000
    go.set()
    assert (await client.answer())[1] == b"ok"


async def test_what_is_pipelined_behind_a_slow_request_waits_outside(serve, gateway, connect):
    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()

    client = await connect(await gateway(await serve(script), timeouts=PATIENT))
    sent = 0

    async def send() -> None:
        nonlocal sent
        while True:
            client.send(GET * 1000)
            sent += len(GET) * 1000
            await client.writer.drain()

    sending = asyncio.create_task(send())
    assert await standstill(lambda: sent) < HELD_AT_MOST
    sending.cancel()


async def test_both_bodies_stream_at_once(serve, gateway, connect):
    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            line = await reader.readuntil(b"\r\n")
            piece = await reader.readexactly(int(line, 16) + 2)
            writer.write(line + piece)
        writer.write(b"0\r\n\r\n")
        await reader.readuntil(b"0\r\n\r\n")

    client = await connect(await gateway(await serve(script)))
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send(b"3\r\n000\r\n")
    await client.head()
    for number in range(3):
        assert await client.exactly(8) == b"3\r\n%d%d%d\r\n" % (number, number, number)
        if number < 2:
            client.send(b"3\r\n%d%d%d\r\n" % ((number + 1,) * 3))
    client.send(b"0\r\n\r\n")
    assert await client.exactly(5) == b"0\r\n\r\n"


async def test_many_pieces_of_a_long_stream_leave_nothing_behind(serve, gateway, connect):
    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(400):
            writer.write(b"10000\r\n" + PIECE + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    front = await gateway(await serve(script))
    client = await connect(front)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    client.send(GET)
    await client.head()
    while not (await client.reader.read(1 << 20)).endswith(b"0\r\n\r\n"):
        pass
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 15_000  # of 25 MB that passed, service and client included
    assert (await front.outcome()).bytes_out == 400 * 65_536
