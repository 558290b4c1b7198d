"""The lean connection of the hot path: commands packed by hiredis, written once a loop turn, answered in order.

It has no queue and no retry: a call either gets its reply on this connection, or its callback gets a `LinkLost`.
What was sent on a lost connection may still run; whoever cares asks (gateway/admission.py).
"""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url

from .errors import LinkLost

Reply = Any
Callback = Callable[[Reply], None]
pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command

_RECONNECT_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True, slots=True)
class Server:
    """The server behind a connection. `run_id` changes with every start of the process."""

    run_id: str
    version: str


class _Wire:
    """One connection, an asyncio.Protocol by its methods. Replies are matched to calls by order alone."""

    def __init__(self, lost: Callable[["_Wire"], None], clock: Callable[[], float], read: Callable[[], None]) -> None:
        self._reader = hiredis.Reader()
        self._lost, self._clock, self._read = lost, clock, read
        self.waiting: deque[tuple[float, Callback]] = deque()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def send(self, packed: bytes, callback: Callback) -> None:
        """Queue one packed command; everything queued in this turn leaves in one write."""
        if not self._out:
            self._loop.call_soon(self._write)
        self._out.append(packed)
        self.waiting.append((self._clock(), callback))

    def _write(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        gets, waiting = self._reader.gets, self.waiting
        reply = gets()
        while reply is not False:
            if not waiting:
                self.abort()
                break
            self._hand(waiting.popleft()[1], reply)
            reply = gets()
        self._read()

    def _hand(self, callback: Callback, reply: Reply) -> None:
        """A caller that fails on its own reply must not take the replies of the others with it."""
        try:
            callback(reply)
        except Exception as exc:  # noqa: BLE001  told to the loop, which logs it with its traceback
            self._loop.call_exception_handler({"message": "a caller failed on its reply from the store", "exception": exc})

    def eof_received(self) -> None:
        """The transport closes after it."""

    def pause_writing(self) -> None:
        """What waits here is bounded by the deadline of the oldest call."""

    def resume_writing(self) -> None:
        """Nothing was held back."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail()

    def abort(self) -> None:
        """Close at once; every call under way learns that it is lost."""
        if self._transport is not None:
            self._transport.abort()
        self._fail()

    def _fail(self) -> None:
        lost, self._lost = self._lost, lambda _: None
        waiting, self.waiting = self.waiting, deque()
        lost(self)
        for _, callback in waiting:
            self._hand(callback, LinkLost("the connection to the store was lost"))


class Link:
    """A connection that is up or down. `on_up(server)` runs when calls may be made, `on_down()` when it was lost.

    `deadline_seconds` bounds every reply: a store that does not answer in time counts as away.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline_seconds: float,
        scripts: Sequence[bytes],
        on_up: Callable[[Server], None],
        on_down: Callable[[], None],
    ) -> None:
        self._options = parse_url(url)
        self._deadline, self._scripts = deadline_seconds, scripts
        self._on_up, self._on_down = on_up, on_down
        self._wire: _Wire | None = None
        self._task: asyncio.Task[None] | None = None
        self._down = asyncio.Event()
        self._closing = False
        self._lost_at = 0.0
        self._stands = asyncio.Event()
        self.server: Server | None = None
        self.last_error = ""
        self.on_replies: Callable[[], None] = lambda: None  # runs after each read, when the callbacks of its replies have

    @property
    def up(self) -> bool:
        return self.server is not None

    def start(self) -> None:
        """Connect, and reconnect for ever, in the background."""
        self._task = asyncio.get_running_loop().create_task(self._keep_up())

    async def close(self) -> None:
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._wire is not None:
            self._wire.abort()

    def call(self, packed: bytes, callback: Callback) -> None:
        """Send one packed command; `callback` gets the reply, a ReplyError, or LinkLost. Only while up."""
        if self._wire is None or self.server is None:
            callback(LinkLost("the store is away"))
            return
        self._wire.send(packed, callback)

    def reset(self) -> None:
        """Give up this connection; a new one is made at once, with the scripts loaded again."""
        if self._wire is not None:
            self._wire.abort()

    async def regained(self, seconds: float) -> bool:
        """Whether a connection that was lost is there again so many seconds after its loss at most; at once where that is longer ago."""
        left = self._lost_at + seconds - asyncio.get_running_loop().time()
        if self.server is None and left > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._stands.wait()
        return self.server is not None

    async def execute(self, *args: str | bytes | int | float) -> Reply:
        """One command, awaited. Raises LinkLost or hiredis.ReplyError."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.call(pack(args), lambda reply: None if future.done() else future.set_result(reply))
        return _raised(await future)

    async def _keep_up(self) -> None:
        attempt = 0
        while not self._closing:
            try:
                async with asyncio.timeout(max(self._deadline * 4, 1.0)):
                    server = await self._connect()
            except (OSError, TimeoutError, hiredis.HiredisError) as exc:
                self.last_error = str(exc) or type(exc).__name__
                self.reset()
                await asyncio.sleep(_RECONNECT_SECONDS[min(attempt, len(_RECONNECT_SECONDS) - 1)])
                attempt += 1
                continue
            attempt = 0
            self.server = server
            self._on_up(server)
            self._stands.set()
            await self._watch()

    async def _connect(self) -> Server:
        self._down.clear()
        loop, options = asyncio.get_running_loop(), self._options
        wire = self._wire = _Wire(self._lost, loop.time, lambda: self.on_replies())
        if "path" in options:
            await loop.create_unix_connection(lambda: wire, options["path"])  # type: ignore[type-var] # by its methods
        else:
            tls = ssl.create_default_context() if options.get("connection_class") is SSLConnection else None
            await loop.create_connection(lambda: wire, options.get("host", "localhost"), options.get("port", 6379), ssl=tls)  # type: ignore[type-var]
        if options.get("password"):
            user = (options["username"],) if options.get("username") else ()
            await self._ask(wire, "AUTH", *user, options["password"])
        if options.get("db"):
            await self._ask(wire, "SELECT", options["db"])
        for body in self._scripts:
            await self._ask(wire, "SCRIPT", "LOAD", body)
        info = dict(line.split(":", 1) for line in (await self._ask(wire, "INFO", "server")).decode().splitlines() if ":" in line)
        if "run_id" not in info:
            raise LinkLost("the store does not name its run id (INFO server)")
        if wire is not self._wire:
            raise LinkLost("the connection to the store was lost as it was made")
        return Server(info["run_id"], info.get("valkey_version") or info.get("redis_version", "?"))

    async def _ask(self, wire: _Wire, *args: str | bytes | int) -> Reply:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        wire.send(pack(args), lambda reply: None if future.done() else future.set_result(reply))
        return _raised(await future)

    async def _watch(self) -> None:
        """Until the connection is lost: give up on it when the oldest call is overdue."""
        wire, loop, overdue = self._wire, asyncio.get_running_loop(), False
        step = self._deadline / 4
        while not self._down.is_set():
            await asyncio.sleep(0 if overdue else step)
            if wire is None or self._down.is_set():
                return
            late = bool(wire.waiting) and loop.time() - wire.waiting[0][0] > self._deadline
            if late and overdue:
                self.last_error = f"no answer within {self._deadline * 1000:.0f} ms"
                wire.abort()
                return
            # A loop that was held up looks twice: the reply may lie in the socket.
            overdue = late

    def _lost(self, wire: _Wire) -> None:
        if wire is not self._wire:
            return
        self._wire = None
        self._down.set()
        if self.server is not None:
            self.server = None
            self._stands.clear()
            self._lost_at = asyncio.get_running_loop().time()
            if not self._closing:
                self._on_down()


def _raised(reply: Reply) -> Reply:
    if isinstance(reply, Exception):
        raise reply
    return reply
