"""`weighbridge reconcile` on real parts: workers, journals, Valkey, Postgres and the sandbox. Equal at rest and under load; one unit
taken from each place in turn is found, and named there."""

import asyncio
import random
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from aggregator import recovery
from aggregator.overage import cut_overage
from billing.model.conservation import Place
from billing.model.plan import PlanSpec
from billing.model.pricing.per_unit import PerUnit
from billing.stripe.client import SANDBOX_KEY, StripeApi
from billing.stripe.deliver import deliver_due
from billing.stripe.sandbox.faults import Fault, Kind
from billing.stripe.sandbox.server import Sandbox, serve
from gateway import adoption, pulse
from metering.model import keys
from metering.model.clock import SystemClock
from metering.model.meter import Meter
from metering.model.quota import CLOSED, Mode, Quota
from metering.store.journal import Journal
from tests.integration.aggregator.conftest import House
from tests.integration.stripe.conftest import PRO, Outbox
from tests.integration.test_counting import ORG, System
from weighbridge.reconcile import report as reporting
from weighbridge.reconcile.look import Scope
from weighbridge.reconcile.report import Report, reconcile

METERS = {"api": Meter(name="api", unit="request", title="API Requests")}
FREE = 20
QUOTAS = (Quota(meter="api", limit=FREE, mode=Mode.OVERAGE),)
CLOCK = SystemClock()


class Rig(System):
    """A house with an organization on a priced plan, and a sandbox that hears of its overage."""

    stripe: StripeApi
    sandbox: Sandbox

    async def sell(self) -> None:
        spec = PlanSpec(name="pro", price={}, quotas=QUOTAS, prices={"api": PerUnit(each=Decimal("0.0003"))})
        await House(self.pool, self.redis).subscribe(spec, org=ORG)  # type: ignore[arg-type]
        outbox = Outbox(self.pool, CLOCK)  # type: ignore[arg-type]
        await outbox.sell(ORG, PRO, anchor="2026-11-01T00:00:00Z")

    async def calls_made(self, count: int) -> None:
        self.arrive(count)
        while self.calls:
            await asyncio.sleep(0.02)
        for worker in self.workers:
            while worker.in_flight:
                worker.finish(self.rng)

    async def told(self) -> None:
        await cut_overage(self.pool, CLOCK, METERS)
        await deliver_due(self.pool, self.stripe, CLOCK)

    async def reconciled(self, *folders: Path, org_ids: list[str] | None = None) -> Report:
        scope = Scope(
            org_ids=org_ids, folders=folders or [self.directory], meters=METERS, now_ms=CLOCK.now_ms(), report_seconds=3600
        )  # fmt: skip
        return await reconcile(self.pool, self.redis, self.stripe, scope, CLOCK, ships=False)

    async def settled(self) -> None:
        """Everything that was journaled is in the store, and stays there."""
        await asyncio.gather(*(worker.pulse.ship_all() for worker in self.workers))


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database, min_size=1, max_size=8) as pool:
        yield pool


@pytest.fixture
async def rig(redis: str, pool: asyncpg.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(pulse, "SHIP_SECONDS", 0.1)
    monkeypatch.setattr(pulse, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(adoption, "_SCAN_SECONDS", 0.1)
    monkeypatch.setattr(recovery, "LEAST_WAIT_SECONDS", 0.3)
    monkeypatch.setattr(reporting, "_AGAIN_SECONDS", 0.1)
    sandbox = Sandbox(tmp_path / "stripe.db", CLOCK)
    url, stop = await serve(sandbox, "127.0.0.1", 0)
    system = Rig(redis, pool, tmp_path / "journal", random.Random(1), CLOSED, limits={"quotas": QUOTAS})
    system.sandbox = sandbox
    system.stripe = StripeApi(api_key=SANDBOX_KEY, api_base=url)
    try:
        await system.sell()
        await system.rest()
        yield system
    finally:
        await system.end()
        await system.stripe.close()
        await stop()


async def at_rest(rig: Rig) -> None:
    await rig.calls_made(60)
    await rig.rest()
    await rig.told()


def places(report: Report) -> list[tuple[Place, int | None]]:
    return [(difference.place, difference.units) for difference in report.differences]


async def test_at_rest_everything_is_equal_from_the_counter_to_stripes_summary(rig: Rig) -> None:
    await at_rest(rig)
    report = await rig.reconciled()
    assert (places(report), report.unseen) == ([], [])
    (books,), (told,) = report.books.values(), report.told.values()
    assert books.admitted == 60 == books.charged + books.returned
    assert books.counter == books.charged == books.flushed == FREE + books.reported
    assert books.reported == books.outbox == told.summary > 0


TAKEN: list[tuple[Place, str]] = [
    (Place.EVENTS, "UPDATE billing.usage_events SET quantity = quantity - {0} WHERE id = (SELECT min(id) FROM billing.usage_events)"),
    (Place.HOURS, "UPDATE billing.usage_hourly SET quantity = quantity - {0}"),
    (Place.PERIOD, "UPDATE billing.usage_period SET cumulative = cumulative - {0}"),
    (Place.RETURNED, "UPDATE billing.usage_hourly SET returned = returned - {0}"),
    (Place.HANDED_OVER, "UPDATE billing.usage_period SET reported = reported + {0}"),
]


@pytest.mark.long
async def test_a_unit_taken_from_postgres_is_named_by_table(rig: Rig) -> None:
    await at_rest(rig)
    await rig.pool.execute("ALTER TABLE billing.usage_events DISABLE TRIGGER usage_events_append_only")
    for place, sql in TAKEN:
        await rig.pool.execute(sql.format(1))
        report = await rig.reconciled()
        assert places(report) == [(place, 1)]
        assert report.differences[0].key is not None
        await rig.pool.execute(sql.format(-1))
    assert places(await rig.reconciled()) == []


async def test_what_is_on_its_way_is_told_place_by_place_and_a_unit_taken_from_the_store_is_named(rig: Rig) -> None:
    await at_rest(rig)
    await rig.calls_made(10)
    await rig.settled()
    report = await rig.reconciled()
    (books,) = report.books.values()
    assert places(report) == []
    assert books.settled == books.shipped > 0
    assert books.counter == books.charged == books.flushed + books.settled
    counter = rig.workers[0].charge.limits[0].counter
    await rig.redis.decr(counter)
    assert places(await rig.reconciled()) == [(Place.COUNTER, 1)]
    await rig.redis.incrby(counter, 2)
    assert places(await rig.reconciled()) == [(Place.COUNTER, -1)]
    await rig.redis.decr(counter)
    name = keys.live(keys.bucket_of(ORG))
    field = next(f for f in await rig.redis.hkeys(name) if b"|api|" in f)
    await rig.redis.hincrby(name, field, -1)
    assert places(await rig.reconciled()) == [(Place.STORE, 1)]


@pytest.mark.long
async def test_a_batch_taken_from_a_journal_is_named(rig: Rig, tmp_path: Path) -> None:
    await at_rest(rig)
    bucket = keys.bucket_of(ORG)
    journal = Journal(tmp_path / "elsewhere", "lost")
    for record in (b'["B","lost",[[%d,0,0]]]' % bucket, b'["C",%d,2]' % bucket):
        journal.append(record)
    journal.close()
    report = await rig.reconciled(rig.directory, tmp_path / "elsewhere")
    assert [(d.place, "lacks batch 1" in d.sentence) for d in report.differences] == [(Place.JOURNAL, True)]


@pytest.mark.long
async def test_an_event_that_stripe_lost_and_one_it_has_from_elsewhere_are_named(rig: Rig) -> None:
    await at_rest(rig)
    sql = "UPDATE billing.outbox SET payload = payload || '{\"value\": \"%s\"}' WHERE kind = 'meter_event'"
    (told,) = (await rig.reconciled()).told.values()
    for summary, units in ((told.summary, 1), (told.summary, -1)):
        assert summary is not None
        await rig.pool.execute(sql % (summary + units))
        assert (Place.STRIPE, units) in places(await rig.reconciled())


@pytest.mark.long
@pytest.mark.parametrize(("fault", "arrived"), [(Kind.TIMEOUT_AFTER, True), (Kind.TIMEOUT_BEFORE, False)])
async def test_an_event_in_doubt_after_a_day_away_is_not_sent_again_and_its_fate_is_found(rig: Rig, fault: Kind, arrived: bool) -> None:
    await rig.told()
    rig.sandbox.faults.waiting.append(Fault(kind=fault, path="/v1/billing/meter_events"))
    await at_rest(rig)
    await rig.pool.execute(
        "UPDATE billing.outbox SET first_attempt_at = first_attempt_at - interval '1 day', next_attempt_at = NULL WHERE state = 'pending'"
    )
    await rig.told()
    report = await rig.reconciled()
    (books,), (told,) = report.books.values(), report.told.values()
    assert told.outbox.unknown == books.reported > 0
    assert told.summary == (books.reported if arrived else 0)
    assert places(report) == [(Place.UNKNOWN, 0 if arrived else books.reported)]  # either way somebody must say so in the outbox


@pytest.mark.long
async def test_under_load_nothing_is_missing_beyond_what_is_named_as_in_flight(rig: Rig) -> None:
    ends = asyncio.Event()

    async def load() -> None:
        while not ends.is_set():
            rig.arrive(3)
            for worker in rig.workers:
                worker.finish(rig.rng)
            await rig.flush() if rig.rng.random() < 0.02 else await asyncio.sleep(0.01)

    loading = asyncio.ensure_future(load())
    try:
        for _ in range(3):
            await asyncio.sleep(0.2)
            report = await rig.reconciled()
            assert (places(report), report.unseen) == ([], [])
        assert any(books.moving for books in report.books.values())
    finally:
        ends.set()
        await loading
    await rig.rest()
    await rig.told()
    assert places(await rig.reconciled()) == []


@pytest.mark.long
async def test_a_journal_that_lies_elsewhere_is_said_to_be_unseen(rig: Rig, tmp_path: Path) -> None:
    await at_rest(rig)
    report = await rig.reconciled(tmp_path / "nothing")
    assert places(report) == []
    assert any("w1" in sentence and "--journal" in sentence for sentence in report.unseen)


@pytest.mark.long
async def test_one_organization_is_looked_at_alone(rig: Rig) -> None:
    await at_rest(rig)
    assert places(await rig.reconciled(org_ids=[ORG])) == []
    other = "00000000-0000-4000-8000-000000000002"
    assert (await rig.reconciled(org_ids=[other])).books == {}


@pytest.mark.long
async def test_a_store_that_forgot_is_said_to_be_unseen(rig: Rig) -> None:
    await at_rest(rig)
    for task in rig.tasks:
        task.cancel()
    async with Redis.from_url(rig.url) as client:
        await client.delete(keys.epoch(keys.bucket_of(ORG)))
    report = await rig.reconciled()
    assert any("has no epoch" in sentence for sentence in report.unseen)


@pytest.mark.long
@pytest.mark.parametrize("seed", [11, 12, 13])
async def test_whatever_broke_before_the_books_agree_at_rest(rig: Rig, seed: int) -> None:
    """Workers killed, the store emptied, paused and cut off, flushes that die: a walk of the whole protocol ends with no difference."""
    rig.rng.seed(seed)
    for _ in range(200):
        await rig.step()
    await rig.rest()
    await rig.told()
    report = await rig.reconciled()
    assert (places(report), report.unseen) == ([], [])
    (books,), (told,) = report.books.values(), report.told.values()
    assert books.counter == books.charged == books.flushed > FREE
    assert told.summary == books.reported == books.charged - FREE
