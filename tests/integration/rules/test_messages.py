"""RFC 9112: bodies and their framing, connections and their ends, requests behind requests, answers before the answer."""

import asyncio
import contextlib

import pytest

from .parties import KEY, Answered, Call, Client, Origin, Way, chunked, get, post, request, until

CHUNKED = b"Transfer-Encoding: chunked"


def to(method: bytes, target: bytes = b"/", *lines: bytes, version: bytes = b"1.1") -> bytes:
    return request(*lines, start=method + b" " + target + b" HTTP/" + version)


# --- bodies ------------------------------------------------------------------------------------------------------------


async def test_9112_6_a_body_of_known_length_stays_one(way: Way, origin: Origin) -> None:
    assert (await way.ask(post(b"hello"))).body == b"ok"
    seen = origin.calls[0]
    assert (seen[b"content-length"], seen.has(b"transfer-encoding"), seen.body_read) == (b"5", False, b"hello")


@pytest.mark.parametrize("method", [b"GET", b"DELETE", b"OPTIONS", b"PATCH", b"QUERY"])
async def test_9110_9_3_a_body_passes_with_any_method(method: bytes, direct: Way, origin: Origin) -> None:
    assert (await direct.ask(to(method, b"/", b"Content-Length: 2") + b"hi")).status == 200
    assert origin.calls[0].body_read == b"hi"


async def test_9112_7_1_a_chunked_body_stays_chunked_without_its_extensions(way: Way, origin: Origin) -> None:
    body = b'5;name=value\r\nhello\r\n6;q="a b"\r\n world\r\n0;last\r\n\r\n'
    assert (await way.ask(to(b"POST", b"/", CHUNKED) + body)).status == 200
    _came_chunked(way, origin.calls[0], b"hello world")


def _came_chunked(way: Way, seen: Call, body: bytes) -> None:
    """nginx gives a length to a chunked body that it has read to its end."""
    assert seen.body_read == body
    assert seen.all(b"transfer-encoding") == [b"chunked"] or not way.direct
    assert seen.has(b"transfer-encoding") != seen.has(b"content-length")


@pytest.mark.parametrize("spelled", [b"Chunked", b" CHUNKED"])
async def test_9112_7_the_name_of_a_coding_has_no_case(spelled: bytes, way: Way, origin: Origin) -> None:
    assert (await way.ask(to(b"POST", b"/", b"Transfer-Encoding:" + spelled) + chunked(b"x"))).status == 200
    _came_chunked(way, origin.calls[0], b"x")


async def test_9112_7_1_2_a_requests_trailers_pass(way: Way, origin: Origin) -> None:
    """nginx reads a request's trailers and drops them."""
    trailers: list[bytes] = []

    async def answer(call: Call) -> None:
        await call.body()
        trailers.extend(await call.trailers() if call.has(b"transfer-encoding") else [])
        call.ok()

    origin.answer = answer
    sent = (b"X-Sum: 7", b"x-other: caf\xe9")
    assert (await way.ask(to(b"POST", b"/", CHUNKED, b"Trailer: X-Sum") + chunked(b"x", trailers=sent))).status == 200
    assert trailers == (list(sent) if way.direct else [])


FORBIDDEN = (
    b"Content-Length: 9", b"Transfer-Encoding: chunked", b"Host: b.example", b"Authorization: Bearer x", b"X-Org-Id: mine", b"X-Key-Id: 1",
    b"X_Org_Id: mine", b"Connection: close", b"X-API-Key: x", b"Cookie: a=1", b"Expect: 100-continue", b"Trailer: x",
    b"X-Forwarded-For: 1.1.1.1",
    b"Content-Type: x", b"Content_Length: 9", b"TE: x", b"Upgrade: x", b"X-Weighbridge-Signature: x", b"Set-Cookie: a=1",
)  # fmt: skip


async def test_9110_6_5_1_trailers_that_would_frame_route_or_identify_do_not_pass(direct: Way, origin: Origin) -> None:
    trailers: list[bytes] = []

    async def answer(call: Call) -> None:
        await call.body()
        trailers.extend(await call.trailers())
        call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ok", trailers=(*FORBIDDEN, b"X-Ok: 1")))

    origin.answer = answer
    answered = await direct.ask(to(b"POST", b"/", CHUNKED) + chunked(b"x", trailers=(*FORBIDDEN, b"X-Sum: 7")))
    assert trailers == [b"X-Sum: 7"]
    assert (answered.status, answered.trailers) == (200, [b"X-Ok: 1"])


async def test_9112_7_1_2_an_answers_trailers_pass(way: Way, origin: Origin) -> None:
    origin.says(b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"a", b"bc", trailers=(b"X-Sum: 7",)))
    client = await way.connect()
    answered = await client.ask(get(b"/", b"TE: trailers", b"Connection: TE"))
    assert (answered.body, answered.trailers) == (b"abc", [b"X-Sum: 7"])
    assert (await client.ask(get())).body == b"abc"


async def test_9112_6_3_an_answer_that_ends_with_its_connection_is_whole_for_the_client(way: Way, origin: Origin) -> None:
    origin.says(b"HTTP/1.1 200 OK\r\n\r\nabc", close=True)
    client = await way.connect()
    for _ in range(2):  # and the client's connection is kept
        answered = await client.ask(get())
        assert (answered.body, answered[b"transfer-encoding"]) == (b"abc", b"chunked")


HEADS_ONLY = {
    "HEAD of known length": (b"HEAD", b"200 OK\r\nContent-Length: 1234", b"1234", b"HEAD"),
    "HEAD of chunks": (b"HEAD", b"200 OK\r\nTransfer-Encoding: chunked", None, b"HEAD"),
    "HEAD of nothing": (b"HEAD", b"200 OK\r\nContent-Length: 0", b"0", b"HEAD"),
    "HEAD, not found": (b"HEAD", b"404 Not Found\r\nContent-Length: 7", b"7", b"HEAD"),
    "204": (b"GET", b"204 No Content", None, b"GET"),
    "204 with a length": (b"GET", b"204 No Content\r\nContent-Length: 0", None, b"GET"),
    "304": (b"GET", b'304 Not Modified\r\nETag: "x"', None, b"GET"),
    "304 with the length of what it spares": (b"GET", b'304 Not Modified\r\nETag: "x"\r\nContent-Length: 1234', b"1234", b"GET"),
    "200 of length 0": (b"GET", b"200 OK\r\nContent-Length: 0", b"0", b"GET"),
}


@pytest.mark.parametrize(("method", "answer", "length", "_"), HEADS_ONLY.values(), ids=HEADS_ONLY.keys())
async def test_9112_6_3_an_answer_without_body_keeps_its_length_and_the_connection(
    method: bytes, answer: bytes, length: bytes | None, _: bytes, way: Way, origin: Origin
) -> None:  # fmt: skip
    origin.says(b"HTTP/1.1 " + answer + b"\r\n\r\n")
    client = await way.connect()
    for _again in range(2):
        answered = await client.ask(to(method))
        assert answered.raw.startswith(b"HTTP/1.1 " + answer.partition(b"\r\n")[0])
        assert (answered[b"content-length"], answered.body) == (length, b"")
    assert {call.connection for call in origin.calls} == {1} or b"chunked" in answer


async def test_9110_9_3_2_a_body_that_answers_head_never_reaches_the_client(way: Way, origin: Origin) -> None:
    origin.says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/")
    client = await way.connect()
    for _ in range(2):
        assert (await client.ask(to(b"HEAD")))[b"content-length"] == b"5"


# --- connections -------------------------------------------------------------------------------------------------------


async def test_9112_9_3_connections_are_kept_on_both_sides(way: Way, origin: Origin) -> None:
    client = await way.connect()
    for number in range(5):
        assert (await client.ask(get(b"/%d" % number))).status == 200
    assert origin.connections == 1


async def test_9112_9_6_a_client_that_asks_to_close_is_told_so_and_closed(way: Way, origin: Origin) -> None:
    client = await way.connect()
    client.send(get(b"/", b"Connection: close") + get(b"/never"))
    assert (await client.answer()).says_close
    assert await client.closed()
    assert origin.targets == [b"/"]
    assert (await (await way.connect()).ask(get())).status == 200
    assert origin.connections == 1  # the client's wish is not the service's business


async def test_9112_9_6_a_service_that_closes_does_not_close_the_client(way: Way, origin: Origin) -> None:
    origin.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", close=True)
    client = await way.connect()
    for number in range(3):
        answered = await client.ask(post(b"x", target=b"/%d" % number))
        assert (answered.status, answered.says_close) == (200, False)
    assert origin.connections == 3


async def test_9112_9_3_http_1_0_is_closed_unless_it_asks_otherwise(way: Way, origin: Origin) -> None:
    client = await way.connect()
    client.send(to(b"GET", version=b"1.0", target=b"/"))
    answered = await client.answer()
    assert (answered.body, answered.raw[:9]) == (b"ok", b"HTTP/1.1 ")
    assert await client.closed()
    client = await way.connect()
    for _ in range(2):
        answered = await client.ask(to(b"GET", b"/", b"Connection: keep-alive", version=b"1.0"))
        assert answered[b"connection"].lower() == b"keep-alive"


async def test_9112_2_3_the_service_is_asked_in_1_1_whatever_the_client_speaks(way: Way, origin: Origin) -> None:
    assert (await way.ask(b"GET / HTTP/1.0\r\nX-API-Key: " + KEY + b"\r\n\r\n")).status == 200
    assert origin.calls[0].line == b"GET / HTTP/1.1"
    assert len(origin.calls[0].all(b"host")) == 1


async def test_9112_7_chunks_are_unwrapped_for_1_0(way: Way, origin: Origin) -> None:
    origin.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc", b"def", trailers=(b"X-Sum: 1",)))
    answered = await way.ask(to(b"GET", version=b"1.0"))
    assert (answered.body, answered.all(b"transfer-encoding")) == (b"abcdef", [])


async def test_9112_9_3_2_pipelined_requests_are_answered_in_order(way: Way, origin: Origin) -> None:
    async def answer(call: Call) -> None:
        body = await call.body()
        if call.has(b"transfer-encoding"):
            await call.trailers()
        await asyncio.sleep(0.02 if call.target.endswith(b"0") else 0)
        call.ok(call.target + b" " + body)

    origin.answer = answer
    stream, expected = [], []
    for number in range(30):
        target = b"/%d" % number
        if number % 3 == 0:
            stream.append(get(target))
        elif number % 3 == 1:
            stream.append(post(b"GET /no HTTP/1.1\r\n\r\n", target=target))
        else:
            stream.append(to(b"POST", target, CHUNKED) + chunked(b"GET /no", b" HTTP/1.1\r\n\r\n"))
        expected.append(target + (b" " if number % 3 == 0 else b" GET /no HTTP/1.1\r\n\r\n"))
    client = await way.connect()
    data = b"".join(stream)
    for at in range(0, len(data), 997):
        client.send(data[at : at + 997])
        await asyncio.sleep(0)
    assert [(await client.answer()).body for _ in stream] == expected
    assert origin.targets == [b"/%d" % number for number in range(30)]


async def test_9112_2_2_blank_lines_before_a_request_are_skipped(way: Way, origin: Origin) -> None:
    client = await way.connect()
    for _ in range(2):
        assert (await client.ask(b"\r\n\r\n" + get())).status == 200


# --- targets -----------------------------------------------------------------------------------------------------------

ABSOLUTE = {
    b"http://b.example/x?y": b"/x?y",
    b"http://b.example:8080": b"/",
    b"HTTP://b.example/a/%2e%2e//x": b"/a/%2e%2e//x",
    b"http://b.example?q": b"/?q",
}


@pytest.mark.parametrize(("target", "seen"), ABSOLUTE.items(), ids=lambda text: text.decode())
async def test_9112_3_2_2_an_absolute_target_is_reduced_and_its_authority_is_the_host(
    target: bytes, seen: bytes, way: Way, origin: Origin
) -> None:  # fmt: skip
    assert (await way.ask(get(target))).status == 200
    assert origin.targets == [seen]
    assert len(origin.calls[0].all(b"host")) == 1
    if way.direct:
        assert origin.calls[0][b"host"] == target.lower()[7:].partition(b"/")[0].partition(b"?")[0]


async def test_9112_3_2_4_a_star_passes_for_options(direct: Way, origin: Origin) -> None:
    assert (await direct.ask(to(b"OPTIONS", b"*"))).status == 200
    assert origin.targets == [b"*"]


# --- answers before the answer -----------------------------------------------------------------------------------------


async def test_9110_10_1_1_who_expects_100_goes_on_once_the_call_is_admitted(direct: Way, origin: Origin) -> None:
    client = await direct.connect()
    client.send(to(b"POST", b"/", b"Expect: 100-Continue", b"Content-Length: 5"))
    assert await client.line() == b"HTTP/1.1 100 Continue"
    assert await client.line() == b""
    await until(lambda: origin.calls)
    assert not origin.calls[0].has(b"expect")
    client.send(b"hello")
    assert (await client.answer()).status == 200
    assert origin.calls[0].body_read == b"hello"


REFUSED = {
    "no key": (401, b"POST / HTTP/1.1\r\nHost: a\r\n"),
    "another's key": (401, b"POST / HTTP/1.1\r\nHost: a\r\nX-API-Key: nobody\r\n"),
    "a spent quota": (429, b"POST /spent HTTP/1.1\r\nHost: a\r\nX-API-Key: " + KEY + b"\r\n"),
    "a service that is away": (502, b"POST /gone HTTP/1.1\r\nHost: a\r\nX-API-Key: " + KEY + b"\r\n"),
}


@pytest.mark.parametrize(("status", "head"), REFUSED.values(), ids=REFUSED.keys())
async def test_9110_10_1_1_who_is_refused_never_gets_100(status: int, head: bytes, way: Way, origin: Origin) -> None:
    """nginx says 100 by itself, before it has asked the gateway; the refusal follows."""
    if status == 429:
        await way.ask(get(b"/spent"))
    origin.calls.clear()
    client = await way.connect()
    client.send(head + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    first = await client.head()
    if way.direct:
        assert first.status == status
    else:
        assert first.status == 100
        client.send(b"hello")
        assert (await client.answer()).status == status
    assert origin.calls == []


async def test_9110_10_1_1_a_service_that_answers_at_once_is_heard_without_the_body(direct: Way, origin: Origin) -> None:
    async def answer(call: Call) -> None:
        call.send(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        await call.gone()

    origin.answer = answer
    client = await direct.connect()
    client.send(to(b"POST", b"/", b"Expect: 100-continue", b"Content-Length: 5"))
    assert (await client.answer()).status == 403
    assert await client.closed()  # what comes next could be the body, or another request


async def test_9110_10_1_1_1_0_clients_expect_nothing(direct: Way, origin: Origin) -> None:
    client = await direct.connect()
    client.send(to(b"POST", b"/", b"Expect: 100-continue", b"Content-Length: 5", version=b"1.0") + b"hello")
    assert (await client.head()).status == 200


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Hop: 1\r\nConnection: X-Hop\r\n\r\n"


async def test_8297_2_early_hints_and_other_1xx_pass_on_the_way(way: Way, origin: Origin) -> None:
    """nginx passes 103 to HTTP/2 clients alone; 1.0 knows of none (RFC 9110 §15.2)."""
    origin.says(
        b"HTTP/1.1 100 Continue\r\n\r\n" + HINTS + b"HTTP/1.1 102 Processing\r\n\r\n" + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    )
    client = await way.connect()
    client.send(get())
    heads: list[Answered] = [await client.head()]
    while heads[-1].status < 200:
        heads.append(await client.head())
    assert await client.exactly(2) == b"ok"
    if not way.direct:
        assert [head.status for head in heads if head.status != 102] == [200]
        return
    assert [head.status for head in heads] == [103, 102, 200]
    assert heads[0][b"link"] == b"</a.css>; rel=preload"
    assert heads[0][b"connection"] is None
    old = await way.connect()
    old.send(to(b"GET", version=b"1.0"))
    assert (await old.head()).status == 200


async def test_9112_9_3_an_answer_before_the_whole_body_arrives_whole(direct: Way, origin: Origin) -> None:
    """And the connection closes, as nobody knows where the next request begins."""

    async def answer(call: Call) -> None:
        call.ok(b"enough")
        await call.gone()

    origin.answer = answer
    client: Client = await direct.connect()
    client.send(to(b"POST", b"/", b"Content-Length: 1000000") + b"x" * 1000)
    answered = await client.answer()
    assert (answered.status, answered.body, answered.says_close) == (200, b"enough", True)
    client.send(get(b"/smuggled") * 100)
    with contextlib.suppress(ConnectionResetError):
        assert await client.closed()
    assert origin.targets == [b"/"]


async def test_9112_9_6_an_answer_that_begins_before_the_request_has_ended_says_that_the_connection_closes(
    direct: Way, origin: Origin
) -> None:
    """Also where both come to their end: it was said, so it is done."""

    async def answer(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
        await call.body()
        call.send(b"k")

    origin.answer = answer
    client = await direct.connect()
    client.send(to(b"POST", b"/", b"Content-Length: 6") + b"abc")
    answered = await client.head()
    assert answered.says_close
    client.send(b"def")
    assert await client.rest() == b"ok"
    assert origin.calls[0].body_read == b"abcdef"


@pytest.mark.parametrize("version", [b"1.2", b"1.9"])
async def test_9110_2_5_a_later_minor_version_is_read_as_1_1(version: bytes, way: Way, origin: Origin) -> None:
    client = await way.connect()
    for _ in range(2):  # and the connection is kept
        answered = await client.ask(request(start=b"GET / HTTP/" + version))
        assert (answered.status, answered.raw[:8]) == (200, b"HTTP/1.1")
    assert [call.line for call in origin.calls] == [b"GET / HTTP/1.1"] * 2


async def test_9110_2_5_a_later_minor_version_needs_its_host_as_1_1_does(direct: Way, origin: Origin) -> None:
    assert (await direct.ask(b"GET / HTTP/1.7\r\n\r\n")).status == 400


@pytest.mark.parametrize("coding", [b"chunked \t", b"chunked\t", b"\t chunked\t \t", b"CHUNKED\t "])
@pytest.mark.parametrize("size", [1, 7, 1_000])
async def test_9110_5_5_whitespace_around_a_coding_is_no_part_of_it(coding: bytes, size: int, direct: Way, origin: Origin) -> None:
    raw = to(b"POST", b"/", b"Transfer-Encoding:" + coding) + chunked(b"abc", b"d") + get(b"/next")
    client = await direct.connect()
    for at in range(0, len(raw), size):
        client.send(raw[at : at + size])
        await client.writer.drain()
    assert [(await client.answer()).status for _ in range(2)] == [200, 200]
    first = origin.calls[0]
    assert (first.all(b"transfer-encoding"), first.body_read, origin.targets) == ([b"chunked"], b"abcd", [b"/", b"/next"])
