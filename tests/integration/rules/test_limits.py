"""Limits, each with its status; going down; an IPv6 listener. RFC 9110 §15.5, 9112 §9.5. A gateway with narrow limits, on ::1."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from .parties import Call, Origin, Way, chunked, code_of, get, post, request, serving, until
from .rig import Rig, start_rig

LIMITS = "{line: 200, headers: 1000, header_count: 12, body: 5 kB, header_timeout: 500ms, keepalive: 700ms}"
CHUNKED = b"Transfer-Encoding: chunked"
POST = b"POST / HTTP/1.1"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    running = start_rig(tmp_path_factory.mktemp("narrow"), limits=LIMITS, host="::1", WEIGHBRIDGE_DRAIN_SECONDS="3")
    yield running
    running.stop()


@pytest.fixture
async def origin(narrow: Rig) -> AsyncIterator[Origin]:
    async with serving(narrow.service) as found:
        yield found


@pytest.fixture
async def way(narrow: Rig) -> AsyncIterator[Way]:
    found = Way("direct", narrow.host, narrow.port)
    yield found
    for each in found.clients:
        each.writer.transport.abort()


async def test_9110_4_2_an_ipv6_client_is_served_and_its_address_told(way: Way, origin: Origin) -> None:
    answered = await way.ask(get().replace(b"a.example", b"[::1]:8080", 1))
    assert answered.status == 200
    seen = origin.calls[0]
    assert (seen[b"host"], seen[b"x-forwarded-for"], seen[b"x-forwarded-host"]) == (b"[::1]:8080", b"::1", b"[::1]:8080")


@pytest.mark.parametrize("host", [b"[::1", b"::1", b"[::1]x", b"[g::1]", b"[]"])
async def test_9110_7_2_a_broken_ipv6_literal_is_no_host(host: bytes, way: Way, origin: Origin) -> None:
    answered = await way.ask(get().replace(b"a.example", host, 1))
    assert (answered.status, answered.says_close, origin.connections) == (400, True, 0)


TOO_MUCH = {
    "a line [RFC 9110 15.5.15]": (414, "line_too_long", get(b"/" + b"a" * 300)),
    "a line without end [RFC 9110 15.5.15]": (414, "line_too_long", b"GET /" + b"a" * 300),
    "fields [RFC 6585 5]": (431, "headers_too_large", get(b"/", b"A: " + b"a" * 1100)),
    "fields without end [RFC 6585 5]": (431, "headers_too_large", b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 1100),
    "many fields without end [RFC 6585 5]": (431, "headers_too_large", b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: a\r\n" * 300),
    "a number of fields [RFC 6585 5]": (431, "too_many_headers", get(b"/", *[b"A: a"] * 11)),
    "an announced body [RFC 9110 15.5.14]": (413, "body_too_large", request(b"Content-Length: 5001", start=POST)),
    "a body of 2^60 [RFC 9110 15.5.14]": (413, "body_too_large", request(b"Content-Length: 1152921504606846976", start=POST)),
    "a chunked body [RFC 9110 15.5.14]": (413, "body_too_large", request(CHUNKED, start=POST, body=chunked(b"a" * 3000, b"a" * 2001))),
    "a chunk of 2^56 [RFC 9112 7.1]": (413, "body_too_large", request(CHUNKED, start=POST, body=b"ffffffffffffff\r\n" + b"a" * 6000)),
    "a head that does not come [RFC 9110 15.5.9]": (408, "header_timeout", b"GET / HTTP/1.1\r\nHost: a\r\n"),
    "half a line [RFC 9110 15.5.9]": (408, "header_timeout", b"GE"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "code", "raw"), TOO_MUCH.values(), ids=TOO_MUCH.keys())
async def test_each_limit_has_its_status_and_closes(status: int, code: str, raw: bytes, way: Way, origin: Origin) -> None:
    client = await way.connect()
    client.send(raw)
    answered = await client.answer()
    assert (answered.status, code_of(answered.body), answered.says_close) == (status, code, True)
    assert await client.closed()


async def test_what_just_fits_passes(way: Way, origin: Origin) -> None:
    line = b"POST /" + b"a" * (200 - len(b"POST / HTTP/1.1")) + b" HTTP/1.1"
    assert len(line) == 200
    fields = [b"X-%02d: v" % number for number in range(9)]
    sent = request(b"Content-Length: 5000", *fields, start=line, body=b"b" * 5000)
    assert sent.count(b"\r\n", 0, sent.index(b"\r\n\r\n")) == 12
    assert (await way.ask(sent)).status == 200


async def test_slow_heads_are_closed_while_others_are_served(way: Way, origin: Origin) -> None:
    """Slowloris: a byte now and then buys no time."""
    slow = [await way.connect() for _ in range(10)]
    began = asyncio.get_running_loop().time()
    answers = [asyncio.ensure_future(client.rest()) for client in slow]
    while not all(answer.done() for answer in answers):
        for client, answer in zip(slow, answers, strict=True):
            if not answer.done():
                client.send(b"GET / HTTP/1.1\r\n"[: 1 if client is slow[0] else 2])
        assert (await way.ask(get())).status == 200
        await asyncio.sleep(0.05)
        assert asyncio.get_running_loop().time() - began < 10
    assert all(not answer.result() or b" 408 " in answer.result() or b" 400 " in answer.result() for answer in answers)


async def test_9112_9_5_idle_connections_are_closed_without_a_word(way: Way, origin: Origin) -> None:
    silent, kept = await way.connect(), await way.connect()
    assert (await kept.ask(get())).status == 200
    assert await kept.closed()
    assert await silent.closed()


async def test_a_long_call_is_not_idle(way: Way, origin: Origin) -> None:
    async def answer(call: Call) -> None:
        await asyncio.sleep(1.5)
        call.ok()

    origin.answer = answer
    assert (await way.ask(get())).status == 200


async def test_9110_10_1_1_a_body_over_the_limit_is_refused_before_it_is_sent(way: Way, origin: Origin) -> None:
    client = await way.connect()
    client.send(request(b"Expect: 100-continue", b"Content-Length: 5001", start=POST))
    assert (await client.head()).status == 413
    assert origin.connections == 0


@pytest.mark.parametrize("body", [post(b"x" * 5000), request(CHUNKED, start=POST, body=chunked(b"x" * 2500, b"x" * 2500))])
async def test_a_body_that_just_fits_passes_whatever_its_framing(body: bytes, way: Way, origin: Origin) -> None:
    assert (await way.ask(body)).status == 200
    assert len(origin.calls[0].body_read) == 5000


async def test_9112_9_6_going_down_ends_idle_connections_finishes_work_and_breaks_off_the_rest(
    narrow: Rig, way: Way, origin: Origin
) -> None:
    """What ends in time is whole and says that the connection closes; what does not is broken off, and charged as it stands.

    The last test here: it ends the gateway.
    """
    go, payer = asyncio.Event(), narrow.payer()

    async def answer(call: Call) -> None:
        if call.target == b"/endless":
            call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            await call.gone()
        elif call.target == b"/slow":
            await go.wait()
            call.ok(b"done")
        else:
            call.ok()

    origin.answer = answer
    idle, slow, endless, queued = [await way.connect() for _ in range(4)]
    assert (await idle.ask(get())).status == 200
    slow.send(get(b"/slow", key=payer.key) + get(b"/never", key=payer.key))
    endless.send(get(b"/endless", key=payer.key))
    assert (await endless.head()).status == 200
    await until(lambda: b"/slow" in origin.targets)
    narrow.process.terminate()
    assert await idle.closed()
    go.set()
    answered = await slow.answer()
    assert (answered.body, answered.says_close) == (b"done", True)
    assert await slow.closed()
    with pytest.raises(ConnectionResetError):
        await endless.rest()
    assert b"/never" not in origin.targets
    with contextlib.suppress(ConnectionResetError):
        assert await queued.closed()
    deadline = time.monotonic() + 20
    while narrow.process.poll() is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert narrow.process.returncode == 0
    await payer.pays(api=2, bandwidth=8)
