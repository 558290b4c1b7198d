"""The table of jobs: when each runs, what a failure does, who runs alone. A clock that is told, a real Postgres."""

import asyncio
import logging
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from aggregator.schedule import Job, Schedule
from metering.model.errors import BadInput


class Runs:
    """Counts what ran, and how it ended."""

    def __init__(self) -> None:
        self.count = 0
        self.ended: list[tuple[str, str]] = []
        self.trouble: Exception | None = None
        self.hold = asyncio.Event()
        self.hold.set()

    async def work(self) -> None:
        self.count += 1
        await self.hold.wait()
        if self.trouble:
            raise self.trouble

    def schedule(self, house: Any, *, interval: float = 60, alone: bool = False) -> Schedule:
        job = Job(name="work", interval_seconds=interval, run=self.work, alone=alone)
        return Schedule([job], house.pool, house.clock, ran=lambda *what: self.ended.append(what))


async def test_a_job_runs_at_once_and_then_each_interval(empty_house: Any) -> None:
    runs = Runs()
    schedule = runs.schedule(empty_house)
    for seconds, expected in ((0, 1), (30, 1), (29, 1), (1, 2), (60, 3), (600, 4)):
        empty_house.clock.advance(seconds)
        schedule.start_due()
        await schedule.settled()
        assert runs.count == expected


async def test_a_job_never_runs_twice_at_once(empty_house: Any) -> None:
    runs = Runs()
    runs.hold.clear()
    schedule = runs.schedule(empty_house)
    for _ in range(3):
        schedule.start_due()
        await asyncio.sleep(0)
        empty_house.clock.advance(100)
    assert runs.count == 1
    runs.hold.set()
    await schedule.settled()


async def test_a_failure_is_told_and_the_next_run_goes_on(empty_house: Any, caplog: pytest.LogCaptureFixture) -> None:
    runs = Runs()
    schedule = runs.schedule(empty_house, interval=1)
    caplog.set_level(logging.INFO, "weighbridge.schedule")
    for trouble in (RuntimeError("no luck"), RuntimeError("no luck"), None):
        runs.trouble = trouble
        schedule.start_due()
        await schedule.settled()
        await asyncio.sleep(0)
        empty_house.clock.advance(1)
    assert [outcome for _, outcome in runs.ended] == ["failed", "failed", "done"]
    told = [r.message for r in caplog.records]
    assert [m for m in told if "no luck" in m] == ["work failed and will be tried again: RuntimeError: no luck"]  # the same trouble once
    assert "work works again" in told


async def test_a_job_of_long_intervals_that_failed_is_tried_again_within_a_minute(empty_house: Any) -> None:
    runs = Runs()
    runs.trouble = RuntimeError("no luck")
    schedule = runs.schedule(empty_house, interval=86_400)
    for seconds, trouble, expected in ((0, runs.trouble, 1), (59, None, 1), (1, None, 2), (60, None, 2), (86_340, None, 3)):
        empty_house.clock.advance(seconds)
        runs.trouble = trouble
        schedule.start_due()
        await schedule.settled()
        await asyncio.sleep(0)
        assert runs.count == expected


async def cut_connection(house: Any) -> None:
    async with house.pool.acquire() as connection:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


async def no_postgres(_house: Any) -> None:
    await asyncpg.connect("postgresql://nobody@127.0.0.1:1/x")


async def no_store(_house: Any) -> None:
    async with Redis.from_url("redis://127.0.0.1:1") as client:
        await client.ping()


AWAY = [(cut_connection, "Postgres is out of reach"), (no_postgres, "Postgres is out of reach"), (no_store, "Redis is out of reach")]


@pytest.mark.parametrize(("call", "sentence"), AWAY)
async def test_a_server_that_is_away_is_a_sentence_and_no_traceback(
    empty_house: Any, caplog: pytest.LogCaptureFixture, call: Any, sentence: str
) -> None:
    schedule = Schedule(
        [Job(name="work", interval_seconds=1, run=lambda: call(empty_house), alone=False)], empty_house.pool, empty_house.clock,
        ran=lambda *_: None,
    )  # fmt: skip
    for _ in range(3):
        schedule.start_due()
        await schedule.settled()
        await asyncio.sleep(0)
        empty_house.clock.advance(1)
    told = [r for r in caplog.records if r.name == "weighbridge.schedule"]
    assert len(told) == 1
    assert told[0].message.startswith(f"work must wait: {sentence}")
    assert told[0].exc_info is None


async def test_what_nobody_foresaw_is_told_with_its_traceback(empty_house: Any, caplog: pytest.LogCaptureFixture) -> None:
    runs = Runs()
    runs.trouble = asyncpg.UndefinedTableError("no such table")
    schedule = runs.schedule(empty_house)
    schedule.start_due()
    await schedule.settled()
    await asyncio.sleep(0)
    assert [r.exc_info[0] for r in caplog.records if r.exc_info] == [asyncpg.UndefinedTableError]


async def test_what_says_itself_what_is_wrong_is_told_without_a_traceback(empty_house: Any, caplog: pytest.LogCaptureFixture) -> None:
    runs = Runs()
    runs.trouble = BadInput("a plan prices pages, which nobody counts")
    schedule = runs.schedule(empty_house)
    schedule.start_due()
    await schedule.settled()
    await asyncio.sleep(0)
    assert [(r.message, r.exc_info) for r in caplog.records if r.name == "weighbridge.schedule"] == [
        ("work failed and will be tried again: BadInput: a plan prices pages, which nobody counts", None)
    ]


async def test_two_aggregators_leave_a_job_to_one(empty_house: Any) -> None:
    one, other = Runs(), Runs()
    one.hold.clear()
    first, second = one.schedule(empty_house, alone=True), other.schedule(empty_house, alone=True)
    first.start_due()
    while not one.count:
        await asyncio.sleep(0.01)
    second.start_due()
    await second.settled()
    await asyncio.sleep(0)
    assert (other.count, other.ended) == (0, [("work", "elsewhere")])
    one.hold.set()
    await first.settled()


async def test_stopping_lets_the_work_under_way_end(empty_house: Any) -> None:
    runs, stop = Runs(), asyncio.Event()
    runs.hold.clear()
    serving = asyncio.create_task(runs.schedule(empty_house).run(stop))
    while not runs.count:
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.sleep(0.05)
    assert not serving.done()
    runs.hold.set()
    await serving
    assert runs.ended == [("work", "done")]


async def test_work_that_does_not_end_is_cut_off(empty_house: Any, caplog: pytest.LogCaptureFixture) -> None:
    runs, stop = Runs(), asyncio.Event()
    runs.hold.clear()
    serving = asyncio.create_task(runs.schedule(empty_house).run(stop, grace_seconds=0.05))
    while not runs.count:
        await asyncio.sleep(0.01)
    stop.set()
    await serving
    assert "cut off" in caplog.text


async def test_many_jobs_that_start_at_once_leave_one_another_connections_to_work_with(empty_house: Any) -> None:
    done = []

    async def work() -> None:
        await asyncio.sleep(0)  # until every lock is held that can be
        done.append(await empty_house.pool.fetchval("SELECT 1"))

    jobs = [Job(name=f"work {number}", interval_seconds=60, run=work) for number in range(3 * empty_house.pool.get_max_size())]
    schedule = Schedule(jobs, empty_house.pool, empty_house.clock, ran=lambda *_: None)
    schedule.start_due()
    async with asyncio.timeout(60):
        await schedule.settled()
    assert len(done) == len(jobs)
