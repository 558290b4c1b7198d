"""Commit drained batches to Postgres: each generation of a bucket once, whoever brings it and however often.

One transaction takes a group of buckets. A batch counts only under the epoch that stands in Postgres and only as the
next generation; anything else is told apart here and changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import asyncpg

from aggregator.batch import Batch
from metering.model.clock import to_datetime, to_ms
from metering.model.ledger import OTHER, TENANT, TENANTS_A_DAY
from metering.model.period import period_at
from metering.store.postgres import Queries

SQL = Queries.load("aggregator", "sql/ledger.sql")
_USAGE_COLUMNS = (
    "timestamp", "period_start", "org_id", "service", "route_id", "method", "key_id", "dimensions", "bucket", "quantity", "returned",
)  # fmt: skip
_TENANT = f'"{TENANT}"'  # in a row's dimensions

Observe = Callable[[str], None]


class Outcome(StrEnum):
    """What became of a batch."""

    COMMITTED = "committed"  # now
    REPLAYED = "replayed"  # Postgres had this generation already
    FENCED = "fenced"  # drained under an epoch that recovery has ended: what it held is replayed by the gateways
    GAP = "gap"  # Postgres lacks an earlier generation (it was set back): its epoch was raised, recovery follows


@dataclass(frozen=True, slots=True)
class Settled:
    """A batch's outcome. `marks` are those that stand in Postgres, where the batch may now be deleted."""

    batch: Batch
    outcome: Outcome
    marks: dict[str, int]

    @property
    def deletable(self) -> bool:
        return self.outcome in (Outcome.COMMITTED, Outcome.REPLAYED)


def judge(batch: Batch, epoch: int, generation: int) -> Outcome:
    """Pure: what may be done with a batch, given its bucket's state in Postgres."""
    if batch.epoch != epoch:
        return Outcome.FENCED
    if batch.generation <= generation:
        return Outcome.REPLAYED
    return Outcome.COMMITTED if batch.generation == generation + 1 else Outcome.GAP


async def commit(connection: asyncpg.Connection, batches: Sequence[Batch], observe: Observe) -> list[Settled]:
    """Take these batches, of different buckets, in one transaction. `observe(step)` is called after each step."""
    async with connection.transaction():
        rows = await connection.fetch(SQL["lock_buckets"], [b.bucket for b in batches])
        observe("lock")
        states = {row["bucket"]: (row["epoch"], row["generation"]) for row in rows}
        outcomes = [(b, judge(b, *states[b.bucket])) for b in batches]
        accepted = [b for b, outcome in outcomes if outcome is Outcome.COMMITTED]
        if accepted:
            await _store(connection, accepted, observe)
        gaps = [b for b, outcome in outcomes if outcome is Outcome.GAP]
        if gaps:
            await connection.execute(SQL["fence"], [b.bucket for b in gaps], [b.epoch for b in gaps])
        standing = await _standing_marks(connection, [b for b, outcome in outcomes if outcome is Outcome.REPLAYED])
    observe("commit")
    return [Settled(b, outcome, b.marks if outcome is Outcome.COMMITTED else standing.get(b.bucket, {})) for b, outcome in outcomes]


async def _store(connection: asyncpg.Connection, accepted: Sequence[Batch], observe: Observe) -> None:
    usage = [row for batch in accepted for row in batch.usage]
    if usage:
        await connection.execute(SQL["make_room"])
        await connection.copy_records_to_table("flush_usage", schema_name="pg_temp", columns=_USAGE_COLUMNS, records=usage)
        observe("copy")
        if any(_TENANT in row[7] for row in usage):
            await connection.execute(SQL["name_tenants"], TENANTS_A_DAY)
            await connection.execute(SQL["fold_tenants"], OTHER)
            observe("tenants")
        for step in ("insert_events", "upsert_hourly", "upsert_period"):
            await connection.execute(SQL[step])
            observe(step)
        await _end_periods(connection)
    traffic = [row for batch in accepted for row in batch.traffic]
    if traffic:
        await connection.execute(SQL["upsert_traffic"], *_columns(traffic))
        observe("upsert_traffic")
    await _quarantine(connection, accepted)
    marks = [(b.bucket, worker, seq) for b in accepted for worker, seq in b.marks.items()]
    if marks:
        await connection.execute(SQL["upsert_marks"], *_columns(marks))
        observe("upsert_marks")
    await connection.execute(SQL["advance"], [b.bucket for b in accepted], [b.generation for b in accepted])
    observe("advance")


async def _end_periods(connection: asyncpg.Connection) -> None:
    """Give periods that begin with this batch their end."""
    rows = await connection.fetch(SQL["periods_without_end"])
    if rows:
        ends = [to_datetime(period_end_ms(to_ms(r["period_start"]), _ms(r["anchor"]), _ms(r["anchored_at"]))) for r in rows]
        await connection.execute(SQL["set_period_end"], [r["org_id"] for r in rows], [r["period_start"] for r in rows], ends)


def period_end_ms(start_ms: int, anchor_ms: int | None, anchored_ms: int | None = None) -> int:
    """The end of the period that starts at `start_ms`: by the anchor if it is one of the anchor's. One of an anchor before it ended
    where this one took its place (`anchored_ms`), and any other a month on."""
    start, end = period_at(anchor_ms if anchor_ms is not None else start_ms, start_ms)
    if start == start_ms:
        return end
    month_on = period_at(start_ms, start_ms)[1]
    return anchored_ms if anchored_ms is not None and start_ms < anchored_ms < month_on else month_on


def _ms(instant: datetime | None) -> int | None:
    return None if instant is None else to_ms(instant)


async def _quarantine(connection: asyncpg.Connection, accepted: Sequence[Batch]) -> None:
    faults = [(b.bucket, b.epoch, b.generation, f.field, f.value, f.reason) for b in accepted for f in b.faults]
    if faults:
        await connection.execute(SQL["quarantine"], *_columns(faults))


async def _standing_marks(connection: asyncpg.Connection, batches: Sequence[Batch]) -> dict[int, dict[str, int]]:
    """What Postgres has of the workers of these batches: a replayed batch's own word is not enough to trim a journal by."""
    found: dict[int, dict[str, int]] = {}
    if batches:
        named = {b.bucket: b.marks for b in batches}
        for row in await connection.fetch(SQL["marks_of"], list(named)):
            if row["worker"] in named[row["bucket"]]:
                found.setdefault(row["bucket"], {})[row["worker"]] = row["seq"]
    return found


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
