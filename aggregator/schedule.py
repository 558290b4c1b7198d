"""Run the aggregator's jobs: a table of names, intervals and functions, one asyncio loop, and a clock that is given.

A job never runs twice at once in this process, and one that is `alone` not in another aggregator either: an advisory
lock that saves work; what keeps the books right is in each job. A job that fails is logged and counted, and
tried again at its time, within a minute at the latest. A server that is away is a sentence in the log; what nobody foresaw is a traceback.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import asyncpg
from redis.exceptions import ConnectionError as StoreUnreachable
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as StoreSilent

from metering.model.clock import Clock
from metering.model.errors import DependencyUnavailable, WeighbridgeError
from metering.store.postgres import lost

log = logging.getLogger("weighbridge.schedule")

_LOCKS = 0x7765696A  # the first of two numbers; the second is a hash of the job's name
_TICK_SECONDS = 0.25
_SAY_AGAIN_SECONDS = 60.0
_RETRY_SECONDS = 60.0  # a day's job that failed must not wait for the next day


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`run` is called each `interval_seconds`, counted from the start of the run before; first at once."""

    name: str
    interval_seconds: float
    run: Callable[[], Awaitable[object]]
    alone: bool = True


class Schedule:
    """`ran(job, outcome)` is told how each run ended: done, failed, or elsewhere."""

    def __init__(
        self,
        jobs: Sequence[Job],
        pool: asyncpg.Pool,
        clock: Clock,
        *,
        ran: Callable[[str, str], None],
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._jobs, self._pool, self._clock, self._ran, self._tick = jobs, pool, clock, ran, tick
        # A job holds its lock on one connection and works on others: were all of them locks, every job would wait for ever.
        self._locking = asyncio.Semaphore(max(1, pool.get_max_size() // 2))
        self._due: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[str]] = {}
        self._said: dict[str, tuple[str, float]] = {}

    async def run(self, stop: asyncio.Event, *, grace_seconds: float = 20.0) -> None:
        """Until `stop` is set; then what is under way may end, and is cancelled after `grace_seconds`."""
        while not stop.is_set():
            self._tick()
            self.start_due()
            await _first_of(stop, _TICK_SECONDS)
        if self._running:
            _, late = await asyncio.wait(self._running.values(), timeout=grace_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def start_due(self) -> None:
        """Start every job whose time has come and which is not at work."""
        now = self._clock.monotonic()
        for job in self._jobs:
            if job.name not in self._running and now >= self._due.get(job.name, now):
                self._due[job.name] = now + job.interval_seconds
                task = asyncio.get_running_loop().create_task(self._run(job), name=job.name)
                self._running[job.name] = task
                task.add_done_callback(self._ended)

    async def settled(self) -> None:
        """Wait for what is under way."""
        if self._running:
            await asyncio.wait(self._running.values())

    async def _run(self, job: Job) -> str:
        if not job.alone:
            await job.run()
            return "done"
        async with self._locking, self._pool.acquire() as connection:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1, hashtext($2))", _LOCKS, job.name):
                return "elsewhere"
            try:
                await job.run()
            finally:
                await connection.execute("SELECT pg_advisory_unlock($1, hashtext($2))", _LOCKS, job.name)
        return "done"

    def _ended(self, task: asyncio.Task[str]) -> None:
        name = task.get_name()
        del self._running[name]
        if task.cancelled():
            log.warning("%s was cut off by the end of the process", name)
            return
        error = task.exception()
        self._ran(name, "failed" if error else task.result())
        if error:
            self._due[name] = min(self._due[name], self._clock.monotonic() + _RETRY_SECONDS)
            self._say(name, error)
        elif self._said.pop(name, None):
            log.info("%s works again", name)

    def _say(self, name: str, error: BaseException) -> None:
        """Each new trouble at once; one that lasts, once a minute."""
        away, now = unavailable(error), self._clock.monotonic()
        text = away or f"{type(error).__name__}: {error}"
        last, at = self._said.get(name, ("", now))
        if text == last and now - at < _SAY_AGAIN_SECONDS:
            return
        self._said[name] = (text, now)
        if away:
            log.error("%s must wait: %s", name, away)
        else:
            foreseen = isinstance(error, WeighbridgeError)  # it says itself what there is to know
            log.error("%s failed and will be tried again: %s", name, text, exc_info=None if foreseen or text == last else error)


def unavailable(error: BaseException) -> str | None:
    """A sentence where a server is away, as servers are at times; None for what nobody foresaw."""
    if isinstance(error, StoreUnreachable | StoreSilent | ReadOnlyError):  # the last: a store that was made a replica
        return f"Redis is out of reach: {error or type(error).__name__}"
    known = error if isinstance(error, DependencyUnavailable) else lost(error)
    return str(known) if known else None


async def _first_of(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
