"""nginx → gateway → service, all real but the service: what holds over the whole way. The gateway runs alone, on YAML and a store."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from metering.model.apikey import mint, sha256_hex

from .conftest import Exchange, Nginx, ScriptedGateway, Start, free_port

PAID, LIMITED = mint(b"weighbridge nginx paid key"), mint(b"weighbridge nginx limited!")
LIMIT = 3
_TRIES, _POLL_SECONDS = 600, 0.05
_PLAN = '  {name}:\n    price: {{usd: "0"}}\n    quotas: [{{meter: api, limit: {limit}, window: period, mode: hard}}]\n'
_ORG = "  {name}: {{id: 00000000-0000-4000-8000-00000000000{n}, plan: {name}, anchor: 2026-01-01T00:00:00Z, keys: [{{sha256: {sha}}}]}}\n"
FILES = {
    "meters.yaml": "meters:\n  api: {unit: request}\n",
    "gateway.yaml": 'upstreams:\n  app: {targets: ["http://127.0.0.1:9"]}\nidentity:\n  - api_key: {from: [X-API-Key, bearer]}\n'
    "defaults: {auth: required, upstream: app, charge: {api: 1}, return_on: [unreachable, 5xx, timeout]}\n"
    "limits: {body: 10 kB}\nroutes:\n  - {path: /*}\n",
    "plans.yaml": "issuer: stripe\nplans:\n" + _PLAN.format(name="wide", limit=1_000_000) + _PLAN.format(name="narrow", limit=LIMIT),
    "orgs.yaml": "orgs:\n" + _ORG.format(name="wide", n=1, sha=sha256_hex(PAID)) + _ORG.format(name="narrow", n=2, sha=sha256_hex(LIMITED)),
}


def spawn(folder: Path, service_port: int, redis_url: str, port: int, files: dict[str, str] = FILES) -> subprocess.Popen[bytes]:
    """A gateway alone, on these files."""
    config = folder / "config"
    config.mkdir()
    for name, text in files.items():
        (config / name).write_text(text)
    environ = {
        "REDIS_URL": redis_url, "UPSTREAM": f"http://127.0.0.1:{service_port}", "WEIGHBRIDGE_WORKERS": "1", "WEIGHBRIDGE_HOST": "127.0.0.1",
        "WEIGHBRIDGE_PORT": str(port), "WEIGHBRIDGE_METRICS_PORT": str(free_port()), "WEIGHBRIDGE_TRUSTED_PROXIES": "127.0.0.1",
        "WEIGHBRIDGE_CONFIG": str(config), "WEIGHBRIDGE_DATA_DIR": str(folder / "data"), "WEIGHBRIDGE_STORE_DEADLINE_MS": "2000",
    }  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WEIGHBRIDGE_", "DATABASE_", "STRIPE_"))}
    with (folder / "gateway.log").open("wb") as log:
        argv = [sys.executable, "-m", "weighbridge", "serve", "gateway"]
        return subprocess.Popen(argv, cwd=folder, env=kept | environ, stdout=log, stderr=log)


@pytest.fixture
async def edge(start_nginx: Start, gateway: ScriptedGateway, redis: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nginx]:
    """nginx in front of a real gateway in front of `gateway`, which plays the service here."""
    folder, port = tmp_path_factory.mktemp("gateway"), free_port()
    process = spawn(folder, gateway.port, redis, port)
    try:
        nginx = await start_nginx([port])
        for _ in range(_TRIES):
            if (await nginx.ask(_get("/ready", PAID)))[0] == "HTTP/1.1 200 OK":
                break
            assert process.poll() is None, (folder / "gateway.log").read_text()
            await asyncio.sleep(_POLL_SECONDS)
        else:
            raise AssertionError((folder / "gateway.log").read_text()[-2000:])
        gateway.seen.clear()
        yield nginx
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


def _get(path: str, key: str, *lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"GET {path} HTTP/1.1", "Host: api.example.com", f"X-API-Key: {key}", *lines, "")).encode()


@pytest.mark.long
async def test_the_service_learns_who_calls_from_where_and_the_witness_which_call_it_was(edge: Nginx, gateway: ScriptedGateway) -> None:
    claims = ("X-Forwarded-For: 1.1.1.1", "X-Forwarded-Port: 1", "X-Real-IP: 1.1.1.1", "Forwarded: for=1.1.1.1", "X-Org-Id: mine")
    status, fields, _ = await edge.ask(_get("/v1/who?x=%2F", PAID, *claims), source="127.0.0.7")
    assert status == "HTTP/1.1 200 OK"
    seen = gateway.seen[0]
    assert seen.line == "GET /v1/who?x=%2F HTTP/1.1"
    assert (seen["Host"], seen["X-Forwarded-For"], seen["X-Forwarded-Proto"]) == ("api.example.com", "127.0.0.7, 127.0.0.1", "http")
    assert seen["X-Org-Id"] == "00000000-0000-4000-8000-000000000001"
    assert "1.1.1.1" not in str(seen.fields)
    assert (await edge.log_line("/v1/who"))["request"] == fields["x-request-id"] == seen["X-Request-Id"]


@pytest.mark.long
async def test_of_many_calls_at_once_exactly_the_limit_passes(edge: Nginx, gateway: ScriptedGateway) -> None:
    answers = await asyncio.gather(*(edge.ask(_get("/", LIMITED)) for _ in range(20)))
    assert [status.split()[1] for status, _, _ in answers].count("200") == LIMIT == len(gateway.seen)
    refused = next((fields, body) for status, fields, body in answers if status.split()[1] == "429")
    assert int(refused[0]["retry-after"]) > 0
    assert json.loads(refused[1])["error"]["code"] == "quota_exceeded"


@pytest.mark.long
async def test_a_stream_is_not_held_back_by_either(edge: Nginx, gateway: ScriptedGateway) -> None:
    go_on = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n")
        await go_on.wait()
        exchange.writer.write(b"8\r\ndata: 2\n\r\n0\r\n\r\n")

    gateway.answer = stream
    reader, writer = await edge.connect()
    writer.write(_get("/events", PAID))
    await reader.readuntil(b"data: 1\n")
    go_on.set()
    await reader.readuntil(b"data: 2\n")
    writer.close()


@pytest.mark.long
async def test_the_gateways_own_limits_answer_before_those_of_nginx(edge: Nginx, gateway: ScriptedGateway) -> None:
    status, _, body = await edge.ask(_get("/" + "a" * 8_100, PAID))
    assert (status.split()[1], json.loads(body)["error"]["message"]) == ("414", "The request line is longer than 8000 bytes.")
    post = f"POST / HTTP/1.1\r\nHost: a\r\nX-API-Key: {PAID}\r\nContent-Length: 20000\r\n\r\n".encode() + b"x" * 20_000
    status, _, body = await edge.ask(post)
    assert (status.split()[1], json.loads(body)["error"]["message"]) == ("413", "The body is larger than 10000 bytes.")
    assert gateway.seen == []
