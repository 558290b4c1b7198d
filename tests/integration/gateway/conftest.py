"""A gateway's HTTP halves over real sockets, between a scripted service and a client that writes raw bytes.

serve    starts a service: a coroutine (reader, writer, number of the connection) for each connection
gateway  starts DownstreamServer and Relay in front of addresses; `outcomes` and `rejects` tell what happened
connect  opens a raw connection to it
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import uvloop
from aiohttp import web

from config.gateway import Limits, Route, Timeouts, Upstream
from gateway.bare import Bare
from gateway.downstream import DownstreamServer, Request
from gateway.outcome import Outcome
from gateway.relay import Relay
from gateway.runner import GatewayRunner
from gateway.upstream import UpstreamPool
from metering.model.clock import SystemClock

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
SECONDS = 10  # no test waits longer for anything


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that a gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


async def until(fact: Callable[[], Any]) -> None:
    """Wait for a fact."""
    async with asyncio.timeout(SECONDS):
        while not fact():
            await asyncio.sleep(0.005)


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Awaitable[None]]:
    return until


@dataclass
class Service:
    """A scripted service."""

    url: str
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    server: asyncio.Server | None = None
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def head(self, reader: asyncio.StreamReader) -> bytes:
        """Read one request head."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        return head


def answering(*answers: bytes) -> Script:
    """A script that answers each head on a connection with the next of `answers`, the last one for ever."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        left = list(answers)
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()

    return script


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Service]]]:
    services: list[Service] = []

    async def start(script: Script | bytes, **how: Any) -> Service:
        run = answering(script) if isinstance(script, bytes) else script
        service = Service("")

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            service.connections += 1
            service.writers.append(writer)
            recorder = _Recording(reader, service)
            try:
                await run(recorder, writer, service.connections)  # type: ignore[arg-type]
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        if path := how.pop("unix", None):
            service.server = await asyncio.start_unix_server(connected, path)
            service.url = f"unix:{path}"
        else:
            service.server = await asyncio.start_server(connected, how.pop("host", "127.0.0.1"), 0, **how)
            host, port = service.server.sockets[0].getsockname()[:2]
            scheme = "https" if "ssl" in how else "http"
            service.url = f"{scheme}://{'[' + host + ']' if ':' in host else host}:{port}"
        services.append(service)
        return service

    yield start
    for service in services:
        assert service.server is not None
        service.server.close()
        for writer in service.writers:
            writer.transport.abort()
    await asyncio.sleep(0)


class _Recording:
    """A reader that notes the heads it reads."""

    def __init__(self, reader: asyncio.StreamReader, service: Service) -> None:
        self._reader, self._service = reader, service

    async def readuntil(self, separator: bytes) -> bytes:
        data = await self._reader.readuntil(separator)
        if data.endswith(b"\r\n\r\n") and b" HTTP/1.1\r\n" in data:
            self._service.heads.append(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


@dataclass
class Gateway:
    """A gateway without metering: its handler forwards, and answers 502, 503 or 504 where there is nothing to pass on."""

    address: tuple[str, int]
    server: DownstreamServer
    pool: UpstreamPool
    relay: Relay
    outcomes: list[Outcome]
    rejects: list[str]
    progress: list[tuple[int, int]]
    runner: GatewayRunner

    async def outcome(self) -> Outcome:
        """The next exchange's outcome."""
        await until(lambda: self.outcomes)
        return self.outcomes.pop(0)


@pytest.fixture
async def gateway() -> AsyncIterator[Callable[..., Awaitable[Gateway]]]:
    async with AsyncExitStack() as stack:

        async def start(
            *targets: Service | str,
            handler: Any = None,
            limits: Limits | None = None,
            pool: Any = None,
            upstream: Any = None,
            trusted: tuple[str, ...] = (),
            **route_facts: Any,
        ) -> Gateway:
            clock = SystemClock()
            urls = tuple(target if isinstance(target, str) else target.url for target in targets)
            upstreams = UpstreamPool({"app": Upstream(name="app", targets=urls, **(upstream or {}))}, clock, **(pool or {}))
            relay = Relay(upstreams, clock, trusted_proxies=trusted)
            route = replace(Route(id=1, path="/*", upstream="app", timeouts=Timeouts(connect_s=2, idle_s=5)), **route_facts)
            outcomes: list[Outcome] = []
            rejects: list[str] = []
            progress: list[tuple[int, int]] = []

            def progressed(exchange: Bare) -> None:
                progress.append((exchange.request.body_bytes, exchange.bytes_out))

            def ended(exchange: Bare) -> None:
                if not exchange.first_byte_sent and exchange.ended != "client_gone":
                    status = {"timeout": 504, "busy": 503}.get(exchange.ended, 502)
                    exchange.request.respond(status, [(b"X-Why", exchange.ended.encode())], b"upstream")
                outcomes.append(exchange)
                exchange.client.end(exchange.request)

            def forward(request: Request) -> None:
                exchange = Bare(request, ((b"RateLimit",), b"\r\nRateLimit: r"), progressed, ended)
                exchange.to_service = b"\r\nX-Org-Id: org-1"
                request.client.watch(exchange)
                relay.begin(exchange, route, relay.monotonic())

            async def answer_itself(request: Request) -> None:
                forwarded = []
                await handler(request, lambda request: (forwarded.append(request), forward(request)))
                if not forwarded:
                    request.client.end(request)

            def with_handler(request: Request) -> None:
                request.client.run(answer_itself(request))

            def error_body(status: int, code: str, message: str) -> bytes:
                return json.dumps({"error": {"code": code, "message": message}}).encode()

            server = DownstreamServer(with_handler if handler else forward, limits or Limits(), clock, rejects.append, error_body)
            runner = GatewayRunner(server, shutdown_timeout=2)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            stack.push_async_callback(runner.cleanup)
            stack.callback(upstreams.close)
            return Gateway(runner.addresses[0], server, upstreams, relay, outcomes, rejects, progress, runner)

        yield start


class Client:
    """A raw client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        async with asyncio.timeout(SECONDS):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def exactly(self, size: int) -> bytes:
        async with asyncio.timeout(SECONDS):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """Everything until the connection is closed; ConnectionResetError if it is broken off."""
        async with asyncio.timeout(SECONDS):
            return await self.reader.read()

    async def answer(self) -> tuple[bytes, bytes]:
        """Head and body of a response with a Content-Length."""
        head = await self.head()
        length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        return head, await self.exactly(length)

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        self.send(request)
        return await self.answer()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[Gateway], Awaitable[Client]]]:
    clients: list[Client] = []

    async def open_client(to: Gateway, **how: Any) -> Client:
        client = Client(*await asyncio.open_connection(*to.address, **how))
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        client.writer.transport.abort()
