"""A fault of the gateway's own while it asks, or reads an answer: it is told, nobody waits for ever, and no count goes wrong."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from config.gateway import Fixed, Route
from gateway import compiled
from gateway.admission import BucketState, Status
from gateway.charges import Charge, make_charge
from metering.model import keys
from metering.model.apikey import KeyRecord
from metering.model.entitlement import Entitlement
from metering.model.quota import CLOSED, Quota
from tests.integration.gateway.test_asking import Asker, until
from tests.integration.test_counting import Worker

pytestmark = pytest.mark.skipif(compiled.in_use(), reason="what fails here stands in for parts of compiled classes")
ORGS = [f"5f0c1a52-7d43-4f0e-9c57-0f6f0f2b9a{number:02x}" for number in (1, 2, 3)]
LIMIT = 5


def charge_of(org: str, worker: Worker) -> Charge:
    entitlement = Entitlement(
        org_id=org, slug="acme", name="Acme", version=1, plan="free", plan_version=1, anchor_ms=0, quotas=(Quota(meter="api", limit=LIMIT),)
    )
    route = Route(id=1, path="/*", upstream="app", charge={"api": Fixed(1)}, on_store_failure=CLOSED)
    return make_charge(entitlement, route, "GET", KeyRecord(key_id=1, org_id=org), worker.clock.now_ms())


@pytest.fixture
async def worker(redis: str, tmp_path: Path) -> AsyncIterator[Worker]:
    async with Redis.from_url(redis) as client:
        run_id = (await client.info("server"))["run_id"]
        await client.mset({keys.epoch(bucket): f"1 {run_id}" for bucket in range(keys.BUCKETS)})
        for org in ORGS:
            await client.hset(keys.versions(keys.bucket_of(org)), org, "1")
    worker = Worker(redis, tmp_path, "w1", CLOSED, deadline_seconds=2)
    await until(lambda: worker.admission.epochs.all_open)
    yield worker
    await worker.kill()


@pytest.fixture
async def told() -> list[str]:
    found: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(str(context["exception"])))
    return found


async def ask(worker: Worker, charges: list[Charge], times: int = 1) -> list[list[Status]]:
    """Ask for all of them in one turn; what each was told."""
    asked = [[Asker() for _ in range(times)] for _ in charges]
    for charge, askers in zip(charges, asked, strict=True):
        for asker in askers:
            worker.admission.ask(charge, asker)
    await until(lambda: all(asker.decisions for askers in asked for asker in askers))
    return [[asker.decisions[0].status for asker in askers] for askers in asked]


async def used(redis: str, charges: list[Charge]) -> list[int]:
    async with Redis.from_url(redis) as client:
        return [int(value or 0) for value in await client.mget([charge.limits[-1].counter for charge in charges])]


class Broken:
    """Slots of which nothing can be said."""

    due, held = True, {"x": 1}

    def statement(self, *_: Any) -> bytes:
        raise RuntimeError("on purpose")


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_bucket_that_cannot_be_asked_leaves_no_other_unasked(redis: str, worker: Worker, place: int, told: list[str]) -> None:
    charges = [charge_of(org, worker) for org in ORGS]
    broken: BucketState = worker.admission.buckets[charges[place].bucket]
    broken.seats = Broken()  # type: ignore[assignment]
    statuses = [status for [status] in await ask(worker, charges)]
    assert statuses.pop(place) is Status.REFUSED_BY_RULE
    assert statuses == [Status.ADMITTED] * 2
    assert told == ["on purpose"]
    broken.seats = None
    assert await ask(worker, charges, LIMIT) == [
        [Status.ADMITTED] * (LIMIT - (at != place)) + [Status.REFUSED] * (at != place) for at in range(3)
    ]


async def test_a_script_that_cannot_be_put_together_is_decided_by_rule(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    charges = [charge_of(org, worker) for org in ORGS]

    def fail(turn: Any) -> bytes:
        raise RuntimeError("on purpose")

    with monkeypatch.context() as patched:
        patched.setattr(worker.admission, "_pack", fail)
        assert await ask(worker, charges) == [[Status.REFUSED_BY_RULE]] * 3
    await until(lambda: not any(worker.admission.buckets[charge.bucket].held for charge in charges))  # the store was asked: none had run
    assert await ask(worker, charges) == [[Status.ADMITTED]] * 3
    assert told == ["on purpose"]


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_an_answer_that_cannot_be_read_on_is_asked_after_and_what_it_charged_goes_back(
    redis: str, worker: Worker, place: int, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    charges = sorted((charge_of(org, worker) for org in ORGS), key=lambda charge: charge.org_id)
    grant = worker.admission._grant

    def fail(call: Any, *rest: Any) -> int:
        if call.state.bucket == charges[place].bucket:
            raise RuntimeError("on purpose")
        return grant(call, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(worker.admission, "_grant", fail)
        found = [status for [status] in await ask(worker, charges)]
    assert found == [Status.ADMITTED] * place + [Status.REFUSED_BY_RULE] * (3 - place)
    assert told == ["on purpose"]
    await until(lambda: not any(worker.admission.buckets[charge.bucket].held for charge in charges))
    await worker.pulse.ship_all()
    assert await used(redis, charges) == [1] * place + [0] * (3 - place)
