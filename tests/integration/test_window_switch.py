"""A plan brings a quota in another window, in the middle of it: from the first call on it knows what was used in it so far."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from aggregator.flush import flush_once
from aggregator.recovery import Recovery
from aggregator.truth import PostgresTruth
from billing.store.usage import UsageTable
from config.gateway import Fixed, Route
from gateway.admission import Status
from gateway.charges import Charge, make_charge
from metering.model import keys
from metering.model.apikey import KeyRecord
from metering.model.clock import SystemClock, to_datetime
from metering.model.entitlement import Entitlement
from metering.model.period import period_at, window_at
from metering.model.quota import CLOSED, Quota, Window
from metering.model.seeding import Seed, begun
from metering.store.redis import publish
from metering.store.redis.publish import publish_orgs
from tests.integration.test_counting import ORG, Worker
from weighbridge.checkpoint import Checkpoint

ROUTE = Route(id=1, path="/*", upstream="app", charge={"api": Fixed(1)})
LIMIT = 30


def entitlement(window: Window, version: int, limit: int = 10_000) -> Entitlement:
    quota = Quota(meter="api", limit=limit, window=window)
    return Entitlement(org_id=ORG, slug="acme", name="Acme", version=version, plan="p", plan_version=1, anchor_ms=0, quotas=(quota,))


class House:
    """A worker, a store and the ledger, with everything open."""

    def __init__(self, worker: Worker, redis: Redis, pool: asyncpg.Pool) -> None:
        self.worker, self.redis, self.pool = worker, redis, pool
        self.known = entitlement(Window.PERIOD, 1)

    def charge(self) -> Charge:
        return make_charge(self.known, ROUTE, "GET", KeyRecord(key_id=1, org_id=ORG), self.worker.clock.now_ms())

    async def calls(self, count: int, *, ends: bool = True) -> list[Status]:
        of = self.charge()
        decisions = await asyncio.gather(*(self.worker.admission.decide(of) for _ in range(count)))
        for decision in decisions:
            if decision.xid and ends:
                self.worker.recorder.ended(decision.xid, of.template, "", 200, 1, 0, 0, {})
        return [decision.status for decision in decisions]

    async def tell(self, new: Entitlement, truth: Any) -> None:
        """Publish as control does; `truth(begun)` gives the offsets."""
        begin = begun(self.known, new, self.worker.clock.now_ms())
        seeds = [Seed(one, offset) for one, offset in zip(begin, await truth(begin), strict=True)]
        await publish_orgs(self.redis, [(new, [])], {ORG: seeds})
        self.known = new

    async def by_ledger(self, begin: Any) -> list[int]:
        async with self.pool.acquire() as connection:
            return await UsageTable(connection).offsets(begin)

    async def used(self) -> int:
        return int(await self.redis.get(self.charge().limits[-1].counter) or 0)

    async def in_ledger(self, units: int, at_ms: int, period_ms: int) -> None:
        await self.pool.execute(
            """INSERT INTO billing.usage_hourly
               (org_id, service, hour, period_start, route_id, method, key_id, bucket, quantity, returned, event_count)
               VALUES ($1, 'api', $2, $3, 1, 'GET', 1, $4, $5, 0, 1)""",
            UUID(ORG), to_datetime(at_ms), to_datetime(period_ms), keys.bucket_of(ORG), units,
        )  # fmt: skip


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database, min_size=1, max_size=6) as pool:
        yield pool


@pytest.fixture
async def house(redis: str, pool: asyncpg.Pool, tmp_path: Path) -> AsyncIterator[House]:
    async with Redis.from_url(redis) as client:

        async def republish() -> None:
            await client.hset(keys.versions(keys.bucket_of(ORG)), ORG, "1")

        worker = Worker(redis, tmp_path / "journal", "w1", CLOSED, deadline_seconds=2)
        recovery = Recovery(PostgresTruth(pool), client, SystemClock(), republish)
        async with asyncio.timeout(20):
            while not worker.admission.epochs.all_open:
                await recovery.check()
                await asyncio.sleep(0.05)
        yield House(worker, client, pool)
        await worker.kill()


async def flushed(house: House) -> None:
    await house.worker.pulse.ship_all()
    await flush_once(house.pool, house.redis)


@pytest.mark.parametrize("window", [Window.HOUR, Window.DAY, Window.MONTH])
async def test_the_new_quota_knows_what_is_in_the_ledger_what_is_live_and_what_no_worker_has_shipped(house: House, window: Window) -> None:
    await house.calls(7)
    await flushed(house)
    await house.calls(5)
    await house.worker.pulse.ship_all()
    await house.calls(4, ends=False)  # in flight
    await house.tell(entitlement(window, 2, LIMIT), house.by_ledger)
    assert await house.used() == 16
    statuses = await house.calls(20)
    assert statuses.count(Status.ADMITTED) == LIMIT - 16
    await flushed(house)
    assert await house.used() == LIMIT


async def test_a_publication_that_breaks_off_begins_nothing_and_the_next_one_begins_all_of_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish_orgs(house.redis, [(house.known, [])])
    await house.calls(12)
    new = entitlement(Window.HOUR, 2, LIMIT)
    with monkeypatch.context() as broken:
        broken.setattr(publish, "_SEED", replace(publish._SEED, body=b"return redis.error_reply('broken off')"))
        with pytest.raises(ResponseError, match="broken off"):
            await house.tell(new, house.by_ledger)
    house.known = (await publish.standing(house.redis, [ORG]))[ORG]
    assert house.known.version == 1
    await house.tell(new, house.by_ledger)
    assert await house.used() == 12
    assert (await publish.standing(house.redis, [ORG]))[ORG] == new


async def test_what_was_used_before_the_window_began_is_no_part_of_it(house: House) -> None:
    now_ms = house.worker.clock.now_ms()
    await house.in_ledger(500, window_at(Window.HOUR, 0, now_ms)[0] - 3_600_000, period_at(0, now_ms)[0])
    await house.redis.incrby(house.charge().limits[-1].counter, 500)  # the period's
    await house.calls(6)
    await house.tell(entitlement(Window.HOUR, 2, LIMIT), house.by_ledger)
    assert await house.used() == 6


async def test_a_window_that_began_before_the_period_has_what_was_used_in_the_period_before(house: House) -> None:
    """The month holds the end of an earlier period."""
    now_ms = house.worker.clock.now_ms()
    anchored = replace(house.known, anchor_ms=window_at(Window.HOUR, 0, now_ms)[0])
    house.known = anchored
    month_ms, _ = window_at(Window.MONTH, 0, now_ms)
    await house.calls(6)
    await house.in_ledger(100, month_ms, month_ms - 86_400_000)
    await house.tell(replace(entitlement(Window.MONTH, 2), anchor_ms=anchored.anchor_ms), house.by_ledger)
    assert await house.used() == 106


async def test_a_counter_left_from_before_is_set_anew(house: House) -> None:
    await house.tell(entitlement(Window.DAY, 2), house.by_ledger)
    await house.calls(3)
    await house.tell(entitlement(Window.PERIOD, 3), house.by_ledger)
    await house.calls(4)  # the day's counter does not hear of these
    await house.tell(entitlement(Window.DAY, 4), house.by_ledger)
    assert await house.used() == 7


async def test_a_bucket_in_recovery_is_left_to_it(house: House) -> None:
    await house.calls(3)
    epoch = keys.epoch(keys.bucket_of(ORG))
    await house.redis.append(epoch, " wait")
    await house.tell(entitlement(Window.DAY, 2), house.by_ledger)
    assert await house.redis.get(house.charge().limits[-1].counter) is None
    assert await house.redis.hget(keys.versions(keys.bucket_of(ORG)), ORG) == b"2"


async def test_a_gateway_alone_knows_it_from_its_checkpoint(house: House, tmp_path: Path) -> None:
    async def by_checkpoint(begin: Any) -> list[int]:
        return [Checkpoint(tmp_path / "journal").offset(one) for one in begin]

    await house.calls(7)
    await house.worker.pulse.ship_all()
    checkpoint = Checkpoint(tmp_path / "journal")
    checkpoint.fold(house.worker.clock.now_ms())
    await house.calls(5)
    await house.tell(entitlement(Window.DAY, 2, LIMIT), by_checkpoint)
    assert await house.used() == 12
    await house.calls(2)
    await house.worker.pulse.ship_all()
    checkpoint.fold(house.worker.clock.now_ms())
    bucket = keys.bucket_of(ORG)
    restored = await Checkpoint(tmp_path / "journal").counters([bucket], house.worker.clock.now_ms())
    assert restored[bucket][house.charge().limits[-1].counter][0] == 14
