"""Both ends of a gateway that is held to its limits: a crowd of clients who keep their own count, and a service that keeps its own.

`Crowd` makes calls over many kept-alive connections, notes each answer, and watches that what is left never grows: of two calls the
second of which began after the first was answered, the second is told no more than the first. `Service` counts what reached it.
A call that is given a name carries it to the service, which counts how often it saw it.
"""

import asyncio
import contextlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import urlsplit

SECONDS = 60  # no call waits longer for its answer
_STATE = re.compile(r'"([^"]+)";r=(\d+);t=(\d+)')


@dataclass(frozen=True, slots=True)
class Ask:
    """One call. `key`, `tenant` and `name` "" send none; `whose` is under what name its answers are counted."""

    path: str
    key: str = ""
    whose: str = ""
    tenant: str = ""
    name: str = ""

    @property
    def head(self) -> bytes:
        """POST: a gateway or a client may send an idempotent call again, and these are counted."""
        key = f"X-API-Key: {self.key}\r\n" if self.key else ""
        tenant = f"X-Tenant-Id: {self.tenant}\r\n" if self.tenant else ""
        name = f"X-Call: {self.name}\r\n" if self.name else ""
        return f"POST {self.path} HTTP/1.1\r\nHost: api\r\n{key}{tenant}{name}Content-Length: 0\r\n\r\n".encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` 0: the connection broke. `left`: what the answer says is left of each limit, and in how many seconds that ends.
    `begun` and `ended` are of time.monotonic()."""

    ask: Ask
    status: int
    left: dict[str, tuple[int, int]] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)
    begun: float = 0
    ended: float = 0


class Crowd:
    """Clients over `connections` connections to one gateway."""

    def __init__(self, url: str, connections: int, *, pause_seconds: float = 0) -> None:
        parts = urlsplit(url)
        self.address, self.connections, self._pause_seconds = (parts.hostname, parts.port), connections, pause_seconds
        self.answers: list[Answer] = []
        self.grew: list[str] = []  # where something was left that had not been left before
        self._least: dict[tuple[str, str, str, str, bool], int] = {}

    async def make(self, asks: Iterable[Ask]) -> list[Answer]:
        """Make these calls, each as soon as a connection is free; the answers in the order in which they came."""
        begun, queue = len(self.answers), iter(asks)
        await asyncio.gather(*(self._client(queue) for _ in range(self.connections)))
        return self.answers[begun:]

    async def leave(self, asks: Iterable[Ask], patience_seconds: Callable[[], float]) -> None:
        """Make these calls, and break each connection off after a while, whatever came until then."""
        queue = iter(asks)

        async def client() -> None:
            for ask in queue:
                _, writer = await asyncio.open_connection(*self.address)
                writer.write(ask.head)
                await asyncio.sleep(patience_seconds())
                writer.transport.abort()

        await asyncio.gather(*(client() for _ in range(self.connections)))

    def count(self, status: int, *, whose: str | None = None, path: str | None = None) -> int:
        return sum(
            a.status == status and whose in (None, a.ask.whose) and path in (None, a.ask.path) for a in self.answers
        )  # fmt: skip

    async def _client(self, queue: Iterator[Ask]) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for ask in queue:
            before, begun = dict(self._least), time.monotonic()
            if streams is not None and streams[0].at_eof():  # closed between two calls
                streams[1].close()
                streams = None
            try:
                async with asyncio.timeout(SECONDS):
                    streams = streams or await asyncio.open_connection(*self.address)
                    answer = await self._call(ask, *streams)
            except (OSError, asyncio.IncompleteReadError):
                if streams is not None:
                    streams[1].transport.abort()
                streams, answer = None, Answer(ask, 0)
            self._heard(replace(answer, begun=begun, ended=time.monotonic()), before)
            if self._pause_seconds:
                await asyncio.sleep(self._pause_seconds)
        if streams is not None:
            streams[1].close()

    async def _call(self, ask: Ask, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
        writer.write(ask.head)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        body = await reader.readexactly(int(headers["content-length"]))
        left = {name: (int(r), int(t)) for name, r, t in _STATE.findall(headers.get("ratelimit", ""))}
        error = json.loads(body)["error"] if headers.get("content-type") == "application/json" else {}
        return Answer(ask, int(lines[0].split()[1]), left, error)

    def _heard(self, answer: Answer, before: dict[tuple[str, str, str, str, bool], int]) -> None:
        self.answers.append(answer)
        for name, (left, ends_in) in answer.left.items():
            if "-per-" in name:  # of a rate more is left with time
                continue
            window = (
                answer.ask.whose,
                answer.ask.key,
                answer.ask.tenant,
                name,
                ends_in > 3600,
            )  # of an organization whose period turns meanwhile, old or new
            if left > before.get(window, left):
                self.grew.append(f"{answer.ask.whose}: {left} left of {name}, and {before[window]} before that call began")
            self._least[window] = min(left, self._least.get(window, left))


class Service:
    """The service behind the gateway, on a thread of its own. /fail… answers 500, a path with /slow in it only after a while."""

    slow_seconds = 0.05

    url: str

    def __init__(self) -> None:
        self.calls = Counter[tuple[str, str]]()  # (organization id, path)
        self.named = Counter[str]()  # name of a call -> how often it was seen
        self.most = Counter[str]()  # organization id -> the most calls in flight at a time
        self._in_flight = Counter[str]()
        self._up = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))
        self._thread.start()
        self._up.wait(SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(SECONDS)

    def of(self, org_id: str, path: str | None = None) -> int:
        return sum(n for (org, where), n in self.calls.items() if org == org_id and path in (None, where))

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._up.set()
        await self._over.wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                await self._answer(head, self._note(head), reader, writer)
        writer.close()

    def _note(self, head: str) -> str:
        """Count the call; returns whose it is."""
        org, name = (_field(head, field) for field in ("x-org-id", "x-call"))
        self.calls[org, head.split(" ", 2)[1]] += 1
        if name:
            self.named[name] += 1
        return org

    async def _answer(self, head: str, org: str, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = head.split(" ", 2)[1]
        self._in_flight[org] += 1
        self.most[org] = max(self.most[org], self._in_flight[org])
        if "/slow" in path:
            await asyncio.sleep(self.slow_seconds)
        self._in_flight[org] -= 1
        status = "500 Failed" if path.startswith("/fail") else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok".encode())


def _field(head: str, name: str) -> str:
    found = re.search(rf"(?i)\r\n{name}: ([^\r]*)", head)
    return found.group(1) if found else ""
