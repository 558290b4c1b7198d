"""Rates, throttles, calls in flight and shadows through whole workers: what is let pass, what goes back, what others see."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from config.gateway import Fixed, Route, Weighed
from gateway import seats
from gateway.admission import Status
from gateway.charges import Charge, make_anonymous_charge, make_charge
from gateway.decisions import Decision
from gateway.standing import refusing, standing
from metering.model import keys
from metering.model.apikey import KeyRecord
from metering.model.clock import SystemClock
from metering.model.entitlement import Entitlement
from metering.model.quota import CLOSED, OPEN, Concurrency, Mode, Per, Quota, Rate, Then, Window
from tests.integration.test_counting import ORG, Worker

API: dict[str, Any] = {"api": Fixed(1)}


class Misses:
    """Metrics of which only what shadows would have refused is read."""

    def __init__(self) -> None:
        self.of: dict[str, float] = {}
        self.shadow_refused = self

    def add(self, count: float, meter: str) -> None:
        self.of[meter] = self.of.get(meter, 0) + count

    def __getattr__(self, name: str) -> Any:
        return lambda *facts: None


@pytest.fixture
async def store(redis: str) -> AsyncIterator[Redis]:
    """With every bucket open, as recovery leaves it."""
    async with Redis.from_url(redis) as client:
        run_id = (await client.info("server"))["run_id"]
        await client.mset({keys.epoch(bucket): f"1 {run_id}" for bucket in range(keys.BUCKETS)})
        await client.hset(keys.versions(keys.bucket_of(ORG)), ORG, "1")
        yield client


@pytest.fixture
async def spawn(redis: str, store: Redis, tmp_path: Path) -> AsyncIterator[Callable[[], Any]]:
    living: list[Worker] = []

    async def spawn() -> Worker:
        worker = Worker(redis, tmp_path, f"w{len(living) + 1}", CLOSED, deadline_seconds=2)
        worker.admission._metrics = Misses()
        living.append(worker)
        await until(lambda: worker.admission.epochs.all_open)
        return worker

    yield spawn
    for worker in living:
        if not worker.killed:
            await worker.kill()


async def until(fact: Callable[[], Any], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not fact():
            await asyncio.sleep(0.005)


def charge(*quotas: Quota, route: dict[str, Any] | None = None, at_ms: int = 0, **facts: Any) -> Charge:
    entitlement = Entitlement(
        org_id=ORG, slug="acme", name="Acme", version=1, plan="free", plan_version=1, anchor_ms=0, quotas=quotas, **facts
    )  # fmt: skip
    found = Route(id=1, path="/*", upstream="app", **{"charge": API, **(route or {})})
    return make_charge(entitlement, found, "GET", KeyRecord(key_id=1, org_id=""), at_ms or SystemClock().now_ms())


async def ask(worker: Worker, of: Charge, times: int = 1) -> list[Decision]:
    return list(await asyncio.gather(*(worker.admission.decide(of) for _ in range(times))))


def statuses(decisions: list[Decision]) -> list[str]:
    return [d.status.value for d in decisions]


async def settle(worker: Worker, of: Charge, decision: Decision, cause: str = "", weighed: dict[str, int] | None = None) -> None:
    worker.recorder.ended(decision.xid, of.template_of(decision.beyond), cause, 200, 1, 0, 0, weighed or {})
    await worker.pulse.ship_all()


# --- rates --------------------------------------------------------------------------------------------------------------


async def test_a_burst_passes_and_no_more_and_who_is_refused_is_charged_nothing(spawn: Any, store: Redis) -> None:
    worker = await spawn()
    of = charge(Quota(meter="api", limit=100), rates=(Rate(meter=None, limit=1, per="minute", burst=5),))
    decisions = await ask(worker, of, 8)
    assert statuses(decisions) == ["admitted"] * 5 + ["refused"] * 3
    assert await store.get(of.limits[0].counter) == b"5"
    assert decisions[-1].refusing == 1  # after the one quota
    assert refusing(of, await standing(store, of, SystemClock().now_ms())) == 1


async def test_a_rate_that_only_pretends_is_counted_where_it_would_have_refused(spawn: Any) -> None:
    worker = await spawn()
    of = charge(rates=(Rate(meter="api", limit=1, per="minute", burst=5, shadow=True),))
    assert statuses(await ask(worker, of, 8)) == ["admitted"] * 8
    assert worker.admission._metrics.of == {"api": 3}


async def test_while_the_store_is_away_a_rate_does_not_decide_unless_the_file_says_closed(spawn: Any) -> None:
    worker = await spawn()
    await worker.link.close()
    rates = (Rate(meter=None, limit=1, per="minute", burst=1),)
    assert statuses(await ask(worker, charge(rates=rates), 3)) == ["passed_by_rule"] * 3
    assert statuses(await ask(worker, charge(rates=rates, route={"closed_is_said": True}), 1)) == ["refused_by_rule"]


# --- levels -------------------------------------------------------------------------------------------------------------


async def test_a_level_that_is_used_up_refuses_the_calls_that_name_it_and_no_call_moves_it(spawn: Any, store: Redis) -> None:
    worker = await spawn()
    of = charge(Quota(meter="storage", limit=100), route={"charge": {"api": Fixed(1), "storage": Fixed(0)}})
    held = next(limit.counter for limit in of.limits if limit.meter == "storage")
    assert statuses(await ask(worker, of, 2)) == ["admitted"] * 2
    for level, status in ((99, "admitted"), (100, "refused"), (101, "refused"), (5, "admitted")):
        await store.set(held, level)
        (decision,) = await ask(worker, of)
        assert (decision.status.value, await store.get(held)) == (status, str(level).encode())
        if status == "admitted":
            await settle(worker, of, decision)
    names = [name for name in await store.hkeys(keys.live(keys.bucket_of(ORG))) if b"|storage|" in name]
    assert names == []
    await store.set(held, 500)
    assert statuses(await ask(worker, charge(Quota(meter="storage", limit=100)), 1)) == ["admitted"]  # it does not name it


# --- calls in flight ----------------------------------------------------------------------------------------------------


async def test_of_all_workers_together_only_so_many_are_in_flight_and_an_end_makes_room(spawn: Any) -> None:
    one, other = await spawn(), await spawn()
    of = charge(concurrency=(Concurrency(limit=3),))
    held = await ask(one, of, 2)
    assert statuses(await ask(other, of, 3)) == ["admitted", "refused", "refused"]
    one.admission.release(held[0])
    one.admission.release(held[0])  # once is enough
    await until_granted(other, of)
    assert statuses(await ask(one, of)) == ["refused"]


async def until_granted(worker: Worker, of: Charge, seconds: float = 10) -> Decision:
    async with asyncio.timeout(seconds):
        while True:
            decision = await worker.admission.decide(of)
            if decision.status is Status.ADMITTED:
                return decision
            worker.admission.release(decision)  # a busy machine: its store was away for a moment, and a rule let it pass
            await asyncio.sleep(0.01)


async def test_the_slots_of_a_killed_worker_lapse_and_those_of_a_living_one_do_not(spawn: Any) -> None:
    dies, lives, asks = await spawn(), await spawn(), await spawn()
    of = charge(concurrency=(Concurrency(limit=2),))
    await ask(lives, of)
    await ask(dies, of)
    await dies.kill()
    assert statuses(await ask(asks, of)) == ["refused"]
    await until_granted(asks, of, 12)
    assert statuses(await ask(asks, of)) == ["refused"]


async def test_slots_outlive_a_lost_connection_and_an_emptied_store(spawn: Any, store: Redis) -> None:
    one, other = await spawn(), await spawn()
    of = charge(concurrency=(Concurrency(limit=2),))
    held = await ask(one, of, 2)
    one.link.reset()
    await until(lambda: one.admission.epochs.all_open)
    assert statuses(await ask(other, of)) == ["refused"]
    await store.delete(of.slots[0].key, keys.alive(of.bucket))
    one.link.reset()  # as after any restart of the store
    await until(lambda: one.admission.epochs.all_open)
    await one.admission.decide(charge())
    assert statuses(await ask(other, of)) == ["refused"]
    for decision in held:
        one.admission.release(decision)
    await until_granted(other, of)


async def test_who_leaves_before_it_is_told_holds_nothing(spawn: Any) -> None:
    worker = await spawn()
    of = charge(concurrency=(Concurrency(limit=1),))
    task = asyncio.ensure_future(worker.admission.decide(of))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the script is on its way
    task.cancel()
    await until_granted(worker, of)


async def test_a_call_that_a_rule_let_pass_holds_its_slot_when_the_store_is_back(spawn: Any, store: Redis) -> None:
    one, other = await spawn(), await spawn()
    of = charge(concurrency=(Concurrency(limit=1),), route={"on_store_failure": OPEN})
    state = one.admission.buckets[of.bucket]
    state.open = False
    passed = (await ask(one, of))[0]
    assert passed.status is Status.PASSED_BY_RULE
    one.admission.epochs.ask([of.bucket])
    await until(lambda: state.open and not state.seats.due)
    await one.admission.decide(charge())
    assert statuses(await ask(other, of)) == ["refused"]
    one.admission.release(passed)
    await until_granted(other, of)


async def test_a_charge_without_such_limits_holds_nothing(spawn: Any) -> None:
    worker = await spawn()
    decision = (await ask(worker, charge(Quota(meter="api", limit=5))))[0]
    assert decision.slots == ()
    worker.admission.release(decision)
    assert worker.admission.buckets[keys.bucket_of(ORG)].seats is None
    assert seats.BEAT_SECONDS < 5


# --- throttle -----------------------------------------------------------------------------------------------------------


THROTTLE = Quota(meter="api", limit=4, mode=Mode.THROTTLE, then=Then(limit=3, window=Window.DAY))


async def used(store: Redis, of: Charge) -> list[int]:
    return [int(value or 0) for value in await store.mget([limit.counter for limit in of.limits])]


async def test_beyond_its_limit_a_throttle_charges_the_slower_quota_as_well_and_then_refuses(spawn: Any, store: Redis) -> None:
    worker = await spawn()
    of = charge(THROTTLE)
    decisions = await ask(worker, of, 9)
    assert statuses(decisions) == ["admitted"] * 7 + ["refused"] * 2
    assert [d.beyond for d in decisions[:7]] == [0] * 4 + [1] * 3
    assert await used(store, of) == [7, 3]
    assert refusing(of, await standing(store, of, SystemClock().now_ms())) == 1


async def test_what_a_throttled_call_was_charged_goes_back_on_both_its_quotas(spawn: Any, store: Redis) -> None:
    worker = await spawn()
    of = charge(THROTTLE)
    decisions = await ask(worker, of, 6)
    await settle(worker, of, decisions[0], "5xx")
    assert await used(store, of) == [5, 2]
    await settle(worker, of, decisions[5], "5xx")
    assert await used(store, of) == [4, 1]


async def test_a_grant_beyond_that_nobody_waits_for_any_more_goes_back_on_both(spawn: Any, store: Redis) -> None:
    worker = await spawn()
    of = charge(THROTTLE)
    await ask(worker, of, 4)
    tasks = [asyncio.ensure_future(worker.admission.decide(of)) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await worker.pulse.ship_all()
    assert await used(store, of) == [5, 1]


async def test_bytes_of_a_call_that_began_beyond_go_to_the_slower_quota_too(spawn: Any, store: Redis) -> None:
    worker = await spawn()
    quota = Quota(meter="bandwidth", limit=100, mode=Mode.THROTTLE, then=Then(limit=50, window=Window.DAY))
    of = charge(quota, route={"charge": {"bandwidth": Weighed("bytes")}})
    first = (await ask(worker, of))[0]
    await settle(worker, of, first, weighed={"bandwidth": 100})
    second = (await ask(worker, of))[0]
    assert (first.beyond, second.beyond) == (0, 1)
    await settle(worker, of, second, weighed={"bandwidth": 70})
    assert await used(store, of) == [170, 70]
    assert statuses(await ask(worker, of)) == ["refused"]


async def test_an_overage_stops_exactly_where_it_is_told(spawn: Any, store: Redis) -> None:
    worker = await spawn()
    of = charge(Quota(meter="api", limit=2, mode=Mode.OVERAGE, stop_at=5))
    assert statuses(await ask(worker, of, 7)) == ["admitted"] * 5 + ["refused"] * 2
    assert await used(store, of) == [5]


async def test_a_shadow_quota_counts_on_and_tells_how_many_it_would_have_refused(spawn: Any, store: Redis) -> None:
    worker = await spawn()
    of = charge(Quota(meter="api", limit=3, shadow=True, window=Window.MONTH), Quota(meter="api", limit=100))
    for _ in range(2):
        assert statuses(await ask(worker, of, 4)) == ["admitted"] * 4
    assert await used(store, of) == [8, 8]
    assert worker.admission._metrics.of == {"api": 5}


async def test_a_shadow_throttle_blocks_at_neither_of_its_limits(spawn: Any, store: Redis) -> None:
    worker = await spawn()
    of = charge(Quota(meter="api", limit=4, mode=Mode.THROTTLE, then=Then(limit=3, window=Window.DAY), shadow=True))
    assert statuses(await ask(worker, of, 9)) == ["admitted"] * 9
    assert await used(store, of) == [9, 5]
    assert worker.admission._metrics.of == {"api": 2}


# --- nobody in particular -----------------------------------------------------------------------------------------------


async def test_an_open_route_holds_each_address_to_its_limits_and_writes_nothing_down(spawn: Any, store: Redis) -> None:
    worker = await spawn()
    route = Route(
        id=1, path="/*", upstream="app", charge=API, auth="none",
        quotas=(Quota(meter="api", limit=2, window=Window.HOUR, per=Per.ADDRESS, routed=True),),
        rates=(Rate(meter=None, limit=1, per="minute", burst=9, by=Per.ADDRESS, routed=True),),
        concurrency=(Concurrency(limit=5, by=Per.ADDRESS, routed=True),),
    )  # fmt: skip
    now_ms = SystemClock().now_ms()
    here, there = (make_anonymous_charge(route, "GET", address, now_ms) for address in ("192.0.2.7", "2001:db8::1"))
    passed = await ask(worker, here, 3)
    assert statuses(passed) == ["admitted", "admitted", "refused"]
    assert statuses(await ask(worker, there)) == ["admitted"]
    assert [d.xid for d in passed] == [0, 0, 0]
    assert worker.recorder.empty
    assert passed[0].slots
    worker.admission.release(passed[0])
    neighbour = make_anonymous_charge(route, "GET", "2001:db8::2", now_ms)
    assert statuses(await ask(worker, neighbour, 2)) == ["admitted", "refused"]  # the same /64


async def test_an_open_route_with_a_quota_alone_writes_nothing_down_either(spawn: Any) -> None:
    worker = await spawn()
    quota = Quota(meter="api", limit=3, window=Window.HOUR, per=Per.ADDRESS, routed=True)
    route = Route(id=1, path="/*", upstream="app", charge=API, auth="none", quotas=(quota,))
    of = make_anonymous_charge(route, "GET", "192.0.2.9", SystemClock().now_ms())
    first, second = await ask(worker, of), await ask(worker, of, 3)
    assert (statuses(first), statuses(second)) == (["admitted"], ["admitted", "admitted", "refused"])
    assert [d.xid for d in (*first, *second)] == [0] * 4
    assert worker.recorder.empty


async def test_limits_by_tenant_and_address_hold_each_for_itself(spawn: Any) -> None:
    worker = await spawn()
    of = charge(Quota(meter="api", limit=1, per=Per.TENANT), rates=(Rate(meter=None, limit=1, per="minute", burst=2, by=Per.ADDRESS),))
    assert of.varies
    assert statuses(await ask(worker, of.variant("192.0.2.7", "emea"), 2)) == ["admitted", "refused"]
    assert statuses(await ask(worker, of.variant("192.0.2.7", "apac"))) == ["admitted"]
    assert statuses(await ask(worker, of.variant("192.0.2.7", "us"))) == ["refused"]
    assert of.variant("192.0.2.8", "us") is of.variant("192.0.2.8", "us")
