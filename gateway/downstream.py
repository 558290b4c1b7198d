"""HTTP to the client: the server that an aiohttp runner runs (gateway/runner.py).

Wiring:

    server = DownstreamServer(handler, limits, clock, on_reject, error_body)
    runner = GatewayRunner(server, shutdown_timeout=30)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    …
    await runner.cleanup()   # stops listening, closes idle connections, waits for requests under way, then breaks them off

`handler(request)` begins a request and returns at once: what has to wait goes on by callbacks, or as `request.client.run(coroutine)`.
A request is answered by `request.respond(status, headers, body)` or by a Transfer (gateway/transfer.py), and is over with
`request.client.end(request)`. Connections are in gateway/client.py. A client that closes its side of the connection is taken to have
gone away.
"""

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from typing import Final

from gateway.client import ClientConnection
from gateway.http1 import Limits
from gateway.request import Request
from metering.model.clock import Clock

__all__ = ["DownstreamServer", "Request"]

_LAST_MOMENT_SECONDS: Final = 2.0  # for handlers to settle what was broken off


class DownstreamServer:
    """Makes a ClientConnection for each client and keeps their deadlines."""

    def __init__(
        self,
        handler: Callable[[Request], None],
        limits: Limits,
        clock: Clock,
        on_reject: Callable[[str], None],
        error_body: Callable[[int, str, str], bytes],
    ) -> None:
        """`on_reject(reason)` counts what was refused without a handler; `error_body(status, code, message)` is the answer to it.

        `limits` may be replaced at any time; connections made from then on obey.
        """
        self.handler = handler
        self.limits = limits
        self.clock = clock
        self.on_reject = on_reject
        self.error_body = error_body
        self.draining = False
        self.in_flight = 0
        self.connections: set[ClientConnection] = set()
        self.sweep_seconds = max(0.05, min(1.0, limits.header_timeout_s / 2, limits.keepalive_s / 2))
        self._empty: asyncio.Future[None] | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._look_at_clock()

    def __call__(self) -> ClientConnection:
        if self._sweeper is None:
            self._look_at_clock()
            self._sweeper = asyncio.get_running_loop().call_later(self.sweep_seconds, self._sweep)
        return ClientConnection(self)

    def _look_at_clock(self) -> None:
        self._now = self.clock.monotonic()
        self.date = formatdate(self.clock.now_ms() / 1000, usegmt=True).encode()
        self.idle_deadline = self.deadline(self.limits.keepalive_s)

    def _sweep(self) -> None:
        """One timer for all connections: no deadline of theirs needs to be sharp, and none fires early."""
        self._sweeper = asyncio.get_running_loop().call_later(self.sweep_seconds, self._sweep)
        self._look_at_clock()
        for connection in [each for each in self.connections if 0.0 < each.deadline < self._now]:
            connection.expire()

    def deadline(self, seconds: float) -> float:
        """`seconds` from now, as the sweep will see it."""
        return self._now + self.sweep_seconds + seconds

    def forget(self, connection: ClientConnection) -> None:
        self.connections.discard(connection)
        if self._empty is not None and not self.connections and not self._empty.done():
            self._empty.set_result(None)

    def pre_shutdown(self) -> None:
        """Close idle connections; those at work close after their answer, which says so."""
        self.draining = True
        for connection in list(self.connections):
            connection.drain()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the signature aiohttp's runner calls
        """Wait at most `timeout` seconds for what is under way, then break it off; handlers still settle."""
        self.pre_shutdown()
        if self.connections:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=timeout)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        tasks = [each.task for each in self.connections if each.task is not None]
        for connection in list(self.connections):
            connection.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_MOMENT_SECONDS)
        for task in tasks:
            task.cancel()
