"""RFC 9112 §6.3, 11.1: services that answer oddly. What is behind an answer is nobody's; what is no answer is a 502."""

import pytest

from .parties import Call, Origin, Way, code_of, get, post, until
from .rig import Payer

EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
ANSWERS = {
    "a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok"),
    "204": (b"HTTP/1.1 204 No\r\n\r\n", b""),
    "304": (b"HTTP/1.1 304 Not\r\nContent-Length: 2\r\n\r\n", b""),
    "304 that says chunked": (b"HTTP/1.1 304 Not\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
    "hints first": (b"HTTP/1.1 103 H\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
}


@pytest.mark.parametrize(
    "behind", [EVIL, b"\r\n" + EVIL, EVIL * 3, b"evil", b"0\r\n\r\nevil"], ids=["one", "blank", "three", "bytes", "chunk"]
)
@pytest.mark.parametrize(("answer", "body"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_9112_11_1_what_stands_behind_an_answer_reaches_nobody(
    answer: bytes, body: bytes, behind: bytes, direct: Way, origin: Origin
) -> None:
    origin.says(answer + behind)
    client = await direct.connect()
    answered = await client.ask(get(b"/1"))
    assert answered.status in (200, 204, 304)
    assert answered.body == body
    origin.says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
    assert (await client.ask(get(b"/2"))).body == b"next"
    assert origin.connections == 2  # nobody else is asked on that connection


NONSENSE = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "both framings": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "lengths that differ": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "lengths that agree": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "a signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "a length of 20 digits": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
    "gzip, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, gzip": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a fold": b"HTTP/1.1 200 OK\r\nFoo: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "a space before a colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    "a control byte": b"HTTP/1.1 200 OK\r\nFoo: a\x01b\r\nContent-Length: 0\r\n\r\n",
    "a bare CR": b"HTTP/1.1 200 OK\r\nFoo: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    "a bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "a control byte in the reason": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n",
    "status 99": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nabc",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 10_000,
    "chunks that are none behind a tab": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\t\r\n\r\nx\r\nok\r\n0\r\n\r\n",
    "gzip behind chunked and a tab": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\t, gzip\r\n\r\n0\r\n\r\n",
    "both framings and a tab": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\t\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "nothing": b"\r\n",
}  # fmt: skip


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
async def test_9110_15_6_3_what_is_no_answer_is_a_502(answer: bytes, way: Way, origin: Origin) -> None:
    origin.says(answer, close=True)
    client = await way.connect()
    for _ in range(2):
        assert (await client.ask(get())).status == 502


async def test_9112_2_3_an_answer_in_another_version_is_a_502(direct: Way, origin: Origin) -> None:
    origin.says(b"HTTP/2.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert (await direct.ask(get())).status == 502


@pytest.mark.parametrize("coding", [b"chunked\t", b"chunked \t ", b"\tCHUNKED\t"])
@pytest.mark.parametrize("size", [1, 5, 1_000])
async def test_9110_5_5_whitespace_around_a_services_coding_is_no_part_of_it(coding: bytes, size: int, direct: Way, origin: Origin) -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding:" + coding + b"\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nX-Sum: 7\r\n\r\n"

    async def answer(call: Call) -> None:
        for at in range(0, len(raw), size):
            call.send(raw[at : at + size])
            await call.writer.drain()
        await call.gone()

    origin.answer = answer
    client = await direct.connect()
    for _ in range(2):  # the client's connection is kept
        answered = await client.ask(get())
        assert (answered.status, answered.body, answered.trailers) == (200, b"abc", [b"X-Sum: 7"])


async def test_9110_6_5_1_a_length_in_an_answers_trailers_is_dropped(way: Way, origin: Origin) -> None:
    trailers = b"X-A: 1\r\nContent-Length: 9\r\nX-B: 2\r\n"
    origin.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + trailers + b"\r\n")
    client = await way.connect()
    for _ in range(2):
        answered = await client.ask(get(b"/", b"TE: trailers", b"Connection: TE"))
        assert (answered.status, answered.body, answered.trailers) == (200, b"ok", [b"X-A: 1", b"X-B: 2"])
    assert origin.connections == 1


async def test_9110_2_5_a_services_later_minor_version_is_read_as_1_1(direct: Way, origin: Origin) -> None:
    origin.says(b"HTTP/1.2 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    client = await direct.connect()
    for _ in range(2):
        answered = await client.ask(get())
        assert (answered.raw[:12], answered.body) == (b"HTTP/1.1 200", b"ok")
    assert origin.connections == 1


async def test_9110_15_6_4_a_service_that_has_as_many_calls_as_it_may_is_a_503_that_says_when_to_return(
    way: Way, origin: Origin, payer: Payer
) -> None:
    """One call at a time, and one that waits: the next finds the queue full, and the one that waits waits too long."""

    async def answer(call: Call) -> None:
        await call.gone()

    origin.answer = answer
    busy, waiting = await way.connect(), await way.connect()
    busy.send(get(b"/single", key=payer.key))
    await until(lambda: origin.calls)
    waiting.send(get(b"/single", key=payer.key))
    refused = await way.ask(get(b"/single", key=payer.key))
    for answered in (refused, await waiting.answer()):
        assert (answered.status, code_of(answered.body)) == (503, "upstream_busy")
        assert int(answered[b"retry-after"] or 0) >= 1
    busy.leave()
    await payer.pays(api=1)  # who left pays; who found no place does not


async def test_9112_4_no_control_bytes_in_the_reason_of_an_interim_answer(direct: Way, origin: Origin) -> None:
    origin.says(b"HTTP/1.1 103 H\x00\x1b[2J\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    client = await direct.connect()
    client.send(get())
    assert b"\x00" not in (await client.head()).raw


@pytest.mark.parametrize("at", range(1, 4))
async def test_9112_2_2_a_blank_line_before_a_request_may_come_in_pieces(at: int, direct: Way, origin: Origin) -> None:
    client = await direct.connect()
    data = b"\r\n\r\n" + get()
    client.send(data[:at])
    await client.writer.drain()
    assert (await direct.ask(get(b"/other"))).status == 200  # by now the first piece was read
    client.send(data[at:])
    assert (await client.answer()).status == 200
    assert (await client.ask(get(b"/next"))).status == 200
    assert origin.targets == [b"/other", b"/", b"/next"]


@pytest.mark.parametrize("name", ["unix", "six"])
async def test_a_service_may_listen_on_a_unix_socket_or_ipv6(name: str, way: Way, elsewhere) -> None:
    service = Origin(elsewhere[name])
    await service.start()
    client = await way.connect()
    for number in range(3):
        assert (await client.ask(post(b"hello %d" % number, target=b"/" + name.encode()))).status == 200
    assert [call.body_read for call in service.calls] == [b"hello 0", b"hello 1", b"hello 2"]
    assert (service.calls[0][b"host"], service.connections) == (b"a.example", 1)
    await service.stop()


async def test_a_services_own_limits_are_not_ours(way: Way, origin: Origin) -> None:
    """Any status from 200 to 599 with any words passes, also one that no registry knows."""
    for status in (b"299 Odd", b"451 ", b"418 I'm a teapot", b"599 Late"):
        origin.says(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nok" % status)
        answered = await way.ask(get())
        assert (answered.status, answered.body) == (int(status[:3]), b"ok")
