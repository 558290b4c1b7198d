"""What is refused from a stranger is refused from a client whose heads the gateway knows by heart.

A head that came before is compared and not parsed, one of a kind that came often is read line by line. Here each fault follows forty
good requests: on the connection that sent them, on another, behind a good one in the same write, and cut off within its head.
"""

import asyncio
from itertools import count

import pytest

from gateway import http1
from gateway.shapes import Shapes
from tests.integration.gateway.test_http_strictness import BAD_BODIES, MALFORMED, OK, OTHERWISE

GOOD = 40
FAULTS = {**{name: (400, raw) for name, raw in MALFORMED.items()}, **OTHERWISE}
WAYS = ("remembered", "of a kind")
_numbers = count(1)

# Put into a good head in the place of one field, or behind it: what two servers could read differently there
LINES = {
    "a second Host": b"Host: b.example",
    "another length": b"Content-Length: 5",
    "chunked beside a length": b"Transfer-Encoding: chunked",
    "a space before the colon": b"X-Trace : 1",
    "a tab before the colon": b"X-Trace\t: 1",
    "a fold": b"X-Trace: 1\r\n 2",
    "a bare LF": b"X-Trace: 1\nTransfer-Encoding: chunked",
    "a bare CR": b"X-Trace: 1\rTransfer-Encoding: chunked",
    "NUL": b"X-Trace: 1\x00",
    "DEL": b"X-Trace: 1\x7f",
    "no colon": b"X-Trace",
    "no name": b": 1",
}


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """Nobody has sent anything yet."""
    http1._shapes = Shapes()
    http1._blocks.clear()
    http1._heads.clear()


def good(way: str, *more: bytes) -> bytes:
    trace = next(_numbers) if way == "of a kind" else 0
    lines = (b"POST /known HTTP/1.1", b"Host: a.example", b"X-Trace: %d" % trace, b"Content-Length: 2", *more, b"", b"ab")
    return b"\r\n".join(lines)


async def answer_each(reader, writer, number):
    while True:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2)
        writer.write(OK)


async def warmed(way, front, connect):
    """A connection whose client has sent forty good requests."""
    client = await connect(front)
    for _ in range(GOOD):
        head, _ = await client.ask(good(way))
        assert head.startswith(b"HTTP/1.1 200 ")
    if way == "of a kind":
        assert http1._shapes.latest is not None
    else:
        assert good(way)[:-2] in http1._known_heads
    return client


async def refusal(client, raw: bytes) -> bytes:
    client.send(raw)
    return await client.rest()


@pytest.mark.parametrize("way", WAYS)
async def test_a_fault_is_refused_whatever_good_came_before_it(way, serve, gateway, connect):
    service = await serve(answer_each)
    front = await gateway(service)
    await warmed(way, front, connect)
    for name, (status, raw) in FAULTS.items():
        same, other, pipelined = await connect(front), await connect(front), await connect(front)
        assert (await same.ask(good(way)))[0].startswith(b"HTTP/1.1 200 ")
        seen, begins = len(service.heads), b"HTTP/1.1 %d " % status
        for client in (same, other):
            assert (await refusal(client, raw)).startswith(begins), name
        answers = await refusal(pipelined, good(way) + raw)
        assert answers.startswith(OK[:15]), name
        assert answers.partition(b"\r\n\r\nok")[2].startswith(begins), name
        assert len(service.heads) == seen + 1, name  # the good one


@pytest.mark.parametrize("way", WAYS)
async def test_a_line_that_spoils_a_good_head_is_seen_in_whatever_place(way, serve, gateway, connect):
    service = await serve(answer_each)
    front = await gateway(service)
    await warmed(way, front, connect)
    seen, lines = len(service.heads), good(way)[:-6].split(b"\r\n")
    for name, line in LINES.items():
        heads = [[*lines[:at], line, *lines[at:]] for at in range(2, len(lines) + 1)]
        heads += [[*lines[:at], line, *lines[at + 1 :]] for at in range(2, len(lines)) if not lines[at].startswith(b"Content-Length")]
        for head in heads:
            client = await connect(front)
            assert (await client.ask(good(way)))[0].startswith(b"HTTP/1.1 200 ")
            seen += 1
            raw = b"\r\n".join([*head, b"", b"ab"])
            assert (await refusal(client, raw)).startswith(b"HTTP/1.1 400 "), (name, raw)
    assert len(service.heads) == seen


@pytest.mark.parametrize("way", WAYS)
async def test_a_faulty_chunk_is_refused_below_a_head_that_is_known(way, serve, gateway, connect):
    front = await gateway(await serve(chunks_until_the_end))

    def chunked(body: bytes) -> bytes:
        trace = next(_numbers) if way == "of a kind" else 0
        return b"POST / HTTP/1.1\r\nHost: a.example\r\nX-Trace: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % trace + body

    for name, body in BAD_BODIES.items():
        client = await connect(front)
        for _ in range(GOOD if not front.rejects else 1):
            assert (await client.ask(chunked(b"1\r\na\r\n0\r\n\r\n")))[0].startswith(b"HTTP/1.1 200 ")
        assert (await refusal(client, chunked(body))).startswith(b"HTTP/1.1 400 "), name
    assert front.rejects == ["bad_chunk"] * len(BAD_BODIES)


async def chunks_until_the_end(reader, writer, number):
    while True:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(OK)


@pytest.mark.parametrize("way", WAYS)
async def test_a_body_that_looks_like_a_known_head_is_a_body(way, serve, gateway, connect):
    """As many bytes as a head that is remembered, to the byte: they stay the body of the request before."""
    bodies = []

    async def script(reader, writer, number):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            bodies.append(await reader.readexactly(length))
            writer.write(OK)

    front = await gateway(await serve(script))
    client = await warmed(way, front, connect)
    inner = good(way)
    outer = b"POST /known HTTP/1.1\r\nHost: a.example\r\nX-Trace: %d\r\nContent-Length: %d\r\n\r\n" % (next(_numbers), len(inner))
    del bodies[:]
    for _ in range(GOOD):
        client.send(outer)
        await asyncio.sleep(0)
        assert (await client.ask(inner))[0].startswith(b"HTTP/1.1 200 ")
    client.send(outer + inner + good(way))
    for _ in range(2):
        assert (await client.answer())[0].startswith(b"HTTP/1.1 200 ")
    assert bodies == [inner] * (GOOD + 1) + [b"ab"]


@pytest.mark.parametrize("way", WAYS)
async def test_known_heads_cut_anywhere_and_sent_in_one_write_are_each_read_once(way, serve, gateway, connect):
    service = await serve(answer_each)
    front = await gateway(service)
    client = await warmed(way, front, connect)
    seen = len(service.heads)
    for at in range(1, len(good("remembered")), 7):
        first = good(way)
        size, data = len(first), first + good(way) + good(way)
        client.send(data[: size + at])
        await client.writer.drain()
        assert (await client.answer())[0].startswith(b"HTTP/1.1 200 ")
        client.send(data[size + at :])
        for _ in range(2):
            assert (await client.answer())[0].startswith(b"HTTP/1.1 200 ")
        seen += 3
    assert len(service.heads) == seen
    traces = [head.partition(b"X-Trace: ")[2].partition(b"\r\n")[0] for head in service.heads[GOOD:]]
    assert len(set(traces)) == (len(traces) if way == "of a kind" else 1)
