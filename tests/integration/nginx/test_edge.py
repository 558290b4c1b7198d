"""What nginx does to requests and answers on their way: nothing buffered, nothing of the client's believed, nothing lost."""

import asyncio
import json
import re
import ssl
import subprocess
from pathlib import Path

import pytest

from .conftest import CERTIFICATE, SHIPPED, Exchange, Nginx, ScriptedGateway, Start, command, laid_out

GET = b"GET %b HTTP/1.1\r\nHost: api.example.com:8443\r\nConnection: close\r\n%b\r\n"


def test_the_shipped_configuration_is_valid_with_and_without_tls(tmp_path: Path) -> None:
    for tls in (False, True):
        folder = tmp_path / str(tls)
        folder.mkdir()
        laid_out(folder, [8080, 8081], tls=tls)
        checked = subprocess.run(command(folder, "-t"), capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        assert "warn" not in checked.stderr


def test_the_compose_configuration_is_valid(tmp_path: Path) -> None:
    laid_out(tmp_path, [8080])
    (tmp_path / "weighbridge" / "compose" / "gateways.conf").replace(tmp_path / "weighbridge" / "gateways.conf")
    checked = subprocess.run(command(tmp_path, "-t"), capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


async def test_an_answer_comes_chunk_by_chunk(nginx: Nginx, gateway: ScriptedGateway) -> None:
    go_on = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n")
        await go_on.wait()
        exchange.writer.write(b"8\r\ndata: 2\n\r\n0\r\nX-Sum: 2\r\n\r\n")

    gateway.answer = stream
    reader, writer = await nginx.connect()
    writer.write(GET % (b"/events", b"TE: trailers\r\n"))
    assert b"data: 1" in await reader.readuntil(b"data: 1\n")  # while the gateway still holds back the second
    go_on.set()
    assert b"data: 2" in (rest := await reader.read(-1))
    assert b"X-Sum: 2" in rest
    writer.close()


async def test_a_request_body_goes_on_before_it_is_whole(nginx: Nginx, gateway: ScriptedGateway) -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(exchange: Exchange) -> None:
        async for piece in exchange.chunks():
            pieces.put_nowait(piece)
        exchange.answer()

    gateway.answer = take
    reader, writer = await nginx.connect()
    writer.write(b"POST /up HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    assert await pieces.get() == b"first"
    writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
    assert await pieces.get() == b"second"
    assert (await reader.read(-1)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_the_target_goes_on_as_it_was_spelled(nginx: Nginx, gateway: ScriptedGateway) -> None:
    await nginx.ask(GET % (b"/v1//a%2Fb/%7e/%2E%2e/x?q=1&q=%20", b""))
    assert gateway.seen[0].line == "GET /v1//a%2Fb/%7e/%2E%2e/x?q=1&q=%20 HTTP/1.1"


async def test_host_and_address_are_what_nginx_saw(nginx: Nginx, gateway: ScriptedGateway) -> None:
    await nginx.ask(GET % (b"/", b""), source="127.0.0.7")
    seen = gateway.seen[0]
    assert seen["Host"] == "api.example.com:8443"
    assert seen["X-Forwarded-For"] == "127.0.0.7"
    assert seen["X-Forwarded-Proto"] == "http"
    assert seen["X-Forwarded-Host"] == "api.example.com:8443"


async def test_what_a_client_claims_about_itself_goes_no_further(nginx: Nginx, gateway: ScriptedGateway) -> None:
    claims = [b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Proto", b"X-Forwarded-Port", b"X-Forwarded-Prefix",
              b"X-Forwarded-User", b"X-Forwarded-Email", b"X-Forwarded-Ssl", b"X-Forwarded-Client-Cert", b"X-Real-IP", b"Forwarded",
              b"X_Forwarded_For", b"X_Org_Id"]  # fmt: skip
    await nginx.ask(GET % (b"/", b"".join(name + b": liar\r\n" for name in claims)))
    assert "liar" not in str(gateway.seen[0].fields)


async def test_behind_a_named_balancer_its_word_on_the_address_is_taken(start_nginx: Start, gateway: ScriptedGateway) -> None:
    comments = ("#   real_ip_header", "#   real_ip_recursive")
    trusted = {"#   set_real_ip_from 10.0.0.0/8;": "set_real_ip_from 127.0.0.9; #"} | {text: text.lstrip("# ") for text in comments}
    nginx = await start_nginx([gateway.port], trusted)
    said = GET % (b"/", b"X-Forwarded-For: 1.1.1.1, 203.0.113.5\r\n")
    await nginx.ask(said, source="127.0.0.9")
    await nginx.ask(said, source="127.0.0.8")
    assert [exchange["X-Forwarded-For"] for exchange in gateway.seen] == ["203.0.113.5", "127.0.0.8"]


async def test_credentials_and_other_fields_pass_in_both_directions(nginx: Nginx, gateway: ScriptedGateway) -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.answer(
            b"{}", "429 Too Many Requests", "Server: theirs", "Set-Cookie: a=1", 'RateLimit: "m";r=0;t=9', "X-Accel-Redirect: /etc"
        )

    gateway.answer = answer
    status, fields, body = await nginx.ask(GET % (b"/", b"X-API-Key: k\r\nAuthorization: Bearer b\r\nX-Request-Id: r\r\n"))
    seen = gateway.seen[0]
    assert (seen["X-API-Key"], seen["Authorization"], seen["X-Request-Id"]) == ("k", "Bearer b", "r")
    assert (status, fields["server"], fields["set-cookie"], fields["ratelimit"], body) == (
        "HTTP/1.1 429 Too Many Requests", "theirs", "a=1", '"m";r=0;t=9', b"{}",
    )  # fmt: skip


async def test_connections_to_a_gateway_are_kept(nginx: Nginx, gateway: ScriptedGateway) -> None:
    for _ in range(20):
        await nginx.ask(GET % (b"/", b""))
    assert gateway.connections == 1
    assert gateway.seen[0]["Connection"] is None


async def test_a_websocket_handshake_reaches_the_gateway_and_h2c_does_not(nginx: Nginx, gateway: ScriptedGateway) -> None:
    async def switch(exchange: Exchange) -> None:
        if exchange["Upgrade"] is None:
            exchange.answer()
            return
        exchange.writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        exchange.writer.write((await exchange.reader.readexactly(4)).upper())

    gateway.answer = switch
    reader, writer = await nginx.connect()
    writer.write(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    writer.write(b"ping")
    assert await reader.readexactly(4) == b"PING"
    writer.close()
    status, _, _ = await nginx.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n")
    assert status == "HTTP/1.1 200 OK"


async def test_a_client_that_leaves_ends_the_call_at_the_gateway(nginx: Nginx, gateway: ScriptedGateway) -> None:
    gone = asyncio.Event()

    async def hold(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        await exchange.writer.drain()
        assert await exchange.reader.read(1) == b""
        gone.set()

    gateway.answer = hold
    reader, writer = await nginx.connect()
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    writer.close()
    async with asyncio.timeout(10):
        await gone.wait()


@pytest.mark.parametrize(
    ("request_head", "status", "code"),
    [
        (b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 10_000), "414", "line_too_long"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"a" * 10_000), "431", "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400", "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400", "bad_request"),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "405", "method_not_allowed"),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "405", "method_not_allowed"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "501", "transfer_encoding_not_implemented"),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505", "version_not_supported"),
        (b"GET /.weighbridge/502 HTTP/1.1\r\nHost: a\r\n\r\n", "404", "not_found"),
        (b"GET /.weighbridge/x HTTP/1.1\r\nHost: a\r\n\r\n", "404", "not_found"),
    ],
)
async def test_nginx_refuses_in_our_json_form(nginx: Nginx, gateway: ScriptedGateway, request_head: bytes, status: str, code: str) -> None:
    answered, fields, body = await nginx.ask(request_head)
    assert answered.split()[1] == status
    assert fields["content-type"] == "application/json"
    assert json.loads(body)["error"]["code"] == code
    assert gateway.seen == []


async def test_every_answer_of_nginxs_own_has_its_page(tmp_path: Path) -> None:
    """What stands in `error_page` leads to a location that is there, and each such location is led to."""
    text = (SHIPPED / "weighbridge.conf").read_text()
    named = set(re.findall(r"error_page [^;]*?(/\.weighbridge/\d+);", text))
    assert named == set(re.findall(r"location = (/\.weighbridge/\d+) ", text))
    for body in re.findall(r"return \d+ '([^']*)';", text):
        assert set(json.loads(body)["error"]) == {"code", "message"}


async def test_plain_http_on_the_tls_port_is_told_so_in_json(start_nginx: Start, gateway: ScriptedGateway) -> None:
    nginx = await start_nginx([gateway.port], tls=True)
    reader, writer = await asyncio.open_connection("127.0.0.1", nginx.tls_port)
    writer.write(GET % (b"/", b""))
    head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "tls_required"
    writer.close()


@pytest.mark.parametrize("size", [5_000, 9_000, 31_000])
async def test_an_answer_with_large_header_fields_passes(size: int, nginx: Nginx, gateway: ScriptedGateway) -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.answer(b"ok", "200 OK", *(f"Set-Cookie: c{n}={'x' * 950}" for n in range(size // 1_000)))

    gateway.answer = answer
    status, _, body = await nginx.ask(GET % (b"/", b""))
    assert (status, body) == ("HTTP/1.1 200 OK", b"ok")


async def test_an_upgrade_may_answer_with_large_header_fields_too(nginx: Nginx, gateway: ScriptedGateway) -> None:
    async def switch(exchange: Exchange) -> None:
        lines = "".join(f"X-{n}: {'x' * 950}\r\n" for n in range(20))
        exchange.writer.write(f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{lines}\r\n".encode())
        exchange.writer.write(b"x" * 300_000)
        exchange.writer.close()

    gateway.answer = switch
    reader, writer = await nginx.connect()
    writer.write(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    assert len(await reader.read(-1)) == 300_000
    writer.close()


async def test_what_the_gateway_allows_is_not_refused_before_it(nginx: Nginx, gateway: ScriptedGateway) -> None:
    fields = b"".join(b"X-%d: %b\r\n" % (n, b"a" * 7_900) for n in range(3))
    status, _, _ = await nginx.ask(GET % (b"/" + b"a" * 7_980, fields))
    assert status == "HTTP/1.1 200 OK"


async def test_a_body_over_a_limit_set_at_nginx_is_refused_in_json(start_nginx: Start, gateway: ScriptedGateway) -> None:
    nginx = await start_nginx([gateway.port], {"client_max_body_size 0;": "client_max_body_size 1k;"})
    status, _, body = await nginx.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\nConnection: close\r\n\r\n" + b"x" * 5_000)
    assert status.split()[1] == "413"
    assert json.loads(body)["error"]["code"] == "body_too_large"
    assert gateway.seen == []


async def test_a_gateways_413_reaches_a_client_that_still_sends(nginx: Nginx, gateway: ScriptedGateway) -> None:
    async def refuse(exchange: Exchange) -> None:
        exchange.answer(b"too much", "413 Content Too Large", "Connection: close")
        await exchange.writer.drain()
        while await exchange.reader.read(65_536):
            pass

    gateway.answer = refuse
    reader, writer = await nginx.connect()
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 100_000)
    assert (await reader.readline()).split()[1] == b"413"
    writer.close()


async def test_no_gateway_is_a_502_in_json_and_soon_over(start_nginx: Start, gateway: ScriptedGateway) -> None:
    nginx = await start_nginx([1])
    status, _, body = await nginx.ask(GET % (b"/", b""))
    assert status.split()[1] == "502"
    assert json.loads(body)["error"]["code"] == "gateway_unreachable"


async def test_one_gateway_down_another_answers(start_nginx: Start, gateway: ScriptedGateway) -> None:
    nginx = await start_nginx([1, gateway.port])
    assert [(await nginx.ask(GET % (b"/", b"")))[0] for _ in range(6)] == ["HTTP/1.1 200 OK"] * 6


async def test_a_post_that_was_sent_is_never_sent_again(start_nginx: Start, gateway: ScriptedGateway) -> None:
    async def die(exchange: Exchange) -> None:
        await exchange.body()
        exchange.writer.transport.abort()

    gateway.answer = die
    nginx = await start_nginx([gateway.port])
    status, _, _ = await nginx.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
    assert status.split()[1] == "502"
    assert len(gateway.seen) == 1


async def test_the_witness_writes_one_json_line_without_the_query(nginx: Nginx, gateway: ScriptedGateway) -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.answer(b"12345", "200 OK", "X-Request-Id: id-of-the-gateway")

    gateway.answer = answer
    await nginx.ask(GET % (b'/v1/"quoted"?key=secret', b"X-API-Key: secret\r\n"))
    line = await nginx.log_line('/v1/"quoted"')
    assert (line["status"], line["body_out"], line["request"], line["client"], line["completed"]) == (
        "200", "5", "id-of-the-gateway", "127.0.0.1", "OK",
    )  # fmt: skip
    assert line["gateway"] == f"127.0.0.1:{gateway.port}"
    assert "secret" not in json.dumps(line)


async def test_tls_speaks_http2_and_says_so_to_the_gateway(start_nginx: Start, gateway: ScriptedGateway) -> None:
    nginx = await start_nginx([gateway.port], tls=True)
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", nginx.tls_port, ssl=context, server_hostname="localhost")
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0) + _frame(1, 5, 1, _headers(path=b"/two", authority=b"localhost")))
    status, body = await _http2_answer(reader)
    assert (status, body) == (0x88, b"ok")  # 0x88: `:status 200` in HPACK's static table
    assert gateway.seen[0].line == "GET /two HTTP/1.1"
    assert (gateway.seen[0]["Host"], gateway.seen[0]["X-Forwarded-Proto"]) == ("localhost", "https")
    writer.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _headers(*, path: bytes, authority: bytes) -> bytes:
    """HPACK: :method GET (2), :scheme https (7), :path (4) and :authority (1) as literals."""
    return b"\x82\x87" + b"\x04" + bytes((len(path),)) + path + b"\x01" + bytes((len(authority),)) + authority


async def _http2_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The first byte of the answer's header block, and its body."""
    status, body = 0, b""
    while True:
        head = await reader.readexactly(9)
        payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
        if head[3] == 1:
            status = next(byte for byte in payload if byte & 0xE0 != 0x20)  # after a table size update, if there is one
        elif head[3] == 0:
            body += payload
        if head[3] in (0, 1) and head[4] & 1:
            return status, body
