"""A dead host's journals, handed in later: looked through, copied, and adopted as the host's own supervisor would have.

What they hold that the store or Postgres has already is told by the marks of their workers, which outlive the journals. So
the same journal may be handed in any number of times, and by several people at once. The folder itself is not touched.
"""

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from redis.asyncio import Redis

from aggregator.flush import flush_once
from gateway.adoption import Adopter
from gateway.recorder import records
from gateway.tally import minute_of, replay
from metering.model import keys
from metering.model.clock import Clock
from metering.model.errors import BadInput, DependencyUnavailable
from metering.model.ledger import JOURNALS_TAKEN_DAYS
from metering.store import journal as journals

from .flushing import living

_AGAIN_SECONDS, _PATIENCE_SECONDS = 0.2, 90.0
_MARKS = "SELECT bucket, worker, seq FROM billing.worker_marks WHERE worker = ANY ($1::text[])"


class NotAJournal(BadInput):
    """What was handed in is no folder of journals, or one of which a part is missing."""

    code = "not_a_journal"


class JournalForgotten(BadInput):
    """It ended so long ago that nobody remembers what Postgres has of it: all of it might be counted a second time."""

    code = "journal_forgotten"


class JournalInUse(BadInput):
    """Its worker lives, or its own host is about to ship it."""

    code = "journal_in_use"


class NotTakenYet(DependencyUnavailable):
    """The journals were not wholly in Postgres in time. Hand them in again: nothing is counted twice."""

    code = "journal_not_taken_yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """One worker's journal. `torn_bytes` of its end were no whole record. `known` of its `batches` were in Postgres before."""

    worker: str
    segments: int
    records: int
    torn_bytes: int
    batches: int
    known: int
    in_flight: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def look_through(folder: Path, marks: dict[tuple[str, int], int]) -> list[Handed]:
    """What lies there. `marks`: (worker, bucket) -> the last batch that Postgres has. Raises NotAJournal, JournalInUse."""
    workers = names(folder)
    return [_look(folder, worker, marks) for worker in workers]


def names(folder: Path) -> list[str]:
    """The workers whose journals lie there. Raises NotAJournal."""
    if not folder.is_dir():
        raise NotAJournal(f"{folder} is no folder")
    found = sorted({worker for path in folder.glob("*.log") if (worker := journals.worker_of(path)) is not None})
    if not found:
        raise NotAJournal(f"{folder} holds no journal: no file is named like w0-0123456789ab.000001.log")
    return found


def _look(folder: Path, worker: str, marks: dict[tuple[str, int], int]) -> Handed:
    if _held(folder / f"{worker}.lock"):
        raise JournalInUse(f"a process on this host holds the journal of {worker}: it ships it by itself")
    segments = journals.segments(folder, worker)
    numbers = [number for number, _ in segments]
    missing = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    if missing:
        raise NotAJournal(f"of the journal of {worker} segment {missing[0]} is missing: what follows it would be counted wrongly")
    torn = 0
    for number, path in segments:
        torn = _check(worker, path, first=number == numbers[0], last=number == numbers[-1])
    found = list(records(folder, worker))
    try:
        tally, batches = replay(iter(found))
    except (KeyError, ValueError, TypeError, IndexError) as exc:
        raise NotAJournal(f"the journal of {worker} holds a record that nobody can read: {exc!r}") from exc
    known = sum(batch.seq <= marks.get((worker, batch.bucket), 0) for batch in batches)
    return Handed(
        worker=worker, segments=len(segments), records=len(found), torn_bytes=torn, batches=len(batches), known=known,
        in_flight=len(tally.open),
    )  # fmt: skip


def _check(worker: str, path: Path, *, first: bool, last: bool) -> int:
    """How many bytes at its end are no whole record; only the last segment may have any. Raises NotAJournal."""
    payloads = list(journals.read(path))
    size = path.stat().st_size
    torn = size - journals.bytes_of(payloads)
    head, may_lack_it = _first(payloads), last and (not first or not size)  # its host died as it began
    if not (may_lack_it and not payloads) and (not isinstance(head, list) or head[:2] != ["B", worker]):
        raise NotAJournal(f"{path.name} does not begin as a segment of {worker}'s journal")
    if torn and not last:
        raise NotAJournal(f"{path.name} is damaged {size - torn:,} bytes after its beginning, and is not the last of its journal")
    return torn


def _check_age(folder: Path, worker: str, minute: int) -> None:
    """Postgres knows nothing of this worker: it never had anything, or it was too long ago."""
    ended = max((minute_of(record) for record in records(folder, worker)), default=0)
    if ended and minute - ended >= JOURNALS_TAKEN_DAYS * 1_440:
        days = (minute - ended) // 1_440
        raise JournalForgotten(f"the journal of {worker} ends {days} days ago, and Postgres no longer knows how far it has it")


def _first(payloads: Sequence[bytes]) -> Any:
    try:
        return orjson.loads(payloads[0]) if payloads else None
    except ValueError:
        return None


def _held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False  # a copy need not have it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


async def replay_folder(pool: asyncpg.Pool, client: Redis, redis_url: str, folder: Path, data_dir: Path, clock: Clock) -> list[Handed]:
    """Bring all of it to Postgres, once. Raises NotAJournal, JournalForgotten, JournalInUse, NotTakenYet, and what the drivers raise."""
    workers = await asyncio.to_thread(names, folder)
    alive = sorted(set(workers) & (await living(client)).keys())
    if alive:
        raise JournalInUse(f"{', '.join(alive)} lives: its own gateway ships its journal")
    marks = {(row["worker"], row["bucket"]): row["seq"] for row in await pool.fetch(_MARKS, workers)}
    handed = await asyncio.to_thread(look_through, folder, marks)
    for worker in set(workers) - {worker for worker, _ in marks}:
        await asyncio.to_thread(_check_age, folder, worker, clock.now_ms() // 60_000)
    await _remind(client, marks)
    async with _copied(folder, workers, data_dir) as copy:
        await _adopt(pool, client, redis_url, copy, clock)
    return handed


async def _remind(client: Redis, marks: dict[tuple[str, int], int]) -> None:
    """The store must know what Postgres has of these workers; where it does, it may know more."""
    pipe = client.pipeline(transaction=False)
    for (worker, bucket), seq in marks.items():
        pipe.hsetnx(keys.marks(bucket), f"s:{worker}", str(seq))
    await pipe.execute()


@contextlib.asynccontextmanager
async def _copied(folder: Path, workers: Sequence[str], data_dir: Path) -> AsyncIterator[Path]:
    """Whoever adopts a journal writes to it."""
    await asyncio.to_thread(data_dir.mkdir, parents=True, exist_ok=True)
    copy = Path(tempfile.mkdtemp(prefix="handed-in-", dir=data_dir))
    try:
        for worker in workers:
            for _, path in journals.segments(folder, worker):
                await asyncio.to_thread(shutil.copyfile, path, copy / path.name)
            (copy / f"{worker}.lock").touch(mode=0o600)
        yield copy
    finally:
        shutil.rmtree(copy)


async def _adopt(pool: asyncpg.Pool, client: Redis, redis_url: str, folder: Path, clock: Clock) -> None:
    adopter = Adopter(redis_url, folder, clock, f"handed-in-{secrets.token_hex(6)}", takes_old=True)
    adopting = asyncio.create_task(adopter.run())
    deadline = clock.monotonic() + _PATIENCE_SECONDS
    try:
        while clock.monotonic() < deadline:
            await asyncio.sleep(_AGAIN_SECONDS)
            if adopting.done():
                adopting.result()
            report = await flush_once(pool, client)
            if report.complete and not adopter.waiting and not journals.workers(folder):
                return
        raise NotTakenYet(f"{', '.join(adopter.waiting) or 'the buckets'} wait: is an aggregator running, and every bucket open?")
    finally:
        adopting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await adopting
