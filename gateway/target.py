"""One target of an upstream: its connections, kept and shared out, and who waits for them; what its calls say of its health.

Connections that may be used again are kept, new ones opened up to a bound, and callers beyond it wait a bounded time in a bounded
queue. A target that the configuration no longer names finishes what it is at, and serves whoever was sent to it already.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from config.gateway import Queue
from gateway.dial import Address
from gateway.health import Standing
from gateway.service import UpstreamConnection
from metering.model.clock import Clock


class Unreachable(Exception):
    """No connection to the upstream could be had."""


class ConnectTimedOut(Unreachable):
    """No connection to the upstream could be had in time."""


class Busy(Unreachable):
    """All connections to the upstream are busy, and its queue is full or took too long."""


class Target:
    """One address of an upstream and its connections. It belongs to one upstream, whose rules `apply` gives it.

    A call that comes here says `begun`, then asks for a connection (`take_idle`, `await take`), and says `ended` once its exchange has,
    or once it goes elsewhere. `in_flight`: the calls between the two. `failures`: failed calls in a row.
    """

    __slots__ = (
        "_changed",
        "_clock",
        "_keep",
        "_on_failure",
        "_on_retry",
        "_queue",
        "address",
        "authority",
        "base_path",
        "bound",
        "count_5xx",
        "current",
        "failures",
        "idle",
        "in_flight",
        "open",
        "retired",
        "standing",
        "url",
        "waiters",
        "weight",
    )

    def __init__(self, address: Address, clock: Clock, keep: Callable[[], None] = lambda: None) -> None:
        """`keep` is called when a connection was opened: from then on kept ones are to be swept."""
        self.address, self.url = address, address.url
        self.authority, self.base_path = address.authority, address.base_path
        self._clock, self._keep = clock, keep
        self.open = 0
        self.idle: list[UpstreamConnection] = []
        self.waiters: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self.in_flight = self.failures = 0
        self.standing = Standing()
        self.weight = 1
        self.current = 0  # smooth round robin's account; gateway/balance.py
        self.retired = False
        self.apply()

    def apply(
        self,
        *,
        bound: int = 512,
        queue: Queue = Queue(),  # noqa: B008  frozen
        count_5xx: bool = False,
        changed: Callable[[], None] = lambda: None,
        on_failure: Callable[["Target"], None] = lambda target: None,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        """The rules of its upstream, which a new configuration may change while calls are at work."""
        self.bound, self._queue, self.count_5xx = bound, queue, count_5xx
        self._changed, self._on_failure, self._on_retry = changed, on_failure, on_retry
        while self.waiters and self.open < bound:
            self.open += 1
            self._give_up_place()
        for connection in self.idle[: max(0, self.open - bound)]:
            connection.release(False)

    # What its calls say

    def begun(self) -> None:
        """A call is at work here, or waits for a connection."""
        self.in_flight += 1

    def ended(self, ok: bool | None) -> None:
        """It ended: well, badly, or in a way that says nothing of this target (None). gateway.health.verdict tells."""
        self.in_flight -= 1
        if ok:
            if self.failures:
                self.failures = 0
        elif ok is not None:
            self._failed()

    def retried(self) -> None:
        """A call whose kept connection had died is sent once more."""
        self._on_retry()

    def _failed(self) -> None:
        self.failures += 1
        self._on_failure(self)

    def probed(self, well: bool | None, good: bool) -> None:
        """An answer to a probe: `good` or not, and whether that changes how it stands (None: it does not)."""
        standing = self.standing
        if well is False:
            standing.failing = True
        elif well and standing.failing:
            standing.recover()
            self.failures = 0
        elif good and standing.pauses:
            standing.connects()
        else:
            return
        self._changed()

    def unwatched(self) -> None:
        """Nobody asks it any more, so what it last answered holds no longer."""
        if self.standing.failing:
            self.standing.failing = False
            self._changed()

    @property
    def is_down(self) -> bool:
        """Whether it is passed over while others can serve."""
        until = self.standing.out_until()
        return until > 0.0 and self._clock.monotonic() < until

    @property
    def has_room(self) -> bool:
        return self.open < self.bound or bool(self.idle)

    # Connections

    def take_idle(self) -> UpstreamConnection | None:
        """The one used last, which is the least likely to be closed on us."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.lost:
                return connection
        return None

    async def take(self, seconds: float, *, fresh: bool = False) -> UpstreamConnection:
        """An idle connection, or a new one, or one that comes back. `seconds` to open one; and to wait, if the queue has no time of
        its own. `fresh` passes the idle ones over. A failure to connect is counted here, so `ended(None)` is
        enough after it.

        Raises Unreachable, ConnectTimedOut, Busy.
        """
        if fresh and self.idle and self.open >= self.bound:
            self.idle[0].release(False)
        elif not fresh and (connection := self.take_idle()):
            return connection
        if self.open < self.bound:
            self.open += 1
        elif (waited := await self._wait(self._queue.timeout_s or seconds)) is not None:
            return waited
        return await self._connect(seconds)

    async def _wait(self, seconds: float) -> UpstreamConnection | None:
        """None is the right to open a connection, already counted in `open`."""
        if len(self.waiters) >= self._queue.most:
            raise Busy("all connections are busy, and too many requests wait for one")
        waiter: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            async with asyncio.timeout(seconds):
                return await waiter
        except BaseException as error:
            self._stop_waiting(waiter)
            if isinstance(error, TimeoutError):
                raise Busy(f"all connections were busy for {seconds:g} s") from error
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
        made: list[UpstreamConnection] = []

        def make() -> UpstreamConnection:
            made.append(UpstreamConnection(self))
            return made[-1]

        try:
            connection = await self.address.open(make, seconds)
        except OSError as error:
            self._give_up_place(made)
            self._opening_failed()
            if isinstance(error, TimeoutError):
                raise ConnectTimedOut(f"no connection within {seconds:g} s") from error
            raise Unreachable(str(error)) from error
        except BaseException:
            self._give_up_place(made)
            raise
        if self.standing.pauses:
            self.reached()
        self._keep()
        return connection

    def _opening_failed(self) -> None:
        self.standing.pause(self._clock.monotonic())
        self._failed()
        self._changed()

    def reached(self) -> None:
        """A connection stands: it takes its turns again if a failed one had put it out."""
        self.standing.connects()
        self._changed()

    def put_back(self, connection: UpstreamConnection) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        connection.sweeps_idle = 0
        self.idle.append(connection)
        if self.retired or self.open > self.bound:
            connection.release(False)

    def forget_idle(self, connection: UpstreamConnection) -> None:
        if connection in self.idle:
            self.idle.remove(connection)

    def closed(self, connection: UpstreamConnection) -> None:
        self.forget_idle(connection)
        self._give_up_place()

    def _give_up_place(self, abandoned: Sequence[UpstreamConnection] = ()) -> None:
        """One connection less; who waits may open another. `abandoned`: what was being opened, and may yet come to stand and end."""
        for connection in abandoned:
            connection.abandon()
        while self.waiters and self.open <= self.bound:
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

    def retire(self) -> None:
        """The configuration names it no more: nothing is kept, calls that come all the same are served."""
        self.retired = True
        self.apply(bound=self.bound, queue=self._queue, count_5xx=self.count_5xx, on_retry=self._on_retry)
        self.close_idle(0)
