"""Usage is told in batches, behind the work. An event is kept until Weighbridge has answered for it; told twice it counts once.

What waits is in memory: a process that is killed takes it along. What must survive that is recorded before the work is answered for
(`Weighbridge.record`), or counted by the gateway.
"""

import asyncio
import atexit
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from .aio import AsyncWeighbridge
from .answers import Batch
from .errors import BufferFull, ClientError, Refused
from .events import LARGEST_BATCH_BYTES, MOST_IN_A_BATCH, Event
from .sync import Weighbridge

log = logging.getLogger(__name__)

Rejected = Callable[[str | None, Event, str], None]  # (organization, event, why)


def log_rejected(org: str | None, event: Event, reason: str) -> None:
    log.error("usage was not taken (%s, %s %s, key %s): %s", org or "-", event.quantity, event.service, event.idempotency_key, reason)


class Buffer:
    """What waits, for each organization in order; of any thread. Organizations take turns."""

    def __init__(self, most: int) -> None:
        self._most, self._lock, self._count = most, threading.Lock(), 0
        self._waiting: dict[str | None, deque[tuple[Event, int]]] = {}

    def __len__(self) -> int:
        return self._count

    def add(self, org: str | None, event: Event) -> None:
        """Raises BufferFull; TypeError or ValueError for metadata that is no JSON."""
        size = event.size_bytes()
        with self._lock:
            if self._count >= self._most:
                raise BufferFull(f"{self._most:,} events wait to be told already; this one was not taken")
            self._waiting.setdefault(org, deque()).append((event, size))
            self._count += 1

    def take(self) -> tuple[str | None, list[Event]]:
        """A batch of the organization whose turn it is."""
        with self._lock:
            org = next(iter(self._waiting), None)
            queue, room = self._waiting.pop(org, deque()), LARGEST_BATCH_BYTES
            events: list[Event] = []
            while queue and len(events) < MOST_IN_A_BATCH and (not events or queue[0][1] <= room):
                event, size = queue.popleft()
                events.append(event)
                room -= size
            if queue:
                self._waiting[org] = queue
            self._count -= len(events)
            return org, events

    def put_back(self, org: str | None, events: list[Event]) -> None:
        with self._lock:
            queue = self._waiting.setdefault(org, deque())
            queue.extendleft((event, event.size_bytes()) for event in reversed(events))
            self._count += len(events)


def _tell_rejected(told: Rejected, org: str | None, events: list[Event], batch: Batch) -> None:
    for event, outcome in zip(events, batch.outcomes, strict=True):
        if outcome.status == "rejected":
            told(org, event, outcome.reason or "rejected")


def _hopeless(fault: ClientError) -> bool:
    """The same batch would be refused again, whoever sends it: 400, an organization that is gone. A token can be replaced."""
    return isinstance(fault, Refused) and not fault.away and fault.status not in (401, 403)


class Recorder:
    """Tells what was recorded each `every_seconds`, or as soon as a batch is full, in a thread of its own; `close`, and the end of the
    program, tell the rest.

    `on_rejected` hears of what will never be taken. At most `most` events wait.
    """

    def __init__(
        self, client: Weighbridge, *, every_seconds: float = 2.0, most: int = 50_000, on_rejected: Rejected = log_rejected
    ) -> None:  # fmt: skip
        self._client, self._every, self._rejected = client, every_seconds, on_rejected
        self._buffer, self._telling = Buffer(most), threading.Lock()
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="weighbridge-recorder", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def waiting(self) -> int:
        return len(self._buffer)

    def record(self, event: Event, *, org: str | None = None) -> None:
        """Raises BufferFull, TypeError or ValueError for metadata that is no JSON, RuntimeError once it was closed."""
        if self._closed.is_set():
            raise RuntimeError("this recorder was closed")
        self._buffer.add(org, event)
        if len(self._buffer) >= MOST_IN_A_BATCH:
            self._wake.set()

    def flush(self) -> None:
        """Tell all that waits. Raises what the client raises; then it waits on."""
        with self._telling:
            while True:
                org, events = self._buffer.take()
                if not events:
                    return
                self._tell(org, events)

    def close(self, timeout: float = 10.0) -> int:
        """Tell the rest, and end. How many events could not be told."""
        atexit.unregister(self.close)
        self._closed.set()
        self._wake.set()
        self._thread.join(timeout)
        return len(self._buffer)

    def _tell(self, org: str | None, events: list[Event]) -> None:
        try:
            batch = self._client.record_batch(events, org=org)
        except BaseException as fault:
            if not (isinstance(fault, ClientError) and _hopeless(fault)):
                self._buffer.put_back(org, events)
                raise
            for event in events:
                self._rejected(org, event, str(fault))
        else:
            _tell_rejected(self._rejected, org, events, batch)

    def _run(self) -> None:
        last = False
        while not last:
            self._wake.wait(self._every)
            self._wake.clear()
            last = self._closed.is_set()
            try:
                self.flush()
            except ClientError as fault:
                log.warning("%d events of usage wait to be told: %s", len(self._buffer), fault)
                if not last:
                    self._closed.wait(self._every)  # a full buffer does not hurry who cannot tell

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class AsyncRecorder:
    """The same as a task of the running loop, from `async with` to its end."""

    def __init__(
        self, client: AsyncWeighbridge, *, every_seconds: float = 2.0, most: int = 50_000, on_rejected: Rejected = log_rejected
    ) -> None:  # fmt: skip
        self._client, self._every, self._rejected = client, every_seconds, on_rejected
        self._buffer, self._wake, self._telling = Buffer(most), asyncio.Event(), asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        return len(self._buffer)

    def record(self, event: Event, *, org: str | None = None) -> None:
        """Raises BufferFull, TypeError or ValueError for metadata that is no JSON."""
        self._buffer.add(org, event)
        if len(self._buffer) >= MOST_IN_A_BATCH:
            self._wake.set()

    def start(self) -> None:
        """In the loop that runs."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="weighbridge-recorder")

    async def flush(self) -> None:
        """Tell all that waits. Raises what the client raises; then it waits on."""
        async with self._telling:
            while True:
                org, events = self._buffer.take()
                if not events:
                    return
                await self._tell(org, events)

    async def close(self, timeout: float = 10.0) -> int:  # noqa: ASYNC109  as in Recorder
        """Tell the rest, and end. How many events could not be told."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        try:
            async with asyncio.timeout(timeout):
                await self.flush()
        except (ClientError, TimeoutError) as fault:
            log.warning("%d events of usage were not told: %s", len(self._buffer), fault or "no answer in time")
        return len(self._buffer)

    async def _tell(self, org: str | None, events: list[Event]) -> None:
        try:
            batch = await self._client.record_batch(events, org=org)
        except BaseException as fault:
            if not (isinstance(fault, ClientError) and _hopeless(fault)):
                self._buffer.put_back(org, events)
                raise
            for event in events:
                self._rejected(org, event, str(fault))
        else:
            _tell_rejected(self._rejected, org, events, batch)

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.flush()
            except ClientError as fault:
                log.warning("%d events of usage wait to be told: %s", len(self._buffer), fault)
                await asyncio.sleep(self._every)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()
