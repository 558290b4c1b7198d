"""What is recorded goes out a share of the buckets at a time, and all of it within a second's worth of looks."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway import pulse
from gateway.tally import Template
from metering.model import keys
from metering.model.quota import CLOSED
from tests.integration.test_counting import Worker


@pytest.fixture
async def worker(redis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Worker]:
    """Every bucket is open; ten looks make a second, and none of them comes by itself."""
    monkeypatch.setattr(pulse, "SHIP_SECONDS", 1000.0)
    monkeypatch.setattr(pulse, "_LOOK_SECONDS", 100.0)
    async with Redis.from_url(redis) as client:
        run_id = (await client.info("server"))["run_id"]
        await client.mset({keys.epoch(bucket): f"1 {run_id}" for bucket in range(keys.BUCKETS)})
    worker = Worker(redis, tmp_path, "w1", CLOSED)
    await until(lambda: worker.admission.epochs.all_open and len(settled(worker)) == keys.BUCKETS)
    yield worker
    await worker.kill()


async def until(fact: Any) -> None:
    async with asyncio.timeout(10):
        while not fact():
            await asyncio.sleep(0.005)


def settled(worker: Worker) -> list[int]:
    """The buckets whose every record the store has taken."""
    return [bucket for bucket in range(keys.BUCKETS) if worker.shipper.replayed(bucket)]


async def test_each_look_ships_another_share_and_a_second_of_them_ships_everything(worker: Worker) -> None:
    for bucket in range(keys.BUCKETS):
        template = Template(1000 + bucket, f"org-{bucket}", bucket, 1, 1, "GET", 0, (("api", 1),), {})
        worker.recorder.ended(worker.recorder.granted(template, 1, 1, 1), template, "", 200, 1, 0, 0, {})
    shares = []
    for _ in range(10):
        before = set(worker.recorder.dirty_buckets())
        worker.pulse._ship_share()
        shares.append(before - set(worker.recorder.dirty_buckets()))
    assert {len(share) for share in shares} == {25, 26}
    assert sorted(bucket for share in shares for bucket in share) == list(range(keys.BUCKETS))
    await until(lambda: worker.shipper.taken(dict.fromkeys(range(keys.BUCKETS), 1)))


async def test_what_a_call_settled_goes_out_with_the_next_look_whoevers_turn_it_is(worker: Worker) -> None:
    recorder = worker.recorder
    for bucket in range(10):
        template = Template(1000 + bucket, f"org-{bucket}", bucket, 1, 1, "GET", 0, (("tokens", 9),), {})
        xid = recorder.granted(template, 1, 1, 1)
        if bucket in (3, 7):
            recorder.settled(xid, template, {"tokens": -4}, {})
        recorder.ended(xid, template, "", 200, 1, 0, 0, {})
    worker.pulse._ship_share()
    assert {3, 7}.isdisjoint(recorder.dirty_buckets())
    assert len(set(range(10)) & set(recorder.dirty_buckets())) == 7  # and one whose turn it was
    assert recorder.urgent == set()
