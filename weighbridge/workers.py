"""The gateway's workers: one process a slot, each on the slot's own listening socket, replaced when it dies or is told to go.

The socket outlives its worker; a connection that arrives between two workers is accepted by those of other slots, or, where there is
none, waits in its backlog.
The control channel is a socket pair with one JSON object a line (gateway/__main__.py holds the other end).
"""

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metering.model.clock import Clock
from metering.model.errors import WeighbridgeError

from .child import before_exec

log = logging.getLogger("weighbridge.supervisor")

_BACK_OFF_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_STEADY_SECONDS = 30.0  # a worker that lived this long starts its back-off afresh
_READY_SECONDS = 60.0
_REPLY_SECONDS = 15.0
_KILL_AFTER_DRAIN_SECONDS = 5.0


class WorkersFail(WeighbridgeError):
    """No gateway worker comes up."""

    code = "workers_fail"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How a worker is started; `config` is replaced when a new configuration is accepted."""

    data_dir: Path
    environ: Mapping[str, str]
    drain_seconds: float


@dataclass(eq=False)
class Worker:
    """One incarnation of a slot."""

    slot: int
    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    started_at: float
    name: str | None = None
    retired: bool = False
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    replies: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def tell(self, message: dict[str, Any]) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()


class Workers:
    """All slots. `on_death` gets a dead worker's pid and journal name (None if it never said so)."""

    def __init__(
        self, launch: Launch, sockets: list[socket.socket], config: Path, clock: Clock,
        *, on_death: Callable[[int, str | None], Awaitable[None]], on_restart: Callable[[], None],
    ) -> None:  # fmt: skip
        self._launch, self._sockets, self._config, self._clock = launch, sockets, config, clock
        self._on_death, self._on_restart = on_death, on_restart
        self._slots: list[Worker | None] = [None] * len(sockets)
        self._failures = [0] * len(sockets)
        self._alive: set[Worker] = set()  # beside those of the slots: who is about to take one, and who has left it
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._ever_ready = False
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def living(self) -> list[Worker]:
        return [worker for worker in self._slots if worker is not None and not worker.gone.is_set()]

    @property
    def all_ready(self) -> bool:
        return not self._draining and all(w is not None and w.ready.is_set() and not w.gone.is_set() for w in self._slots)

    async def start(self) -> None:
        """Start every slot; returns at once, readiness follows."""
        for slot in range(len(self._sockets)):
            self._slots[slot] = await self._spawn(slot)

    async def push(self, config: Path) -> list[str]:
        """Hand a new configuration to every worker; returns what the unwilling ones said. New workers start on it.

        One that is starting reads it from its socket as soon as it is up.
        """
        self._config = config
        answers = await asyncio.gather(*(self._push(worker, config) for worker in self._alive if not worker.retired))
        return [answer for answer in answers if answer]

    async def roll(self) -> None:
        """Replace every worker, one at a time: the new one is ready before the old one drains."""
        for slot in range(len(self._sockets)):
            if self._draining:
                return
            old, new = self._slots[slot], await self._spawn(slot)
            try:
                await asyncio.wait_for(_first(new.ready, new.gone), _READY_SECONDS)
            except TimeoutError:
                log.error("the new worker of slot %d did not get ready, the old one stays", slot)
            if not new.ready.is_set():
                new.retired = True
                new.terminate()
                raise WorkersFail(f"a new worker for slot {slot} did not get ready; the old ones go on")
            self._slots[slot] = new
            if old is not None:
                old.retired = True
                await self._end(old)

    async def drain(self) -> None:
        """SIGTERM to all: each finishes what it carries, ships, and ends; after the allowed time it is killed.

        Who connects from now on is refused at once, and not kept waiting in a socket that nobody will answer.
        """
        self._draining = True
        for listener in self._sockets:
            listener.close()
        await asyncio.gather(*(self._end(worker) for worker in list(self._alive)))
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _end(self, worker: Worker) -> None:
        worker.terminate()
        try:
            await asyncio.wait_for(worker.gone.wait(), self._launch.drain_seconds + _KILL_AFTER_DRAIN_SECONDS)
        except TimeoutError:
            log.error("worker %s (pid %d) did not end in time and is killed", worker.name, worker.process.pid)
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()
            await worker.gone.wait()

    async def _push(self, worker: Worker, config: Path) -> str | None:
        while not worker.replies.empty():
            worker.replies.get_nowait()
        await worker.tell({"op": "config", "path": str(config)})
        try:
            reply = await asyncio.wait_for(worker.replies.get(), _REPLY_SECONDS)
        except TimeoutError:
            return None if worker.gone.is_set() else f"worker {worker.name} did not answer"
        return None if reply.get("ok") else f"worker {worker.name} refused: {reply.get('error', 'no reason given')}"

    async def _spawn(self, slot: int) -> Worker:
        ours, theirs = socket.socketpair()
        listener, config = self._sockets[slot], self._config
        others = {other: each.fileno() for other, each in enumerate(self._sockets) if other != slot}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "--socket-fd", str(listener.fileno()), "--control-fd", str(theirs.fileno()),
            "--other-fds", ",".join(f"{other}:{descriptor}" for other, descriptor in others.items()),
            "--slot", str(slot), "--workers", str(len(self._sockets)), "--data-dir", str(self._launch.data_dir),
            "--config", str(config),
            env=dict(self._launch.environ), stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
            pass_fds=(listener.fileno(), theirs.fileno(), *others.values()), preexec_fn=before_exec(death_signal=signal.SIGTERM),
        )  # fmt: skip
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        worker = Worker(slot, process, reader, writer, self._clock.monotonic())
        self._alive.add(worker)
        self._keep(self._listen(worker))
        self._keep(self._watch(worker))
        if config != self._config:  # a newer one was handed out while the process was made
            self._keep(self._push(worker, self._config))
        if self._draining:
            worker.terminate()
        return worker

    def _keep(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self, worker: Worker) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await worker.reader.readline():
                message = json.loads(line)
                if message.get("op") == "ready":
                    worker.name = message["worker"]
                    self._ever_ready = True
                    worker.ready.set()
                    self._share()
                elif message.get("op") == "config":
                    worker.replies.put_nowait(message)

    async def _watch(self, worker: Worker) -> None:
        code = await worker.process.wait()
        worker.gone.set()
        self._alive.discard(worker)
        worker.writer.close()
        self._share()
        await self._on_death(worker.process.pid, worker.name)
        if worker.retired or self._draining:
            return
        log.error("worker %s (pid %d) died (exit code %d) and is replaced", worker.name or worker.slot, worker.process.pid, code)
        self._on_restart()
        lived = self._clock.monotonic() - worker.started_at
        failures = self._failures[worker.slot] = 1 if lived > _STEADY_SECONDS else self._failures[worker.slot] + 1
        if not self._ever_ready and failures >= 4 and not self.failed.done():
            self.failed.set_exception(WorkersFail(f"the gateway's workers end at once (exit code {code}); their output says why"))
            return
        await self._replace(worker, failures)

    def _share(self) -> None:
        """Who serves takes the connections of slots that have nobody who does: a new worker takes seconds to start, or never does."""
        serving = [w for w in self.living() if w.ready.is_set() and not w.retired]
        away = sorted(set(range(len(self._slots))) - {worker.slot for worker in serving})
        for worker in serving:
            if not self._draining:
                self._keep(worker.tell({"op": "cover", "slots": away}))

    async def _replace(self, worker: Worker, failures: int) -> None:
        """Tried until it succeeds: a machine without a process or a descriptor to spare may have one a moment later."""
        while True:
            await asyncio.sleep(_BACK_OFF_SECONDS[min(failures, len(_BACK_OFF_SECONDS)) - 1])
            if self._draining or self._slots[worker.slot] is not worker:
                return
            try:
                self._slots[worker.slot] = await self._spawn(worker.slot)
            except OSError as exc:
                failures += 1
                log.error("no worker could be started for slot %d, it is tried again: %s", worker.slot, exc)
            else:
                return


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
