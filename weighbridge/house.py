"""The processes of a running system, where they listen, and how they start, restart and stop."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import asyncpg
from redis.asyncio import Redis

from billing.stripe import installation
from billing.stripe.client import StripeApi
from billing.stripe.endpoint import register
from config.load import Configuration
from config.secret_files import instead
from config.settings import Settings
from metering.model import keys
from metering.model.clock import Clock
from metering.model.errors import DependencyUnavailable
from metering.store.postgres import SERVICE, open_pool, redacted

from . import database, demo
from .first_minute import part
from .operator import who
from .ports import Ports
from .probes import answers_200, json_of, listens
from .processes import Child
from .stores import Stores, without_password

_READY_SECONDS = 60.0
_POLL_SECONDS = 0.05
_PYTHON = [sys.executable, "-m"]
_DEMO_REPORT_SECONDS = "60"
_SANDBOX_KEY = "sk_test_sandbox"

Say = Callable[..., None]


class House:
    """`children` by role, in the order of the ready file."""

    def __init__(
        self, settings: Settings, environ: Mapping[str, str], ports: Ports, stores: Stores, config: Configuration, clock: Clock
    ) -> None:
        self.settings, self.ports, self.stores, self.config, self.clock = settings, ports, stores, config, clock
        self._given = environ
        self.sandboxed = settings.billing_enabled and settings.uses_sandbox and settings.stripe_api_base is None
        self.demo: list[demo.DemoOrg] = []
        self.worker_pids: list[int] = []
        self._webhook_secret = ""  # of the sandbox's endpoint, new at each start
        self.requests_at_start = 0
        self.children: dict[str, Child] = {}

    # --- where things are -------------------------------------------------------------------------------------------
    def _url(self, host: str, port: int, path: str = "") -> str:
        reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
        return f"http://{reached}:{port}{path}"

    @property
    def gateway_url(self) -> str:
        return self._url(self.settings.host, self.ports.gateway)

    @property
    def control_url(self) -> str:
        return self._url(self.settings.control_host, self.ports.control)

    @property
    def metrics_url(self) -> str:
        return self._url(self.settings.metrics_host, self.ports.metrics, "/metrics")

    @property
    def speaks_to_stripe(self) -> bool:
        return self.settings.billing_enabled and (self.sandboxed or self.settings.stripe_api_key is not None)

    @property
    def stripe_environ(self) -> dict[str, str]:
        """What points a process at the sandbox; nothing when an account of the operator's own is used."""
        if not self.sandboxed:
            return {}
        found = {"STRIPE_API_BASE": f"http://127.0.0.1:{self.ports.sandbox}", "STRIPE_API_KEY": _SANDBOX_KEY}
        return found | ({"STRIPE_WEBHOOK_SECRET": self._webhook_secret} if self._webhook_secret else {})

    def environ(self) -> dict[str, str]:
        """What every child gets."""
        settings, ports = self.settings, self.ports
        own = {
            "DATABASE_URL": self.stores.database_url or "",
            "REDIS_URL": self.stores.redis_url or "",
            "WEIGHBRIDGE_DATA_DIR": str(settings.data_dir),
            "WEIGHBRIDGE_CONFIG": str(settings.config_dir),
            "WEIGHBRIDGE_PORT": str(ports.gateway),
            "WEIGHBRIDGE_CONTROL_PORT": str(ports.control),
            "WEIGHBRIDGE_METRICS_PORT": str(ports.metrics),
            "PROMETHEUS_MULTIPROC_DIR": str(settings.data_dir / "metrics"),
            "UPSTREAM": settings.upstream or f"http://127.0.0.1:{ports.sample}",
            **self.stripe_environ,
        }
        return instead({"WEIGHBRIDGE_REPORT_INTERVAL": _DEMO_REPORT_SECONDS, **self._given}, own)

    def described(self) -> dict[str, Any]:
        """The ready file."""
        pids: dict[str, Any] = {"up": os.getpid()}
        pids |= {title: server.pid for title, server in (("postgres", self.stores.postgres), ("valkey", self.stores.valkey)) if server}
        pids |= {role: child.pid for role, child in self.children.items()}
        return {
            "gateway": self.gateway_url,
            "control": self.control_url,
            "metrics": self.metrics_url,
            "stripe": self.stripe_environ.get("STRIPE_API_BASE"),
            "stripe_environ": self.stripe_environ,
            "database": self.stores.database_url,
            "redis": self.stores.redis_url,
            "config": str(self.settings.config_dir),
            "orgs": [{"id": o.id, "slug": o.slug, "plan": o.plan, "api_key": o.api_key} for o in self.demo],
            "pids": pids | {"worker": self.worker_pids},
        }

    # --- start ------------------------------------------------------------------------------------------------------
    async def start(self, say: Say) -> None:
        """Everything, in order. Raises DependencyUnavailable and what the servers' own checks raise."""
        _empty(self.settings.data_dir / "metrics")
        first = asyncio.create_task(self._start_sample())
        try:
            await self.stores.start()
            await self._check_side_of_stripe()
            self._say_stores(say)
            await self._start_sandbox()
            await self._start("gateway", "weighbridge.gateway_host")  # it needs no database
            await self._prepare_database()
            await first
        finally:
            await asyncio.gather(first, return_exceptions=True)
        await self._hear_from_sandbox()
        await self._start("aggregator", "aggregator")
        await self._start("control", "billing.api")
        await self._say_loose_ends(say)
        await self._until("gateway", self._gateway_ready)
        say(part("gateway", f"{self.gateway_url}   {self.settings.workers} workers"))
        await self._until("control", lambda: answers_200(f"{self.control_url}/readyz"))
        say(part("control", f"{self.control_url}   metrics {self.metrics_url}"))

    @contextlib.asynccontextmanager
    async def _database(self) -> AsyncIterator[asyncpg.Pool]:
        pool = await open_pool(self.stores.database_url or "", application="weighbridge-up", max_size=2, role=SERVICE, actor=who())
        try:
            yield pool
        finally:
            await pool.close()

    @property
    def _where_the_database_is(self) -> str:
        return str(self.settings.data_dir) if self.stores.postgres else redacted(self.stores.database_url or "")

    async def _check_side_of_stripe(self) -> None:
        """Before anything is changed or started that a refusal would have to undo. Raises OtherSideOfStripe."""
        if self.speaks_to_stripe:
            async with self._database() as pool:
                await installation.check(pool, self.settings.stripe_mode, where=self._where_the_database_is)

    async def _prepare_database(self) -> None:
        settings, redis_url = self.settings, self.stores.redis_url or ""
        await database.prepare(settings, self.config, self.stores.database_url or "", redis_url, self.clock, by=who())
        async with self._database() as pool:
            if self.speaks_to_stripe:
                await installation.stamp(pool, settings.stripe_mode, self.clock, where=self._where_the_database_is)
            self.requests_at_start = await database.requests_counted(pool)
            async with database.billing_over(settings, self.config, pool, redis_url, self.clock) as billing:
                self.demo = await demo.prepare(billing, self.config, settings.data_dir / "demo.env", settings.billing_currency)

    async def _start(self, role: str, module: str, *arguments: str) -> None:
        child = self.children[role] = Child(role, [*_PYTHON, module, *arguments], self.environ())
        await child.start()

    async def _start_sample(self) -> None:
        """It waits for no store."""
        if self.settings.upstream is None:
            await self._start("sample", "weighbridge.sample", "--port", str(self.ports.sample))

    async def _start_sandbox(self) -> None:
        if self.sandboxed:
            state = self.settings.data_dir / "stripe-sandbox.sqlite"
            await self._start("stripe", "billing.stripe.sandbox", "--port", str(self.ports.sandbox), "--state", str(state))

    async def _hear_from_sandbox(self) -> None:
        """Its events come to control, as an account's own would."""
        if self.sandboxed:
            await self._until("stripe", lambda: listens(self.ports.sandbox))
            stripe = StripeApi(api_key=_SANDBOX_KEY, api_base=f"http://127.0.0.1:{self.ports.sandbox}")
            try:
                self._webhook_secret = await register(stripe, f"{self.control_url}/webhooks/stripe", self.clock)
            finally:
                await stripe.close()

    def _say_stores(self, say: Say) -> None:
        postgres = "embedded, socket only" if self.stores.postgres else redacted(self.stores.database_url or "")
        valkey = "embedded" if self.stores.valkey else without_password(self.stores.redis_url or "")
        say(part("postgres", postgres), part("valkey", valkey))

    async def _say_loose_ends(self, say: Say) -> None:
        if self.sandboxed:
            await self._until("stripe", lambda: listens(self.ports.sandbox))
            say(f"  {'stripe':<9} SANDBOX, no money moves. STRIPE_API_KEY=sk_test_… uses your account")
        elif not self.settings.billing_enabled:
            say(part("stripe", "BILLING_ENABLED=false: metered and limited, billed nothing", word="off"))
        else:
            say(part("stripe", self.settings.stripe_api_base or "your account"))
        if self.settings.upstream is None:
            await self._until("sample", lambda: answers_200(f"http://127.0.0.1:{self.ports.sample}/health"))
            say(part("service", f"sample on 127.0.0.1:{self.ports.sample} (UPSTREAM=http://… puts yours here)"))
        else:
            say(part("service", self.settings.upstream, word="yours"))

    async def _until(self, role: str, ready: Callable[[], Awaitable[bool]]) -> None:
        deadline = self.clock.monotonic() + _READY_SECONDS
        while not await ready():
            child = self.children[role]
            if not child.alive:
                await child.wait()
                raise DependencyUnavailable(f"{role} did not start: {child.last_line or f'exit code {child.exit_code}'}")
            if self.clock.monotonic() > deadline:
                raise DependencyUnavailable(f"{role} was not ready after {_READY_SECONDS:.0f} s; its output above says why")
            await asyncio.sleep(_POLL_SECONDS)

    async def _gateway_ready(self) -> bool:
        state = await self.gateway_state()
        if state is None or not state["ready"]:
            return False
        self.worker_pids = [worker["pid"] for worker in state["workers"]]
        return await self._buckets_open()

    async def gateway_state(self) -> dict[str, Any] | None:
        """What the supervisor's /readyz says, or None while it does not answer."""
        return await json_of(self._url(self.settings.metrics_host, self.ports.metrics, "/readyz"))

    async def _buckets_open(self) -> bool:
        """Whether recovery has opened every bucket, so that the first call is decided by its quota and not by a rule."""
        async with Redis.from_url(self.stores.redis_url or "") as client:
            pipe = client.pipeline(transaction=False)
            for bucket in range(keys.BUCKETS):
                pipe.get(keys.epoch(bucket))
            epochs = await pipe.execute()
        return all(epoch and not epoch.endswith(b" wait") for epoch in epochs)

    # --- while it runs, and after -----------------------------------------------------------------------------------
    async def restart(self) -> str:
        """New gateway workers one by one, then a new aggregator and control. Returns why it stopped half-way, or nothing."""
        before = await self.gateway_state() or {"rolls": 0}
        self.children["gateway"].send(signal.SIGHUP)
        deadline = self.clock.monotonic() + _READY_SECONDS + self.settings.drain_seconds * self.settings.workers
        while (state := await self.gateway_state()) is None or state["rolls"] <= before["rolls"]:
            if self.clock.monotonic() > deadline:
                return "the gateway did not finish in time"
            await asyncio.sleep(_POLL_SECONDS)
        self.worker_pids = [worker["pid"] for worker in state["workers"]]
        if state["roll_error"]:
            return str(state["roll_error"])
        for role in ("aggregator", "control"):
            await self.children[role].stop()
            await self.children[role].start()
        await self._until("control", lambda: answers_200(f"{self.control_url}/readyz"))
        return ""

    def kill_gateway(self) -> None:
        """Do not wait for what is under way; the journals know it."""
        for pid in self.worker_pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    async def stop_gateway(self) -> None:
        if "gateway" in self.children:
            await self.children["gateway"].stop(self.settings.drain_seconds + 15)

    async def stop(self) -> None:
        """Whatever runs, the gateway first and the stores last."""
        await self.stop_gateway()
        for role in ("aggregator", "control", "stripe", "sample"):
            if role in self.children:
                await self.children[role].stop()
        await self.stores.stop()


def _empty(folder: Path) -> None:
    """Counts of processes that are gone would never be added to again."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink()
