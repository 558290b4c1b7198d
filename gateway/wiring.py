"""One gateway worker, put together. `python -m gateway` runs it; the supervisor starts it (weighbridge/workers.py)."""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

from config import secret_files
from config.files import FileSet
from config.filled import filled
from config.gateway import GatewayConfig, JwtIdentity, Upstream, with_targets
from config.gateway_read import gateway_of
from config.settings import Settings
from metering.model.clock import SystemClock
from metering.model.errors import ConfigFaulty, DependencyUnavailable
from metering.store import journal as journals
from metering.store.redis.link import Link, Server

from . import compiled, pseudonym, responses, scripts
from .admission import Admission
from .bypasses import Bypasses
from .channel import Ear, listen
from .credentials import Credentials
from .directory import Directory
from .downstream import DownstreamServer
from .failure import Grace
from .handler import Handler, Policy, World
from .identity import Identities
from .jwks import KeySets
from .listeners import Listeners
from .metrics import GatewayMetrics
from .pulse import Pulse
from .recorder import Recorder, grace_used
from .relay import Relay
from .routing import Router
from .runner import GatewayRunner
from .server_clock import ServerClock
from .shipper import Shipper
from .tokens import Tokens, open_tokens
from .upstream import UpstreamPool

log = logging.getLogger("weighbridge.gateway")
_SHIP_AT_MOST_SECONDS = 10.0
_GAUGES_SECONDS = 1.0
_BYPASSES_EVERY = 3  # gauges; the message of a change is only faster


@dataclass(frozen=True, kw_only=True)
class Start:
    """What the supervisor tells a worker on its command line."""

    socket_fd: int
    control_fd: int | None
    slot: int
    workers: int
    data_dir: Path
    config: Path
    other_fds: Mapping[int, int] = field(default_factory=dict)  # slot -> descriptor


def read_config(path: Path, upstream: str | None) -> tuple[GatewayConfig, str]:
    """The gateway's part of an accepted set, and its version. Raises ConfigFaulty."""
    files = FileSet.from_json(path.read_text())
    gateway = gateway_of(files)
    return (with_targets(gateway, [upstream]) if upstream else gateway), files.version


class Worker:
    """The parts of one worker and the order in which they start and end."""

    def __init__(self, start: Start, settings: Settings, secrets_: Callable[[str], str | None]) -> None:
        """`secrets_` gives an environment variable that the configuration names as the place of a secret."""
        if settings.redis_url is None:
            raise DependencyUnavailable("REDIS_URL is not set: a gateway counts in Redis or Valkey")
        self._start, self._settings, self._secrets = start, settings, secrets_
        self._redis_url = settings.redis_url
        self.name = f"w{start.slot}-{secrets.token_hex(6)}"
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []
        self._metrics = GatewayMetrics(REGISTRY)
        self._build()

    def _build(self) -> None:
        settings, start = self._settings, self._start
        journal_dir = start.data_dir / "journal"
        deadline = settings.store_deadline_ms / 1000
        self._link = Link(
            self._redis_url, deadline_seconds=deadline, scripts=scripts.BODIES, on_up=self._store_up, on_down=self._store_down
        )
        self.clock = ServerClock(SystemClock(), self._link)
        gone = [w for w in journals.workers(journal_dir) if w.startswith(f"w{start.slot}-")]
        grace = Grace(start.workers, grace_used(journal_dir, gone), self.clock.now_ms)
        self._recorder = Recorder(journal_dir, self.name, self.clock.now_ms)
        self._admission = Admission(self._link, self._recorder, grace, on_epoch=self._epoch_changed, metrics=self._metrics)
        self._shipper = Shipper(
            self._link, self._recorder, self._admission.buckets, self._synced, self._admission.epochs.learn, settings.store_rows
        )
        self.pulse = Pulse(
            self._link, self.name, "worker", self.clock, self._admission.epochs, lambda: [self._shipper],
            lambda: self._handler.world.config.routes,
        )  # fmt: skip
        self._directory = Directory(
            self._link, now_ms=self.clock.now_ms, monotonic=self.clock.monotonic, most=settings.remembered_organizations
        )
        self._ear = Ear(self._directory, self._admission)
        self._bypasses = Bypasses(self._link, lambda: self._handler.forget_charges())
        self._key_sets = KeySets(self.clock.monotonic)
        self._tokens: Tokens | None = None
        self._token_secrets: tuple[str | None, ...] = ()
        config, version = read_config(start.config, settings.upstream)
        self._via = pseudonym.via(start.data_dir / "gateway")
        self._pool = self._upstream_pool(config)
        policy = Policy(
            upgrade_url=settings.upgrade_url,
            signing_secret=settings.signing_secret.encode() if settings.signing_secret else None,
        )
        self._handler = Handler(
            self._world(config, version), self._directory, self._admission, self._recorder, self._metrics, policy, self.clock
        )
        self._handler.bypasses, self._handler.ship = self._bypasses, self._shipper.cut_and_send
        self._server = DownstreamServer(self._handler, config.limits, SystemClock(), self._rejected, responses.plain_error)

    def _world(self, config: GatewayConfig, version: str) -> World:
        """Raises ConfigFaulty where a secret that it names is missing; then nothing has changed."""
        config = filled(config, self._secrets)
        trusted = [str(network) for network in self._settings.trusted_proxies]
        credentials = Credentials(config.identity)
        relay = Relay(
            self._pool, SystemClock(), trusted_proxies=trusted, credential_headers=credentials.headers,
            proxied_headers=credentials.proxied, via=self._via,
        )  # fmt: skip
        identities = Identities(config, self._directory, relay.trusted, self._tokens_for(config))
        self._metrics.config_version.set(int(version[:12], 16))
        return World(config=config, router=Router(config), relay=relay, identities=identities, version=version)

    def _upstream_pool(self, config: GatewayConfig) -> UpstreamPool:
        metrics = self._metrics
        try:
            return UpstreamPool(
                config.upstreams,
                SystemClock(),
                on_retry=lambda upstream: metrics.upstream_retries.add(1, upstream),
                on_ejection=self._ejected,
                via=self._via,
            )
        except ValueError as error:
            raise ConfigFaulty(f"upstreams: {error}") from error

    def _ejected(self, upstream: str, target: str) -> None:
        log.warning("target %s of upstream %s is left out for a while: its calls fail", target, upstream)
        self._metrics.upstream_ejections.add(1, upstream)

    def _tokens_for(self, config: GatewayConfig) -> Tokens | None:
        """Those of before where nothing changed, no secret either: what was verified stays verified."""
        ways = tuple(way for way in config.identity if isinstance(way, JwtIdentity))
        held = tuple(self._secrets(way.secret_env) for way in ways if way.secret_env)
        if self._tokens is None or self._tokens.ways != ways or self._token_secrets != held:
            self._tokens = open_tokens(ways, self._secrets, self._key_sets, self._directory)
            self._token_secrets = held
        return self._tokens if ways else None

    def _rejected(self, reason: str) -> None:
        self._metrics.rejected.add(1, reason)

    # --- the store -------------------------------------------------------------------------------------------------
    def _store_up(self, server: Server) -> None:
        log.info("the store answers: run %s, version %s", server.run_id[:8], server.version)
        self._metrics.store_up.set(1)
        self._admission.link_up(server)
        self._bypasses.ask()

    def _store_down(self) -> None:
        log.error("the store is away (%s); failure rules decide", self._link.last_error or "connection closed")
        self._metrics.store_up.set(0)
        self._admission.link_down()
        self._shipper.link_down()

    def _epoch_changed(self, bucket: int) -> None:
        self._shipper.epoch_changed(bucket)
        self._ear.look()

    def _synced(self, bucket: int) -> None:
        self.pulse.synced(self._admission.buckets[bucket], self._shipper.replayed(bucket))

    # --- its life --------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Until SIGTERM: serve, then drain, ship, end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        self._metrics.store_up.set(0)
        self._metrics.compiled.set(int(compiled.in_use()))
        self._link.start()
        for work in (
            self.pulse.run(),
            listen(self._redis_url, self._heard, self._ear.gap),
            self._measure(),
            self._pool.probe(),
        ):
            self._tasks.append(loop.create_task(work))
        await self._first_contact()
        runner = GatewayRunner(self._server, shutdown_timeout=self._settings.drain_seconds)
        await runner.setup()
        listeners = Listeners(runner, self._start.socket_fd, self._start.other_fds)
        await listeners.open()
        self._tasks.append(loop.create_task(self._obey(listeners)))
        await self._until_stopped()
        await listeners.leave()
        await runner.cleanup()
        await self._end()

    async def _first_contact(self) -> None:
        """Give the store a moment before the first call; without it, rules decide from the first call on."""
        for _ in range(50):
            if self._link.up and self._admission.epochs.all_open:
                await self.clock.synchronize()
                return
            await asyncio.sleep(0.02)

    async def _until_stopped(self) -> None:
        stop = asyncio.ensure_future(self._stopping.wait())
        done, _ = await asyncio.wait([stop, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        for task in done:
            if task is not stop:
                task.result()  # a background task never ends by itself: its error ends the worker, loudly

    async def _end(self) -> None:
        try:
            await asyncio.wait_for(self.pulse.ship_all(), _SHIP_AT_MOST_SECONDS)
        except TimeoutError:
            log.error("the store does not take the last counts; they stay in the journal and are shipped by whoever adopts it")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._metrics.gather()
        self.pulse.say_goodbye()
        await asyncio.sleep(0.01)
        await self._link.close()
        self._recorder.close()

    def _heard(self, kind: str, name: str) -> None:
        if kind == "ship":
            self.pulse.ship(name)
        elif kind == "bypass":
            self._bypasses.ask()
        else:
            self._ear.heard(kind, name)

    async def _measure(self) -> None:
        """Gauges that nobody counts by the call."""
        directory = self._start.data_dir / "journal"
        for rounds in itertools.count():
            if rounds % _BYPASSES_EVERY == 0:
                self._bypasses.ask()
            for scope, active in self._bypasses.active(self.clock.now_ms()).items():
                self._metrics.bypass_active.labels(scope.value).set(active)
            self._metrics.gather()
            if self._tokens is not None:
                self._tokens.tend()
            self._metrics.journal_free.set(shutil.disk_usage(directory).free)
            self._metrics.journal_oldest_age.set(self._shipper.oldest_age_seconds())
            self._metrics.full_buckets.set(self._shipper.full_buckets)
            self._metrics.in_flight.labels("http").set(self._server.in_flight)
            for upstream in self._handler.world.config.upstreams:
                for target in self._pool.targets(upstream):
                    self._metrics.upstream_healthy.labels(upstream, target.url).set(0 if target.is_down else 1)
            await asyncio.sleep(_GAUGES_SECONDS)

    def _forget_health(self, before: Mapping[str, Upstream], config: GatewayConfig) -> None:
        """A target that is gone is no alarm: its gauge, which cannot be taken off a page of several processes, stays at 1."""
        for name, upstream in before.items():
            for url in set(upstream.targets) - set(config.upstreams[name].targets if name in config.upstreams else ()):
                self._metrics.upstream_healthy.labels(name, url).set(1)

    # --- the supervisor --------------------------------------------------------------------------------------------
    async def _obey(self, listeners: Listeners) -> None:
        """One JSON object a line: what the supervisor wants, and what came of it."""
        if self._start.control_fd is None:
            await asyncio.Event().wait()
            return
        reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=self._start.control_fd))
        _tell(writer, {"op": "ready", "worker": self.name, "pid": os.getpid()})
        while line := await reader.readline():
            order = json.loads(line)
            if order["op"] == "config":
                _tell(writer, self._reconfigure(Path(order["path"])))
            elif order["op"] == "cover" and not self._stopping.is_set():
                await listeners.cover(order["slots"])
            elif order["op"] == "drain":
                self._stopping.set()
        self._stopping.set()  # the supervisor is gone
        await asyncio.Event().wait()

    def _reconfigure(self, path: Path) -> dict[str, Any]:
        """Take a new configuration for the calls to come; those under way keep theirs. One that cannot be taken changes nothing."""
        before = self._handler.world.config.upstreams
        try:
            config, version = read_config(path, self._settings.upstream)
            self._pool.update(config.upstreams)
            try:
                world = self._world(config, version)
            except Exception:
                self._pool.update(before)
                raise
        except (ConfigFaulty, OSError, ValueError) as exc:
            return {"op": "config", "ok": False, "error": str(exc)}
        self._forget_health(before, config)
        self._handler.world = world
        self._server.limits = config.limits
        self._directory.forget_charges()
        return {"op": "config", "ok": True, "version": version}


def _tell(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(json.dumps(message).encode() + b"\n")


async def run_worker(start: Start, environ: Mapping[str, str]) -> None:
    """Run one worker until it is told to stop."""
    began = time.monotonic()
    worker = Worker(start, Settings.load(environ, bills=False), secret_files.reader(environ))
    log.info("worker %s starts (%.0f ms to load)", worker.name, (time.monotonic() - began) * 1000)
    with contextlib.suppress(asyncio.CancelledError):
        await worker.run()
