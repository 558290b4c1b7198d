"""A whole house for the end-to-end tests: `weighbridge up` as a user starts it, real processes and sockets."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from redis.asyncio import Redis

from metering.model import keys
from metering.model.clock import to_ms
from metering.model.period import period_at
from metering.model.quota import Window

GATEWAY = """
upstreams:
  app: {targets: ["http://127.0.0.1:9000"]}
  gone: {targets: ["http://127.0.0.1:9"]}
defaults:
  on_store_failure: closed
  charge: {api: 1, bandwidth: bytes}
routes:
  - {path: /_count, methods: [GET], auth: none, charge: none}
  - {path: "/v1/reports/{id}", charge: {api: 10}}
  - {path: "/pages/{n}", charge: {pages: "header:X-Pages"}}
  - path: /once-a-day/*
    quotas: [{meter: api, per: key, limit: 3, window: day, mode: hard}]
  - {path: /open/*, on_store_failure: open}
  - {path: /grace/*, on_store_failure: {grace: 10}}
  - {path: /down, upstream: gone}
  - {path: /orders/*, methods: [GET], charge: {api: 2}}
  - {path: /v2/*, strip_prefix: /v2, request_headers: {add: {X-Tier: gold}}, response_headers: {add: {X-Served-By: wb}, remove: [Server]}}
  - {path: /*}
"""
METERS = """
meters:
  api: {unit: request}
  bandwidth: {unit: byte, show: GB, report: MB}
  pages: {unit: page}
"""
PLANS = """
issuer: stripe
plans:
  free:
    price: {usd: "0"}
    quotas: [{meter: api, limit: 300, mode: hard}]
  pro:
    price: {usd: "49.00"}
    quotas: [{meter: api, limit: 1_000, mode: overage}, {meter: bandwidth, limit: 100 kB, mode: overage}]
    prices: {api: {each: "0.0003"}, bandwidth: {each: "0.05"}}
  wide:
    price: {usd: "0"}
    quotas: [{meter: api, limit: 1_000_000, mode: hard}]
"""


@dataclass
class Org:
    id: str
    slug: str
    api_key: str


@dataclass
class House:
    """A running `weighbridge up` and the ways to look into it."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    config_dir: Path
    ready: dict[str, Any]
    log: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def gateway(self) -> str:
        return str(self.ready["gateway"])

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "weighbridge", *arguments]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise AssertionError(f"{arguments} failed: {done.stderr}{done.stdout}")
        return done

    async def run(self, *arguments: str) -> Any:
        """A command with --format json, its output read."""
        done = await asyncio.to_thread(self.cli, *arguments, "--format", "json")
        return json.loads(done.stdout)

    async def org(self, name: str, plan: str) -> Org:
        made = await self.run("org", "create", name, "--plan", plan)
        return Org(made["id"], made["slug"], made["api_key"])

    async def flush(self) -> None:
        await asyncio.to_thread(self.cli, "flush")

    def pids(self, role: str) -> list[int]:
        found = json.loads((self.data_dir / "ready.json").read_text())["pids"][role]
        return found if isinstance(found, list) else [found]

    async def ledger(self, org: Org, service: str = "api") -> tuple[int, int]:
        """(charged, returned) in Postgres."""
        query = "SELECT coalesce(sum(quantity), 0), coalesce(sum(returned), 0) FROM billing.usage_events WHERE org_id = $1 AND service = $2"
        async with self.postgres() as connection:
            row = await connection.fetchrow(query, org.id, service)
        return int(row[0]), int(row[1])

    async def counter(self, org: Org, meter: str = "api") -> int:
        """The live counter of the organization's period."""
        async with self.postgres() as connection:
            anchor = await connection.fetchval("SELECT anchor FROM billing.subscriptions WHERE org_id = $1", org.id)
        client = Redis.from_url(self.ready["redis"])
        start, _ = period_at(to_ms(anchor), int(time.time() * 1000))
        value = await client.get(keys.counter(org.id, meter, "o", Window.PERIOD, start))
        await client.aclose()
        return int(value or 0)

    @contextlib.asynccontextmanager
    async def postgres(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.ready["database"])
        try:
            yield connection
        finally:
            await connection.close()

    async def served(self) -> dict[str, int]:
        """org id -> calls that the sample service saw."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.gateway}/_count") as answer:
            return dict((await answer.json())["by_org"])


def start(folder: Path, **extra: str) -> House:
    """Start a house on free ports over its own folder."""
    config, data = folder / "config", folder / "data"
    if not config.exists():
        config.mkdir(parents=True)
        for name, text in (("gateway", GATEWAY), ("meters", METERS), ("plans", PLANS)):
            (config / f"{name}.yaml").write_text(text)
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "WEIGHBRIDGE_CONFIG": str(config), "WEIGHBRIDGE_DATA_DIR": str(data),
        "WEIGHBRIDGE_PORT": "0", "WEIGHBRIDGE_CONTROL_PORT": "0", "WEIGHBRIDGE_METRICS_PORT": "0", "WEIGHBRIDGE_WORKERS": "2",
        "WEIGHBRIDGE_FLUSH_INTERVAL": "3600", "WEIGHBRIDGE_REPORT_INTERVAL": "86400", "WEIGHBRIDGE_STORE_DEADLINE_MS": "2000", **extra,
    }  # fmt: skip
    log = folder / "up.log"
    ready = data / "ready.json"
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", "weighbridge", "up"], env=environ, stdout=out, stderr=out, cwd=folder)
    deadline = time.monotonic() + 90
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(log.read_text())
        time.sleep(0.1)
    return House(process, data, config, json.loads(ready.read_text()), log, environ)


def stop(house: House) -> str:
    """Ctrl-C; returns what `up` said."""
    house.process.send_signal(signal.SIGINT)
    house.process.wait(timeout=60)
    return house.log.read_text()


@contextlib.contextmanager
def housed(places: pytest.TempPathFactory, *yaml: str, **extra: str) -> Iterator[House]:
    """A house in a folder of its own. `yaml`: its gateway.yaml, meters.yaml and plans.yaml; without them the demo's."""
    with housed_in(places.mktemp("house"), *yaml, **extra) as running:
        yield running


@contextlib.contextmanager
def housed_in(folder: Path, *yaml: str, **extra: str) -> Iterator[House]:
    """The same in this folder."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    for name, text in zip(("gateway", "meters", "plans"), yaml, strict=False):
        (folder / "config").mkdir(exist_ok=True)
        (folder / "config" / f"{name}.yaml").write_text(text)
    running = start(folder, **extra)
    try:
        yield running
    finally:
        stop(running)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with housed(tmp_path_factory) as running:
        yield running
