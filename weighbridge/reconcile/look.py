"""One look at everything: store, Postgres, journals and Stripe, put together to one book a key.

The order of reading makes it exact beside a running system. Each bucket of the store is read at one instant, Postgres in one
snapshot after it, the journals last: a journal has what the store has. Where a flush came in between, the generations tell.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from redis.asyncio import Redis

from aggregator.overage import STRIPE_HEARS_MS, rated_units
from billing.model.conservation import Books, Difference, Key, Lane, Place, lost_batches
from metering.model import keys
from metering.model.clock import to_datetime, to_ms
from metering.model.meter import Kind, Meter
from metering.store.postgres import Queries
from weighbridge.flushing import living

from . import journals
from .journals import Journal, Units
from .store import Bucket, key_of, period_counters, read_buckets, read_counters

SQL = Queries.load("weighbridge", "reconcile/ledger.sql")
_A_TURN_SECONDS = 0.3  # what a worker was granted is in its journal by then


class Between(Exception):
    """A flush committed while this was read; look again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is looked at. `org_ids` None is every organization; `folders` hold journals; `report_seconds` is how often overages are cut."""

    org_ids: Sequence[str] | None
    folders: Sequence[Path]
    meters: Mapping[str, Meter]
    now_ms: int
    report_seconds: int

    @property
    def uuids(self) -> list[UUID] | None:
        return None if self.org_ids is None else [UUID(org_id) for org_id in self.org_ids]

    @property
    def buckets(self) -> list[int]:
        return list(range(keys.BUCKETS)) if self.org_ids is None else sorted({keys.bucket_of(org_id) for org_id in self.org_ids})


@dataclass(slots=True)
class Seen:
    """`notes` say what could not be looked at."""

    books: dict[Key, Books] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    slugs: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Ledger:
    states: dict[int, tuple[int, int]]
    marks: dict[tuple[int, str], int]
    periods: dict[Key, Any]
    events: dict[Key, Any]
    hours: dict[Key, Any]
    handed_over: dict[Key, int]
    rated: dict[Key, int]
    quarantined: int
    on_the_way: set[str]  # organizations whose counters have yet to hear of what was recorded


async def look(pool: asyncpg.Pool, client: Redis, scope: Scope) -> Seen:
    """Raises Between, and what the drivers raise."""
    before = await asyncio.to_thread(_activity, scope.folders)
    wanted = await period_counters(client, scope.org_ids)
    alive = {name for name, beat in (await living(client)).items() if beat.get("role") == "worker"}
    buckets = await read_buckets(client, scope.buckets, wanted)
    ledger = await _read_ledger(pool, scope)
    await asyncio.sleep(_A_TURN_SECONDS)
    found = await asyncio.to_thread(journals.read, scope.folders)
    built = _Look(scope, buckets, ledger, found, alive)
    counted = [key for key, books in built.books.items() if books.counter is not None]
    again = await read_counters(client, [journals.period_counter(key) for key in counted])
    return built.seen(before, dict(zip(counted, again, strict=True)))


def _activity(folders: Sequence[Path]) -> dict[Key, int]:
    found: dict[Key, int] = {}
    for journal in journals.read(folders).values():
        for key, number in journal.activity().items():
            found[key] = found.get(key, 0) + number
    return found


async def _read_ledger(pool: asyncpg.Pool, scope: Scope) -> _Ledger:
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        periods = await connection.fetch(SQL["periods"], to_datetime(scope.now_ms - STRIPE_HEARS_MS), scope.uuids)
        since = min((row["period_start"] for row in periods), default=to_datetime(scope.now_ms))
        rated = await rated_units(connection, scope.meters, scope.now_ms)
        return _Ledger(
            states={row["bucket"]: (row["epoch"], row["generation"]) for row in await connection.fetch(SQL["states"])},
            marks={(row["bucket"], row["worker"]): row["seq"] for row in await connection.fetch(SQL["marks"])},
            periods=_by_key(periods),
            events=_by_key(await connection.fetch(SQL["events"], since, scope.uuids)),
            hours=_by_key(await connection.fetch(SQL["hours"], since, scope.uuids)),
            handed_over={key: row["units"] for key, row in _by_key(await connection.fetch(SQL["handed_over"], since, scope.uuids)).items()},
            rated={_key(*names): units for names, units in rated.items()},
            quarantined=await connection.fetchval(SQL["quarantined"]),
            on_the_way={str(row["org_id"]) for row in await connection.fetch(SQL["on_the_way"])},
        )


def _by_key(rows: Iterable[Any]) -> dict[Key, Any]:
    return {_key(row["org_id"], row["service"], row["period_start"]): row for row in rows}


def _key(org_id: UUID, service: str, period_start: datetime) -> Key:
    return Key(str(org_id), service, to_ms(period_start))


class _Look:
    """Puts together what was read."""

    def __init__(self, scope: Scope, buckets: Sequence[Bucket], ledger: _Ledger, found: Mapping[str, Journal], alive: set[str]) -> None:
        self._scope, self._ledger, self._journals, self._alive = scope, ledger, found, alive
        self._seen = Seen()
        self.books = self._seen.books
        self._in_bucket: dict[int, set[Key]] = {}
        self._elsewhere: set[str] = set()
        self._take_ledger()
        for bucket in buckets:
            self._take_bucket(bucket)
        for key in [key for key in self.books if self._outside(key)]:
            del self.books[key]

    def _outside(self, key: Key) -> bool:
        """A level is not added up: it stands outside conservation."""
        if self._scope.org_ids is not None and key.org_id not in self._scope.org_ids:
            return True
        meter = self._scope.meters.get(key.meter)
        return meter is not None and meter.kind is Kind.LEVEL

    def seen(self, before: Mapping[Key, int], again: Mapping[Key, int]) -> Seen:
        """`before` and `again`: the journals' activity and the counters at the beginning and at the end."""
        after: dict[Key, int] = {}
        for journal in self._journals.values():
            for key, number in journal.activity().items():
                after[key] = after.get(key, 0) + number
        for key, books in self.books.items():
            books.moving |= before.get(key) != after.get(key) or again.get(key) != books.counter or key.org_id in self._ledger.on_the_way
        self._say()
        return self._seen

    def _of(self, key: Key) -> Books:
        books = self.books.get(key)
        if books is None:
            books = self.books[key] = Books(key=key)
            self._in_bucket.setdefault(keys.bucket_of(key.org_id), set()).add(key)
        return books

    def _take_ledger(self) -> None:
        ledger, scope = self._ledger, self._scope
        late_ms = scope.now_ms - 2 * scope.report_seconds * 1000
        for key, row in ledger.periods.items():
            books = self._of(key)
            books.period, books.reported = row["cumulative"], row["reported"]
            books.overdue = row["period_end"] is not None and to_ms(row["period_end"]) < late_ms
            books.rated = ledger.rated.get(key)
        for rows, net, returned in ((ledger.events, "events", "events_returned"), (ledger.hours, "hours", "hours_returned")):
            for key, row in rows.items():
                books = self._of(key)
                setattr(books, net, row["quantity"])
                setattr(books, returned, row["returned"])
        for key, units in ledger.handed_over.items():
            self._of(key).outbox = units

    # --- a bucket --------------------------------------------------------------------------------------------------
    def _take_bucket(self, bucket: Bucket) -> None:
        epoch, generation = self._ledger.states[bucket.bucket]
        if bucket.epoch == 0 or bucket.epoch != epoch:
            self._unready(bucket, epoch)
            return
        self._check_generation(bucket, generation)
        for rows in (bucket.live, bucket.flying if not 0 < bucket.flying_generation <= generation else {}):
            for key, units in rows.items():
                books = self._of(key)
                books.settled += units.net
                books.settled_returned += units.returned
        if bucket.unreadable:
            self._faulty(Place.UNREADABLE, f"bucket {bucket.bucket} holds {bucket.unreadable} fields that nobody can read")
        for name in bucket.counters:
            if (counted := key_of(name)) is not None:
                self._of(counted)
        self._take_journals(bucket)
        for key in self._in_bucket.get(bucket.bucket, ()):
            if self._runs(key):
                self.books[key].counter = bucket.counters.get(journals.period_counter(key)) or 0

    def _unready(self, bucket: Bucket, epoch: int) -> None:
        if epoch or bucket.shown:
            why = "has no epoch" if not bucket.shown else f"has epoch {bucket.epoch}, Postgres {epoch}"
            self._seen.notes.append(f"bucket {bucket.bucket} {why}: it waits for recovery; is an aggregator running?")

    def _check_generation(self, bucket: Bucket, generation: int) -> None:
        """Raises Between where Postgres took a batch after the store was read."""
        if bucket.generation == generation or bucket.flying_generation == bucket.generation == generation + 1:
            return
        if bucket.generation < generation:
            raise Between
        sentence = f"bucket {bucket.bucket} has drained {bucket.generation} batches, and Postgres has {generation}: one is lost"
        self._faulty(Place.BUCKET, f"{sentence}, or Postgres was set back; the next flush fences it and recovery brings it back")

    def _runs(self, key: Key) -> bool:
        """Whether its period has not ended, so that its counter must stand."""
        row = self._ledger.periods.get(key)
        return row is None or row["period_end"] is None or to_ms(row["period_end"]) > self._scope.now_ms

    # --- journals --------------------------------------------------------------------------------------------------
    def _take_journals(self, bucket: Bucket) -> None:
        unread = {w for w, taken in bucket.marks.items() if taken > self._ledger.marks.get((bucket.bucket, w), 0)} - self._journals.keys()
        self._elsewhere |= unread | (self._alive - self._journals.keys())
        shipped: dict[Key, int] = {}
        for journal in self._journals.values():
            self._take_journal(bucket, journal, shipped)
        for key in self._in_bucket.get(bucket.bucket, ()):
            self.books[key].shipped = None if unread else shipped.get(key, 0)
            self.books[key].partly = bool(self._elsewhere)

    def _take_journal(self, bucket: Bucket, journal: Journal, shipped: dict[Key, int]) -> None:
        number = bucket.bucket
        committed = self._ledger.marks.get((number, journal.worker), 0)
        taken = max(committed, bucket.marks.get(journal.worker, 0))
        batches = journal.batches.get(number, {})
        lost = lost_batches(Lane(number, journal.worker, committed, taken, sorted(batches)))
        if lost is not None:
            self._seen.differences.append(lost)
        for seq, sums in batches.items():
            if committed < seq <= taken:
                for key, units in journals.rows_of(sums.ledger.items()).items():
                    self._of(key)
                    shipped[key] = shipped.get(key, 0) + units.net
        for sums in [*(sums for seq, sums in batches.items() if seq > taken), *(s for b, s in journal.tail.items() if b == number)]:
            for key, units in journals.rows_of(sums.ledger.items()).items():
                self._take_unshipped(bucket, key, units, journals.held(sums, bucket.epoch, journals.period_counter(key)))
                self._of(key).moving |= number in journal.by_rule

    def _take_unshipped(self, bucket: Bucket, key: Key, units: Units, held: int) -> None:
        books = self._of(key)
        books.unshipped += units.net
        books.unshipped_returned += units.returned
        books.held += held

    # --- words -----------------------------------------------------------------------------------------------------
    def _faulty(self, place: Place, sentence: str) -> None:
        self._seen.differences.append(Difference(place=place, units=None, sentence=sentence))

    def _say(self) -> None:
        if self._elsewhere:
            names = ", ".join(sorted(self._elsewhere))
            self._seen.notes.append(f"the journals of {names} are not in the folders looked at: name copies with --journal DIR")
        if self._ledger.quarantined:
            self._faulty(Place.UNREADABLE, f"{self._ledger.quarantined} fields of usage could not be read: see billing.usage_quarantine")
