"""What passes, and as what: heads, bodies, their framing, order and ends, both ways."""

import asyncio

import pytest

from config.gateway import HeaderEdit

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"


def fields(head: bytes) -> list[bytes]:
    return head.rstrip(b"\r\n").split(b"\r\n")[1:]


async def test_a_response_passes_as_it_came_with_our_fields_added(serve, gateway, connect):
    answer = (
        b"HTTP/1.1 203 Sure thing\r\nserver: Odd/1\r\nSet-Cookie: a=1\r\nX-Empty:\r\nset-cookie: b=2\r\nContent-Encoding: br\r\n"
        b"Date: Mon, 05 Jan 2026 00:00:00 GMT\r\nContent-Length: 3\r\n\r\n\x00\xff\x01"
    )
    client = await connect(await gateway(await serve(answer)))
    head, body = await client.ask(GET)
    assert head.startswith(b"HTTP/1.1 203 Sure thing\r\n")
    assert fields(head) == [
        b"server: Odd/1", b"Set-Cookie: a=1", b"X-Empty: ", b"set-cookie: b=2", b"Content-Encoding: br",
        b"Date: Mon, 05 Jan 2026 00:00:00 GMT", b"Content-Length: 3", b"RateLimit: r", b"Via: 1.1 weighbridge",
    ]  # fmt: skip
    assert body == b"\x00\xff\x01"


async def test_a_response_without_date_gets_one(serve, gateway, connect):
    head, _ = await (await connect(await gateway(await serve(OK)))).ask(GET)
    assert b"\r\nDate: " in head


async def test_a_request_passes_in_order_and_case_with_forwarding_fields_added(serve, gateway, connect):
    service = await serve(OK)
    client = await connect(await gateway(service))
    await client.ask(
        b"GET /%7euser//x?q=%20&& HTTP/1.1\r\nX-ODD-case: 1\r\nHost: a.example:81\r\n"
        b"Accept: */*\r\naccept: text/plain\r\nCookie: a=1\r\n\r\n"
    )
    head = service.heads[0]
    assert head.startswith(b"GET /%7euser//x?q=%20&& HTTP/1.1\r\n")
    assert fields(head) == [
        b"X-ODD-case: 1", b"Host: a.example:81", b"Accept: */*", b"accept: text/plain", b"Cookie: a=1", b"X-Org-Id: org-1",
        b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: a.example:81", b"Via: 1.1 weighbridge",
    ]  # fmt: skip


async def test_claims_that_only_the_gateway_may_make_do_not_survive(serve, gateway, connect):
    service = await serve(OK)
    client = await connect(await gateway(service))
    claims = (
        b"X-Org-Id: evil\r\nx-org-plan: evil\r\nX-Key-Id: evil\r\nX-Weighbridge-Signature: evil\r\nX_Org_Id: evil\r\nX-Org_Id: evil\r\n"
        b"X-Forwarded-For: evil\r\nX-Forwarded-Proto: evil\r\nForwarded: evil\r\nX-Real-IP: evil\r\nContent_Length: evil\r\n"
        b"Keep-Alive: evil\r\nProxy-Connection: evil\r\nConnection: close, X-Evil, Host\r\nX-Evil: evil\r\n"
    )
    await client.ask(b"GET / HTTP/1.1\r\nHost: a.example\r\n" + claims + b"\r\n")
    assert b"evil" not in service.heads[0]
    assert b"Host: a.example\r\n" in service.heads[0]


async def test_a_trusted_proxys_word_is_taken(serve, gateway, connect):
    service = await serve(OK)
    client = await connect(await gateway(service, trusted=("127.0.0.0/8",)))
    forwarded = (
        b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\nForwarded: for=203.0.113.9\r\n"
    )
    await client.ask(b"GET / HTTP/1.1\r\nHost: a.example\r\n" + forwarded + b"\r\n")
    head = service.heads[0]
    assert b"X-Forwarded-For: 203.0.113.9, 127.0.0.1\r\n" in head
    assert head.count(b"X-Forwarded-For") == 1
    assert b"X-Forwarded-Proto: https\r\n" in head
    assert b"X-Forwarded-Host: shop.example\r\n" in head
    assert b"Forwarded: for=203.0.113.9\r\n" in head


async def test_a_routes_edits_are_made(serve, gateway, connect):
    service = await serve(b"HTTP/1.1 200 OK\r\nServer: x\r\nX-Powered-By: y\r\nContent-Length: 0\r\n\r\n")
    edits = {
        "request_headers": HeaderEdit(add={"X-Env": "test"}, remove=("Cookie",)),
        "response_headers": HeaderEdit(add={"Server": "front"}, remove=("X-Powered-By",)),
        "strip_prefix": "/api",
        "host": "upstream",
        "hide_credentials": True,
    }
    client = await connect(await gateway(service, **edits))
    secrets = b"Cookie: a\r\nX-Env: client\r\nX-API-Key: k\r\nAuthorization: Bearer k\r\n"
    head, _ = await client.ask(b"GET /api/users?x HTTP/1.1\r\nHost: a.example\r\n" + secrets + b"\r\n")
    seen = service.heads[0]
    assert seen.startswith(b"GET /users?x HTTP/1.1\r\nHost: " + service.url.encode()[7:] + b"\r\n")
    assert b"X-Env: test\r\n" in seen
    assert not any(name in seen for name in (b"Cookie", b"client", b"X-API-Key", b"Authorization"))
    assert b"Server: front\r\n" in head
    assert b"Server: x" not in head
    assert b"X-Powered-By" not in head


@pytest.mark.parametrize(
    ("target", "host", "seen"),
    [
        (b"http://b.example:81/x?y", b"a.example", b"GET /x?y HTTP/1.1\r\nHost: b.example:81\r\n"),
        (b"http://b.example?y", b"a.example", b"GET /?y HTTP/1.1\r\nHost: b.example\r\n"),
        (b"HTTP://[::1]:81/", b"a.example", b"GET / HTTP/1.1\r\nHost: [::1]:81\r\n"),
        (b"/x", b"[2001:db8::1]:80", b"GET /x HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n"),
        (b"//b.example/x", b"a.example", b"GET //b.example/x HTTP/1.1\r\nHost: a.example\r\n"),
    ],
)
async def test_an_absolute_target_is_reduced_and_its_authority_is_the_host(target, host, seen, serve, gateway, connect):
    service = await serve(OK)
    client = await connect(await gateway(service))
    await client.ask(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host))
    assert service.heads[0].startswith(seen)


async def test_a_star_target_passes(serve, gateway, connect):
    service = await serve(OK)
    await (await connect(await gateway(service))).ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
    assert service.heads[0].startswith(b"OPTIONS * HTTP/1.1\r\n")


async def test_connections_are_kept_on_both_sides(serve, gateway, connect):
    service = await serve(OK)
    client = await connect(await gateway(service))
    for _ in range(3):
        assert (await client.ask(GET))[1] == b"ok"
    assert service.connections == 1


async def test_a_client_that_asks_to_close_is_told_so_and_closed(serve, gateway, connect):
    client = await connect(await gateway(await serve(OK)))
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = await client.rest()
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\nok")


async def test_an_upstream_that_closes_does_not_close_the_client(serve, gateway, connect):
    service = await serve(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    client = await connect(await gateway(service))
    for _ in range(2):
        head, body = await client.ask(GET)
        assert body == b"ok"
        assert b"onnection" not in head
    assert service.connections == 2


async def test_http_1_0_is_closed_after_the_answer_unless_it_asks_otherwise(serve, gateway, connect):
    front = await gateway(await serve(OK))
    closed = await connect(front)
    closed.send(b"GET / HTTP/1.0\r\n\r\n")
    assert (await closed.rest()).endswith(b"ok")
    kept = await connect(front)
    for _ in range(2):
        head, _ = await kept.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert b"\r\nConnection: keep-alive\r\n" in head


async def test_pipelined_requests_are_answered_in_order(serve, gateway, connect):
    async def script(reader, writer, number):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1]
            if path == b"/0":
                await asyncio.sleep(0.05)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    front = await gateway(await serve(script))
    client = await connect(front)
    chunked = b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    client.send(b"".join(chunked if n == 1 else b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(500)))
    for n in range(500):
        assert (await client.answer())[1] == b"/%d" % n


async def test_a_chunked_response_stays_chunked_and_its_trailers_pass(serve, gateway, connect):
    answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5;a=b\r\nhello\r\n0\r\n"
        b"X-Sum: 1\r\nSet-Cookie: evil\r\nX-Org-Id: evil\r\n\r\n"
    )
    client = await connect(await gateway(await serve(answer)))
    client.send(GET)
    head = await client.head()
    assert b"Transfer-Encoding: chunked\r\n" in head
    assert b"Trailer: X-Sum\r\n" in head
    assert await client.exactly(len(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")) == b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
    client.send(GET)
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")


async def test_a_chunked_response_is_unwrapped_for_http_1_0(serve, gateway, connect):
    client = await connect(await gateway(await serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")))
    client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    answer = await client.rest()
    assert b"ransfer-" not in answer
    assert b"Connection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\nhello")


async def test_a_response_that_ends_with_its_connection_is_chunked_for_the_client(serve, gateway, connect):
    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nhello")

    front = await gateway(await serve(script))
    client = await connect(front)
    client.send(GET)
    assert b"Transfer-Encoding: chunked\r\n" in await client.head()
    assert await client.exactly(15) == b"5\r\nhello\r\n0\r\n\r\n"
    assert (await front.outcome()).ended == "complete"


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 5\r\n\r\n", b"Content-Length: 5\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"Content-Length: 5\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
    ],
)
async def test_a_response_without_body_leaves_the_connection_usable(answer, kept, serve, gateway, connect):
    service = await serve(answer)
    client = await connect(await gateway(service))
    for _ in range(2):
        client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await client.head()
        assert kept in head
        assert kept or b"Content-Length" not in head
    assert service.connections == 1


async def test_a_body_that_answers_head_all_the_same_never_reaches_the_client(serve, gateway, connect):
    service = await serve(OK)
    client = await connect(await gateway(service))
    client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.head()
    client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    assert service.connections == 2


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_request_body_passes_with_its_framing_and_trailers(chunked, serve, gateway, connect):
    bodies = []

    async def script(reader, writer, number):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            bodies.append(await (reader.readuntil(b"\r\n\r\n") if b"chunked" in head else reader.readexactly(5)))
            writer.write(OK)

    service = await serve(script)
    front = await gateway(service)
    client = await connect(front)
    for _ in range(2):
        if chunked:
            await client.ask(
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n000\r\nX-Sum: 1\r\nHost: evil\r\n\r\n"
            )
        else:
            await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        outcome = await front.outcome()
        assert (outcome.status, outcome.ended, outcome.bytes_in, outcome.bytes_out) == (200, "complete", 5, 2)
    assert bodies == ([b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"] if chunked else [b"hello"]) * 2
    assert service.heads[0].lower().count(b"content-length") + service.heads[0].lower().count(b"transfer-encoding") == 1
    assert service.connections == 1


async def test_te_trailers_is_renewed_for_the_next_hop(serve, gateway, connect):
    service = await serve(OK)
    await (await connect(await gateway(service))).ask(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers, gzip\r\nConnection: TE\r\n\r\n")
    assert b"\r\nTE: trailers\r\nConnection: TE\r\n" in service.heads[0]


async def test_a_client_that_expects_100_goes_on_once_the_service_is_reached(serve, gateway, connect):
    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.readexactly(5)
        writer.write(OK)

    service = await serve(script)
    client = await connect(await gateway(service))
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"hello")
    assert (await client.answer())[0].startswith(b"HTTP/1.1 200 ")
    assert b"xpect" not in service.heads[0]


async def test_a_refused_client_that_expects_100_is_never_told_to_go_on(serve, gateway, connect):
    async def refuse(request, forward):
        request.respond(429, [(b"Retry-After", b"1")], b"no")

    service = await serve(OK)
    client = await connect(await gateway(service, handler=refuse))
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"Connection: close\r\n" in answer
    assert service.connections == 0


async def test_early_hints_pass_to_1_1_but_not_to_1_0(serve, gateway, connect):
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    front = await gateway(await serve(hints + hints + OK))
    new = await connect(front)
    new.send(GET)
    for _ in range(2):
        assert await new.head() == hints
    assert (await new.answer())[1] == b"ok"
    old = await connect(front)
    assert (await old.ask(b"GET / HTTP/1.0\r\n\r\n"))[0].startswith(b"HTTP/1.1 200 ")


async def test_an_event_stream_flows_unbuffered(serve, gateway, connect):
    more = asyncio.Event()

    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            writer.write(b"9\r\ndata: 1\n\n\r\n")
            await more.wait()
            more.clear()
        writer.write(b"0\r\n\r\n")

    client = await connect(await gateway(await serve(script)))
    client.send(GET)
    await client.head()
    for _ in range(3):
        assert await client.exactly(14) == b"9\r\ndata: 1\n\n\r\n"
        more.set()
    assert await client.exactly(5) == b"0\r\n\r\n"


async def test_a_small_unread_body_keeps_the_connection_and_a_large_one_closes_it(serve, gateway, connect):
    async def refuse(request, forward):
        request.respond(401, [], b"who?")

    front = await gateway(await serve(OK), handler=refuse)
    client = await connect(front)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhel")
    assert (await client.answer())[1] == b"who?"
    client.send(b"lo worl" + GET)
    assert (await client.answer())[1] == b"who?"
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nhel" + b"x" * 300_000)
    assert b"Connection: close\r\n" in await client.rest()


async def test_an_answer_before_the_body_was_read_arrives_whole(serve, gateway, connect):
    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()

    front = await gateway(await serve(script))
    client = await connect(front)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 10_000)
    assert (await client.rest()).endswith(b"\r\n\r\nno")
    assert (await front.outcome()).ended == "complete"


async def test_a_handler_that_fails_is_a_500_and_one_that_answers_nothing_too(serve, gateway, connect):
    async def fail(request, forward):
        if request.target == b"/raise":
            raise RuntimeError("a fault of ours")

    front = await gateway(await serve(OK), handler=fail)
    for target in (b"/raise", b"/nothing"):
        client = await connect(front)
        client.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
        assert (await client.rest()).startswith(b"HTTP/1.1 500 ")
    assert front.server.in_flight == 0
