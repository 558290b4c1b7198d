"""Several targets over real sockets: shares, health, ejection, waiting, changes while calls are at work, TLS, addresses."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections import Counter

import pytest

from config.gateway import Ejection, Health, Queue, Timeouts, Tls, Upstream

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi"


def naming(name: str):
    """A service that answers every request with its name, and its probes by `well`."""

    async def script(reader, writer, number):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /health "):
                writer.write(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % script.status)
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + name.encode())

    script.status = 200
    return script


async def shares(client, calls: int) -> dict[str, int]:
    return Counter([(await client.ask(GET))[1].decode() for _ in range(calls)])


@contextlib.asynccontextmanager
async def probing(front):
    """The pool's probes, running."""
    task = asyncio.create_task(front.pool.probe())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --- shares ---------------------------------------------------------------------------------------------------------------


async def test_calls_are_shared_by_weight(serve, gateway, connect):
    services = [await serve(naming(name)) for name in "abc"]
    client = await connect(await gateway(*services, upstream={"weights": (5, 3, 2)}))
    assert await shares(client, 500) == {"a": 250, "b": 150, "c": 100}


async def test_calls_that_last_go_where_the_fewest_are_at_work(serve, gateway, connect, eventually):
    async def slow(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()

    services = [await serve(slow) for _ in range(2)]
    front = await gateway(*services, upstream={"weights": (3, 1), "balance": "least_connections"})
    for client in [await connect(front) for _ in range(40)]:
        client.send(GET)
    await eventually(lambda: sum(len(service.heads) for service in services) == 40)
    assert [len(service.heads) for service in services] == [30, 10]


async def test_a_call_whose_client_left_is_no_longer_at_work(serve, gateway, connect, eventually):
    async def slow(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()

    service = await serve(slow)
    front = await gateway(service)
    client = await connect(front)
    client.send(GET)
    await eventually(lambda: service.heads)
    client.writer.transport.abort()
    await eventually(lambda: front.pool.targets("app")[0].in_flight == 0)
    assert front.pool.targets("app")[0].failures == 0


# --- dying and coming back ------------------------------------------------------------------------------------------------


async def test_a_target_that_is_killed_and_revived_costs_no_call(serve, gateway, connect, eventually):
    doomed, steady = await serve(naming("a")), await serve(naming("b"))
    port = int(doomed.url.rpartition(":")[2])
    front = await gateway(doomed, steady, upstream={"health": Health(path="/health", interval_s=0.05, timeout_s=1)})
    client = await connect(front)
    async with probing(front):
        assert await shares(client, 20) == {"a": 10, "b": 10}
        doomed.server.close()
        for writer in doomed.writers:
            writer.transport.abort()
        assert set(await shares(client, 20)) == {"b"}
        await eventually(lambda: front.pool.targets("app")[0].standing.failing)
        assert await shares(client, 20) == {"b": 20}
        revived = naming("A")
        server = await asyncio.start_server(lambda reader, writer: _serve(revived, reader, writer), "127.0.0.1", port)
        await eventually(lambda: not front.pool.targets("app")[0].is_down)
        assert await shares(client, 20) == {"A": 10, "b": 10}
        server.close()


async def test_calls_at_work_on_a_target_that_dies_go_on_at_another(serve, gateway, connect, eventually):
    held = asyncio.Event()

    async def dying(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.readuntil(b"\r\n\r\n")
        held.set()
        await reader.read()

    dies, lives = await serve(dying), await serve(naming("b"))
    front = await gateway(dies, lives, host="upstream")
    client = await connect(front)
    assert [(await client.ask(GET))[1] for _ in range(2)] == [b"ok", b"b"]
    client.send(GET)
    await held.wait()
    dies.server.close()
    for writer in dies.writers:
        writer.transport.abort()
    assert (await client.answer())[1] == b"b"
    assert lives.heads[-1].startswith(b"GET / HTTP/1.1\r\nHost: " + lives.url.removeprefix("http://").encode())
    assert front.pool.retries == 1
    assert [target.in_flight for target in front.pool.targets("app")] == [0, 0]


async def _serve(script, reader, writer):
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await script(reader, writer, 1)
    writer.close()


async def test_a_target_that_fails_its_probes_takes_no_calls_while_another_does(serve, gateway, connect, eventually):
    sick, well = naming("a"), naming("b")
    front = await gateway(
        await serve(sick), await serve(well),
        upstream={"health": Health(path="/health", interval_s=0.03, timeout_s=1, healthy=2, unhealthy=2)},
    )  # fmt: skip
    client = await connect(front)
    one, other = front.pool.targets("app")
    async with probing(front):
        sick.status = 503
        await eventually(lambda: one.is_down)
        assert await shares(client, 20) == {"b": 20}
        well.status = 503
        await eventually(lambda: other.is_down)
        assert await shares(client, 20) == {"a": 10, "b": 10}  # panic: all are tried
        sick.status = 204
        await eventually(lambda: not one.is_down)
        assert await shares(client, 20) == {"a": 20}


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 399 Odd\r\n\r\n", True),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", False),
        (b"SSH-2.0-OpenSSH\r\n", False),
        (b"", False),
    ],
)
async def test_only_a_good_status_is_a_good_answer(answer, well, serve, gateway, eventually):
    async def script(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    service = await serve(script)
    front = await gateway(service, upstream={"health": Health(path="/up?full=1", interval_s=60, timeout_s=5)})
    target = front.pool.targets("app")[0]
    target.standing.pause(0.0)  # which a good answer ends
    async with probing(front):
        await eventually(lambda: target.standing.failing or not target.standing.pauses)
    assert target.standing.failing is not well
    assert service.heads[0].startswith(b"GET /up?full=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nVia: 1.1 weighbridge" in service.heads[0]


async def test_a_target_that_does_not_answer_its_probe_in_time_is_not_well(serve, gateway, eventually):
    async def script(reader, writer, number):
        await reader.read()

    front = await gateway(await serve(script), upstream={"health": Health(path="/", interval_s=60, timeout_s=0.1)})
    async with probing(front):
        await eventually(lambda: front.pool.targets("app")[0].standing.failing)


async def test_probes_follow_the_configuration(serve, gateway, eventually):
    script = naming("a")
    script.status = 500
    service = await serve(script)
    front = await gateway(service, upstream={"health": Health(path="/health", interval_s=0.02, timeout_s=1)})
    target = front.pool.targets("app")[0]
    async with probing(front):
        await eventually(lambda: target.is_down)
        front.pool.update({"app": Upstream(name="app", targets=(service.url,), health=Health(path="/other", interval_s=0.02))})
        await eventually(lambda: not target.is_down)
        front.pool.update({"app": Upstream(name="app", targets=(service.url,))})
        asked = len(service.heads)
        await asyncio.sleep(0.1)
        assert len(service.heads) <= asked + 1  # one may have been on its way


async def test_a_target_whose_calls_break_off_is_ejected_and_no_more_than_half_are(serve, gateway, connect):
    async def breaking(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")

    services = [await serve(breaking), await serve(breaking), await serve(naming("c"))]
    front = await gateway(*services, upstream={"ejection": Ejection(failures=2, base_s=60)})
    client = await connect(front)
    answers = [(await client.ask(GET))[0].startswith(b"HTTP/1.1 200 ") for _ in range(30)]
    assert [target.is_down for target in front.pool.targets("app")].count(True) == 1
    assert answers[-8:].count(True) == 4  # the one that may not be left out, and the good one, in turns


async def test_answers_of_5xx_eject_only_where_they_are_to(serve, gateway, connect):
    bad = b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n"
    for counts, share in ((False, 10), (True, 2)):
        service = await serve(bad)
        front = await gateway(service, await serve(naming("b")), upstream={"ejection": Ejection(failures=2, count_5xx=counts)})
        client = await connect(front)
        for _ in range(20):
            await client.ask(GET)
        assert len(service.heads) == share


# --- waiting --------------------------------------------------------------------------------------------------------------


async def test_who_waits_too_long_or_finds_the_queue_full_is_told_so_and_the_target_stays_in(serve, gateway, connect, eventually):
    async def slow(reader, writer, number):
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()

    front = await gateway(await serve(slow), upstream={"max_connections": 1, "queue": Queue(most=1, timeout_s=0.3)})
    target = front.pool.targets("app")[0]
    busy, waiting, refused = [await connect(front) for _ in range(3)]
    busy.send(GET)
    await eventually(lambda: target.open == 1)
    waiting.send(GET)
    await eventually(lambda: target.waiters)
    assert (await refused.ask(GET))[0].startswith(b"HTTP/1.1 503 ")
    assert (await waiting.answer())[0].startswith(b"HTTP/1.1 503 ")
    assert (target.failures, target.is_down, target.in_flight) == (0, False, 1)


# --- changes while calls are at work --------------------------------------------------------------------------------------


async def test_a_call_routed_to_an_upstream_that_was_removed_meanwhile_is_served(serve, gateway, connect, eventually):
    admitted = asyncio.Event()

    async def slow(request, forward):
        await admitted.wait()
        forward(request)

    service, other = await serve(naming("a")), await serve(naming("b"))
    front = await gateway(service, handler=slow)
    client = await connect(front)
    client.send(GET)
    await eventually(lambda: front.server.in_flight)
    front.pool.update({"other": Upstream(name="other", targets=(other.url,))})
    admitted.set()
    assert (await client.answer())[1] == b"a"


async def test_a_call_that_waits_at_a_target_that_is_removed_is_served(serve, gateway, connect, eventually):
    go = asyncio.Event()

    async def slow(reader, writer, number):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await go.wait()
            writer.write(OK)

    service, other = await serve(slow), await serve(naming("b"))
    front = await gateway(service, upstream={"max_connections": 1})
    target = front.pool.targets("app")[0]
    busy, waiting = await connect(front), await connect(front)
    busy.send(GET)
    await eventually(lambda: target.open == 1)
    waiting.send(GET)
    await eventually(lambda: target.waiters)
    front.pool.update({"app": Upstream(name="app", targets=(other.url,))})
    go.set()
    assert [(await client.answer())[1] for client in (busy, waiting)] == [b"ok", b"ok"]
    assert (await busy.ask(GET))[1] == b"b"
    await eventually(lambda: target.open == 0)


async def test_calls_go_on_through_a_hundred_changes(serve, gateway, connect):
    services = [await serve(naming(name)) for name in "abcd"]
    front = await gateway(*services[:2])
    clients = [await connect(front) for _ in range(4)]
    ended = asyncio.Event()

    async def call(client):
        seen = Counter()
        while not ended.is_set():
            head, body = await client.ask(GET)
            assert head.startswith(b"HTTP/1.1 200 ")
            seen[body] += 1
        return seen

    calling = [asyncio.create_task(call(client)) for client in clients]
    for turn in range(100):
        chosen = tuple(services[(turn + step) % 4].url for step in range(1 + turn % 3))
        front.pool.update({"app": Upstream(name="app", targets=chosen, max_connections=1 + turn % 5)})
        await asyncio.sleep(0.003)
    ended.set()
    assert len(sum(await asyncio.gather(*calling), Counter())) == 4
    assert all(target.in_flight == 0 for target in front.pool.targets("app"))


# --- addresses ------------------------------------------------------------------------------------------------------------


async def test_a_name_with_several_addresses_is_reached_by_the_one_that_listens(serve, gateway, connect, monkeypatch):
    async def resolve(self, loop):
        return ["127.0.0.3", "127.0.0.2", "127.0.0.1"]

    monkeypatch.setattr("gateway.dial.Address._resolve", resolve)
    service = await serve(OK)
    client = await connect(await gateway(service.url.replace("127.0.0.1", "app.example")))
    assert (await client.ask(GET))[1] == b"ok"


async def test_an_address_that_swallows_packets_leaves_time_for_the_next(serve, gateway, connect, monkeypatch):
    service = await serve(OK)
    port = int(service.url.rpartition(":")[2])
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.2", port))
        deaf.listen(0)
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.2", port))

        async def resolve(self, loop):
            return ["127.0.0.2", "127.0.0.1"]

        monkeypatch.setattr("gateway.dial.Address._resolve", resolve)
        front = await gateway(f"http://app.example:{port}", timeouts=Timeouts(connect_s=1, idle_s=5))
        assert (await (await connect(front)).ask(GET))[1] == b"ok"
        for caller in callers:
            caller.close()


@pytest.mark.parametrize("name", ["no-such-name.invalid", "a" * 64 + ".example"])
async def test_a_name_that_is_none_is_unreachable(name, gateway, connect):
    front = await gateway(f"http://{name}:80")
    assert (await (await connect(front)).ask(GET))[0].startswith((b"HTTP/1.1 502 ", b"HTTP/1.1 504 "))


# --- TLS ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A CA of our own, a service's certificate for `app.internal`, a client's, and one that another CA signed."""
    folder = tmp_path_factory.mktemp("authority")

    def run(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        run("req", "-x509", *new, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}")
    for name, signer in (("app.internal", "ca"), ("client", "ca"), ("stranger", "other")):
        run("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "ext").write_text(f"subjectAltName=DNS:{name}\n")
        run("x509", "-req", "-in", f"{name}.csr", "-CA", f"{signer}.pem", "-CAkey", f"{signer}.key", "-CAcreateserial", "-days", "2",
            "-extfile", "ext", "-out", f"{name}.pem")  # fmt: skip
    (folder / "both.pem").write_text((folder / "client.pem").read_text() + (folder / "client.key").read_text())
    run("ec", "-in", "client.key", "-aes256", "-passout", "pass:x", "-out", "locked.key")
    return folder


def listening(authority, *, asks_for_ours: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "app.internal.pem", authority / "app.internal.key")
    if asks_for_ours:
        context.load_verify_locations(authority / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def tls(authority, **words) -> dict[str, Tls]:
    files = {word: str(authority / value) if word in ("ca", "client_cert", "client_key") else value for word, value in words.items()}
    return {"tls": Tls(**files)}


async def test_a_service_is_verified_against_its_own_ca_and_name(authority, serve, gateway, connect):
    names = []
    context = listening(authority)
    context.sni_callback = lambda sock, name, _: names.append(name)
    service = await serve(OK, ssl=context)
    client = await connect(await gateway(service, upstream=tls(authority, ca="ca.pem", server_name="app.internal")))
    assert (await client.ask(GET))[1] == b"ok"
    assert names == ["app.internal"]


@pytest.mark.parametrize(
    "words", [{"ca": "ca.pem"}, {"ca": "other.pem", "server_name": "app.internal"}, {"server_name": "app.internal"}], ids=str
)
async def test_a_service_that_is_not_who_it_should_be_gets_nothing(words, authority, serve, gateway, connect):
    service = await serve(OK, ssl=listening(authority))
    front = await gateway(service, upstream=tls(authority, **words))
    assert (await (await connect(front)).ask(POST))[0].startswith(b"HTTP/1.1 502 ")
    assert "certificate" in (await front.outcome()).detail.lower()
    assert service.heads == []


async def test_verification_can_be_turned_off(authority, serve, gateway, connect):
    service = await serve(OK, ssl=listening(authority))
    client = await connect(await gateway(service, upstream=tls(authority, verify=False)))
    assert (await client.ask(GET))[1] == b"ok"


@pytest.mark.parametrize(
    ("words", "passes"),
    [
        ({"client_cert": "client.pem", "client_key": "client.key"}, True),
        ({"client_cert": "both.pem"}, True),
        ({"client_cert": "stranger.pem", "client_key": "stranger.key"}, False),
        ({}, False),
    ],
    ids=str,
)
async def test_a_service_that_asks_who_we_are_is_shown_our_certificate(words, passes, authority, serve, gateway, connect):
    service = await serve(OK, ssl=listening(authority, asks_for_ours=True))
    front = await gateway(service, upstream=tls(authority, ca="ca.pem", server_name="app.internal", **words))
    head, _ = await (await connect(front)).ask(POST)
    assert head.startswith(b"HTTP/1.1 200 ") is passes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"ca": "nothing.pem"}, "tls.ca"),
        ({"ca": "ca.key"}, "tls.ca"),
        ({"client_cert": "client.pem"}, "tls.client_cert"),
        ({"client_cert": "client.pem", "client_key": "stranger.key"}, "tls.client_cert"),
        ({"client_cert": "client.pem", "client_key": "locked.key"}, "password"),
    ],
    ids=str,
)
async def test_files_that_do_not_fit_are_refused_with_a_sentence(words, said, authority, gateway):
    with pytest.raises(ValueError, match=said):
        await gateway("https://app.internal", upstream=tls(authority, **words))


async def test_health_is_asked_over_tls_too(authority, serve, gateway, eventually):
    service = await serve(naming("a"), ssl=listening(authority))
    health = {"health": Health(path="/health", interval_s=60, timeout_s=5)}
    front = await gateway(service, upstream=health | tls(authority, ca="ca.pem", server_name="app.internal"))
    async with probing(front):
        await eventually(lambda: service.heads)
    assert not front.pool.targets("app")[0].is_down
