"""Who speaks through a gateway: a scripted service, and a client that writes and reads raw bytes.

Origin    the service; keeps the bytes of every head it was sent
Client    a connection to the gateway, or to nginx in front of it
Way       how clients reach the gateway
"""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from metering.model.apikey import mint

SECONDS = 10.0  # no test waits longer for anything
KEY = mint(b"weighbridge rules key 0000").encode()
HOP = "127.0.0.8"  # the one address that is a trusted proxy; nginx speaks to the gateway from it
_NO_LINGER = struct.pack("ii", 1, 0)


class Head:
    """The bytes of a message's head, with the blank line, and the fields in it."""

    raw: bytes

    @property
    def lines(self) -> list[bytes]:
        return self.raw.split(b"\r\n")[1:-2]

    def all(self, name: bytes) -> list[bytes]:
        """Every value under a name, in order."""
        fields = (line.partition(b":") for line in self.lines)
        return [value.strip() for found, _, value in fields if found.lower() == name.lower()]

    def __getitem__(self, name: bytes) -> bytes | None:
        found = self.all(name)
        return found[0] if found else None


@dataclass
class Call(Head):
    """One request as the service saw it. `raw` is its head, to the byte, with the blank line."""

    raw: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    connection: int
    body_read: bytes = b""

    @property
    def line(self) -> bytes:
        return self.raw.partition(b"\r\n")[0]

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]

    def has(self, name: bytes) -> bool:
        return bool(self.all(name))

    async def chunk(self) -> bytes:
        """The next chunk; empty for the last one."""
        size = int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16)
        data = await self.reader.readexactly(size) if size else b""
        if size:
            assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def body(self) -> bytes:
        """The whole body; trailer lines stay unread."""
        if (length := self[b"content-length"]) is not None:
            self.body_read = await self.reader.readexactly(int(length))
        elif self.has(b"transfer-encoding"):
            while piece := await self.chunk():
                self.body_read += piece
        return self.body_read

    async def trailers(self) -> list[bytes]:
        """After `body` of a chunked one."""
        found = []
        while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
            found.append(line[:-2])
        return found

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def ok(self, body: bytes = b"ok", *lines: bytes) -> None:
        self.send(b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *lines, b"", body]))

    async def gone(self) -> None:
        """Until the gateway closes its side, or breaks it off."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65_536):
                pass

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.writer.transport.abort()


async def answer_ok(call: Call) -> None:
    await call.body()
    if call.has(b"transfer-encoding"):
        await call.trailers()
    call.ok()


Answer = Callable[[Call], Awaitable[None]]


@dataclass
class Origin:
    """The service behind the gateway; `answer` decides what is said to each call. `once` answers the first calls."""

    sock: socket.socket
    tls: ssl.SSLContext | None = None
    answer: Answer = answer_ok
    once: list[Answer] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    closed: int = 0
    faults: list[BaseException] = field(default_factory=list)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _server: asyncio.Server | None = None

    @property
    def targets(self) -> list[bytes]:
        return [call.target for call in self.calls]

    def says(self, raw: bytes, *, close: bool = False) -> None:
        """Answer every call with these bytes, once its body is read."""

        async def answer(call: Call) -> None:
            await call.body()
            call.send(raw)
            if close:
                await call.writer.drain()
                call.writer.close()

        self.answer = answer

    async def start(self) -> None:
        self._discard_backlog()
        start = asyncio.start_unix_server if self.sock.family == socket.AF_UNIX else asyncio.start_server
        self._server = await start(self._serve, sock=self.sock.dup(), ssl=self.tls, limit=1 << 20)

    def _discard_backlog(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.sock.accept()[0].close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self._writers.append(writer)
        try:
            while raw := await self._head(reader):
                call = Call(raw, reader, writer, number)
                self.calls.append(call)
                await (self.once.pop(0) if self.once else self.answer)(call)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the gateway went away; tests look at `closed`
        except Exception as fault:  # noqa: BLE001 - shown by the fixture when the test ends
            self.faults.append(fault)
        finally:
            self.closed += 1
            writer.close()

    @staticmethod
    async def _head(reader: asyncio.StreamReader) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = await reader.readline()
            if not line:
                return head
            head += line
        return head

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def serving(listener: socket.socket) -> AsyncIterator[Origin]:
    """The service; what went wrong in its scripts fails the test."""
    service = Origin(listener)
    await service.start()
    yield service
    await service.stop()
    assert not service.faults, service.faults


@dataclass
class Answered(Head):
    """One response as a client saw it, to the byte."""

    raw: bytes
    body: bytes = b""
    trailers: list[bytes] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.raw[9:12])

    @property
    def says_close(self) -> bool:
        return (self[b"connection"] or b"").lower() == b"close"


class Client:
    """A raw client. Every wait ends after SECONDS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> Answered:
        async with asyncio.timeout(SECONDS):
            return Answered(await self.reader.readuntil(b"\r\n\r\n"))

    async def exactly(self, size: int) -> bytes:
        async with asyncio.timeout(SECONDS):
            return await self.reader.readexactly(size)

    async def line(self) -> bytes:
        async with asyncio.timeout(SECONDS):
            return (await self.reader.readuntil(b"\r\n"))[:-2]

    async def rest(self) -> bytes:
        """All until the connection is closed; ConnectionResetError if it is broken off."""
        async with asyncio.timeout(SECONDS):
            return await self.reader.read()

    async def answer(self, method: bytes = b"GET") -> Answered:
        """The next final response, whole."""
        answered = await self.head()
        while 100 <= answered.status < 200 and answered.status != 101:
            answered = await self.head()
        if method == b"HEAD" or answered.status in (101, 204, 304):
            return answered
        if (answered[b"transfer-encoding"] or b"").lower() == b"chunked":
            await self._chunks(answered)
        elif (length := answered[b"content-length"]) is not None:
            answered.body = await self.exactly(int(length))
        else:
            answered.body = await self.rest()
        return answered

    async def _chunks(self, answered: Answered) -> None:
        while size := int((await self.line()).partition(b";")[0], 16):
            answered.body += await self.exactly(size)
            assert await self.exactly(2) == b"\r\n"
        while line := await self.line():
            answered.trailers.append(line)

    async def ask(self, data: bytes) -> Answered:
        self.send(data)
        return await self.answer(data.partition(b" ")[0])

    async def closed(self) -> bool:
        """Whether the connection ends now, cleanly, without another byte."""
        return await self.rest() == b""

    def leave(self, *, reset: bool = False) -> None:
        if reset:
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.writer.transport.abort()


@dataclass
class Way:
    """How clients reach the gateway: directly, or through nginx."""

    name: str
    host: str
    port: int
    clients: list[Client] = field(default_factory=list)

    @property
    def direct(self) -> bool:
        return self.name == "direct"

    async def connect(self, source: str | None = None, **how: Any) -> Client:
        local = (source, 0) if source else None
        client = Client(*await asyncio.open_connection(self.host, self.port, local_addr=local, limit=1 << 20, **how))
        self.clients.append(client)
        return client

    async def ask(self, data: bytes, source: str | None = None) -> Answered:
        """One request on a connection of its own."""
        return await (await self.connect(source)).ask(data)


def request(*lines: bytes, start: bytes = b"GET / HTTP/1.1", body: bytes = b"", host: bytes = b"a.example", key: bytes = KEY) -> bytes:
    """A request with Host and key, these lines behind them."""
    return b"\r\n".join([start, b"Host: " + host, b"X-API-Key: " + key, *lines, b"", body])


def get(target: bytes = b"/", *lines: bytes, key: bytes = KEY) -> bytes:
    return request(*lines, start=b"GET " + target + b" HTTP/1.1", key=key)


def post(body: bytes, *lines: bytes, target: bytes = b"/", key: bytes = KEY) -> bytes:
    return request(b"Content-Length: %d" % len(body), *lines, start=b"POST " + target + b" HTTP/1.1", body=body, key=key)


def chunked(*pieces: bytes, trailers: tuple[bytes, ...] = ()) -> bytes:
    """Pieces as chunks, with the last chunk."""
    parts = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return b"".join([*parts, b"0\r\n", *(line + b"\r\n" for line in trailers), b"\r\n"])


async def until(fact: Callable[[], Any], shown: Callable[[], Any] | None = None) -> Any:
    """Wait for a fact; what it was. `shown` tells how things stand where it never came."""
    try:
        async with asyncio.timeout(SECONDS):
            while not (value := fact()):
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(shown() if shown else "it never came") from None
    return value


def code_of(body: bytes) -> str:
    """`error.code` of a refusal."""
    found = re.search(rb'"code":"([a-z_0-9]+)"', body)
    return found[1].decode() if found else ""
