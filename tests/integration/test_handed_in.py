"""`weighbridge journal replay`: a dead host's journals handed in later, on real parts. Once, however often and by however many."""

import asyncio
import random
import shutil
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from gateway import adoption, pulse
from metering.model import keys
from metering.model.clock import SystemClock
from metering.model.quota import CLOSED
from metering.store import journal as journals
from tests.integration.test_counting import ORG, System
from weighbridge.handed_in import Handed, JournalInUse, NotAJournal, look_through, names, replay_folder

CLOCK = SystemClock()


class Lost(System):
    """A system one of whose hosts dies with all its processes; its journals turn up later."""

    async def die(self, to: Path) -> None:
        """Both workers and their supervisor at once, calls in flight; then other workers, on another disk."""
        self.tasks[0].cancel()
        await asyncio.wait([self.tasks[0]])
        for worker in self.workers:
            await worker.kill()
        await self.redis.hdel(keys.WORKERS, *(worker.name for worker in self.workers))  # as three seconds would
        shutil.move(self.directory, to)
        self.directory = to.parent / "another"
        self.workers = [self.spawn(), self.spawn()]

    async def handed_in(self, folder: Path) -> list[Handed]:
        return await replay_folder(self.pool, self.redis, self.url, folder, self.directory.parent / "data", CLOCK)

    async def serve(self, calls: int, *, ended: int) -> None:
        self.arrive(calls)
        while self.calls:
            await asyncio.sleep(0.01)
        for _ in range(ended):
            worker = next(w for w in self.workers if w.in_flight)
            decision = worker.in_flight.pop()
            worker.admission.release(decision)
            worker.recorder.ended(decision.xid, worker.charge.template, "", 200, 1, 0, 0, {})
        for worker in self.workers:
            worker.recorder.flush()

    async def books(self) -> tuple[int, int]:
        """Ledger and counter."""
        return await self.ledger(), await self.counter()


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database, min_size=1, max_size=8) as pool:
        yield pool


@pytest.fixture
async def system(redis: str, pool: asyncpg.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lost]:
    monkeypatch.setattr(pulse, "SHIP_SECONDS", 0.1)
    monkeypatch.setattr(pulse, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(adoption, "_SCAN_SECONDS", 0.1)
    system = Lost(redis, pool, tmp_path / "journal", random.Random(1), CLOSED)
    try:
        await system.rest()
        yield system
    finally:
        await system.end()


async def test_a_dead_hosts_calls_are_counted_once_however_often_its_journals_are_handed_in(system: Lost, tmp_path: Path) -> None:
    await system.serve(20, ended=12)
    before = sorted(path.name for path in system.directory.iterdir())
    await system.die(tmp_path / "lost")
    handed = await system.handed_in(tmp_path / "lost")
    assert sum(one.in_flight for one in handed) == 8
    assert await system.books() == (12, 12)  # what was in flight is given back: its clients saw the host die
    for _ in range(2):
        again = await system.handed_in(tmp_path / "lost")
        assert await system.books() == (12, 12)
    assert all(one.known == one.batches for one in again)
    assert sorted(path.name for path in (tmp_path / "lost").iterdir()) == before  # nothing of it was touched


@pytest.mark.long
async def test_two_who_hand_in_the_same_journals_at_once_count_them_once(system: Lost, tmp_path: Path) -> None:
    await system.serve(20, ended=12)
    await system.die(tmp_path / "lost")
    shutil.copytree(tmp_path / "lost", tmp_path / "copy")
    await asyncio.gather(*(system.handed_in(tmp_path / name) for name in ("lost", "copy")))
    assert await system.books() == (12, 12)


@pytest.mark.long
async def test_what_the_host_had_shipped_before_it_died_is_not_counted_again(system: Lost, tmp_path: Path) -> None:
    await system.serve(10, ended=10)
    await system.rest()
    assert await system.books() == (10, 10)
    await system.serve(5, ended=5)
    await system.die(tmp_path / "lost")
    await system.flush()
    await system.handed_in(tmp_path / "lost")
    assert await system.books() == (15, 15)


@pytest.mark.long
async def test_a_store_that_forgot_the_worker_is_told_what_postgres_has_of_it(system: Lost, tmp_path: Path) -> None:
    await system.serve(10, ended=10)
    await system.die(tmp_path / "lost")
    await system.handed_in(tmp_path / "lost")
    await system.redis.hdel(keys.marks(keys.bucket_of(ORG)), "s:w1", "s:w2")
    await system.handed_in(tmp_path / "lost")
    assert await system.books() == (10, 10)


async def test_a_torn_last_record_is_dropped_and_told(system: Lost, tmp_path: Path) -> None:
    await system.serve(10, ended=10)
    await system.die(tmp_path / "lost")
    _, last = journals.segments(tmp_path / "lost", "w1")[-1]
    with last.open("ab") as file:
        file.write(b"\x40\x00\x00\x00torn")
    handed = {one.worker: one for one in await system.handed_in(tmp_path / "lost")}
    assert (handed["w1"].torn_bytes, handed["w2"].torn_bytes) == (8, 0)
    assert await system.books() == (10, 10)


@pytest.mark.long
async def test_a_living_workers_journal_is_left_to_its_gateway(system: Lost, tmp_path: Path) -> None:
    await system.serve(1, ended=1)
    with pytest.raises(JournalInUse, match="w1, w2 lives"):
        await system.handed_in(system.directory)
    with pytest.raises(NotAJournal, match="is no folder"):
        await system.handed_in(tmp_path / "nowhere")


def test_a_folder_without_journals_is_refused(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text("not ours")
    with pytest.raises(NotAJournal, match="holds no journal"):
        names(tmp_path)


def framed(payload: bytes) -> bytes:
    return struct.pack("<II", len(payload), zlib.crc32(payload)) + payload


HEAD = framed(b'["B","w",[]]')


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({1: b"an old log file, of something else"}, "does not begin as a segment of w's journal"),
        ({1: HEAD, 3: HEAD}, "segment 2 is missing"),
        ({1: HEAD + b"torn", 2: HEAD}, "is damaged"),
        ({1: framed(b'["B","another",[]]')}, "does not begin as a segment of w's journal"),
        ({1: HEAD + framed(b'["Z",1]')}, "that nobody can read"),
    ],
)
def test_what_is_no_whole_journal_is_refused(tmp_path: Path, files: dict[int, bytes], said: str) -> None:
    for number, content in files.items():
        (tmp_path / f"w.{number:06d}.log").write_bytes(content)
    with pytest.raises(NotAJournal, match=said):
        look_through(tmp_path, {})
