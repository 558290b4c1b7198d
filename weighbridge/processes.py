"""A child process of `up`: started from the main thread, its output prefixed with its role, its end noticed.

Each runs in a session of its own, so that a Ctrl-C in the terminal reaches only `up`, which ends them in order;
if `up` itself is killed they get a SIGTERM from the kernel.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Mapping, Sequence

from .child import before_exec

_KILL_SECONDS = 10.0
_LINE_LIMIT = 2**20


class Child:
    """One role. `start` may be called again after its end."""

    def __init__(self, role: str, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        self.role, self._argv, self._environ = role, argv, environ
        self._process: asyncio.subprocess.Process | None = None
        self._output: asyncio.Task[None] | None = None
        self.last_line = ""
        self.ended_by_us: set[int] = set()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode if self._process is not None else None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._argv, env=dict(self._environ), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, start_new_session=True, limit=_LINE_LIMIT,
            preexec_fn=before_exec(death_signal=signal.SIGTERM),
        )  # fmt: skip
        self._output = asyncio.create_task(self._pass_on(self._process))

    async def wait(self) -> int:
        """Until it ends by itself or by `stop`; its exit code (negative: the signal)."""
        assert self._process is not None
        code = await self._process.wait()
        if self._output is not None:
            with contextlib.suppress(TimeoutError):  # a grandchild may hold the pipe open a little longer
                await asyncio.wait_for(asyncio.shield(self._output), 1)
        return code

    def send(self, number: signal.Signals) -> None:
        if self.alive and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, seconds: float = _KILL_SECONDS) -> None:
        """SIGTERM, then SIGKILL after `seconds`."""
        self.ended_by_us.add(self.pid)
        if not self.alive:
            return
        self.send(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), seconds)
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self.wait()

    async def _pass_on(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than the limit: what is left of it follows as a line of its own
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self.last_line = text or self.last_line
            sys.stderr.write(f"{self.role:<11}| {text}\n")
