"""How exchanges end otherwise: services that refuse, break off, fall silent or talk nonsense; clients that leave or do not read."""

import asyncio
import socket
import ssl
import subprocess

import pytest

from config.gateway import Timeouts, Tls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture
def nobody():
    """An address that refuses connections."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def deaf():
    """An address where connecting hangs: its queue is full and nobody accepts."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(sock.getsockname())
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        for caller in callers:
            caller.close()


async def test_a_service_that_refuses_connections_is_unreachable_and_sends_nothing(nobody, gateway, connect):
    front = await gateway(nobody)
    client = await connect(front)
    head, _ = await client.ask(GET)
    assert head.startswith(b"HTTP/1.1 502 ")
    outcome = await front.outcome()
    assert (outcome.ended, outcome.status, outcome.first_byte_sent) == ("unreachable", None, False)


async def test_a_connection_that_does_not_come_is_a_timeout(deaf, gateway, connect):
    front = await gateway(deaf, timeouts=Timeouts(connect_s=0.1, idle_s=5))
    assert (await (await connect(front)).ask(GET))[0].startswith(b"HTTP/1.1 504 ")
    assert (await front.outcome()).ended == "timeout"


@pytest.mark.parametrize("timeouts", [Timeouts(connect_s=1, idle_s=0.2), Timeouts(connect_s=1, idle_s=9, total_s=0.2)])
async def test_a_service_that_says_nothing_is_a_timeout(timeouts, serve, gateway, connect, eventually):
    gone = []

    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        gone.append(await reader.read())

    front = await gateway(await serve(script), timeouts=timeouts)
    client = await connect(front)
    assert (await client.ask(GET))[0].startswith(b"HTTP/1.1 504 ")
    assert (await front.outcome()).ended == "timeout"
    await eventually(lambda: gone)  # the upstream connection was closed


async def test_a_service_that_falls_silent_within_its_body_breaks_the_client_off(serve, gateway, connect):
    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
        await reader.read()

    front = await gateway(await serve(script), timeouts=Timeouts(connect_s=1, idle_s=0.2))
    client = await connect(front)
    client.send(GET)
    await client.head()
    with pytest.raises(ConnectionResetError):
        await client.rest()
    outcome = await front.outcome()
    assert (outcome.ended, outcome.first_byte_sent, outcome.bytes_out) == ("timeout", True, 2)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok",
    ],
)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_truncated_response_never_looks_whole(version, answer, serve, gateway, connect):
    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    front = await gateway(await serve(script))
    client = await connect(front)
    client.send(GET.replace(b"1.1", version))
    with pytest.raises(ConnectionResetError):
        await client.rest()
    outcome = await front.outcome()
    assert (outcome.ended, outcome.status, outcome.first_byte_sent, outcome.bytes_out) == ("upstream_reset", 200, True, 2)


NONSENSE = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "gzip, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "gzip alone": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a fold": b"HTTP/1.1 200 OK\r\nFoo: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "a control byte": b"HTTP/1.1 200 OK\r\nFoo: a\x01b\r\nContent-Length: 0\r\n\r\n",
    "a control byte in the reason": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n",
    "status 99": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "a protocol nobody asked for": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nabc",
    "101 without a protocol": b"HTTP/1.1 101 Switching\r\n\r\nabc",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 10_000,
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
async def test_a_response_that_is_no_http_is_not_passed_on(answer, serve, gateway, connect):
    front = await gateway(await serve(answer))
    client = await connect(front)
    head, _ = await client.ask(GET)
    assert head.startswith(b"HTTP/1.1 502 ")
    outcome = await front.outcome()
    assert (outcome.ended, outcome.first_byte_sent) == ("bad_response", False)
    assert (await client.ask(GET))[0].startswith(b"HTTP/1.1 502 ")


async def test_a_service_that_sends_more_than_it_was_asked_for_is_not_trusted_with_the_next_request(serve, gateway, connect):
    service = await serve(OK + OK)
    client = await connect(await gateway(service))
    for _ in range(2):
        head, body = await client.ask(GET)
        assert head.startswith(b"HTTP/1.1 200 ")  # nothing of the second answer stands before it
        assert body == b"ok"
    assert service.connections == 2


async def dies_once(reader, writer, number):
    """The first connection dies at its second request."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK)
    await reader.readuntil(b"\r\n\r\n")
    if number > 1:
        writer.write(OK)


async def test_an_idempotent_request_on_a_kept_connection_that_died_is_sent_once_more(serve, gateway, connect):
    service = await serve(dies_once)
    front = await gateway(service)
    client = await connect(front)
    for _ in range(2):
        assert (await client.ask(GET))[1] == b"ok"
    assert [(await front.outcome()).retried for _ in range(2)] == [False, True]
    assert front.pool.retries == 1
    assert service.connections == 2


async def test_a_small_put_is_sent_once_more_with_its_body(serve, gateway, connect):
    bodies = []

    async def script(reader, writer, number):
        for turn in range(2):
            await reader.readuntil(b"\r\n\r\n")
            bodies.append(await reader.readexactly(2))
            if number == 1 and turn == 1:
                return
            writer.write(OK)

    front = await gateway(await serve(script))
    client = await connect(front)
    for _ in range(2):
        assert (await client.ask(POST.replace(b"POST", b"PUT")))[1] == b"ok"
    assert bodies == [b"hi"] * 3


async def test_a_post_is_never_sent_twice(serve, gateway, connect):
    service = await serve(dies_once)
    front = await gateway(service)
    client = await connect(front)
    await client.ask(GET)
    assert (await client.ask(POST))[0].startswith(b"HTTP/1.1 502 ")
    assert [(await front.outcome()).ended for _ in range(2)] == ["complete", "upstream_reset"]
    assert len([head for head in service.heads if head.startswith(b"POST")]) == 1


async def test_a_fresh_connection_that_dies_is_not_tried_again(serve, gateway, connect):
    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")

    service = await serve(script)
    front = await gateway(service)
    assert (await (await connect(front)).ask(GET))[0].startswith(b"HTTP/1.1 502 ")
    assert (await front.outcome()).ended == "upstream_reset"
    assert service.connections == 1


async def test_a_response_that_had_begun_is_not_asked_for_again(serve, gateway, connect):
    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 2")

    service = await serve(script)
    front = await gateway(service)
    client = await connect(front)
    await client.ask(GET)
    assert (await client.ask(GET))[0].startswith(b"HTTP/1.1 502 ")
    assert service.connections == 1


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"])
async def test_a_client_that_leaves_ends_the_upstream_call(begun, serve, gateway, connect, eventually):
    ended = []

    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begun)
        ended.append(await reader.read())

    service = await serve(script)
    front = await gateway(service)
    client = await connect(front)
    client.send(GET)
    await eventually(lambda: service.heads)
    if begun:
        await client.head()
        await client.exactly(2)
    client.writer.close()
    await eventually(lambda: ended)
    outcome = await front.outcome()
    assert (outcome.ended, outcome.first_byte_sent, outcome.bytes_out) == ("client_gone", bool(begun), 2 if begun else 0)
    assert not outcome.unsent
    await eventually(lambda: front.server.in_flight == 0 and not front.server.connections)


async def test_a_client_that_leaves_while_no_connection_comes_has_had_nothing_sent(deaf, gateway, connect, eventually):
    front = await gateway(deaf, timeouts=Timeouts(connect_s=0.5, idle_s=5))
    client = await connect(front)
    client.send(GET)
    await eventually(lambda: front.server.in_flight)
    client.writer.transport.abort()
    outcome = await front.outcome()
    assert (outcome.ended, outcome.unsent) == ("client_gone", True)


async def test_a_client_that_leaves_within_its_body_is_charged_what_came(serve, gateway, connect, eventually):
    async def script(reader, writer, number):
        await reader.read()

    service = await serve(script)
    front = await gateway(service)
    client = await connect(front)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello")
    await eventually(lambda: service.connections)
    await asyncio.sleep(0.02)
    client.writer.transport.abort()
    outcome = await front.outcome()
    assert (outcome.ended, outcome.bytes_in) == ("client_gone", 5)


async def test_a_client_that_leaves_before_forwarding_costs_the_service_nothing(serve, gateway, connect, eventually):
    left = asyncio.Event()

    async def slow(request, forward):
        await left.wait()
        forward(request)

    service = await serve(OK)
    front = await gateway(service, handler=slow)
    client = await connect(front)
    client.send(GET)
    await eventually(lambda: front.server.in_flight)
    client.writer.transport.abort()
    await eventually(lambda: not front.server.connections)
    left.set()
    outcome = await front.outcome()
    assert (outcome.ended, outcome.unsent) == ("client_gone", True)
    assert service.heads == []


async def test_a_client_that_breaks_the_rules_before_forwarding_costs_the_service_nothing(serve, gateway, connect, eventually):
    broken = asyncio.Event()

    async def slow(request, forward):
        await broken.wait()
        forward(request)

    service = await serve(OK)
    front = await gateway(service, handler=slow)
    client = await connect(front)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    await eventually(lambda: front.server.in_flight)
    client.send(b"zz\r\n")
    assert (await client.rest()).count(b"HTTP/1.1 400 ") == 1
    broken.set()
    assert (await front.outcome()).ended == "client_gone"
    assert service.connections == 0


async def test_a_client_that_does_not_read_is_broken_off(serve, gateway, connect):
    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    front = await gateway(await serve(script), timeouts=Timeouts(connect_s=1, idle_s=0.3))
    client = await connect(front, limit=1024)
    client.send(GET)
    await client.head()
    outcome = await front.outcome()
    assert (outcome.ended, outcome.first_byte_sent) == ("client_gone", True)


async def test_long_exchanges_tell_their_progress(serve, gateway, connect, eventually):
    stop = asyncio.Event()

    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not stop.is_set():
            writer.write(b"tick")
            await asyncio.sleep(0.02)

    front = await gateway(await serve(script))
    client = await connect(front)
    client.send(GET)
    await eventually(lambda: len(front.progress) >= 2)
    stop.set()
    outcome = await front.outcome()
    assert 0 < front.progress[0][1] < front.progress[1][1] <= outcome.bytes_out


# Targets


async def test_targets_take_turns(serve, gateway, connect):
    services = [await serve(OK) for _ in range(3)]
    client = await connect(await gateway(*services))
    for _ in range(6):
        await client.ask(GET)
    assert [len(service.heads) for service in services] == [2, 2, 2]


async def test_a_target_that_refuses_is_passed_over_and_nobody_notices(nobody, serve, gateway, connect):
    service = await serve(OK)
    front = await gateway(nobody, service)
    client = await connect(front)
    for _ in range(4):
        assert (await client.ask(POST))[0].startswith(b"HTTP/1.1 200 ")
    assert [target.is_down for target in front.pool.targets("app")] == [True, False]


async def test_connections_to_a_target_are_bounded_and_the_wait_for_one_too(serve, gateway, connect):
    async def script(reader, writer, number):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.05 if b"/short" in head else 60)
            writer.write(OK)

    service = await serve(script)
    front = await gateway(service, upstream={"max_connections": 1}, timeouts=Timeouts(connect_s=0.3, idle_s=9))
    clients = [await connect(front) for _ in range(3)]
    for client in clients:
        client.send(GET.replace(b"/ ", b"/short "))
    for client in clients:
        assert (await client.answer())[1] == b"ok"
    assert service.connections == 1
    clients[0].send(GET)
    await asyncio.sleep(0.02)
    assert (await clients[1].ask(GET))[0].startswith(b"HTTP/1.1 503 ")


async def test_kept_connections_are_closed_when_unused(serve, gateway, connect, eventually):
    service = await serve(OK)
    front = await gateway(service, pool={"keepalive_seconds": 0.1})
    await (await connect(front)).ask(GET)
    await eventually(lambda: not front.pool.targets("app")[0].open)


async def test_a_service_on_a_unix_socket(serve, gateway, connect, tmp_path):
    service = await serve(OK, unix=str(tmp_path / "s"))
    client = await connect(await gateway(service))
    assert (await client.ask(GET))[1] == b"ok"


async def test_a_service_on_an_ipv6_address_below_a_path(serve, gateway, connect):
    try:
        service = await serve(OK, host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    client = await connect(await gateway(service.url + "/base/", host="upstream"))
    assert (await client.ask(GET))[1] == b"ok"
    assert service.heads[0].startswith(b"GET /base/ HTTP/1.1\r\nHost: [::1]:")


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key -out cert -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command.split(), *names], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def listening(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert", certificate / "key")
    return context


async def test_a_service_over_tls_is_reached_if_its_certificate_is_trusted(certificate, listening, serve, gateway, connect):
    service = await serve(OK, ssl=listening)
    url = service.url.replace("127.0.0.1", "localhost")
    client = await connect(await gateway(url, upstream={"tls": Tls(ca=str(certificate / "cert"))}))
    for _ in range(2):
        assert (await client.ask(GET))[1] == b"ok"
    assert service.connections == 1


@pytest.mark.parametrize("reason", ["unknown issuer", "another name"])
async def test_a_service_whose_certificate_is_not_trusted_is_unreachable(reason, certificate, listening, serve, gateway, connect):
    service = await serve(OK, ssl=listening)
    url = service.url.replace("127.0.0.1", "localhost") if reason == "unknown issuer" else service.url
    front = await gateway(url, upstream={} if reason == "unknown issuer" else {"tls": Tls(ca=str(certificate / "cert"))})
    assert (await (await connect(front)).ask(GET))[0].startswith(b"HTTP/1.1 502 ")
    outcome = await front.outcome()
    assert outcome.ended == "unreachable"
    assert "certificate" in outcome.detail.lower()
    assert service.heads == []


# Going down


async def test_going_down_ends_idle_connections_and_lets_work_finish(serve, gateway, connect, eventually):
    go = asyncio.Event()

    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        await go.wait()
        writer.write(OK)

    front = await gateway(await serve(script))
    front.runner._shutdown_timeout = 10
    idle, busy = await connect(front), await connect(front)
    busy.send(GET)
    await eventually(lambda: front.server.in_flight == 1)
    down = asyncio.create_task(front.runner.cleanup())
    assert await idle.rest() == b""
    go.set()
    answer = await busy.rest()
    assert b"Connection: close\r\n" in answer
    assert answer.endswith(b"ok")
    await down


async def test_going_down_breaks_off_what_does_not_end_and_its_handler_still_settles(serve, gateway, connect, eventually):
    async def script(reader, writer, number):
        await reader.read()

    front = await gateway(await serve(script))
    front.runner._shutdown_timeout = 0.05
    client = await connect(front)
    client.send(GET)
    await eventually(lambda: front.server.in_flight == 1)
    await front.runner.cleanup()
    assert [outcome.ended for outcome in front.outcomes] == ["client_gone"]
