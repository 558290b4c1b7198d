"""A byte quota that cuts, framing by framing: what fits passes whole, what does not is seen to be broken off, and all counts agree."""

import asyncio
from typing import Any

import pytest

from config.gateway import Fixed, Weighed
from metering.model.quota import Quota

from .rig import House, request

pytestmark = pytest.mark.timeout(60)


def bandwidth(limit: int) -> Quota:
    return Quota(meter="bandwidth", limit=limit, at_limit="cut")


def answering(answer: bytes, *, closes: bool = False) -> Any:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            if closes:
                return

    return script


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + end


def counted(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def at_rest(house: House, expected: int) -> None:
    """Counter, ledger and what passed are one number, and nothing is in anybody's hand."""
    await house.settled()
    assert house.in_hand() == 0
    assert (await house.counter(), await house.ledger()) == (expected, expected)


# --- responses ----------------------------------------------------------------------------------------------------------


async def test_a_response_whose_length_is_known_passes_whole_or_is_a_429(house: House, serve: Any, client: Any) -> None:
    await serve(answering(counted(b"x" * 600)))
    await house.limits(bandwidth(1000))
    one = await client(await house.open())
    one.writer.write(request())
    head = await one.head()
    assert head.startswith(b"HTTP/1.1 200")
    assert await one.body(head) == (b"x" * 600, True)
    one.writer.write(request())
    head = await one.head()
    body, whole = await one.body(head)
    assert head.startswith(b"HTTP/1.1 429")
    assert whole
    assert b'"quota":1000' in body
    assert b'"service":"bandwidth"' in body
    await at_rest(house, 600)


async def test_a_response_that_fits_exactly_uses_the_quota_up_and_the_next_call_is_refused_at_admission(
    house: House, serve: Any, client: Any
) -> None:
    await serve(answering(counted(b"x" * 500)))
    await house.limits(bandwidth(1000))
    one = await client(await house.open())
    statuses = []
    for _ in range(4):
        one.writer.write(request())
        head = await one.head()
        await one.body(head)
        statuses.append(int(head.split()[1]))
    assert statuses == [200, 200, 429, 429]
    await at_rest(house, 1000)
    assert await house.ledger("api") == 2


@pytest.mark.parametrize("method", ["HEAD", "GET204"])
async def test_answers_without_a_body_draw_nothing(house: House, serve: Any, client: Any, method: str) -> None:
    nothing = b"HTTP/1.1 204 No Content\r\n\r\n" if method == "GET204" else b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
    await serve(answering(nothing))
    await house.limits(bandwidth(10))
    one = await client(await house.open())
    for _ in range(3):
        one.writer.write(request(method[:4] if method == "HEAD" else "GET"))
        assert int((await one.head()).split()[1]) in (200, 204)
    await at_rest(house, 0)


async def test_a_chunked_response_that_fits_passes_whole_and_its_blocks_rest_goes_back(house: House, serve: Any, client: Any) -> None:
    await serve(answering(chunked(b"x" * 70_000, b"y" * 20_000)))
    await house.limits(bandwidth(100_000))
    one = await client(await house.open())
    one.writer.write(request())
    body, whole = await one.body(await one.head())
    assert (len(body), whole) == (90_000, True)
    await at_rest(house, 90_000)


async def test_a_chunked_response_is_broken_off_at_the_last_byte_and_lacks_its_end(house: House, serve: Any, client: Any) -> None:
    await serve(answering(chunked(*[b"x" * 10_000] * 30)))
    await house.limits(bandwidth(123_457))
    one = await client(await house.open())
    one.writer.write(request())
    body, whole = await one.body(await one.head())
    assert (len(body), whole) == (123_457, False)
    await at_rest(house, 123_457)
    assert house.cut() == 1
    two = await client(house.doors[0])
    two.writer.write(request())
    assert (await two.head()).startswith(b"HTTP/1.1 429")
    await at_rest(house, 123_457)


async def test_events_flow_as_they_come_until_the_quota_is_used_up(house: House, serve: Any, client: Any) -> None:
    async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"a\r\ndata: 123\n\r\n"[:15])
            await writer.drain()
            await asyncio.sleep(0.001)

    await serve(events)
    await house.limits(bandwidth(205))
    one = await client(await house.open())
    one.writer.write(request())
    body, whole = await one.body(await one.head())
    assert (body, whole) == ((b"data: 123\n" * 21)[:205], False)
    await at_rest(house, 205)


async def test_a_body_that_ends_with_the_connection_ends_with_a_reset_where_it_is_cut(house: House, serve: Any, client: Any) -> None:
    await serve(answering(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 50_000, closes=True))
    await house.limits(bandwidth(70_000))
    door = await house.open()
    results = []
    for _ in range(2):
        one = await client(door)
        one.writer.write(request(version="1.0"))
        head = await one.head()
        assert b"chunked" not in head.lower()
        body, whole = await one.all_there_is()
        results.append((len(body), whole))
    assert results[0] == (50_000, True)
    assert not results[1][1]
    assert 20_000 - 16_384 <= results[1][0] <= 20_000  # the first one's last block may have come back too late for it
    await at_rest(house, 50_000 + results[1][0])


async def test_many_short_streams_leave_nothing_drawn(house: House, serve: Any, client: Any) -> None:
    await serve(answering(chunked(b"x" * 777)))
    await house.limits(bandwidth(1_000_000))
    one = await client(await house.open())
    for _ in range(50):
        one.writer.write(request())
        assert (await one.body(await one.head()))[1]
    await at_rest(house, 50 * 777)


# --- requests -----------------------------------------------------------------------------------------------------------


def taking(received: list[bytes], answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") -> Any:
    """A service that reads a request's body, whatever its framing, and answers when it is whole."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b"transfer-encoding: chunked" in head:
                while size := int(await reader.readuntil(b"\r\n"), 16):
                    received.append(await reader.readexactly(size))
                    await reader.readexactly(2)
                await reader.readexactly(2)
            else:
                length = next(int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.startswith(b"content-length:"))
                while length:
                    received.append(await reader.readexactly(1) + await reader.read(min(length, 65_536) - 1))
                    length -= len(received[-1])
            writer.write(answer)

    return script


async def test_an_upload_of_known_length_is_drawn_with_its_call_and_refused_whole(house: House, serve: Any, client: Any) -> None:
    received: list[bytes] = []
    await serve(taking(received))
    await house.limits(bandwidth(100_000), Quota(meter="api", limit=10))
    one = await client(await house.open())
    one.writer.write(request("POST", "/", "Content-Length: 60000") + b"x" * 60_000)
    assert (await one.head()).startswith(b"HTTP/1.1 200")
    one.writer.write(request("POST", "/", "Content-Length: 60000"))
    head = await one.head()
    assert head.startswith(b"HTTP/1.1 429")
    assert b'"quota":100000,"used":60000' in (await one.body(head))[0]
    assert sum(map(len, received)) == 60_000
    await at_rest(house, 60_000)
    assert (await house.counter("api"), await house.ledger("api")) == (1, 1)  # who is refused is charged nothing


async def test_an_upload_that_ends_early_pays_for_what_passed(house: House, serve: Any, client: Any) -> None:
    received: list[bytes] = []
    await serve(taking(received))
    await house.limits(bandwidth(100_000))
    one = await client(await house.open())
    one.writer.write(request("POST", "/", "Content-Length: 60000") + b"x" * 1234)
    while sum(map(len, received)) < 1234:
        await asyncio.sleep(0.005)
    one.writer.transport.abort()
    await at_rest(house, 1234)


async def test_a_chunked_upload_passes_whole_or_is_a_429_and_the_service_sees_no_end(house: House, serve: Any, client: Any) -> None:
    received: list[bytes] = []
    await serve(taking(received))
    await house.limits(bandwidth(150_000))
    door = await house.open()
    one = await client(door)
    for size, status in ((100_000, 200), (100_000, 429)):
        one.writer.write(request("POST", "/", "Transfer-Encoding: chunked"))
        for _ in range(size // 10_000):
            one.writer.write(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
            await asyncio.sleep(0.001)
        one.writer.write(b"0\r\n\r\n")
        head = await one.head()
        assert int(head.split()[1]) == status
    await house.settled()
    used = await house.counter()
    assert 150_000 - 16_384 <= used <= 150_000  # the first one's last block may have come back too late for the second
    assert await house.ledger() == used
    assert 100_000 <= sum(map(len, received)) <= used  # a reset takes with it what the service has not read
    assert house.cut() == 1


async def test_a_meter_of_one_way_draws_that_way_alone(house: House, serve: Any, client: Any) -> None:
    received: list[bytes] = []
    await serve(taking(received, counted(b"y" * 300)))
    await house.limits(bandwidth(1000))
    one = await client(await house.open(charge={"api": Fixed(1), "bandwidth": Weighed("response_bytes")}))
    one.writer.write(request("POST", "/", "Content-Length: 60000") + b"x" * 60_000)
    assert (await one.body(await one.head())) == (b"y" * 300, True)
    await at_rest(house, 300)


# --- tunnels ------------------------------------------------------------------------------------------------------------

UPGRADE = request("GET", "/", "Connection: Upgrade", "Upgrade: echo")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(SWITCHED)
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


async def test_a_tunnels_bytes_are_drawn_both_ways_and_it_is_reset_at_the_last(house: House, serve: Any, client: Any) -> None:
    await serve(echo)
    await house.limits(bandwidth(100_001))
    one = await client(await house.open())
    one.writer.write(UPGRADE)
    assert (await one.head()).startswith(b"HTTP/1.1 101")
    for _ in range(4):
        one.writer.write(b"z" * 10_000)
        assert await one.reader.readexactly(10_000)
    one.writer.write(b"z" * 30_000)
    body, whole = await one.all_there_is()
    assert not whole
    await house.settled()
    used = await house.counter()
    assert 100_001 - 16_384 <= used <= 100_001  # the other way's block may be open when one way is cut
    assert await house.ledger() == used
    assert house.in_hand() == 0
    assert len(body) <= used - 80_000


async def test_a_tunnel_within_its_quota_costs_what_passed_through_it(house: House, serve: Any, client: Any) -> None:
    await serve(echo)
    await house.limits(bandwidth(1_000_000))
    one = await client(await house.open())
    one.writer.write(UPGRADE + b"early")
    await one.head()
    assert await one.reader.readexactly(5) == b"early"
    for _ in range(100):
        one.writer.write(b"z" * 333)
        await one.reader.readexactly(333)
    one.writer.close()
    await at_rest(house, 2 * (5 + 33_300))
