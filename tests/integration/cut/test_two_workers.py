"""Two hundred exchanges of all kinds against one byte quota, over two real workers: never a byte beyond it, and hardly one left."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from tests.integration.rules.rig import Payer, Rig, start_rig

from .rig import Client

LIMIT = 24_000_000
ROUTES = """
  - path: /bytes/*
    charge: {api: 1, egress: response_bytes, ingress: request_bytes}
"""
METERS = "  egress: {unit: byte}\n  ingress: {unit: byte}\n"
QUOTAS = f"""
      - {{meter: egress, limit: {LIMIT}, at_limit: cut}}
      - {{meter: ingress, limit: {LIMIT // 4}, at_limit: cut}}
"""
_CHUNK = b"%x\r\n%b\r\n" % (8192, b"x" * 8192)
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    running = start_rig(tmp_path_factory.mktemp("cut"), routes=ROUTES, meters=METERS, quotas=QUOTAS, WEIGHBRIDGE_WORKERS="2")
    yield running
    running.stop()


class Service:
    """/bytes/flood streams without an end, /bytes/chunks/N so many bytes, /bytes/length/N the same and says so before; uploads are read."""

    taken = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"POST"):
                    await self._take(head, reader)
                await self._answer(head.split()[1].decode().split("/"), writer)
        writer.close()

    async def _take(self, head: bytes, reader: asyncio.StreamReader) -> None:
        if b"chunked" in head.lower():
            while size := int(await reader.readuntil(b"\r\n"), 16):
                while size:
                    size -= await self._read(reader, size)
                await reader.readexactly(2)
            await reader.readexactly(2)
        else:
            left = next(int(x.split(b":")[1]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:"))
            while left:
                left -= await self._read(reader, left)

    async def _read(self, reader: asyncio.StreamReader, most: int) -> int:
        data = await reader.read(min(most, 65_536))
        if not data:
            raise ConnectionResetError
        self.taken += len(data)
        return len(data)

    async def _answer(self, path: list[str], writer: asyncio.StreamWriter) -> None:
        kind, size = path[2], int(path[3]) if len(path) > 3 else 0
        if kind == "length":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while kind == "flood":
                writer.write(_CHUNK)
                await writer.drain()
            while size > 0:
                part = min(size, 8192)
                writer.write(b"%x\r\n%b\r\n" % (part, b"x" * part))
                size -= part
            writer.write(b"0\r\n\r\n")
        await writer.drain()


@pytest.fixture
async def service(rig: Rig) -> AsyncIterator[Service]:
    found = Service()
    with contextlib.suppress(BlockingIOError):
        while True:
            rig.service.accept()[0].close()
    server = await asyncio.start_server(found, sock=rig.service.dup())
    yield found
    server.close()


@dataclass
class Seen:
    """One exchange: status (0: no answer), body bytes, whether it came whole."""

    kind: str
    status: int = 0
    received: int = 0
    whole: bool = False
    closed: bool = False


async def call(rig: Rig, payer: Payer, kind: str, rng: random.Random) -> Seen:
    seen = Seen(kind)
    size = rng.randrange(200_000)
    path = "/bytes/flood" if kind == "flood" else f"/bytes/{'length' if kind in ('length', 'upload') else 'chunks'}/{size}"
    head = b"%b %b HTTP/1.1\r\nHost: a\r\nX-API-Key: %b\r\n" % (b"POST" if "upload" in kind else b"GET", path.encode(), payer.key)
    reader, writer = await asyncio.open_connection(rig.host, rig.port, limit=2**20)
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        if kind == "upload":
            writer.write(head + b"Content-Length: %d\r\n\r\n" % size + b"y" * size)
        elif kind == "chunked-upload":
            writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(20):
                writer.write(_CHUNK)
                await asyncio.sleep(0.001)
            writer.write(b"0\r\n\r\n")
        else:
            writer.write(head + b"\r\n")
        answer = await reader.readuntil(b"\r\n\r\n")
        seen.status = int(answer.split()[1])
        body, seen.whole = await Client(reader, writer).body(answer)
        seen.received = len(body) if seen.status == 200 else 0
    writer.transport.abort()
    return seen


def counted(rig: Rig, payer: Payer, meter: str) -> tuple[int, int]:
    return payer.counter(meter), rig.ledger(meter, payer.org)


async def settled(rig: Rig, payer: Payer) -> tuple[int, int]:
    """Both meters, once counter and ledger agree and stand still."""
    before = None
    async with asyncio.timeout(30):
        while True:
            now = [counted(rig, payer, meter) for meter in ("egress", "ingress")]
            if now == before and all(counter == ledger for counter, ledger in now):
                return now[0][0], now[1][0]
            before = now
            await asyncio.sleep(1.2)


KINDS = ["flood"] * 110 + ["length"] * 40 + ["chunks"] * 20 + ["upload"] * 20 + ["chunked-upload"] * 10


@pytest.mark.long
async def test_two_hundred_exchanges_use_one_quota_up_and_not_a_byte_more(rig: Rig, service: Service) -> None:
    rng, payer = random.Random(1), rig.payer()
    kinds = rng.sample(KINDS, len(KINDS))
    seen = await asyncio.gather(*(call(rig, payer, kind, rng) for kind in kinds))
    received = sum(each.received for each in seen)
    assert received <= LIMIT
    egress, ingress = await settled(rig, payer)
    assert received == egress  # what is broken off in its framing still arrives
    assert service.taken <= ingress <= LIMIT // 4
    assert LIMIT - egress < 1_048_576
    floods = [each for each in seen if each.kind == "flood" and each.status == 200]
    assert floods
    assert not any(each.whole for each in floods)
    assert {each.status for each in seen} <= {200, 429, 504}  # 504: a busy machine may take long to connect
    assert all(each.whole for each in seen if each.kind == "length")  # a response that says its length is never cut


@pytest.mark.long
async def test_of_a_worker_that_is_killed_under_two_hundred_streams_nothing_is_sent_twice(rig: Rig, service: Service) -> None:
    rng, payer = random.Random(2), rig.payer()
    before = rig.workers
    streams = [asyncio.ensure_future(call(rig, payer, rng.choice(["flood", "length", "chunks"]), rng)) for _ in range(200)]
    while payer.counter("egress") < LIMIT // 4:
        await asyncio.sleep(0.002)
    os.kill(before[0], signal.SIGKILL)
    seen = list(await asyncio.gather(*streams))
    while len(rig.workers) < 2:
        await asyncio.sleep(0.05)
    await settled(rig, payer)
    for _ in range(20):  # what the dead one had in hand is there for others
        seen += await asyncio.gather(*(call(rig, payer, "flood", rng) for _ in range(10)), return_exceptions=False)
        egress, _ = await settled(rig, payer)
        if egress == LIMIT:
            break
    received = sum(each.received for each in seen)
    assert received <= egress <= LIMIT
    assert egress - received <= 200 * 262_144  # what the dead one had written down and not sent
    assert egress == LIMIT
