"""A store that forgot is made what Postgres says, and admits again when the gateways have replayed. Real parts."""

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest

from metering.model import keys
from metering.model.quota import Window

WORKER = "w1"


class Died(Exception):
    """The process ended here."""


def counter(house: Any, window: Window, start_ms: int, **scope: Any) -> str:
    name = keys.scope(route_id=scope.get("route_id"), key_id=scope.get("key_id"))
    return keys.counter(house.org, "api", name, window, start_ms)


async def server_minute(house: Any) -> int:
    """The minute it is on the store's clock: counters are restored for windows that hold now."""
    seconds, _ = await house.redis.time()
    return int(seconds) // 60


async def beat(house: Any, worker: str = WORKER, *, age_ms: int = 0) -> None:
    seconds, micros = await house.redis.time()
    await house.redis.hset(keys.WORKERS, worker, json.dumps({"at_ms": seconds * 1000 + micros // 1000 - age_ms, "role": "worker"}))


async def replayed(house: Any, bucket: int, worker: str = WORKER) -> None:
    epoch = (await house.tag(bucket)).split(" ")[0]
    await house.redis.hset(keys.marks(bucket), f"r:{worker}", epoch)


async def test_a_store_that_was_never_used_opens_at_once(empty_house: Any) -> None:
    report = await empty_house.recovery().check()
    assert (report.restored, report.opened, report.waiting) == (keys.BUCKETS, keys.BUCKETS, 0)
    info = await empty_house.redis.info("server")
    assert await empty_house.redis.get(keys.epoch(0)) == f"1 {info['run_id']}".encode()
    assert empty_house.republished == 1


async def test_what_was_done_is_told_as_it_was(empty_house: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "weighbridge.recovery")
    await empty_house.recovery().check()
    await empty_house.redis.flushall()
    await empty_house.recovery().check()
    assert [(r.levelname, r.message) for r in caplog.records if r.name == "weighbridge.recovery"] == [
        ("INFO", "256 buckets of a new store are set up"),
        ("WARNING", "256 buckets of the store had to be brought back; 256 are restored, under a new epoch"),
    ]


async def test_a_store_in_order_is_left_alone(house: Any) -> None:
    report = await house.recovery().check()
    assert (report.restored, report.opened, report.needing) == (0, 0, 0)
    assert house.republished == 1


async def test_counters_come_back_for_every_window_and_scope(house: Any) -> None:
    minute = await server_minute(house)
    hour = minute // 60 * 3_600_000
    day = minute // 1440 * 86_400_000
    before = minute - minute % 60 - 1  # the hour before, perhaps the day or month before
    period = house.period_start // 1000
    await house.settle(
        {
            house.field(minute=minute, route=7, key=3): 5,
            house.field(minute=minute, route=8, key=3): 2,
            house.field(minute=minute, route=7, key=4): 1,
            house.field(minute=before, route=7, key=3): 10,
            house.field("^api", minute=minute): 4,
            house.field("#2", minute=minute): 9,
        }
    )
    await house.flush()
    await house.pool.execute("UPDATE billing.usage_period SET period_end = now() + interval '9 days'")
    await house.redis.flushall()
    await house.recovery().check()
    hourly = {scope: counter(house, Window.HOUR, hour, **dict(scope)) for scope in _SCOPES}
    values = dict(zip(_SCOPES, await house.redis.mget(hourly.values()), strict=True))
    assert [int(v) for v in values.values()] == [8, 6, 2, 7, 1, 5]
    assert await house.redis.get(counter(house, Window.PERIOD, period * 1000)) == b"18"
    assert await house.redis.get(counter(house, Window.PERIOD, period * 1000, route_id=7, key_id=3)) == b"15"
    same_day = before // 1440 == minute // 1440
    assert await house.redis.get(counter(house, Window.DAY, day)) == (b"18" if same_day else b"8")
    expires = await house.redis.pexpiretime(hourly[_SCOPES[0]])
    assert expires == hour + 3_600_000 + keys.COUNTER_LINGERS_MS


_SCOPES: list[tuple[tuple[str, int], ...]] = [
    (),
    (("route_id", 7),),
    (("route_id", 8),),
    (("key_id", 3),),
    (("key_id", 4),),
    (("route_id", 7), ("key_id", 3)),
]


async def test_counters_are_set_and_never_added_to(house: Any) -> None:
    minute = await server_minute(house)
    key = counter(house, Window.HOUR, minute // 60 * 3_600_000)
    stale = counter(house, Window.HOUR, minute // 60 * 3_600_000, route_id=99)
    await house.settle({house.field(minute=minute): 5}, counters={key: 5, stale: 3})
    await house.flush()
    await house.redis.incrby(key, 100)
    await house.pool.execute("UPDATE billing.bucket_state SET epoch = epoch + 1")
    await house.recovery().check()
    assert await house.redis.get(key) == b"5"
    assert await house.redis.get(stale) is None


async def test_marks_and_generation_come_back_and_what_was_not_committed_is_settled_again(house: Any) -> None:
    bucket = keys.bucket_of(house.org)
    await house.settle({house.field(): 5})
    await house.flush()
    await house.settle({house.field(): 7}, seq=2)
    await house.redis.flushall()
    await house.recovery().check()
    assert await house.redis.hget(keys.marks(bucket), "s:w1") == b"1"
    assert await house.redis.hget(keys.committed(bucket), "w1") == b"1"
    assert await house.settle({house.field(): 5}) == [b"mark", 1]  # the first is known
    assert await house.settle({house.field(): 7}, seq=2) == [b"mark", 2]
    await house.flush()
    assert set((await house.used()).values()) == {12}


async def test_a_stale_replica_is_noticed_by_its_run_id(house: Any) -> None:
    bucket = keys.bucket_of(house.org)
    await house.settle({house.field(): 5})
    snapshot = {key: await house.redis.dump(key) for key in await house.redis.keys("*")}
    await house.flush()
    await house.settle({house.field(): 7}, seq=2)
    await house.flush()
    await house.redis.flushall()
    for key, dump in snapshot.items():
        await house.redis.restore(key, 0, dump)
    house.redis.run = "another"
    await house.flush()  # the stale batch is generation 1 again: known
    assert set((await house.used()).values()) == {12}
    assert (await house.recovery().check()).restored == keys.BUCKETS
    assert await house.redis.get(keys.epoch(bucket)) == b"2 another wait"
    assert await house.redis.hget(keys.marks(bucket), "s:w1") == b"2"


async def test_keys_that_a_stale_replica_brings_back_are_forgotten(house: Any) -> None:
    await house.redis.set(keys.api_key("f00d"), "revoked long ago")
    await house.redis.hset(keys.versions(3), "deleted long ago", "1")
    house.redis.run = "another"
    await house.recovery().check()
    assert await house.redis.exists(keys.api_key("f00d"), keys.versions(3)) == 0


async def test_keys_stay_when_only_some_buckets_are_restored(house: Any) -> None:
    await house.redis.set(keys.api_key("f00d"), "active")
    await house.redis.delete(keys.epoch(5))
    assert (await house.recovery().check()).restored == 1
    assert await house.redis.exists(keys.api_key("f00d")) == 1


async def test_a_bucket_waits_until_every_living_gateway_has_replayed(house: Any) -> None:
    bucket = keys.bucket_of(house.org)
    await house.settle({house.field(): 5})
    await house.flush()
    await house.redis.delete(keys.epoch(bucket))
    await beat(house)
    await beat(house, "gone", age_ms=60_000)
    recovery = house.recovery()
    assert (await recovery.check()).waiting == 1
    await replayed(house, bucket)
    house.clock.advance(1)
    assert (await recovery.check()).opened == 0  # others may live that have not said so yet
    await house.redis.hdel(keys.marks(bucket), "r:w1")
    house.clock.advance(1.5)
    assert (await recovery.check()).opened == 0
    await replayed(house, bucket)
    report = await recovery.check()
    assert (report.opened, report.opened_late) == (1, 0)


async def test_a_store_lost_before_the_first_flush_waits_too(house: Any) -> None:
    await house.settle({house.field(): 5})  # Postgres has no mark of it, and a journal has it
    await house.redis.flushall()
    report = await house.recovery().check()
    assert (report.restored, report.opened, report.waiting) == (keys.BUCKETS, 0, keys.BUCKETS)


async def test_a_bucket_does_not_wait_for_ever(house: Any) -> None:
    bucket = keys.bucket_of(house.org)
    await house.settle({house.field(): 5})
    await house.flush()
    await house.redis.delete(keys.epoch(bucket))
    recovery = house.recovery()
    await recovery.check()
    house.clock.advance(7)
    await beat(house)
    assert (await recovery.check()).opened == 0
    house.clock.advance(1.5)
    report = await recovery.check()
    assert (report.opened, report.opened_late) == (1, 1)


async def test_a_store_ahead_of_postgres_gets_an_epoch_above_both(house: Any) -> None:
    await house.redis.set(keys.epoch(7), "40 " + (await house.tag(8)).split(" ")[1])
    assert (await house.recovery().check()).restored == 1
    assert (await house.tag(7)).startswith("41 ")
    assert await house.pool.fetchval("SELECT epoch FROM billing.bucket_state WHERE bucket = 7") == 41


async def test_a_recovery_that_dies_after_any_step_is_made_up_for(house: Any) -> None:
    bucket = keys.bucket_of(house.org)
    await house.settle({house.field(): 5})
    await house.flush()
    for last in ("raise_epochs", "close", "republish", "scan", "restore"):
        await house.settle({house.field(): 5}, seq=2)  # never committed before the loss

        def die(step: str, last: str = last) -> None:
            if step == last:
                raise Died

        await house.redis.flushall()
        with pytest.raises(Died):
            await house.recovery(die).check()
        await house.flush()
        assert set((await house.used()).values()) == {5}
        recovery = house.recovery()
        await recovery.check()
        house.clock.advance(2.5)
        await recovery.check()
        assert await house.redis.get(keys.epoch(bucket)) == (await house.tag(bucket)).encode()
        assert await house.redis.hget(keys.marks(bucket), "s:w1") == b"1", last
    await house.settle({house.field(): 7}, seq=2)
    await house.flush()
    assert set((await house.used()).values()) == {12}


async def test_a_late_recovery_cannot_undo_a_newer_one(house: Any) -> None:
    from aggregator import scripts
    from aggregator.flush import run

    bucket = keys.bucket_of(house.org)
    key = counter(house, Window.HOUR, 0)
    run_id = (await house.tag(bucket)).split(" ")[1]

    def restore(epoch: int, value: int) -> Any:
        far = 4_000_000_000_000
        return scripts.restore(bucket, epoch=epoch, run_id=run_id, generation=epoch, marks={}, forget=[], counters={key: (value, far)})

    assert await run(house.redis, [scripts.close(bucket, 5), scripts.close(bucket, 6), restore(5, 1)]) == [1, 1, 0]
    assert await run(house.redis, [restore(6, 2), restore(6, 3), scripts.close(bucket, 5), restore(5, 1)]) == [1, 0, 0, 0]
    assert await house.redis.get(key) == b"2"
    assert await house.redis.get(keys.epoch(bucket)) == f"6 {run_id} wait".encode()


async def test_two_aggregators_recover_once(house: Any) -> None:
    await house.redis.flushall()
    reports = await asyncio.gather(*(house.recovery().check() for _ in range(4)))
    assert sum(r.restored for r in reports) == keys.BUCKETS
    assert await house.pool.fetchval("SELECT max(epoch) FROM billing.bucket_state") == 2


async def test_a_closed_bucket_takes_nothing(house: Any) -> None:
    from aggregator import scripts
    from aggregator.flush import run

    bucket = keys.bucket_of(house.org)
    await run(house.redis, [scripts.close(bucket, 2)])
    assert (await house.settle({house.field(): 5}))[0] == b"unready"
    report = await house.flush()
    assert (report.unready, report.complete) == (1, False)


async def test_many_organizations_are_restored_in_one_look(house: Any) -> None:
    minute = await server_minute(house)
    orgs = [str(UUID(int=n)) for n in range(1, 301)]
    for org in orgs:
        await house.settle({house.field(minute=minute, org=org): 2}, org=org, worker=f"w-{org}")
    await house.flush()
    await house.redis.flushall()
    await house.recovery().check()
    found = await house.redis.mget([keys.counter(o, "api", "o", Window.HOUR, minute // 60 * 3_600_000) for o in orgs])
    assert found == [b"2"] * len(orgs)
