"""HTTP to the service: connections, kept and shared out per target.

A pool keeps, for each target of each upstream, the connections that may be used again, opens new ones up to a bound, and lets
callers wait a bounded time beyond it. Targets take turns; one that refused a connection is passed over for a moment while others
can serve. What is done with a connection: gateway/exchange.py.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import unquote, urlsplit

from gateway.service import UpstreamConnection
from metering.model.clock import Clock

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 10.0
_MAX_WAITERS = 1_000  # per target; beyond it a caller is refused at once


class Unreachable(Exception):
    """No connection to the upstream could be had."""


class ConnectTimedOut(Unreachable):
    """No connection to the upstream could be had in time."""


class Upstream(Protocol):
    """What the pool needs to know of one; config.gateway.Upstream."""

    @property
    def targets(self) -> tuple[str, ...]: ...


class Target:
    """One address of an upstream and its connections."""

    def __init__(self, url: str, bound: int, clock: Clock, tls: ssl.SSLContext | None, on_open: Callable[[], None] = lambda: None) -> None:
        """`url`: http://host:port, https://host, with or without a path that goes before the request's, or unix:/path/to/socket."""
        self.url = url
        self.base_path = b""
        self._clock = clock
        self._bound = bound
        self._on_open = on_open
        self._tls: ssl.SSLContext | None = None
        self._unix: str | None = None
        if url.startswith("unix:"):
            self._unix = unquote(url.removeprefix("unix:").removeprefix("//"))
            self.authority = b"localhost"
        else:
            self._read_url(url, tls)
        self.open = 0
        self.idle: list[UpstreamConnection] = []
        self.waiters: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self.down_until = 0.0
        self._failures = 0

    def _read_url(self, url: str, tls: ssl.SSLContext | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an upstream's address: {url!r}")
        if parts.scheme == "https":
            self._tls = tls or ssl.create_default_context()
        self.host = parts.hostname
        self.port = parts.port or (443 if self._tls else 80)
        self.authority = parts.netloc.rpartition("@")[2].encode()
        self.base_path = parts.path.rstrip("/").encode()

    @property
    def is_down(self) -> bool:
        """Whether it failed to take a connection a moment ago."""
        return self.down_until > 0.0 and self._clock.monotonic() < self.down_until

    @property
    def has_room(self) -> bool:
        return bool(self.idle) or self.open < self._bound

    def take_idle(self) -> UpstreamConnection | None:
        """The one used last, which is the least likely to be closed on us."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.lost:
                return connection
        return None

    async def take(self, seconds: float, *, fresh: bool = False) -> UpstreamConnection:
        """An idle connection, or a new one, or one that comes back within `seconds`. `fresh` passes the idle ones over.

        Raises Unreachable, ConnectTimedOut.
        """
        if fresh and self.idle and self.open >= self._bound:
            self.idle[0].release(False)
        elif not fresh and (connection := self.take_idle()):
            return connection
        if self.open >= self._bound:
            waited = await self._wait(seconds)
            if waited is not None:
                return waited
        else:
            self.open += 1
        return await self._connect(seconds)

    async def _wait(self, seconds: float) -> UpstreamConnection | None:
        """None is the right to open a connection, already counted in `open`."""
        if len(self.waiters) >= _MAX_WAITERS:
            raise Unreachable("too many requests wait for a connection")
        waiter: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            async with asyncio.timeout(seconds):
                return await waiter
        except BaseException as error:
            self._stop_waiting(waiter)
            if isinstance(error, TimeoutError):
                raise ConnectTimedOut("all connections are busy") from error
            raise

    def _stop_waiting(self, waiter: "asyncio.Future[UpstreamConnection | None]") -> None:
        """Pass on what came in the very turn in which the waiting was given up."""
        if waiter in self.waiters:
            self.waiters.remove(waiter)
        elif waiter.done() and not waiter.cancelled():
            connection = waiter.result()
            if connection is None:
                self._give_up_place()
            else:
                self.put_back(connection)

    async def _connect(self, seconds: float) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        connection: UpstreamConnection
        try:
            async with asyncio.timeout(seconds):
                if self._unix is not None:
                    _, connection = await loop.create_unix_connection(lambda: UpstreamConnection(self), self._unix)
                else:
                    name = self.host if self._tls else None
                    _, connection = await loop.create_connection(
                        lambda: UpstreamConnection(self), self.host, self.port, ssl=self._tls, server_hostname=name
                    )
        except (OSError, TimeoutError) as error:
            self._opening_failed()
            if isinstance(error, TimeoutError):
                raise ConnectTimedOut(f"no connection within {seconds:g} s") from error
            raise Unreachable(str(error)) from error
        except BaseException:
            self._give_up_place()
            raise
        self.down_until, self._failures = 0.0, 0
        self._on_open()
        return connection

    def _opening_failed(self) -> None:
        self._give_up_place()
        self._failures += 1
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (self._failures - 1))
        self.down_until = self._clock.monotonic() + pause

    def put_back(self, connection: UpstreamConnection) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        connection.sweeps_idle = 0
        self.idle.append(connection)

    def forget_idle(self, connection: UpstreamConnection) -> None:
        if connection in self.idle:
            self.idle.remove(connection)

    def closed(self, connection: UpstreamConnection) -> None:
        self.forget_idle(connection)
        self._give_up_place()

    def _give_up_place(self) -> None:
        """One connection less; who waits may open another."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.open -= 1

    def close_idle(self, sweeps: int) -> None:
        """Close what was idle for so many sweeps, counting this one."""
        for connection in list(self.idle):
            connection.sweeps_idle += 1
            if connection.sweeps_idle > sweeps:
                connection.release(False)


class UpstreamPool:
    """The targets of all upstreams, and whose turn it is."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        clock: Clock,
        *,
        max_connections: int = 512,
        keepalive_seconds: float = 4.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`max_connections` bounds each target, per worker. Kept connections are closed after `keepalive_seconds` without use, a
        little before servers do (uvicorn and node: 5 s), since a request that meets a closing connection may be lost. `tls` is for
        https targets; without it, the machine's trusted certificates decide.
        """
        self._clock = clock
        self._bound = max_connections
        self._sweep_seconds = min(1.0, keepalive_seconds / 4)
        self._sweeps = round(keepalive_seconds / self._sweep_seconds)
        self._tls = tls
        self._targets: dict[str, Sequence[Target]] = {}
        self._turn: dict[str, int] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self.retries = 0
        self.update(upstreams)

    def update(self, upstreams: Mapping[str, Upstream]) -> None:
        """Take over a new configuration; targets that stay keep their connections, others finish what they are at.

        Raises ValueError for an address that is none; then nothing has changed.
        """
        old = {target.url: target for targets in self._targets.values() for target in targets}
        new: dict[str, Target] = {}
        for upstream in upstreams.values():
            for url in upstream.targets:
                new[url] = new.get(url) or old.get(url) or Target(url, self._bound, self._clock, self._tls, self._watch)
        self._targets = {name: [new[url] for url in upstream.targets] for name, upstream in upstreams.items()}
        self._turn = dict.fromkeys(self._targets, 0)
        for url in old.keys() - new.keys():
            old[url].close_idle(0)

    def choose(self, upstream: str) -> Target | None:
        """The target whose turn it is."""
        targets = self.order(upstream)
        return targets[0] if targets else None

    def order(self, upstream: str) -> Sequence[Target]:
        """The targets to try, the one whose turn it is first; those that are down or full come last."""
        targets = self._targets.get(upstream, ())
        if len(targets) < 2:
            return targets
        turn = self._turn[upstream]
        self._turn[upstream] = (turn + 1) % len(targets)
        rotated = [*targets[turn:], *targets[:turn]]
        return sorted(rotated, key=lambda target: (target.is_down, not target.has_room))

    def targets(self, upstream: str) -> Sequence[Target]:
        """All targets of an upstream, for those who show their health."""
        return self._targets.get(upstream, ())

    def _watch(self) -> None:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._sweep_seconds, self._sweep)

    def _sweep(self) -> None:
        """Close connections unused for too long; goes on while any are open."""
        self._sweeper = None
        for targets in self._targets.values():
            for target in targets:
                target.close_idle(self._sweeps)
                if target.open:
                    self._watch()

    def close(self) -> None:
        """Close all idle connections; those at work are closed within a second of being given back."""
        self._sweeps = 0
        self._sweep()
