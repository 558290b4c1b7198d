"""A store that nobody drains: it takes rows up to a bound, the journals keep the rest, and every unit arrives once when it is drained."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway import pulse, shipper
from gateway.tally import Template
from metering.model import keys
from metering.model.quota import CLOSED
from tests.integration.test_counting import Worker

BUCKETS = (3, 77)
ENOUGH = 12  # rows of a bucket


@pytest.fixture
async def store(redis: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis) as client:
        run_id = (await client.info("server"))["run_id"]
        await client.mset({keys.epoch(bucket): f"1 {run_id}" for bucket in range(keys.BUCKETS)})
        yield client


@pytest.fixture
async def worker(redis: str, store: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Worker]:
    """No look comes by itself."""
    monkeypatch.setattr(pulse, "SHIP_SECONDS", 1000.0)
    monkeypatch.setattr(pulse, "_LOOK_SECONDS", 100.0)
    worker = Worker(redis, tmp_path, "w1", CLOSED)
    await until(lambda: worker.admission.epochs.all_open)
    await worker.pulse._beat(look_at_committed=False)
    await until(lambda: not worker.shipper.alone)
    worker.shipper._enough = str(ENOUGH)
    yield worker
    await worker.kill()


async def until(fact: Any) -> None:
    async with asyncio.timeout(10):
        while not fact():
            await asyncio.sleep(0.005)


def call(worker: Worker, key: int) -> None:
    """One call in each bucket, with rows of its own."""
    for bucket in BUCKETS:
        tid = bucket * 1000 + key
        template = Template(tid, f"org-{bucket}", bucket, key, 1, "GET", 0, (("api", 1),), {})
        worker.recorder.ended(worker.recorder.granted(template, 1, 1, 1), template, "", 200, 1, 0, 0, {})


async def look(worker: Worker) -> None:
    """Cut and send, as each second does, and hear what the store says."""
    lanes = [worker.shipper._lane(bucket) for bucket in BUCKETS]
    worker.shipper.cut_and_send()
    await until(lambda: not any(lane.sending for lane in lanes))


async def nobody_drained(store: Redis) -> None:
    for bucket in BUCKETS:
        await store.hset(keys.live(bucket), "!", "1")


async def drain(store: Redis, ledger: dict[str, int]) -> None:
    for bucket in BUCKETS:
        for field, quantity in (await store.hgetall(keys.live(bucket))).items():
            name = field.decode()
            if name != "!" and "|api|" in name:
                ledger[name] = ledger.get(name, 0) + int(quantity)
        await store.delete(keys.live(bucket))


async def fill(worker: Worker, store: Redis) -> None:
    for key in range(5):
        call(worker, key)
    await look(worker)
    await nobody_drained(store)
    call(worker, 5)
    await look(worker)
    assert worker.shipper.full_buckets == len(BUCKETS)


@pytest.mark.parametrize("kept_rows", [100_000, 0])  # in memory; beyond, the journal is read
async def test_what_the_store_has_no_room_for_arrives_once_when_it_is_drained(
    worker: Worker, store: Redis, monkeypatch: pytest.MonkeyPatch, kept_rows: int
) -> None:
    monkeypatch.setattr(shipper, "KEPT_ROWS", kept_rows)
    monkeypatch.setattr(shipper, "_RECORDS_A_LOOK", 7)
    ledger: dict[str, int] = {}
    await fill(worker, store)
    for key in range(6, 30):
        call(worker, key % 9)
        for bucket in BUCKETS:
            worker.shipper._lane(bucket).cut_minute = 0  # as if each were a minute later
        await look(worker)
    assert {await store.hlen(keys.live(bucket)) for bucket in BUCKETS} == {ENOUGH + 4}  # of the batch that came when there was room
    await drain(store, ledger)
    async with asyncio.timeout(10):
        while not worker.shipper.taken({bucket: worker.recorder.tally.seqs[bucket] for bucket in BUCKETS}):
            await look(worker)
            call(worker, 1)  # while it catches up, calls go on
    await look(worker)
    await drain(store, ledger)
    assert worker.shipper.full_buckets == 0
    counted = [lane.acked for lane in (worker.shipper._lane(bucket) for bucket in BUCKETS)]
    assert counted == [worker.recorder.tally.seqs[bucket] for bucket in BUCKETS]
    tallied, batches = shipped(worker)
    assert ledger == tallied
    assert len(batches) > 20


def shipped(worker: Worker) -> tuple[dict[str, int], list[Any]]:
    """What the journal says of units, of all that was cut."""
    batches, found = worker.recorder.batches_above(dict.fromkeys(BUCKETS, 0)), dict[str, int]()
    for batch in batches:
        for name, quantity in batch.sums.ledger.items():
            if "|api|" in name:
                found[name] = found.get(name, 0) + quantity
    return found, batches


async def test_while_a_bucket_is_full_it_is_cut_once_a_minute_and_memory_keeps_no_more_than_its_bound(
    worker: Worker, store: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(worker, store)
    before = dict(worker.recorder.tally.seqs)
    monkeypatch.setattr(shipper, "KEPT_ROWS", 10)
    for key in range(10):
        call(worker, key)
        await look(worker)
    assert worker.recorder.tally.seqs == before
    for bucket in BUCKETS:
        worker.shipper._lane(bucket).cut_minute = 0
    await look(worker)
    assert [worker.recorder.tally.seqs[bucket] for bucket in BUCKETS] == [before[bucket] + 1 for bucket in BUCKETS]
    assert worker.shipper._kept_rows <= 10


async def test_what_waits_in_the_journal_alone_counts_in_the_age_of_the_oldest_record(
    worker: Worker, store: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(worker, store)
    monkeypatch.setattr(shipper, "KEPT_ROWS", 0)
    call(worker, 6)
    for bucket in BUCKETS:
        worker.shipper._lane(bucket).cut_minute = 0
    await look(worker)
    assert not any(worker.shipper._lane(bucket).batches for bucket in BUCKETS)
    minute = worker.recorder.minute()
    monkeypatch.setattr(worker.recorder, "_now_ms", lambda: (minute + 30) * 60_000)
    assert worker.shipper.oldest_age_seconds() == 1800
