"""What the gateway refuses from clients: DATAPLANE's HTTP rules, each with its status, and the connection closed after it."""

import json

import pytest

from config.gateway import Limits, Timeouts

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def request(*lines: bytes, start: bytes = b"POST / HTTP/1.1", body: bytes = b"") -> bytes:
    return b"\r\n".join([start, b"Host: a.example", *lines, b"", body])


MALFORMED = {
    "length and chunked": request(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunked and length": request(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    "two lengths that differ": request(b"Content-Length: 1", b"Content-Length: 2", body=b"ab"),
    "two lengths that agree": request(b"Content-Length: 1", b"Content-Length: 1", body=b"a"),
    "a list of lengths": request(b"Content-Length: 1, 2", body=b"ab"),
    "a signed length": request(b"Content-Length: +1", body=b"a"),
    "a negative length": request(b"Content-Length: -1"),
    "a hexadecimal length": request(b"Content-Length: 0x1", body=b"a"),
    "an empty length": request(b"Content-Length:"),
    "a length beyond 64 bits": request(b"Content-Length: 99999999999999999999999"),
    "chunked not last": request(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"),
    "chunked twice": request(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "chunked in two fields": request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunked, then identity": request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    "a coding that only ends in chunked": request(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "chunked behind a vertical tab": request(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "an empty coding": request(b"Transfer-Encoding:", body=b"0\r\n\r\n"),
    "gzip without chunked": request(b"Transfer-Encoding: gzip", body=b"0\r\n\r\n"),
    "chunked in HTTP/1.0": request(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0", body=b"0\r\n\r\n"),
    "space before the colon": request(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "space before Host's colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "space in a name": request(b"Foo Bar: x"),
    "no colon": request(b"Foo"),
    "no name": request(b": x"),
    "a bracket in a name": request(b"F(o: x"),
    "obs-fold": request(b"Foo: x", b" y"),
    "obs-fold with a tab": request(b"Foo: x", b"\ty"),
    "a first field that is folded": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF after a field": b"GET / HTTP/1.1\r\nHost: a\nFoo: b\r\n\r\n",
    "bare LF at the end": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "nothing but bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare CR in a value": b"GET / HTTP/1.1\r\nHost: a\rFoo: b\r\n\r\n",
    "CR CR LF": b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
    "a control byte in a value": request(b"Foo: a\x01b"),
    "NUL in a value": request(b"Foo: a\x00b"),
    "DEL in a value": request(b"Foo: a\x7fb"),
    "a control byte in Connection": request(b"Connection: close\x01"),
    "two Hosts": request(b"Host: b.example"),
    "two equal Hosts": request(b"Host: a.example"),
    "no Host": b"GET / HTTP/1.1\r\nFoo: a\r\n\r\n",
    "an empty Host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "a Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a Host with a user": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "two spaces before the target": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces behind the target": b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space at the line's end": b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "a tab behind the method": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space before the method": b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a control byte in the target": b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    "raw UTF-8 in the target": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment in the target": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target without a slash": b"GET foo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a star for GET": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "an absolute target with a user": b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "an absolute target without a host": b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
    "an absolute target of another scheme": b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "lower-case http": b"GET / http/1.1\r\nHost: a\r\n\r\n",
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a request of nine blank lines": b"\r\n" * 9 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
}
OTHERWISE = {
    "HTTP/2.0": (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    "HTTP/0.9": (505, b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    "RTSP": (505, b"OPTIONS / RTSP/1.0\r\nHost: a\r\n\r\n"),
    "an unknown method": (501, b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "CONNECT": (501, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    "another transfer coding": (501, request(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    "another expectation": (417, request(b"Expect: a miracle", b"Content-Length: 1", body=b"x")),
}
BAD_BODIES = {
    "0x before a size": b"0x1\r\na\r\n0\r\n\r\n",
    "a sign before a size": b"+1\r\na\r\n0\r\n\r\n",
    "an underscore in a size": b"1_0\r\naaaaaaaaaaaaaaaa\r\n0\r\n\r\n",
    "a space before a size": b" 1\r\na\r\n0\r\n\r\n",
    "no size": b"\r\na\r\n0\r\n\r\n",
    "letters for a size": b"xyz\r\n",
    "a size beyond 60 bits": b"1" * 16 + b"\r\n",
    "bare LF behind a size": b"1\na\r\n0\r\n\r\n",
    "bare LF behind a chunk": b"1\r\na\n0\r\n\r\n",
    "a chunk longer than its size": b"1\r\nab\r\n0\r\n\r\n",
    "a control byte in an extension": b"1;a=\x01\r\na\r\n0\r\n\r\n",
    "bare CR in an extension": b"1;a=\rb\r\na\r\n0\r\n\r\n",
    "a size line without end": b"1;" + b"a" * 9000,
    "a trailer with a space before its colon": b"0\r\nX-T : 1\r\n\r\n",
    "a trailer that is folded": b"0\r\nX-T: 1\r\n 2\r\n\r\n",
    "bare LF behind a trailer": b"0\r\nX-T: 1\n\r\n",
    "trailers without end": b"0\r\n" + b"X-T: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 500,
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_head_is_answered_400_and_never_forwarded(raw, serve, gateway, connect):
    service = await serve(OK)
    front = await gateway(service)
    client = await connect(front)
    client.send(raw)
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n"), answer
    assert b"\r\nConnection: close\r\n" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"
    assert front.rejects == ["bad_request"]
    assert service.connections == 0


@pytest.mark.parametrize(
    "raw", [MALFORMED["obs-fold"], MALFORMED["two Hosts"], MALFORMED["bare CR in a value"], MALFORMED["length and chunked"]]
)
async def test_a_malformed_head_is_refused_byte_by_byte_too(raw, serve, gateway, connect):
    front = await gateway(await serve(OK))
    client = await connect(front)
    for at in range(len(raw)):
        client.send(raw[at : at + 1])
        await client.writer.drain()
    assert (await client.rest()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(("status", "raw"), OTHERWISE.values(), ids=OTHERWISE.keys())
async def test_what_is_not_spoken_here_has_its_own_status(status, raw, serve, gateway, connect):
    service = await serve(OK)
    client = await connect(await gateway(service))
    client.send(raw)
    assert (await client.rest()).startswith(b"HTTP/1.1 %d " % status)
    assert service.connections == 0


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_malformed_chunked_body_is_answered_400(body, serve, gateway, connect):
    front = await gateway(await serve(answer_after_body))
    client = await connect(front)
    client.send(request(b"Transfer-Encoding: chunked", body=body))
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert front.rejects == ["bad_chunk"]


async def answer_after_body(reader, writer, number):
    await reader.readuntil(b"\r\n\r\n")
    await reader.readuntil(b"0\r\n\r\n")
    writer.write(OK)


async def test_a_bad_chunk_within_a_forwarded_body_ends_the_upstream_call(serve, gateway, connect, eventually):
    seen = []

    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        seen.append(await reader.readexactly(6))
        seen.append(await reader.read())

    front = await gateway(await serve(script))
    client = await connect(front)
    client.send(request(b"Transfer-Encoding: chunked", body=b"1\r\na\r\n"))
    await eventually(lambda: seen)
    client.send(b"zz\r\n")
    assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
    outcome = await front.outcome()
    assert (outcome.ended, outcome.bytes_in) == ("client_gone", 1)
    await eventually(lambda: len(seen) == 2)
    assert b"0\r\n\r\n" not in seen[1]


LIMITS = Limits(max_line=100, max_headers_bytes=500, max_header_count=5, max_body=10, header_timeout_s=0.2, keepalive_s=0.2)
TOO_MUCH = {
    "line": (414, "line_too_long", b"GET /" + b"a" * 200 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "line without end": (414, "line_too_long", b"GET /" + b"a" * 200),
    "header bytes": (431, "headers_too_large", request(b"A: " + b"a" * 600)),
    "header bytes without end": (431, "headers_too_large", b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 600),
    "header count": (431, "too_many_headers", request(b"A: 1", b"B: 1", b"C: 1", b"D: 1", b"E: 1")),
    "announced body": (413, "body_too_large", request(b"Content-Length: 11", body=b"a" * 11)),
    "chunked body": (413, "body_too_large", request(b"Transfer-Encoding: chunked", body=b"b\r\n" + b"a" * 11 + b"\r\n0\r\n\r\n")),
    "header time": (408, "header_timeout", b"GET / HTTP/1.1\r\nHost: a\r\n"),
}


@pytest.mark.parametrize(("status", "reason", "raw"), TOO_MUCH.values(), ids=TOO_MUCH.keys())
async def test_each_limit_has_its_status(status, reason, raw, serve, gateway, connect):
    front = await gateway(await serve(OK), limits=LIMITS)
    client = await connect(front)
    client.send(raw)
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert front.rejects == [reason]


async def test_what_just_fits_every_limit_passes(serve, gateway, connect):
    front = await gateway(await serve(OK), limits=LIMITS)
    client = await connect(front)
    line = b"POST /" + b"a" * (100 - len(b"POST / HTTP/1.1")) + b" HTTP/1.1"
    head, _ = await client.ask(request(b"Content-Length: 10", b"B: 1", b"C: 1", b"D: 1", start=line, body=b"a" * 10))
    assert head.startswith(b"HTTP/1.1 200 ")


async def test_a_connection_that_says_nothing_is_closed_without_a_word(serve, gateway, connect):
    front = await gateway(await serve(OK), limits=LIMITS)
    client = await connect(front)
    assert await client.rest() == b""
    assert front.rejects == []


async def test_an_idle_kept_connection_is_closed_without_a_word(serve, gateway, connect):
    front = await gateway(await serve(OK), limits=LIMITS)
    client = await connect(front)
    await client.ask(request(start=b"GET / HTTP/1.1"))
    assert await client.rest() == b""


async def test_a_body_that_stops_coming_is_answered_408(serve, gateway, connect):
    async def script(reader, writer, number):
        await reader.read()

    front = await gateway(await serve(script), timeouts=Timeouts(connect_s=1, idle_s=0.3))
    client = await connect(front)
    client.send(request(b"Content-Length: 10", body=b"abc"))
    assert (await client.rest()).startswith(b"HTTP/1.1 408 ")
    assert front.rejects == ["body_timeout"]
    assert (await front.outcome()).ended == "client_gone"


async def test_an_offer_of_h2c_is_passed_over(serve, gateway, connect):
    service = await serve(OK)
    client = await connect(await gateway(service))
    head, _ = await client.ask(
        request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ", start=b"GET / HTTP/1.1")
    )
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"pgrade" not in service.heads[0]
    assert b"Settings" not in service.heads[0]


async def test_blank_lines_before_a_request_are_skipped(serve, gateway, connect):
    client = await connect(await gateway(await serve(OK)))
    head, _ = await client.ask(b"\r\n\r\n" + request(start=b"GET / HTTP/1.1"))
    assert head.startswith(b"HTTP/1.1 200 ")
