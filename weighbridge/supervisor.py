"""The gateway's supervisor: owns the listening sockets, keeps the workers alive, hands them new configurations.

A connection is never refused while it lives: sockets outlive workers, a reload reaches running workers, a rolling
restart has the new worker ready before the old one drains. SIGTERM drains and ends, SIGHUP replaces the workers.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.multiprocess import mark_process_dead
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from config.files import read_set
from config.load import parse
from config.settings import Settings
from config.watch import watch
from gateway.adoption import Adopter
from gateway.channel import listen as listen_to_changes
from metering.model.clock import Clock
from metering.model.errors import DependencyUnavailable, WeighbridgeError

from .configuration import Accepted, Configurations
from .metrics import SupervisorMetrics
from .metrics_page import MetricsPage
from .sidecar import Sidecar
from .sockets import check_free, listen
from .workers import Launch, Workers

log = logging.getLogger("weighbridge.supervisor")

_STORE_ANSWERS_SECONDS = 1.0
_SHIP_SECONDS = 3.0
_AGAIN_SECONDS = 0.5
_LEAST_STORE_VERSION = (7, 0)


class Supervisor:
    """One gateway host. `environ` is what the workers get; PROMETHEUS_MULTIPROC_DIR is set in it."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], clock: Clock) -> None:
        assert settings.redis_url is not None  # gateway_host says so in a sentence
        self._settings, self._environ, self._clock, self._redis_url = settings, environ, clock, settings.redis_url
        self._redis = Redis.from_url(
            settings.redis_url, socket_timeout=_STORE_ANSWERS_SECONDS, socket_connect_timeout=_STORE_ANSWERS_SECONDS
        )
        self._blocking = Redis.from_url(settings.redis_url)
        self._metrics_dir = Path(environ["PROMETHEUS_MULTIPROC_DIR"])
        self._metrics = SupervisorMetrics()
        self._configurations = Configurations(settings.config_dir, settings.data_dir, settings.upstream)
        self._sidecar: Sidecar | None = None
        self._rolls, self._roll_error = 0, ""
        self._background: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises PortTaken, ConfigFaulty, DependencyUnavailable, WorkersFail."""
        settings = self._settings
        self._accepted = self._first_configuration()
        self._alone = settings.database_url is None and self._accepted.config.orgs is not None
        name = f"supervisor-{os.uname().nodename}-{os.getpid()}-{self._clock.now_ms():x}"
        self._adopter = Adopter(self._redis_url, settings.data_dir / "journal", self._clock, name, store_rows=settings.store_rows)
        check_free(settings.metrics_host, settings.metrics_port)
        sockets = listen(settings.host, settings.port, settings.workers)
        await self._check_store()
        page = MetricsPage(self._metrics_dir, self._readiness)
        self._workers = Workers(
            Launch(data_dir=settings.data_dir, environ=self._environ, drain_seconds=settings.drain_seconds),
            sockets, self._accepted.path, self._clock, on_death=self._on_death, on_restart=self._metrics.worker_restarts.inc,
        )  # fmt: skip
        self._listen_to_signals()
        try:
            await page.start(settings.metrics_host, settings.metrics_port)
            await self._start_background()
            await self._workers.start()
            await self._until_stopped()
        finally:
            await self._workers.drain()
            with contextlib.suppress(TimeoutError):  # what the dead left; the store may be away, the journals stay
                await asyncio.wait_for(self._adopter.pulse.ship_all(), _SHIP_SECONDS)
            await self._end_background()
            await page.stop()
            for listener in sockets:
                listener.close()

    # --- start ------------------------------------------------------------------------------------------------------
    def _first_configuration(self) -> Accepted:
        accepted = self._configurations.first()
        self._metrics.config_last_apply_success.set(0 if accepted.faults else 1)
        if accepted.faults:
            log.error("the configuration is faulty, the last good one runs:\n%s", "\n".join(f"  {fault}" for fault in accepted.faults))
        self._watched_version = accepted.config.version if not accepted.faults else read_set(self._settings.config_dir).version
        return accepted

    async def _check_store(self) -> None:
        """A store that may evict counts, or is too old, is refused; one that is away is a matter for failure rules."""
        try:
            info = await self._redis.info("server")
            version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
            if version < _LEAST_STORE_VERSION:
                raise DependencyUnavailable(f"the store is Redis {info['redis_version']}; Weighbridge needs Redis 7.0 or Valkey")
            policy = (await self._redis.config_get("maxmemory-policy")).get("maxmemory-policy", "noeviction")
            if policy != "noeviction":
                raise DependencyUnavailable(f"the store evicts keys when memory is short (maxmemory-policy {policy}); set it to noeviction")
        except ResponseError as exc:
            log.warning("the store does not show its settings (%s); it must run with maxmemory-policy noeviction", exc)
        except RedisError as exc:
            log.warning("the store does not answer (%s); failure rules decide until it does", exc)

    async def _start_background(self) -> None:
        if self._alone:
            self._sidecar = Sidecar(self._blocking, self._clock, self._settings.data_dir)
            self._spawn(self._sidecar.run())
            self._spawn(self._stand_alone())
        self._spawn(self._adopter.run())
        self._spawn(listen_to_changes(self._redis_url, self._heard, lambda: None))
        self._spawn(self._watch())

    async def _stand_alone(self) -> None:
        """Begin, restore and open epochs, in place of an aggregator."""
        from .standalone import Standalone  # with all of the aggregator's recovery, which a full house runs elsewhere

        journal_dir, dropped = self._settings.data_dir / "journal", self._metrics.rows_dropped.inc
        standalone = Standalone(self._redis, journal_dir, self._clock, self._republish, dropped)
        await standalone.begin()
        await self._publish()
        await standalone.run()

    async def _republish(self) -> None:
        """Raises RedisError, so that recovery tries again."""
        if self._sidecar is not None:
            await self._sidecar.publish(self._accepted.config)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._background.append(asyncio.create_task(work))

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self._roll()))

    # --- while it runs ----------------------------------------------------------------------------------------------
    async def _until_stopped(self) -> None:
        stop = asyncio.create_task(self._stop.wait())
        ends: list[asyncio.Future[Any]] = [stop, self._workers.failed, *self._background]
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        for end in done:
            end.result()  # a background task that ended by an error ends the gateway with it

    def _heard(self, kind: str, name: str) -> None:
        if kind == "ship":
            self._adopter.pulse.ship(name)

    async def _on_death(self, pid: int, journal: str | None) -> None:
        mark_process_dead(pid, str(self._metrics_dir))  # type: ignore[no-untyped-call]
        if journal is not None:
            await self._adopter.adopt(journal)

    async def _watch(self) -> None:
        async for files in watch(self._settings.config_dir, self._watched_version):
            parsed = parse(files)
            if parsed.config is None:
                self._metrics.config_last_apply_success.set(0)
                log.error("the changed configuration is faulty, nothing changes:\n%s", "\n".join(f"  {fault}" for fault in parsed.faults))
                continue
            try:
                self._accepted = self._configurations.accept(files, parsed.config)
            except OSError as exc:
                self._metrics.config_last_apply_success.set(0)
                log.error("the changed configuration cannot be kept in %s (%s), nothing changes", self._settings.data_dir, exc)
                continue
            refusals = await self._workers.push(self._accepted.path)
            await self._publish()
            self._metrics.config_last_apply_success.set(0 if refusals else 1)
            log.info("configuration %s applied%s", parsed.config.version, f"; {'; '.join(refusals)}" if refusals else "")

    async def _publish(self) -> None:
        try:
            await self._republish()
        except RedisError as exc:
            log.warning("the store is away (%s); misses will be answered when it is back", exc)

    async def _roll(self) -> None:
        try:
            await self._workers.roll()
            self._roll_error = ""
            log.info("workers replaced")
        except WeighbridgeError as exc:
            self._roll_error = str(exc)
            log.error("rolling restart stopped: %s", exc)
        self._rolls += 1

    async def _readiness(self) -> dict[str, Any]:
        try:
            store = bool(await self._redis.ping())
        except RedisError:
            store = False
        workers = [{"slot": w.slot, "pid": w.process.pid, "name": w.name, "ready": w.ready.is_set()} for w in self._workers.living()]
        return {
            "ready": store and self._workers.all_ready,
            "store": store,
            "config_version": self._accepted.config.version,
            "workers": workers,
            "rolls": self._rolls,
            "roll_error": self._roll_error,
        }

    async def _end_background(self) -> None:
        left = set(self._background)
        while left:  # once is not enough: a driver's timeout that ends in the same moment may swallow a cancellation
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)
        with contextlib.suppress(RedisError):
            await self._redis.aclose()
            await self._blocking.aclose()
