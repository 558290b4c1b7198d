"""What was settled reaches Postgres once, whatever dies and whoever else flushes. Real Valkey, real Postgres."""

import asyncio
import contextlib
from typing import Any
from uuid import UUID

import pytest

from aggregator.flush import flush_once
from metering.model import keys
from metering.model.clock import to_datetime

OTHER = "00000000-0000-4000-8000-000000000002"


class Died(Exception):
    """The process ended here."""


async def flush_until(last: str, house: Any) -> None:
    """An aggregator that dies after this step."""

    def die(step: str) -> None:
        if step == last:
            raise Died

    with pytest.raises(Died):
        await house.flush(observe=die, buckets=[keys.bucket_of(house.org)])


def all_tables(sum_: int) -> dict[str, int]:
    return {"usage_events": sum_, "usage_hourly": sum_, "usage_period": sum_}


async def test_a_flush_brings_rows_facts_and_marks(house: Any) -> None:
    await house.settle({house.field(): 5, house.field("^api"): 2, house.field("#2"): 6, house.field("#ms"): 90, house.field("#out"): 1234})
    report = await house.flush()
    assert (report.batches, report.rows, report.complete) == (1, 1, True)
    assert await house.used() == all_tables(5)
    event = await house.pool.fetchrow("SELECT * FROM billing.usage_events")
    assert (event["timestamp"], event["returned"]) == (to_datetime(house.minute * 60_000), 2)
    traffic = await house.pool.fetchrow("SELECT * FROM billing.traffic_hourly")
    assert (traffic["status_2xx"], traffic["duration_ms"], traffic["bytes_out"], traffic["bytes_in"]) == (6, 90, 1234, 0)
    assert await house.marks() == {(keys.bucket_of(house.org), "w1"): 1}


async def test_a_second_flush_changes_nothing(house: Any) -> None:
    await house.settle({house.field(): 5})
    await house.flush()
    report = await house.flush()
    assert (report.batches, report.replayed) == (0, 0)
    assert await house.used() == all_tables(5)


async def test_batches_add_up(house: Any) -> None:
    for seq in (1, 2, 3):
        await house.settle({house.field(): seq, house.field(minute=house.minute + 60): 10}, seq=seq)
        if seq == 2:
            await house.flush()
    await house.flush()
    assert await house.used() == all_tables(36)


async def test_a_batch_of_marks_alone_still_reaches_postgres(house: Any) -> None:
    await house.settle({})
    await house.flush()
    assert await house.marks() == {(keys.bucket_of(house.org), "w1"): 1}
    assert await house.redis.hget(keys.committed(keys.bucket_of(house.org)), "w1") == b"1"


async def test_only_marks_that_moved_travel_with_a_batch(house: Any) -> None:
    for worker in ("w1", "w2", "w3"):
        await house.settle({house.field(): 1}, worker=worker)
    await house.flush()
    await house.settle({house.field(): 1}, worker="w2", seq=2)
    await flush_until("drain", house)
    flying = await house.redis.hgetall(keys.flying(keys.bucket_of(house.org)))
    assert {name: value for name, value in flying.items() if name.startswith(b"@s:")} == {b"@s:w2": b"2"}


async def settle_some(house: Any, seq: int) -> None:
    for org in (house.org, OTHER):
        await house.settle({house.field(org=org): 5, house.field("#2", org=org): 1, "nonsense": 1}, seq=seq, org=org)


@pytest.mark.parametrize("deaths", [1, 2], ids=["fresh", "with a batch under way"])
async def test_a_flush_that_dies_after_any_step_is_made_up_for(house: Any, deaths: int) -> None:
    buckets, steps, left = [keys.bucket_of(org) for org in (house.org, OTHER)], list[str](), 0

    def die(_step: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Died

    await settle_some(house, 1)
    await house.flush(observe=steps.append, buckets=buckets)
    assert {"drain", "lock", "copy", "insert_events", "advance", "commit", "delete"} <= set(steps)
    for seq, last in enumerate(range(len(steps)), start=2):
        await settle_some(house, seq)
        for _ in range(deaths):
            left = last + 1
            with contextlib.suppress(Died):  # the second has less to do, and may reach its end
                await house.flush(observe=die, buckets=buckets)
        await house.flush()
        assert await house.used() == all_tables(5 * seq), steps[last]
        assert await house.used(org=OTHER) == all_tables(5 * seq), steps[last]
        assert set((await house.marks()).values()) == {seq}
        assert await house.pool.fetchval("SELECT count(*) FROM billing.usage_quarantine") == 2 * seq


async def test_a_flush_takes_also_what_was_settled_behind_a_batch_under_way(house: Any) -> None:
    await house.settle({house.field(): 5})
    await flush_until("drain", house)
    await house.settle({house.field(): 7}, seq=2)
    report = await house.flush()
    assert report.batches == 2
    assert await house.used() == all_tables(12)


async def test_several_aggregators_at_once_count_once(house: Any) -> None:
    orgs = [str(UUID(int=n)) for n in range(1, 41)]
    done = False

    async def aggregate() -> None:
        while not done:
            await flush_once(house.pool, house.redis)

    async def serve() -> None:
        nonlocal done
        for seq in range(1, 16):
            for org in orgs:
                # Organizations that share a bucket share its worker's sequence.
                await house.settle({house.field(org=org): 1}, org=org, worker=f"w-{org}", seq=seq)
        done = True

    await asyncio.gather(aggregate(), aggregate(), aggregate(), serve())
    await house.flush()
    sums = await house.pool.fetch("SELECT org_id, sum(quantity) AS sum FROM billing.usage_events GROUP BY org_id")
    assert {str(r["org_id"]): r["sum"] for r in sums} == dict.fromkeys(orgs, 15)


async def test_a_batch_drained_before_the_epoch_was_raised_is_dropped(house: Any) -> None:
    bucket = keys.bucket_of(house.org)
    await house.settle({house.field(): 5})
    await house.pool.execute("UPDATE billing.bucket_state SET epoch = epoch + 1 WHERE bucket = $1", bucket)
    report = await house.flush()
    assert (report.fenced, report.complete) == (1, False)
    assert await house.used() == all_tables(0)
    assert (await house.recovery().check()).restored == 1  # the next look brings the store to the new epoch
    await house.settle({house.field(): 5})  # the gateway replays: Postgres had no mark of it
    await house.flush()
    assert await house.used() == all_tables(5)


async def test_a_database_that_was_set_back_is_noticed_by_the_gap(house: Any) -> None:
    bucket = keys.bucket_of(house.org)
    for seq in (1, 2):
        await house.settle({house.field(): 5}, seq=seq)
        await house.flush()
    await house.pool.execute("UPDATE billing.bucket_state SET generation = 1 WHERE bucket = $1", bucket)
    await house.pool.execute("UPDATE billing.worker_marks SET seq = 1 WHERE bucket = $1", bucket)
    await house.settle({house.field(): 5}, seq=3)
    report = await house.flush()
    assert (report.gaps, report.complete) == (1, False)
    assert (await house.recovery().check()).restored == 1
    assert await house.redis.hget(keys.marks(bucket), "s:w1") == b"1"
    assert await house.redis.get(keys.generation(bucket)) == b"1"


async def test_what_cannot_be_read_is_set_aside_and_blocks_nothing(house: Any) -> None:
    good, org = house.field(), house.org
    bad = {
        "nonsense": 1,
        "a|b|c|d|e|f|g|h": 1,
        good.replace("|api|", "|Not A Meter|"): 1,
        good.replace("|api|", "|#unheard|"): 1,
        good.replace(org, "acme"): 1,
        good.replace(org, "{" + org + "}"): 1,
        good.replace(str(house.minute), str(10**30)): 1,
        good.replace("|GET|", "|G\0T|"): 1,
        good + "[" * 900: 1,
        good + '{"a":"\\u0000"}': 1,
        good + '{"a":"\\ud800"}': 1,
        good + '{"a":1e999}': 1,
        good + '{"a":{}}': 1,
        house.field(route=10**30): 1,
        house.field(key=99): 2**60,
    }
    await house.settle({good: 5, **bad})
    bucket = keys.bucket_of(org)
    await house.redis.hset(keys.live(bucket), mapping={b"\xff\xfe|\0": b"1", b"1|2": b"no number \xff"})
    await house.redis.hset(keys.marks(bucket), "s:broken", "many")
    report = await house.flush()
    assert (report.batches, report.quarantined) == (1, len(bad) + 3)
    assert await house.used() == all_tables(5)
    rows = await house.pool.fetch("SELECT field, value, reason FROM billing.usage_quarantine")
    assert len(rows) == len(bad) + 3
    assert all(r["reason"] for r in rows)
    assert await house.redis.exists(keys.flying(bucket)) == 0


async def test_dimensions_are_kept_apart_and_order_does_not_matter(house: Any) -> None:
    await house.settle({house.field(dimensions='{"a":1,"b":"x"}'): 1, house.field(dimensions='{"b":"x","a":1}'): 2, house.field(): 4})
    await house.flush()
    rows = await house.pool.fetch("SELECT dimensions, quantity FROM billing.usage_hourly ORDER BY quantity")
    assert [(r["dimensions"], r["quantity"]) for r in rows] == [('{"a": 1, "b": "x"}', 3), ("{}", 4)]


async def test_gateways_are_told_what_postgres_has_and_no_more(house: Any) -> None:
    bucket = keys.bucket_of(house.org)
    await house.settle({house.field(): 5})
    await flush_until("commit", house)
    assert await house.redis.hgetall(keys.committed(bucket)) == {}
    # Another copy of the same generation claims a mark that Postgres never took.
    await house.redis.hset(keys.flying(bucket), "@s:w1", 9)
    report = await house.flush()
    assert report.replayed == 1
    assert await house.redis.hgetall(keys.committed(bucket)) == {b"w1": b"1"}


async def test_a_late_delete_leaves_the_next_batch_alone(house: Any) -> None:
    from aggregator import scripts
    from aggregator.flush import run

    bucket = keys.bucket_of(house.org)
    await house.settle({house.field(): 5})
    await house.flush()
    await house.settle({house.field(): 5}, seq=2)
    await run(house.redis, [scripts.drain(bucket)])
    assert await run(house.redis, [scripts.delete(bucket, 1, 1, {"w1": 1})]) == [0]
    await house.flush()
    assert await house.used() == all_tables(10)


async def test_a_period_gets_its_end_from_the_subscriptions_anchor(house: Any) -> None:
    from billing.model.plan import PlanSpec

    anchor = to_datetime(house.now_ms).replace(month=1, day=31, hour=0, minute=0, second=0, microsecond=0)
    start, end = anchor.replace(month=10, day=31), anchor.replace(month=11, day=30)
    await house.subscribe(PlanSpec(name="free"), anchor_ms=round(anchor.timestamp() * 1000))
    await house.settle({house.field(period=round(start.timestamp())): 1, house.field(period=round(start.timestamp()) + 60): 1})
    await house.flush()
    rows = await house.pool.fetch("SELECT period_end FROM billing.usage_period ORDER BY period_start")
    assert rows[0]["period_end"] == end


async def test_usage_of_a_month_without_partition_waits_in_the_default_and_moves(house: Any) -> None:
    far = house.minute + 60 * 24 * 365
    await house.settle({house.field(minute=far): 5})
    await house.flush()
    assert await house.pool.fetchval("SELECT count(*) FROM billing.usage_events_default") == 1
    made = await house.pool.fetchval("SELECT billing.ensure_usage_partitions($1, 3)", to_datetime(far * 60_000))
    assert made == 5
    assert await house.pool.fetchval("SELECT billing.ensure_usage_partitions($1, 3)", to_datetime(far * 60_000)) == 0
    assert await house.pool.fetchval("SELECT count(*) FROM billing.usage_events_default") == 0
    assert await house.used() == all_tables(5)


async def test_usage_events_refuse_to_be_changed(house: Any) -> None:
    import asyncpg

    await house.settle({house.field(): 5})
    await house.flush()
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await house.pool.execute("UPDATE billing.usage_events SET quantity = 1")
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await house.pool.execute("DELETE FROM billing.usage_events")
