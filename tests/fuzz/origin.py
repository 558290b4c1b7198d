"""The service of the fuzz run: reads every byte that the gateway sends with the strict reader, and keeps what it saw.

It answers each request with words that belong to that request alone, so that an answer in the wrong place shows.
"""

import asyncio
import contextlib
import hashlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from .strict import Fault, Request, Short, request_at

_NO_LINGER = struct.pack("ii", 1, 0)
_STAY_BEHIND = frozenset(
    (b"keep-alive", b"proxy-connection", b"upgrade", b"expect", b"x_org_id", b"content_length", b"transfer_encoding")
)  # fmt: skip
DECOY = b"\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nX-Seen: 999999999\r\nContent-Length: 4\r\n\r\nevil"


@dataclass
class Seen:
    """One request as the service saw it. `ended`: nothing more of it will come."""

    number: int
    request: Request
    connection: int
    expected: bytes = b""
    ended: bool = False

    @property
    def org(self) -> str:
        return b",".join(self.request.all(b"x-org-id")).decode("latin-1")

    @property
    def case(self) -> str:
        """The case that its target names."""
        parts = self.request.target.split(b"/")
        return parts[2].decode("latin-1") if len(parts) > 3 else ""


@dataclass
class Script:
    """What is said to one request: pieces, each sent by itself, and how the connection goes on: keep, close or reset."""

    pieces: list[bytes]
    then: str = "keep"


Answers = Callable[[Seen], Script]


@dataclass
class Origin:
    """Serves on listening sockets. `faults` are bytes from the gateway that are no strict HTTP/1.1."""

    socks: list[socket.socket]
    answers: Answers
    seen: dict[str, list[Seen]] = field(default_factory=dict)
    heads: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    _number: int = 0
    _connections: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _servers: list[asyncio.Server] = field(default_factory=list)

    async def start(self) -> None:
        for sock in self.socks:
            self._servers.append(await asyncio.start_server(self._serve, sock=sock.dup(), limit=1 << 20))

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def forget(self, org: str) -> list[Seen]:
        """What an organization's calls were, to be judged; the next case begins with none."""
        return self.seen.pop(org, [])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections += 1
        try:
            await self._converse(reader, writer, self._connections)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        buffer, current = b"", None
        try:
            while True:
                current, buffer = self._read(buffer, current, connection)
                if current is not None and current.ended:
                    seen, current = current, None
                    if not await self._answer(seen, writer):
                        return
                    continue
                data = await reader.read(1 << 18)
                if not data:
                    if buffer.strip() and current is None:
                        self.faults.append(f"half a head: {buffer[:200]!r}")
                    return
                buffer += data
        finally:
            if current is not None:
                current.ended = True

    def _read(self, buffer: bytes, current: Seen | None, connection: int) -> tuple[Seen | None, bytes]:
        """Read on in the request under way, or begin the next."""
        if not buffer:
            return current, buffer
        try:
            request, at = request_at(buffer, 0)
        except Short:
            return current, buffer
        except Fault as fault:
            self.faults.append(f"{fault}: {buffer[:300]!r}")
            raise ConnectionAbortedError from fault
        if current is None:
            current = self._begin(request, connection)
        current.request = request
        if request.fault:
            self.faults.append(f"{request.fault}: {buffer[:300]!r}")
            raise ConnectionAbortedError
        current.ended = request.whole
        return current, buffer[at:] if request.whole else buffer

    def _begin(self, request: Request, connection: int) -> Seen:
        self._number += 1
        seen = Seen(self._number, request, connection)
        self.seen.setdefault(seen.org, []).append(seen)
        self.heads[seen.org] = self.heads.get(seen.org, 0) + 1
        self._inspect(request)
        return seen

    def _inspect(self, request: Request) -> None:
        """What the gateway promises of every head."""
        for name in (b"x-org-id", b"x-key-id", b"x-request-id", b"x-forwarded-for"):
            if len(request.all(name)) != 1:
                self.faults.append(f"{len(request.all(name))} times {name!r}: {request.fields}")
        names = {name.lower() for name, _ in request.fields}
        upgrade = names & {b"upgrade"} if b"h2c" not in request.tokens(b"upgrade") else set()  # a tunnel is asked for
        if (names - upgrade) & _STAY_BEHIND:
            self.faults.append(f"a field that should have stayed behind: {request.fields}")
        if not request.tokens(b"connection") <= {b"te", *upgrade} or b"weighbridge" not in b"".join(request.all(b"via")[-1:]):
            self.faults.append(f"Connection or Via: {request.fields}")

    async def _answer(self, seen: Seen, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        script = self.answers(seen)
        for at, piece in enumerate(script.pieces):
            if at:
                await asyncio.sleep(0)
            writer.write(piece)
            await writer.drain()
        if script.then == "reset":
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            writer.transport.abort()
        elif script.then == "close":
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return script.then == "keep"


def plain_answer(seen: Seen) -> Script:
    """A faithful answer, in one of the framings there are, cut into pieces; by the request's number, so that it can be repeated."""
    random = Random(seen.number)
    digest = hashlib.sha256(seen.request.body).hexdigest().encode()
    seen.expected = b"seen %d %b" % (seen.number, digest) + (DECOY if random.random() < 0.5 else b"")
    head = b"HTTP/1.1 200 OK\r\nX-Seen: %d\r\n" % seen.number
    body, then = seen.expected, "keep"
    kind = random.randrange(4)
    if kind == 0:
        half = len(body) // 2
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]))
        raw = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    elif kind == 1 and seen.request.method != b"HEAD":
        raw, then = head + b"Connection: close\r\n\r\n" + body, "close"
    else:
        raw = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    if seen.request.method == b"HEAD":
        seen.expected = b""
        raw = raw[: raw.index(b"\r\n\r\n") + 4]
    if random.random() < 0.3:
        raw = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + raw
    return Script(cut(raw, random), then)


def cut(raw: bytes, random: Random) -> list[bytes]:
    """Bytes in pieces, most often in one."""
    at = sorted({random.randrange(1, len(raw)) for _ in range(random.choice((0, 0, 1, 3)))})
    return [raw[start:end] for start, end in zip([0, *at], [*at, len(raw)], strict=True)]
