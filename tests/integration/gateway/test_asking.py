"""How a decision reaches who asked: once, never from inside `ask`, not where nobody waits any more."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from config.gateway import Fixed, Route
from gateway import recorder
from gateway.admission import Decision, Status
from gateway.charges import make_anonymous_charge, make_charge
from gateway.recorder import records
from gateway.tally import replay
from metering.model import keys
from metering.model.apikey import KeyRecord
from metering.model.entitlement import Entitlement
from metering.model.quota import CLOSED, OPEN, Per, Quota, Window
from tests.integration.test_counting import LIMIT, ORG, Worker


class Asker:
    """Somebody who asks. `leaves` with the decision of another; `fails` on its own."""

    def __init__(self, *, fails: bool = False, then: Any = None) -> None:
        self.gone, self.fails, self.then = False, fails, then
        self.decisions: list[Decision] = []

    def decided(self, decision: Decision) -> None:
        self.decisions.append(decision)
        if self.then is not None:
            self.then()
        if self.fails:
            raise RuntimeError("on purpose")


@pytest.fixture
async def store(redis: str) -> AsyncIterator[Redis]:
    """With every bucket open, as recovery leaves it."""
    async with Redis.from_url(redis) as client:
        run_id = (await client.info("server"))["run_id"]
        await client.mset({keys.epoch(bucket): f"1 {run_id}" for bucket in range(keys.BUCKETS)})
        await client.hset(keys.versions(keys.bucket_of(ORG)), ORG, "1")
        yield client


@pytest.fixture
async def worker(redis: str, store: Redis, tmp_path: Path) -> AsyncIterator[Worker]:
    worker = Worker(redis, tmp_path, "w1", CLOSED, deadline_seconds=2)
    await until(lambda: worker.admission.epochs.all_open)
    yield worker
    await worker.kill()


async def until(fact: Any) -> None:
    async with asyncio.timeout(5):
        while not fact():
            await asyncio.sleep(0.005)


def counter(worker: Worker) -> str:
    return worker.charge.limits[-1].counter


async def test_a_decision_comes_once_and_never_from_inside_ask(worker: Worker) -> None:
    askers = [Asker() for _ in range(3)]
    for asker in askers:
        worker.admission.ask(worker.charge, asker)
    assert not any(asker.decisions for asker in askers)
    await until(lambda: all(asker.decisions for asker in askers))
    assert [[d.status for d in asker.decisions] for asker in askers] == [[Status.ADMITTED]] * 3
    assert len({asker.decisions[0].xid for asker in askers}) == 3


async def test_without_a_store_too_it_comes_later(worker: Worker) -> None:
    await worker.link.close()
    asker = Asker()
    worker.admission.ask(worker.charge, asker)
    assert not asker.decisions
    await until(lambda: asker.decisions)
    assert asker.decisions[0].status is Status.REFUSED_BY_RULE


async def test_who_left_before_the_batch_was_packed_is_not_charged(store: Redis, worker: Worker) -> None:
    stays, leaves = Asker(), Asker()
    worker.admission.ask(worker.charge, leaves)
    worker.admission.ask(worker.charge, stays)
    leaves.gone = True
    await until(lambda: stays.decisions)
    assert not leaves.decisions
    assert await store.get(counter(worker)) == b"1"


async def test_who_left_while_the_store_decided_gets_its_unit_back(store: Redis, worker: Worker) -> None:
    stays, leaves = Asker(), Asker()
    for asker in (stays, leaves):
        worker.admission.ask(worker.charge, asker)
    await asyncio.sleep(0)  # the batch is packed
    leaves.gone = True
    await until(lambda: stays.decisions)
    assert not leaves.decisions
    worker.recorder.ended(stays.decisions[0].xid, worker.charge.template, "", 200, 1, 0, 0, {})
    await worker.pulse.ship_all()
    assert await store.get(counter(worker)) == b"1"
    assert worker.recorder.empty


async def test_who_leaves_as_others_are_told_gets_its_unit_back(store: Redis, worker: Worker) -> None:
    last = Asker()

    def leave() -> None:
        last.gone = True

    first = Asker(then=leave)
    for asker in (first, last):
        worker.admission.ask(worker.charge, asker)
    await until(lambda: first.decisions)
    assert not last.decisions
    assert len(worker.recorder.tally.open) == 1


async def test_one_who_fails_on_its_decision_does_not_take_the_others_along(worker: Worker) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    fails, other = Asker(fails=True), Asker()
    for asker in (fails, other):
        worker.admission.ask(worker.charge, asker)
    await until(lambda: other.decisions)
    assert [str(context["exception"]) for context in told] == ["on purpose"]
    assert len(worker.recorder.tally.open) == 1  # what it was granted went back


async def test_an_awaited_decision_that_is_cancelled_too_late_gives_its_unit_back(worker: Worker) -> None:
    task = asyncio.ensure_future(worker.admission.decide(worker.charge))
    first = Asker(then=lambda: asyncio.get_running_loop().call_soon(task.cancel))
    worker.admission.ask(worker.charge, first)
    await until(lambda: first.decisions)
    await asyncio.gather(task, return_exceptions=True)
    assert len(worker.recorder.tally.open) == 1 + (not task.cancelled())


async def test_of_many_that_ask_at_once_exactly_the_limit_passes(worker: Worker) -> None:
    askers = [Asker() for _ in range(LIMIT + 30)]
    for asker in askers:
        worker.admission.ask(worker.charge, asker)
    await until(lambda: all(asker.decisions for asker in askers))
    assert [asker.decisions[0].status for asker in askers] == [Status.ADMITTED] * LIMIT + [Status.REFUSED] * 30


async def asked(worker: Worker, count: int) -> list[Decision]:
    askers = [Asker() for _ in range(count)]
    for asker in askers:
        worker.admission.ask(worker.charge, asker)
    await until(lambda: all(asker.decisions for asker in askers))
    return [asker.decisions[0] for asker in askers]


@contextlib.contextmanager
def disk_full(tmp_path: Path) -> Iterator[None]:
    """The journal's descriptor takes nothing: no space, and no cutting back either."""
    full = os.open("/dev/full", os.O_WRONLY)
    [journal] = [
        int(fd.name)
        for fd in Path("/proc/self/fd").iterdir()
        if os.path.realpath(fd).startswith(f"{tmp_path}/w") and os.path.realpath(fd).endswith(".log")
    ]
    kept = os.dup(journal)
    os.dup2(full, journal, inheritable=False)
    try:
        yield
    finally:
        os.dup2(kept, journal, inheritable=False)
        os.close(kept)
        os.close(full)


async def test_where_nothing_can_be_written_down_a_closed_quota_refuses_everybody(worker: Worker, tmp_path: Path) -> None:
    await asked(worker, 1)
    with disk_full(tmp_path):
        await asked(worker, 1)  # what the store granted before it was noticed goes back
        found = await asked(worker, 300)  # more than one script takes
    assert {(d.status, d.rule) for d in found} == {(Status.REFUSED_BY_RULE, "closed")}


async def test_where_nothing_can_be_written_down_an_open_quota_lets_pass_and_all_is_counted_later(
    redis: str, store: Redis, tmp_path: Path
) -> None:
    worker = Worker(redis, tmp_path, "w2", OPEN, deadline_seconds=2)
    await until(lambda: worker.admission.epochs.all_open)
    await asked(worker, 1)
    with disk_full(tmp_path):
        await asked(worker, 1)  # what the store granted before it was noticed goes back
        found = await asked(worker, LIMIT + 30)
        assert {(d.status, d.rule) for d in found} == {(Status.PASSED_BY_RULE, "open")}
        assert worker.recorder.unwritten
    await asyncio.sleep(0.1)
    await until(lambda: worker.admission._flush())
    await worker.kill()
    tally, _ = replay(records(tmp_path, "w2"))
    assert len(tally.open) == 1 + LIMIT + 30


async def test_what_waits_for_a_full_disk_is_bounded_and_then_an_open_quota_refuses_too(
    redis: str, store: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "UNWRITTEN_BYTES", 1)
    worker = Worker(redis, tmp_path, "w3", OPEN, deadline_seconds=2)
    await until(lambda: worker.admission.epochs.all_open)
    await asked(worker, 1)
    with disk_full(tmp_path):
        await asked(worker, 1)
        assert {(d.status, d.rule) for d in await asked(worker, 5)} == {(Status.REFUSED_BY_RULE, "journal")}
    await worker.kill()


async def test_calls_of_many_kinds_with_many_limits_each_are_more_than_one_script_takes(worker: Worker) -> None:
    """A script hands all its keys to one command, and Lua takes so many values at a time."""
    acme = Entitlement(org_id=ORG, slug="acme", name="Acme", version=1, plan="free", plan_version=1, anchor_ms=0)
    route = Route(id=1, path="/*", upstream="app", charge={f"m{i}": Fixed(1) for i in range(35)})
    now_ms = worker.clock.now_ms()
    charges = [make_charge(acme, route, "GET", KeyRecord(key_id=i, org_id=""), now_ms) for i in range(260)]
    others = Route(
        id=2,
        path="/*",
        upstream="app",
        charge=route.charge,
        auth="none",
        quotas=tuple(Quota(meter=meter, limit=9, window=Window.HOUR, per=Per.ADDRESS, routed=True) for meter in route.charge),
    )
    charges += [make_anonymous_charge(others, "GET", f"192.0.2.{i}", now_ms) for i in range(250)]  # each in a bucket of its own, or nearly
    askers = [Asker() for _ in charges]
    for charge, asker in zip(charges, askers, strict=True):
        worker.admission.ask(charge, asker)
    await until(lambda: all(asker.decisions for asker in askers))
    assert {asker.decisions[0].status for asker in askers} == {Status.ADMITTED}
