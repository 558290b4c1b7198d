"""A store that answers with errors, and then is well again: what was in doubt is asked after, also where nobody calls any more."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway import pulse
from gateway.admission import Status
from metering.model import keys
from metering.model.quota import CLOSED
from tests.integration.test_counting import ORG, Worker


@pytest.fixture
async def store(redis: str) -> AsyncIterator[Redis]:
    """With every bucket open, as recovery leaves it."""
    async with Redis.from_url(redis) as client:
        run_id = (await client.info("server"))["run_id"]
        await client.mset({keys.epoch(bucket): f"1 {run_id}" for bucket in range(keys.BUCKETS)})
        await client.hset(keys.versions(keys.bucket_of(ORG)), ORG, "1")
        yield client
        await client.config_set("maxmemory", "0")


@pytest.fixture
async def worker(redis: str, store: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Worker]:
    monkeypatch.setattr(pulse, "SHIP_SECONDS", 0.1)
    monkeypatch.setattr(pulse, "_LOOK_SECONDS", 0.02)
    worker = Worker(redis, tmp_path, "w1", CLOSED)
    async with asyncio.timeout(5):
        while not worker.admission.epochs.all_open:
            await asyncio.sleep(0.01)
    yield worker
    await worker.kill()


async def test_no_call_waits_on_a_store_that_is_full(store: Redis, worker: Worker) -> None:
    await store.config_set("maxmemory", "1")
    async with asyncio.timeout(5):
        for _ in range(5):
            await worker.call()
    assert set(worker.statuses) == {Status.REFUSED_BY_RULE}


async def test_an_admit_in_doubt_is_asked_after_though_nobody_calls_any_more(store: Redis, worker: Worker) -> None:
    await store.config_set("maxmemory", "1")
    await worker.call()
    await asyncio.sleep(0.2)
    bucket = worker.admission.buckets[worker.charge.bucket]
    assert bucket.held
    await store.config_set("maxmemory", "0")
    async with asyncio.timeout(5):
        while bucket.held:
            await asyncio.sleep(0.01)
