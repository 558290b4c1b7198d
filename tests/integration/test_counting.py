"""The protocol on real parts: workers, adopter, scripts, journals, Valkey, Postgres, driven through random schedules of faults.

Every walk ends by letting the system come to rest and then holds: ledger = journaled charges - returns, counter = ledger,
and, as no failure rule let calls pass, never more than the limit was granted.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from redis.asyncio import Redis

from aggregator import recovery
from aggregator.flush import flush_once
from aggregator.recovery import Recovery
from aggregator.truth import PostgresTruth
from config.gateway import Fixed, Route
from gateway import adoption, pulse, scripts
from gateway.admission import Admission, Decision, Status
from gateway.adoption import Adopter
from gateway.charges import Charge, make_charge
from gateway.failure import Grace
from gateway.pulse import Pulse
from gateway.recorder import Recorder
from gateway.server_clock import ServerClock
from gateway.shipper import Shipper
from gateway.tally import Sums, Tally
from metering.model import keys
from metering.model.apikey import KeyRecord
from metering.model.clock import SystemClock
from metering.model.entitlement import Entitlement
from metering.model.quota import CLOSED, OPEN, Concurrency, FailureRule, Mode, Quota, Then, Window
from metering.store import journal as journals
from metering.store.redis.link import Link

ORG = "5f0c1a52-7d43-4f0e-9c57-0f6f0f2b9a11"
LIMIT = 120
SLOTS = 4
HARD = {"quotas": (Quota(meter="api", limit=LIMIT),)}
THROTTLED = {"quotas": (Quota(meter="api", limit=50, mode=Mode.THROTTLE, then=Then(limit=LIMIT - 50, window=Window.MONTH)),)}
SEATED = {**HARD, "concurrency": (Concurrency(limit=SLOTS),)}


class Silent:
    """Metrics that nobody reads."""

    def __getattr__(self, name: str) -> Any:
        return lambda *facts: None


class Worker:
    """One gateway worker without its HTTP side."""

    def __init__(
        self,
        url: str,
        directory: Path,
        name: str,
        rule: FailureRule,
        *,
        deadline_seconds: float = 0.05,
        limits: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.name, self.in_flight, self.killed = name, list[Decision](), False
        self.link = Link(url, deadline_seconds=deadline_seconds, scripts=scripts.BODIES, on_up=self._up, on_down=self._down)
        self.clock = ServerClock(SystemClock(), self.link)
        self.recorder = Recorder(directory, name, self.clock.now_ms)
        self.admission = Admission(
            self.link, self.recorder, Grace(2, {}, self.clock.now_ms), on_epoch=lambda b: self.shipper.epoch_changed(b), metrics=Silent()
        )
        self.shipper = Shipper(self.link, self.recorder, self.admission.buckets, self._synced, self.admission.epochs.learn)
        self.pulse = Pulse(self.link, name, "worker", self.clock, self.admission.epochs, lambda: [self.shipper])
        self.charge = self._charge(rule, limits or HARD)
        self.statuses: list[Status] = []
        self.link.start()
        self.beating = asyncio.ensure_future(self.pulse.run())

    def _charge(self, rule: FailureRule, limits: dict[str, Any]) -> Charge:
        entitlement = Entitlement(org_id=ORG, slug="acme", name="Acme", version=1, plan="free", plan_version=1, anchor_ms=0, **limits)
        route = Route(
            id=1, path="/*", upstream="app", charge={"api": Fixed(1)}, on_store_failure=rule, closed_is_said=rule == CLOSED
        )  # fmt: skip
        return make_charge(entitlement, route, "GET", KeyRecord(key_id=1, org_id=""), self.clock.now_ms())

    def _up(self, server: Any) -> None:
        self.admission.link_up(server)

    def _down(self) -> None:
        self.admission.link_down()
        self.shipper.link_down()

    def _synced(self, bucket: int) -> None:
        self.pulse.synced(self.admission.buckets[bucket], self.shipper.replayed(bucket))

    async def call(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            decision = await self.admission.decide(self.charge)
            self.statuses.append(decision.status)
            if decision.xid:
                self.in_flight.append(decision)

    def finish(self, rng: random.Random) -> None:
        if self.in_flight:
            decision = self.in_flight.pop(rng.randrange(len(self.in_flight)))
            self.admission.release(decision)
            template = self.charge.template_of(decision.beyond)
            self.recorder.ended(decision.xid, template, "5xx" if rng.random() < 0.25 else "", 200, 1, 0, 0, {})

    async def kill(self) -> None:
        """As kill -9 leaves it: what was not written is gone, the lock is free, nobody says goodbye."""
        self.killed = True
        self.beating.cancel()
        self.recorder._turn.clear()
        self.recorder._ends.clear()
        self.recorder._journal._buffer.clear()
        self.recorder.close()
        await self.link.close()


class System:
    """Two workers, an adopter, aggregators, and somebody who breaks things."""

    def __init__(
        self, url: str, pool: asyncpg.Pool, directory: Path, rng: random.Random, rule: FailureRule,
        *, limits: dict[str, Any] | None = None, forgets: bool = True,
    ) -> None:  # fmt: skip
        self.url, self.pool, self.directory, self.rng, self.rule = url, pool, directory, rng, rule
        self.limits, self.forgets = limits, forgets
        self.redis = Redis.from_url(url)
        self.recovery = Recovery(PostgresTruth(pool), self.redis, SystemClock(), self._republish)
        self.names = 0
        self.statuses: list[Status] = []
        self.workers = [self.spawn(), self.spawn()]
        self.adopter = Adopter(url, directory, SystemClock(), "supervisor")
        self.tasks = [asyncio.ensure_future(self.adopter.run()), asyncio.ensure_future(self._recover())]
        self.calls: set[asyncio.Task[None]] = set()

    def spawn(self) -> Worker:
        self.names += 1
        worker = Worker(self.url, self.directory, f"w{self.names}", self.rule, limits=self.limits)
        worker.statuses = self.statuses
        return worker

    async def _republish(self) -> None:
        await self.redis.hset(keys.versions(keys.bucket_of(ORG)), ORG, "1")

    async def _recover(self) -> None:
        while True:
            await self.recovery.check()
            await asyncio.sleep(0.05)

    def arrive(self, count: int) -> None:
        for _ in range(count):
            task = asyncio.ensure_future(self.rng.choice(self.workers).call())
            self.calls.add(task)
            task.add_done_callback(self.calls.discard)

    async def step(self) -> None:
        for task in self.tasks:
            if task.done():
                task.result()
        self.arrive(self.rng.randrange(4))
        for worker in self.workers:
            worker.finish(self.rng)
        fault = self.rng.random()
        if fault < 0.02:
            await self.kill_one()
        elif fault < 0.03:
            if self.forgets:
                await self.redis.flushall()
        elif fault < 0.06:
            self.rng.choice(self.workers).link.reset()
        elif fault < 0.09:
            await self.redis.client_pause(120)
        elif fault < 0.15:
            await self.flush(dies=self.rng.random() < 0.4)
        elif fault < 0.18:
            for task in list(self.calls)[:2]:
                task.cancel()
        await asyncio.sleep(self.rng.random() * 0.02)

    async def kill_one(self) -> None:
        index = self.rng.randrange(2)
        await self.workers[index].kill()
        self.workers[index] = self.spawn()

    async def flush(self, *, dies: bool = False) -> None:
        after = self.rng.randrange(5) if dies else 10**9
        steps = iter(range(10**9))

        def observe(_: str) -> None:
            if next(steps) >= after:
                raise InterruptedError

        with contextlib.suppress(InterruptedError):
            await asyncio.gather(
                flush_once(self.pool, self.redis, observe=observe), flush_once(self.pool, self.redis), return_exceptions=not dies
            )

    async def rest(self) -> None:
        while self.calls:
            await asyncio.sleep(0.02)
        for worker in self.workers:
            while worker.in_flight:
                worker.finish(self.rng)
        for _ in range(400):
            await self.flush()
            done = [w.shipper.all_committed for w in self.workers]
            open_ = all(w.admission.epochs.all_open for w in self.workers)
            if all(done) and open_ and not self.left_behind() and await self.stands():
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"never comes to rest: {done}, left behind: {self.left_behind()}")

    def left_behind(self) -> set[str]:
        """Journals of the dead, adopted by now or not."""
        return set(journals.workers(self.directory)) - {w.name for w in self.workers}

    async def stands(self) -> bool:
        """Whether the store itself says so: the processes hear of an emptied one a moment later."""
        shown: list[Any] = await self.redis.mget([keys.epoch(b) for b in range(keys.BUCKETS)])
        return all(value and not value.endswith(b" wait") for value in shown)

    async def end(self) -> None:
        left = {*self.tasks, *(w.beating for w in self.workers)}
        while left:  # once is not enough: a driver's timeout that ends in the same moment may swallow a cancellation
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=0.5)
        for worker in self.workers:
            await worker.link.close()
            worker.recorder.close()
        await self.redis.aclose()

    async def ledger(self) -> int:
        return int(await self.pool.fetchval("SELECT coalesce(sum(quantity), 0) FROM billing.usage_events WHERE service = 'api'"))

    async def counter(self, index: int = 0) -> int:
        return int(await self.redis.get(self.workers[0].charge.limits[index].counter) or 0)

    async def seated(self) -> dict[str, int]:
        """Slots in the store, by worker."""
        held: dict[Any, Any] = await self.redis.hgetall(self.workers[0].charge.slots[0].key)
        return {worker.decode(): int(count) for worker, count in held.items()}


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database, min_size=1, max_size=6) as pool:
        yield pool


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """All periods of the protocol, ten times as fast."""
    monkeypatch.setattr(pulse, "SHIP_SECONDS", 0.1)
    monkeypatch.setattr(pulse, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(adoption, "_SCAN_SECONDS", 0.1)
    monkeypatch.setattr(recovery, "LEAST_WAIT_SECONDS", 0.5)


class Witness:
    """Copies every journal file before it is deleted, and adds up what was ever written into them."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory, self.kept = directory, directory.parent / "kept"
        self.kept.mkdir()
        monkeypatch.setattr(journals.Journal, "drop", self._keep_segments(journals.Journal.drop))
        monkeypatch.setattr(journals.Journal, "destroy", self._keep_all(journals.Journal.destroy))

    def _keep_segments(self, drop: Any) -> Any:
        def keep(journal: journals.Journal, up_to: int) -> None:
            self._copy(journal.worker)
            drop(journal, up_to)

        return keep

    def _keep_all(self, destroy: Any) -> Any:
        def keep(journal: journals.Journal) -> None:
            journal.flush()
            self._copy(journal.worker)
            destroy(journal)

        return keep

    def _copy(self, worker: str) -> None:
        for _, path in journals.segments(self.directory, worker):
            (self.kept / path.name).write_bytes(path.read_bytes())

    def charged(self) -> int:
        """Σ of what every journal says, returns taken off."""
        return sum(quantity for sums in self._sums() for field, quantity in sums.ledger.items() if field.split("|")[3] == "api")

    def moved(self, counter: str) -> int:
        """What every journal adds to this counter."""
        return sum(sums.ledger_moves().get(counter, 0) for sums in self._sums())

    def _sums(self) -> list[Sums]:
        for worker in journals.workers(self.directory):
            self._copy(worker)
        found: list[Sums] = []
        for worker in {path.name.split(".")[0] for path in self.kept.glob("*.log")}:
            tally = Tally()
            for _, path in journals.segments(self.kept, worker):
                found += [b.sums for payload in journals.read(path) if (b := tally.apply(orjson.loads(payload)))]
            found += tally.sums.values()
        return found


@pytest.mark.parametrize("rule", [CLOSED, OPEN], ids=["closed", "open"])
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_whatever_breaks_ledger_journals_and_counter_agree_at_rest(
    redis: str, pool: asyncpg.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, rule: FailureRule
) -> None:
    witness = Witness(tmp_path / "journal", monkeypatch)
    system = System(redis, pool, tmp_path / "journal", random.Random(seed), rule)
    try:
        for _ in range(250):
            await system.step()
            if rule is CLOSED:
                assert await system.counter() <= LIMIT
        await system.rest()
        assert await system.ledger() == witness.charged()
        assert await system.counter() == await system.ledger()
        if rule is CLOSED:
            assert await system.ledger() <= LIMIT
    finally:
        await system.end()


@pytest.mark.parametrize(("seed", "forgets"), [(3, False), pytest.param(4, False, marks=pytest.mark.long), (5, True)])
async def test_whatever_breaks_both_quotas_of_a_throttle_hold_what_the_journals_say(
    redis: str, pool: asyncpg.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, forgets: bool
) -> None:
    witness = Witness(tmp_path / "journal", monkeypatch)
    system = System(redis, pool, tmp_path / "journal", random.Random(seed), CLOSED, limits=THROTTLED, forgets=forgets)
    slower = system.workers[0].charge.limits[1].counter
    try:
        for step in range(1_000):
            await system.step()
            if not forgets:
                assert await system.counter() <= LIMIT
            if step >= 250 and witness.moved(slower):  # on a busy machine rules decide about more of the calls, and the main quota lasts
                break
        await system.rest()
        assert await system.ledger() == witness.charged()
        assert await system.counter() == await system.ledger()
        beyond = witness.moved(slower)
        assert beyond > 0
        assert await system.counter(1) == beyond if not forgets else await system.counter(1) <= beyond
    finally:
        await system.end()


@pytest.mark.parametrize("seed", [6, pytest.param(7, marks=pytest.mark.long)])
async def test_whatever_breaks_no_more_calls_are_in_flight_than_may_be_and_none_is_left_behind(
    redis: str, pool: asyncpg.Pool, tmp_path: Path, seed: int
) -> None:
    system = System(redis, pool, tmp_path / "journal", random.Random(seed), CLOSED, limits=SEATED)
    try:
        for _ in range(250):
            await system.step()
            assert sum(len(worker.in_flight) for worker in system.workers) <= SLOTS
        await system.rest()
        living = {worker.name for worker in system.workers}
        async with asyncio.timeout(10):
            while living & (await system.seated()).keys():
                await asyncio.sleep(0.05)
        assert Status.ADMITTED in system.statuses
    finally:
        await system.end()


async def test_of_many_concurrent_calls_exactly_the_limit_passes(redis: str, pool: asyncpg.Pool, tmp_path: Path) -> None:
    system = System(redis, pool, tmp_path / "journal", random.Random(0), CLOSED)
    try:
        while not all(w.admission.epochs.all_open for w in system.workers):
            await asyncio.sleep(0.02)
        system.arrive(LIMIT * 3)
        while system.calls:
            await asyncio.sleep(0.02)
        assert system.statuses.count(Status.ADMITTED) == LIMIT
        assert system.statuses.count(Status.REFUSED) == LIMIT * 2
    finally:
        await system.end()


async def test_a_dead_worker_leaves_nothing_in_the_store_but_how_far_its_journal_was_taken(
    redis: str, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    system = System(redis, pool, tmp_path / "journal", random.Random(0), CLOSED)
    try:
        while not all(w.admission.epochs.all_open for w in system.workers):
            await asyncio.sleep(0.02)
        dead = system.workers[0]
        await dead.call()
        while not await system.redis.hexists(keys.WORKERS, dead.name):
            await asyncio.sleep(0.02)
        await dead.kill()
        system.workers[0] = system.spawn()
        await system.rest()
        for _ in range(100):
            marks: list[Any] = await system.redis.hkeys(keys.marks(keys.bucket_of(ORG)))
            left = [mark for mark in marks if mark.endswith(f":{dead.name}".encode())]
            if left == [f"s:{dead.name}".encode()] and not await system.redis.hexists(keys.WORKERS, dead.name):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"still in the store: {left}, or its heartbeat")
    finally:
        await system.end()
