"""Two workers in front of a real WebSocket service (aiohttp); a fresh organization for every test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from tests.integration.rules.rig import Payer, Rig, start_rig

METERS = "  chatter: {unit: message}\n  words: {unit: message}\n  volume: {unit: byte}\n  tight: {unit: byte}\n"
QUOTAS = """
      - {meter: chatter, limit: 1_000_000, window: period, mode: soft}
      - {meter: words, limit: 50, window: period, mode: hard}
      - {meter: volume, limit: 100 kB, window: period, mode: hard}
      - {meter: tight, limit: 100 kB, window: period, mode: hard, at_limit: cut}
"""
ROUTES = """
  - {path: /both, charge: {chatter: messages}}
  - {path: /in, charge: {chatter: request_messages}}
  - {path: /out, charge: {chatter: response_messages}}
  - {path: /apart, charge: {chatter: request_messages, words: response_messages}}
  - {path: /few, charge: {words: messages}}
  - {path: /narrow, charge: {volume: bytes}}
  - {path: /exact, charge: {chatter: messages, tight: bytes}}
"""


def start_talk(folder, **environ: str) -> Rig:
    return start_rig(folder, routes=ROUTES, meters=METERS, quotas=QUOTAS, **{"WEIGHBRIDGE_WORKERS": "2", **environ})


@dataclass
class Talk:
    """The service: `talk` is what it does with each WebSocket. `heard` is what it got, `over` how many have ended."""

    talk: Callable[[web.WebSocketResponse, "Talk"], Awaitable[None]]
    heard: list[aiohttp.WSMessage] = field(default_factory=list)
    begun: int = 0
    over: int = 0

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=1 << 24, autoping=True)
        await socket.prepare(request)
        self.begun += 1
        try:
            await self.talk(socket, self)
        finally:
            self.over += 1
        return socket


async def echo(socket: web.WebSocketResponse, talk: Talk) -> None:
    """Send back whatever comes."""
    async for message in socket:
        talk.heard.append(message)
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)


async def served(rig: Rig, talk: Talk) -> web.AppRunner:
    app = web.Application()
    app.router.add_get("/{path:.*}", talk.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, rig.service.dup()).start()
    return runner


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    running = start_talk(tmp_path_factory.mktemp("talk"))
    yield running
    running.stop()


@pytest.fixture
async def talk(rig: Rig) -> AsyncIterator[Talk]:
    service = Talk(echo)
    runner = await served(rig, service)
    yield service
    await runner.cleanup()


@pytest.fixture
def payer(rig: Rig) -> Payer:
    return rig.payer()


@dataclass
class Caller:
    """Opens WebSockets through the gateway, for one organization."""

    payer: Payer
    session: aiohttp.ClientSession

    async def open(self, path: str, *, compress: int = 0) -> aiohttp.ClientWebSocketResponse:
        rig = self.payer.rig
        url = f"http://{rig.host}:{rig.port}{path}"
        return await self.session.ws_connect(url, headers={"X-API-Key": self.payer.key.decode()}, compress=compress, max_msg_size=1 << 24)


@pytest.fixture
async def caller(payer: Payer) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield Caller(payer, session)


async def heard_back(socket: aiohttp.ClientWebSocketResponse, count: int) -> None:
    async with asyncio.timeout(20):
        for _ in range(count):
            await socket.receive()
