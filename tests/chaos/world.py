"""The house that things are done to: Postgres, Valkey, `weighbridge up` with two workers and an aggregator, and a service.

Postgres and Valkey are this process's own children and not the house's, so that they stay down for as long as a fault wants.
Three plans differ in what their quota says while the store is away: `open`, `closed`, and `grace`.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from aggregator.overage import cut_overage
from billing.stripe.client import SANDBOX_KEY, StripeApi
from billing.stripe.deliver import deliver_due
from config.files import read_set
from config.load import load_good
from config.settings import Settings
from metering.model import keys
from metering.model.clock import SystemClock
from metering.model.errors import WeighbridgeError
from metering.store import journal
from metering.store.postgres import open_pool
from tests.e2e.bench import Bench, Customer
from tests.e2e.conftest import House, housed_in
from tests.e2e.exactly import Crowd
from weighbridge.embedded import PostgresServer, ValkeyServer, start_postgres, start_valkey
from weighbridge.flushing import flush, living
from weighbridge.probes import json_of
from weighbridge.reconcile.look import Scope
from weighbridge.reconcile.report import reconcile

from . import streams
from .between import Between
from .books import Account
from .load import SEATED, SEATS, Load
from .streams import StreamingService, Streams

WORKERS, GRACE, DRAIN_SECONDS, IDLE_SECONDS = 2, 40, 4, 3
_PATIENCE_SECONDS = 90.0
_STORE_SECONDS = 2.0
GATEWAY = (
    f"""
upstreams:
  app: {{targets: ["http://127.0.0.1:9000"]}}
defaults:
  charge: {{api: 1}}
  timeouts: {{idle: {IDLE_SECONDS}s}}
routes:
"""
    + streams.ROUTES
    + f"""
  - {{path: /seat/*, concurrency: {SEATS}, on_store_failure: closed}}
  - {{path: /*}}
"""
)
METERS = "meters:\n  api: {unit: request}\n" + streams.METERS
PLANS = f"""
issuer: stripe
plans:
  free: {{price: {{usd: '0'}}}}
  open: {{price: {{usd: '0'}}, quotas: [{{meter: api, limit: 1_000_000, on_store_failure: open}}]}}
  closed: {{price: {{usd: '0'}}, quotas: [{{meter: api, limit: 1_000_000, on_store_failure: closed}}]}}
  grace: {{price: {{usd: '0'}}, quotas: [{{meter: api, limit: 1_000_000, on_store_failure: {{grace: {GRACE}}}}}]}}
  seats: {{price: {{usd: '0'}}, quotas: [{{meter: api, limit: 1_000_000, on_store_failure: closed}}]}}
  paid:
    price: {{usd: '10'}}
    quotas: [{{meter: api, limit: 20, mode: overage, on_store_failure: open}}]
    prices: {{api: {{each: '0.001'}}}}
  {streams.PLAN}: {{price: {{usd: '0'}}, quotas: [{streams.QUOTA}]}}
"""
_ENVIRON = {"WEIGHBRIDGE_WORKERS": str(WORKERS), "WEIGHBRIDGE_STORE_DEADLINE_MS": "50", "WEIGHBRIDGE_FLUSH_INTERVAL": "2"} | {
    "WEIGHBRIDGE_DRAIN_SECONDS": str(DRAIN_SECONDS)
}


@dataclass
class World:
    """The running house, its two servers, and the ways to look into all of it."""

    bench: Bench
    postgres: PostgresServer
    valkey: ValkeyServer
    folder: Path
    between: Between

    @property
    def rng(self) -> random.Random:
        return self.bench.rng

    def workers(self) -> list[int]:
        return self.bench.house.pids("worker")

    async def load(self) -> Load:
        """New customers of every plan and their clients, not started yet."""
        several = {plan: await self.bench.customers(plan, 2) for plan in ("open", "closed", "grace", "paid")}
        return Load(self.bench, several | {SEATED: await self.bench.customers(SEATED)})

    async def streams(self) -> Streams:
        """Long exchanges of a new customer, not started yet."""
        return Streams(self.bench, (await self.bench.customers(streams.PLAN))[0])

    # --- well again ---------------------------------------------------------------------------------------------------
    async def until(self, condition: Callable[[], Awaitable[object]], what: str) -> None:
        """Ask again until it holds. A store that is away, or a ledger, counts as no."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            with contextlib.suppress(RedisError, OSError, WeighbridgeError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                if await condition():
                    return
            assert time.monotonic() < deadline, f"not within {_PATIENCE_SECONDS:.0f} s: {what}"
            await asyncio.sleep(0.1)

    async def until_well(self) -> None:
        """Every worker is there, and every bucket admits."""
        await self.until(self._ready, "the gateway is ready with all its workers")
        await self.until(self._open, "every bucket is open")

    async def _ready(self) -> bool:
        state = await self.state()
        return state is not None and state["ready"] and len(state["workers"]) == WORKERS

    async def state(self) -> dict[str, Any] | None:
        """What the supervisor's /readyz says; None while it does not answer."""
        return await json_of(self.bench.house.ready["metrics"].removesuffix("/metrics") + "/readyz")

    async def _open(self) -> bool:
        run_id = (await self.bench.store.info("server"))["run_id"]
        epochs = await self.bench.store.mget([keys.epoch(bucket) for bucket in range(keys.BUCKETS)])
        return all(epoch is not None and epoch.endswith(f" {run_id}".encode()) for epoch in epochs)

    # --- at rest ------------------------------------------------------------------------------------------------------
    async def accounts(self, load: Load, refusals: Collection[int]) -> dict[str, Account]:
        """Everybody's books, once nothing moves any more. `refusals` are the statuses of calls that were not admitted.

        Raises AssertionError where journals or live hashes never come to their end. Books that never agree are told as they are.
        """
        await self.until(load.seats_are_free, "every slot is free again")
        await self.until(self._nothing_left, "everything is flushed and every dead worker's journal is let go")
        before: dict[str, Account] = {}
        for _ in range(40):
            await self._flushed()
            found = {f"{plan}/{c.org.slug}": await self._account(load, c, refusals) for plan, each in load.customers.items() for c in each}
            if found == before and all(a.counter == a.charged for a in found.values()):
                break
            before = found
            await asyncio.sleep(0.3)
        return found

    async def told(self) -> None:
        """Stripe is told everything that it has to be told by now."""
        await self.until(self._nothing_pending, "everything that Stripe must hear is delivered")

    async def _nothing_pending(self) -> bool:
        return await self.cut_and_delivered() == 0

    async def cut_and_delivered(self) -> int:
        """Cut overages and deliver what is due, once; returns how many rows wait."""
        await cut_overage(self.bench.pool, SystemClock(), self.bench.config.meters)
        async with self._stripe() as stripe:
            return (await deliver_due(self.bench.pool, stripe, SystemClock())).pending

    async def reconciled(self) -> list[str]:
        """A sentence for each difference between counters, journals, ledger, outbox and Stripe's summary; for what is unseen, too."""
        await self.cut_and_delivered()  # rows that a deliverer had in hand when it died are leased for minutes: they are on their way
        settings, clock = self.bench.settings, SystemClock()
        scope = Scope(
            org_ids=None, folders=[self.bench.house.data_dir / "journal"], meters=self.bench.config.meters, now_ms=clock.now_ms(),
            report_seconds=settings.report_interval_seconds,
        )  # fmt: skip
        async with self._stripe() as stripe:
            report = await reconcile(self.bench.pool, self.bench.store, stripe, scope, clock)
        return [*(f"reconcile: {difference.sentence}" for difference in report.differences), *report.unseen]

    @contextlib.asynccontextmanager
    async def _stripe(self) -> AsyncIterator[StripeApi]:
        api = StripeApi(api_key=SANDBOX_KEY, api_base=self.bench.house.ready["stripe"], timeout_seconds=5)
        try:
            yield api
        finally:
            await api.close()

    async def _account(self, load: Load, customer: Customer, refusals: Collection[int]) -> Account:
        answers = load.of(customer)
        charged, returned = await self.bench.house.ledger(customer.org)
        return Account(
            asked=len(answers), answered=sum(a.status == 200 for a in answers),
            refused=sum(a.status in refusals for a in answers), seen=self.bench.service.of(customer.id),
            charged=charged, returned=returned, counter=sum(await self.bench.used(customer)),
        )  # fmt: skip

    async def _flushed(self) -> bool:
        report = await flush(self.bench.pool, self.bench.store, self.bench.config, SystemClock(), stripe=None, bills=False)
        return not report.left

    async def _nothing_left(self) -> bool:
        """Flushed; no live hash, no batch under way, and no journal but those of the living."""
        if not await self._flushed():
            return False
        names = [name(bucket) for name in (keys.live, keys.flying) for bucket in range(keys.BUCKETS)]
        alive = await living(self.bench.store)
        return not await self.bench.store.exists(*names) and set(journal.workers(self.bench.house.data_dir / "journal")) <= set(alive)


@contextlib.contextmanager
def _booted(folder: Path, **environ: str) -> Iterator[tuple[PostgresServer, ValkeyServer, Between, StreamingService, House]]:
    folder.chmod(0o755)
    with contextlib.ExitStack() as stack:
        postgres = start_postgres(folder / "postgres", durable=False)
        stack.callback(postgres.stop)
        between = stack.enter_context(Between(postgres.url, folder / "between"))
        valkey = start_valkey(folder / "valkey")
        stack.callback(valkey.stop)
        service = stack.enter_context(StreamingService())
        environ = {**_ENVIRON, "DATABASE_URL": between.url, "REDIS_URL": valkey.url, "UPSTREAM": service.url, **environ}
        yield postgres, valkey, between, service, stack.enter_context(housed_in(folder / "house", GATEWAY, METERS, PLANS, **environ))


@contextlib.asynccontextmanager
async def world(folder: Path, seed: int, **environ: str) -> AsyncIterator[World]:
    """A running house in an empty folder. Enter it from the main thread: its servers die with the thread that starts them."""
    with _booted(folder, **environ) as (postgres, valkey, between, service, house):
        settings, config = Settings.load(house.environ), load_good(read_set(house.config_dir))
        pool = await open_pool(postgres.url, application="chaos", max_size=2)
        async with Redis.from_url(valkey.url, socket_timeout=_STORE_SECONDS, socket_connect_timeout=_STORE_SECONDS) as store:
            bench = Bench(house, service, Crowd(house.gateway, 1), store, pool, settings, config, random.Random(seed))
            yield World(bench, postgres, valkey, folder, between)
        await pool.close()
