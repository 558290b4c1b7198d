"""Whole gateway workers over one store in the test's own process: their server, admission, journal and shipper, with real sockets.

`Door` is one worker. `House` has the store, the organization with its limits, and what store and journals say at the end.
"""

import asyncio
import contextlib
import hashlib
import itertools
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from config.gateway import Fixed, GatewayConfig, Route, Timeouts, Upstream, Weighed
from gateway import responses, scripts
from gateway.admission import Admission
from gateway.directory import Directory
from gateway.downstream import DownstreamServer
from gateway.failure import Grace
from gateway.handler import Handler, Policy, World
from gateway.identity import Identities
from gateway.metrics import GatewayMetrics
from gateway.pulse import Pulse
from gateway.recorder import Recorder
from gateway.relay import Relay
from gateway.routing import Router
from gateway.runner import GatewayRunner
from gateway.server_clock import ServerClock
from gateway.shipper import Shipper
from gateway.upstream import UpstreamPool
from metering.model import keys
from metering.model.apikey import KeyRecord
from metering.model.clock import SystemClock
from metering.model.entitlement import Entitlement
from metering.model.ledger import parse
from metering.model.quota import Quota
from metering.store import journal as journals
from metering.store.redis.link import Link
from metering.store.redis.publish import publish_orgs

ORG = "5f0c1a52-7d43-4f0e-9c57-0f6f0f2b9a11"
KEY = "some-key"
SECONDS = 30
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def until(fact: Callable[[], Any]) -> None:
    async with asyncio.timeout(SECONDS):
        while not fact():
            await asyncio.sleep(0.005)


class Door:
    """One worker and its address."""

    address: tuple[str, int]

    def __init__(self, url: str, directory: Path, name: str, routes: tuple[Route, ...], service: str) -> None:
        self.name, self.killed, clock = name, False, SystemClock()
        self.link = Link(url, deadline_seconds=2, scripts=scripts.BODIES, on_up=self._up, on_down=self._down)
        self.clock = ServerClock(clock, self.link)
        self.metrics = GatewayMetrics(CollectorRegistry())
        self.recorder = Recorder(directory, name, self.clock.now_ms)
        self.admission = Admission(
            self.link,
            self.recorder,
            Grace(1, {}, self.clock.now_ms),
            on_epoch=lambda b: self.shipper.epoch_changed(b),
            metrics=self.metrics,
        )
        self.shipper = Shipper(self.link, self.recorder, self.admission.buckets, lambda _: None, self.admission.epochs.learn)
        self.pulse = Pulse(self.link, name, "worker", self.clock, self.admission.epochs, lambda: [self.shipper])
        self.directory = Directory(self.link, now_ms=self.clock.now_ms, monotonic=clock.monotonic)
        config = GatewayConfig(upstreams={"app": Upstream(name="app", targets=(service,))}, routes=routes)
        self.pool = UpstreamPool(config.upstreams, clock)
        relay = Relay(self.pool, clock)
        world = World(
            config=config,
            router=Router(config),
            relay=relay,
            identities=Identities(config, self.directory, relay.trusted, None),
            version="1",
        )
        self.handler = Handler(world, self.directory, self.admission, self.recorder, self.metrics, Policy(), self.clock)
        self.handler.ship = self.shipper.cut_and_send
        server = DownstreamServer(self.handler, config.limits, clock, lambda _: None, responses.plain_error)
        self.runner = GatewayRunner(server, shutdown_timeout=1)

    def _up(self, server: Any) -> None:
        self.admission.link_up(server)

    def _down(self) -> None:
        self.admission.link_down()
        self.shipper.link_down()

    async def open(self) -> "Door":
        self.link.start()
        self.beating = asyncio.ensure_future(self.pulse.run())
        await until(lambda: self.admission.epochs.all_open)
        await self.clock.synchronize()
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.address = self.runner.addresses[0]
        return self

    async def close(self) -> None:
        if self.killed:
            return
        self.killed = True
        await self.runner.cleanup()
        self.pool.close()
        await self.pulse.ship_all()
        await self._end()

    async def kill(self) -> None:
        """As kill -9 leaves it: what was not written is gone, connections are reset, nobody settles."""
        self.killed = True
        self.recorder._turn.clear()
        self.recorder._ends.clear()
        self.recorder._journal._buffer.clear()
        self.recorder.close()
        self.recorder._journal._fd = -1
        self.link.call = lambda *_: None  # type: ignore[method-assign]
        for connection in list(self.runner._downstream.connections):
            connection._exchange = None
            connection.abort()
        await self._end()

    async def _end(self) -> None:
        self.beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.beating
        await self.link.close()
        if not self.killed or self.recorder._journal._fd >= 0:
            self.recorder.close()


@dataclass
class House:
    """`start` doors; `limits(...)` makes the organization's limits what they are from now on."""

    url: str
    store: Redis
    folder: Path
    service: str = ""
    doors: list[Door] = field(default_factory=list)
    script: Any = None  # what the service does now, where a test changes that
    version: int = 0
    _names: "itertools.count[int]" = field(default_factory=itertools.count)

    async def limits(self, *quotas: Quota, **facts: Any) -> None:
        self.version += 1
        entitlement = Entitlement(
            org_id=ORG, slug="acme", name="Acme", version=self.version, plan="p", plan_version=1, quotas=quotas,
            **{"anchor_ms": 0, **facts},
        )  # fmt: skip
        sha256 = hashlib.sha256(KEY.encode()).hexdigest()
        await publish_orgs(self.store, [(entitlement, [(sha256, KeyRecord(key_id=1, org_id=ORG))])])

    async def open(self, **route: Any) -> Door:
        facts = {"charge": {"api": Fixed(1), "bandwidth": Weighed("bytes")}, "timeouts": Timeouts(connect_s=2, idle_s=20), **route}
        door = Door(self.url, self.folder, f"w{next(self._names)}", (Route(id=1, path="/*", upstream="app", **facts),), self.service)
        self.doors.append(door)
        return await door.open()

    async def settled(self) -> None:
        """All that living workers recorded has been taken by the store."""
        for door in self.doors:
            if not door.killed:
                await until(lambda door=door: not door.recorder.tally.open)
                await door.pulse.ship_all()

    async def counter(self, meter: str = "bandwidth") -> int:
        """The sum over all windows: tests have one quota."""
        names = [name async for name in self.store.scan_iter(f"wb:{{*}}:q:{ORG}:{meter}:o:p*")]
        return sum(int(value or 0) for value in (await self.store.mget(names) if names else []))

    async def ledger(self, measure: str = "bandwidth") -> int:
        fields: dict[Any, Any] = await self.store.hgetall(keys.live(keys.bucket_of(ORG)))
        return sum(int(value) for name, value in fields.items() if name != b"!" and parse(name.decode()).measure == measure)

    def in_hand(self) -> int:
        return sum(door.recorder.tally.hands.units for door in self.doors if not door.killed)

    def cut(self) -> float:
        return sum(each.count for door in self.doors for each in door.metrics.cut._sums.values())


def request(method: str = "GET", path: str = "/", *fields: str, version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: api", f"X-API-Key: {KEY}", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def head(self) -> bytes:
        async with asyncio.timeout(SECONDS):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def body(self, head: bytes) -> tuple[bytes, bool]:
        """The body, and whether it came whole, as its framing says."""
        async with asyncio.timeout(SECONDS):
            try:
                if b"transfer-encoding: chunked" in head.lower():
                    return await self._chunks()
                length = next((int(x.split(b":")[1]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), None)
                if length is None:
                    return await self.all_there_is()
                data = b""
                while len(data) < length and (more := await self.reader.read(length - len(data))):
                    data += more
                return data, len(data) == length
            except ConnectionResetError:
                return b"", False

    async def _chunks(self) -> tuple[bytes, bool]:
        data = b""
        try:
            while size := int((await self.reader.readuntil(b"\r\n")).strip(), 16):
                while size:
                    more = await self.reader.read(size)
                    if not more:
                        return data, False
                    data += more
                    size -= len(more)
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
            return data, True
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return data, False

    async def all_there_is(self) -> tuple[bytes, bool]:
        """All bytes until the connection ends; whole only without a reset."""
        data = b""
        try:
            while more := await self.reader.read(65_536):
                data += more
        except ConnectionResetError:
            return data, False
        return data, True


async def connect(door: Door) -> Client:
    return Client(*await asyncio.open_connection(*door.address, limit=2**20))


def records(folder: Path, worker: str) -> list[Any]:
    """What a worker's journal holds, turns taken apart."""
    found: list[Any] = []
    for _, path in journals.segments(folder, worker):
        for payload in journals.read(path):
            record = orjson.loads(payload)
            found += record[1] if record[0] == "M" else [record]
    return found


KILL = signal.SIGKILL
