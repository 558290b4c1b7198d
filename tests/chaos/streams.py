"""Long exchanges while things break: server-sent events and WebSockets, both ends of them, and how many bytes each end had.

Events are weighed as they pass; the bytes of WebSockets are drawn before they pass (`at_limit: cut`), so their blocks are at stake.
"""

import asyncio
import base64
import contextlib
import hashlib
import itertools
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

from tests.e2e.bench import Bench, Customer
from tests.e2e.exactly import Service

EVENT = b"data: " + b"e" * 192 + b"\n\n"
EVENTS, TICK_SECONDS = 100, 0.02  # an answer of two seconds
PLAN = "streams"
ROUTES = """
  - {path: /events/*, charge: {api: 1, events: response_bytes}}
  - {path: /echo/*, charge: {api: 1, echoed: bytes}}
"""
METERS = "  events: {unit: byte}\n  echoed: {unit: byte}\n"
QUOTA = "{meter: echoed, limit: 1 GB, at_limit: cut}"
BLOCK_BYTES = 256 * 1024  # what a killed worker may have written down of a stream and not sent
_ASK, _ECHO = b"\x81\x90" + b"\0" * 4 + b"m" * 16, b"\x81\x10" + b"m" * 16  # a masked text frame, and its echo
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PAUSE_SECONDS = 0.1


class StreamingService(Service):
    """Beside plain calls it answers /events/… with a stream of events, and makes a WebSocket of /echo/…, which it echoes."""

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.got = Counter[str](), Counter[str]()  # name of a call -> bytes

    async def _answer(self, head: str, org: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = head.split(" ", 2)[1]
        name = path.rpartition("/")[2]
        if path.startswith("/events/"):
            await self._tell(name, writer)
        elif path.startswith("/echo/"):
            await self._echo(name, head, reader, writer)
        else:
            await super()._answer(head, org, reader, writer)

    async def _tell(self, name: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(EVENTS):
            writer.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
            await writer.drain()
            self.sent[name] += len(EVENT)
            await asyncio.sleep(TICK_SECONDS)
        writer.write(b"0\r\n\r\n")

    async def _echo(self, name: str, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key = next(line.partition(":")[2].strip() for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key:"))
        accept = base64.b64encode(hashlib.sha1(key.encode() + _MAGIC, usedforsecurity=False).digest())
        upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n" + upgrade + b"\r\n\r\n")
        while True:
            frame = await reader.readexactly(len(_ASK))
            self.got[name] += len(frame)
            writer.write(_ECHO)
            await writer.drain()
            self.sent[name] += len(_ECHO)


@dataclass
class Exchange:
    """One stream as its client saw it. `whole`: it came to its proper end."""

    name: str
    sent: int = 0
    received: int = 0
    whole: bool = False


@dataclass
class Streams:
    """Several of each kind, opened again whenever one ends, until `stop`."""

    bench: Bench
    customer: Customer
    each: int = 4
    events: list[Exchange] = field(default_factory=list)
    echoes: list[Exchange] = field(default_factory=list)
    _names = itertools.count(1)

    def start(self) -> None:
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._all())

    async def stop(self) -> None:
        """Events come to their end, WebSockets are closed."""
        self._stopping.set()
        await self._task

    async def until_moving(self) -> None:
        """Until as much has arrived again as if all of both kinds had spoken."""
        async with asyncio.timeout(60):
            for exchanges, piece in ((self.events, EVENT), (self.echoes, _ECHO)):
                begun = sum(e.received for e in exchanges)
                while sum(e.received for e in exchanges) < begun + 5 * self.each * len(piece):
                    await asyncio.sleep(0.05)

    async def _all(self) -> None:
        timeout = aiohttp.ClientTimeout(total=60)
        headers, connector = {"X-API-Key": self.customer.keys[0]}, aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(self.bench.house.gateway, headers=headers, timeout=timeout, connector=connector) as session:
            await asyncio.gather(*(kind(session) for kind in (self._events, self._echoes) for _ in range(self.each)))

    async def _events(self, session: aiohttp.ClientSession) -> None:
        while not self._stopping.is_set():
            exchange = Exchange(f"e{next(self._names)}")
            self.events.append(exchange)
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async with session.get(f"/events/{exchange.name}") as answer:
                    if answer.status == 200:
                        async for piece in answer.content.iter_any():
                            exchange.received += len(piece)
                        exchange.whole = True
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _echoes(self, session: aiohttp.ClientSession) -> None:
        while not self._stopping.is_set():
            exchange = Exchange(f"w{next(self._names)}")
            self.echoes.append(exchange)
            with contextlib.suppress(aiohttp.ClientError, OSError, asyncio.IncompleteReadError):
                await self._talk(exchange)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _talk(self, exchange: Exchange) -> None:
        host, _, port = self.bench.house.gateway.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(
                f"GET /echo/{exchange.name} HTTP/1.1\r\nHost: api\r\nX-API-Key: {self.customer.keys[0]}\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            if b" 101 " not in await reader.readuntil(b"\r\n\r\n"):
                return
            while not self._stopping.is_set():
                writer.write(_ASK)
                exchange.sent += len(_ASK)
                exchange.received += len(await reader.readexactly(len(_ECHO)))
                await asyncio.sleep(TICK_SECONDS)
            exchange.whole = True
        finally:
            writer.close()

    # --- what must hold ------------------------------------------------------------------------------------------------
    async def faults(self, *, killed: int = 0) -> list[str]:
        """Once all is at rest. `killed` workers may have taken a second of events with them, and leave a block of each WebSocket charged;
        where none was, every answer came to its end. (WebSockets have none: who stops in time cuts them off.)"""
        service = self.bench.service
        assert isinstance(service, StreamingService)
        events, echoed = [(await self.bench.house.ledger(self.customer.org, meter))[0] for meter in ("events", "echoed")]
        counters = [await self.bench.house.counter(self.customer.org, meter) for meter in ("events", "echoed")]
        found = [f"counters {counters}, ledger {[events, echoed]}"] if counters != [events, echoed] else []
        sent = sum(service.sent[e.name] for e in self.events)
        received, most = sum(e.received for e in self.events), len(EVENT) * int(2 / TICK_SECONDS) * self.each * killed
        if not received - most <= events <= sent:
            found.append(f"of events {received} bytes arrived, {events} are charged, {sent} were sent")
        moved = sum(e.received + service.got[e.name] for e in self.echoes)
        written = sum(e.sent + service.sent[e.name] for e in self.echoes) + BLOCK_BYTES * 2 * self.each * killed
        if not moved <= echoed <= written:
            found.append(f"of WebSockets {moved} bytes arrived, {echoed} are charged, at most {written} were sent")
        broken = [e for e in self.events if e.received and not e.whole]
        if broken and not killed:
            found.append(f"{len(broken)} of {len(self.events)} event streams broke")
        return found
