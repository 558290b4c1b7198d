"""Everything in the foreground: start in order, say so, watch, and on Ctrl-C stop in the order that loses nothing.

Start: stores → schema, plans, demo organizations → gateway, aggregator, control beside each other.
Stop: the gateway drains and its workers ship → flush → aggregator, control, sandbox, sample → Valkey → Postgres.
"""

import asyncio
import fcntl
import logging
import os
import shutil
import signal
import sys
from collections.abc import Coroutine, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from config.load import contradictions
from config.settings import Settings
from metering.model.clock import Clock
from metering.model.errors import ConfigFaulty, Conflict, DependencyUnavailable

from . import demo, first_minute, ready
from .closing import Closing
from .configuration import Accepted, Configurations, faulty
from .house import House
from .init import write_missing_files
from .keeper import keep_alive
from .ports import Ports, choose
from .sockets import PortTaken
from .stores import Stores

log = logging.getLogger("weighbridge.up")

_PORTS_SECONDS, _AGAIN_SECONDS = 15.0, 0.2


class Up:
    """One run of `weighbridge up`."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], clock: Clock, *, ready_file: Path | None) -> None:
        self._settings, self._environ, self._clock = settings, environ, clock
        self._ready_files = [settings.data_dir / ready.NAME, *([ready_file] if ready_file else [])]
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()
        self._restart = asyncio.Event()
        self._restarts, self._restart_error = 0, ""

    async def run(self) -> int:
        """Until Ctrl-C; 0 if everything was stopped cleanly. Raises a WeighbridgeError where something cannot start."""
        started = self._clock.monotonic()
        settings = self._settings
        new = not settings.data_dir.exists()
        lock = self._take_data_dir()
        self._listen_to_signals()
        try:
            ports = await self._ports()
            stores = Stores(settings.data_dir, settings.database_url, settings.redis_url)
            await stores.check_given()
            write_missing_files(settings.config_dir)
            accepted = self._configuration()
            house = House(settings, self._environ, ports, stores, accepted.config, self._clock)
            here = Path.cwd()
            config, data = first_minute.shown(settings.config_dir, here), first_minute.shown(settings.data_dir, here)
            say(first_minute.header(version("weighbridge"), config, len(accepted.faults), data, new=new))
            for fault in accepted.faults:
                say(f"  fault     {fault}")
            if accepted.faults:
                say("  config    the last good one runs until these are corrected")
            return await self._live(house, started)
        finally:
            self._leave_data_dir(lock, new=new)

    async def _ports(self) -> Ports:
        """Raises PortTaken. After an `up` that was killed, its gateway may still drain: that is waited for."""
        deadline = self._clock.monotonic() + (_PORTS_SECONDS if (self._settings.data_dir / ready.NAME).exists() else 0)
        while True:
            try:
                return choose(self._settings, self._environ)
            except PortTaken:
                if self._clock.monotonic() > deadline:
                    raise
                await asyncio.sleep(_AGAIN_SECONDS)

    def _configuration(self) -> Accepted:
        """Raises ConfigFaulty where the files, or the files and the settings together, make no sense."""
        settings = self._settings
        accepted = Configurations(settings.config_dir, settings.data_dir).first()
        faults = contradictions(accepted.config, default_plan=settings.billing_default_plan, currency=settings.billing_currency)
        if faults:
            raise ConfigFaulty(faulty(settings.config_dir, tuple(str(fault) for fault in faults)))
        for warning in settings.warnings:
            say(f"  warning   {warning}")
        return accepted

    async def _live(self, house: House, started: float) -> int:
        closing: Closing | None = None
        try:
            await self._unless_stopped(house.start(say))
            self._write_ready(house)
            say(f"  Up in {self._clock.monotonic() - started:.0f} s. Ctrl-C stops everything and keeps every count.")
            say(*demo.lines(house))
            closing = Closing(house, self._clock)
            await self._watch(house)
            return 0
        except Interrupted:
            say("  stopped before all was up; nothing is lost")
            return 130
        finally:
            for path in self._ready_files:
                path.unlink(missing_ok=True)
            await self._close(house, closing)

    async def _close(self, house: House, closing: Closing | None) -> None:
        """In order; a second Ctrl-C stops waiting for open exchanges, what it cuts short is in the journals."""
        work = asyncio.create_task(closing.run() if closing is not None else house.stop())
        hurry = asyncio.create_task(self._asked_again())
        await asyncio.wait([work, hurry], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            say("  stopping at once; what was under way is in the journals")
            house.kill_gateway()
        hurry.cancel()
        last = await work
        if last:
            say(last)

    async def _watch(self, house: House) -> None:
        """Until asked to stop, or until something essential cannot be kept alive (DependencyUnavailable)."""
        ends = asyncio.create_task(keep_alive(house, lambda: self._write_ready(house)))
        try:
            while True:
                stop, restart = asyncio.create_task(self._stop.wait()), asyncio.create_task(self._restart.wait())
                await asyncio.wait([ends, stop, restart], return_when=asyncio.FIRST_COMPLETED)
                stop.cancel()
                restart.cancel()
                if ends.done():
                    ends.result()
                if self._stop.is_set():
                    return
                self._restart.clear()
                self._restart_error = await house.restart()
                self._restarts += 1
                self._write_ready(house)
        finally:
            ends.cancel()

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise Interrupted
        task.result()

    # --- signals, folder, ready file --------------------------------------------------------------------------------
    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._restart.set)

    def _asked_to_stop(self) -> None:
        self._hurry.set()
        self._stop.set()

    async def _asked_again(self) -> None:
        self._hurry.clear()
        await self._hurry.wait()

    def _take_data_dir(self) -> int:
        """The lock on the data folder. Raises Conflict while another `up` has it."""
        try:
            self._settings.data_dir.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._settings.data_dir / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise DependencyUnavailable(f"the data folder {self._settings.data_dir} cannot be used: {exc.strerror}") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            running = ready.read(self._settings.data_dir / ready.NAME)
            pid = f" (pid {running['pids']['up']})" if running else ""
            raise Conflict(
                f"another `weighbridge up`{pid} runs on {self._settings.data_dir}; stop it, or choose another --data-dir"
            ) from None
        return lock

    def _leave_data_dir(self, lock: int, *, new: bool) -> None:
        """A folder made for a start that failed before anything was in it goes again."""
        os.close(lock)
        if new and [path.name for path in self._settings.data_dir.iterdir()] == ["up.lock"]:
            shutil.rmtree(self._settings.data_dir)

    def _write_ready(self, house: House) -> None:
        content = house.described() | {"restarts": self._restarts, "restart_error": self._restart_error}
        for path in self._ready_files:
            ready.write(path, content)


class Interrupted(Exception):
    """Ctrl-C before all was up."""


def say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
