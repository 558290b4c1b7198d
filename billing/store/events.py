"""Usage that is born in Postgres, levels, and what the store's counters are told of them. The SQL is in events.sql."""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from uuid import UUID

import asyncpg

from billing.model.event import part_of
from billing.services.ports_events import Bounds, EventRow, Filter, PendingMove, StagedSum
from metering.model import keys
from metering.model.clock import to_datetime, to_ms
from metering.model.moves import Held, Moves, from_json, level_periods
from metering.model.period import window_at
from metering.model.quota import Window
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "events.sql")
_PREFETCH = 5_000


class EventTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def periods(self, org_id: str) -> list[Bounds]:
        rows = await self._connection.fetch(_SQL["periods"], UUID(org_id))
        return [(to_ms(row["period_start"]), to_ms(row["period_end"])) for row in rows]

    async def claim(self, org_id: str, keys: Mapping[str, tuple[int, bytes]]) -> dict[str, tuple[int, bytes]]:
        ids, prints = [event_id for event_id, _ in keys.values()], [print_ for _, print_ in keys.values()]
        mine = {row["key"] for row in await self._connection.fetch(_SQL["claim"], org_id, list(keys), ids, prints)}
        return await self.claimed(org_id, [key for key in keys if key not in mine])

    async def claimed(self, org_id: str, keys: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        rows = await self._connection.fetch(_SQL["claimed"], org_id, list(keys)) if keys else ()
        return {row["key"]: (row["event_id"], row["fingerprint"]) for row in rows}

    async def ids(self, count: int) -> list[int]:
        return [row[0] for row in await self._connection.fetch(_SQL["ids"], count)]

    async def lock(self, buckets: Sequence[int]) -> None:
        await self._connection.fetch(_SQL["lock"], sorted(buckets))

    async def insert(self, rows: Sequence[EventRow]) -> None:
        await self._connection.execute(_SQL["facts"])
        await self._connection.execute(
            _SQL["insert"],
            [row.id for row in rows], [to_datetime(row.at_ms) for row in rows], [to_datetime(row.start_ms) for row in rows],
            [UUID(row.org_id) for row in rows], [row.meter for row in rows], [row.units for row in rows], [row.source for row in rows],
            [row.metadata for row in rows], [row.corrects for row in rows], [row.level for row in rows],
        )  # fmt: skip

    async def add_up(self, rows: Sequence[EventRow]) -> None:
        hours = defaultdict[tuple[str, str, int, int], list[int]](lambda: [0, 0])
        periods = defaultdict[tuple[str, str, int, int], int](int)
        for row in rows:
            sums = hours[row.org_id, row.meter, window_at(Window.HOUR, 0, row.at_ms)[0], row.start_ms]
            sums[0], sums[1] = sums[0] + row.units, sums[1] + 1
            periods[row.org_id, row.meter, row.start_ms, row.end_ms] += row.units
        found = [StagedSum(org, meter, hour, start, 0, *sums) for (org, meter, hour, start), sums in hours.items()]
        await add_hours(self._connection, found)
        await add_periods(self._connection, periods)

    # --- levels ----------------------------------------------------------------------------------------------------------

    async def hold(self, org_id: str, rows: Sequence[EventRow], anchor_ms: int, now_ms: int) -> list[Held]:
        await self._connection.execute(
            _SQL["hold"], org_id, [row.meter for row in rows], [row.part for row in rows], [to_datetime(row.at_ms) for row in rows],
            [row.id for row in rows], [row.units for row in rows],
        )  # fmt: skip
        return await self.held(org_id, sorted({row.meter for row in rows}), anchor_ms, now_ms)

    async def unhold(self, row: EventRow, anchor_ms: int, now_ms: int) -> list[Held]:
        await self._connection.execute(_SQL["unhold"], row.org_id, row.id)
        return await self.held(row.org_id, [row.meter], anchor_ms, now_ms)

    async def held(self, org_id: str, meters: Sequence[str], anchor_ms: int, now_ms: int) -> list[Held]:
        """The instant of a level may lie a moment ahead, by another's clock: it holds all the same."""
        await self._connection.execute(_SQL["refresh_levels"], org_id, meters, keys.bucket_of(org_id), to_datetime(now_ms + 600_000))
        await self._connection.execute(_SQL["forget_levels"], org_id, meters)
        found, periods = await self.levels(org_id), tuple(level_periods(anchor_ms, now_ms))
        return [Held(meter, found.get(meter, 0), periods) for meter in meters]

    async def levels(self, org_id: str) -> dict[str, int]:
        return {row["service"]: row["quantity"] for row in await self._connection.fetch(_SQL["levels"], org_id)}

    async def open_period(self, org_id: str, meter: str, start_ms: int, end_ms: int) -> None:
        await self._connection.execute(
            _SQL["open_period"], org_id, meter, to_datetime(start_ms), to_datetime(end_ms), keys.bucket_of(org_id)
        )

    async def average(self, org_id: str, meter: str, now_ms: int, *, since_ms: int) -> None:
        await self._connection.execute(_SQL["average"], org_id, meter, to_datetime(now_ms), to_datetime(since_ms))

    async def due_levels(self, now_ms: int, after: tuple[str, str], limit: int) -> list[tuple[str, str, int | None, int | None]]:
        rows = await self._connection.fetch(_SQL["due_levels"], to_datetime(now_ms), UUID(after[0]), limit, after[1])
        return [(str(r["org_id"]), r["service"], _ms(r["last_end"]), _ms(r["since"])) for r in rows]

    # --- the store -------------------------------------------------------------------------------------------------------

    async def leave_move(self, moves: Moves) -> int:
        bucket = keys.bucket_of(moves.org_id)
        seq: int = await self._connection.fetchval(_SQL["next_move"], bucket)
        await self._connection.execute(_SQL["leave_move"], bucket, seq, moves.org_id, moves.to_json())
        return seq

    async def pending_buckets(self) -> list[int]:
        return [row["bucket"] for row in await self._connection.fetch(_SQL["pending_buckets"])]

    async def pending(self, bucket: int, limit: int) -> list[PendingMove]:
        rows = await self._connection.fetch(_SQL["pending"], bucket, limit)
        return [PendingMove(row["seq"], from_json(str(row["org_id"]), row["moves"])) for row in rows]

    async def moved(self, bucket: int, mark: int) -> None:
        await self._connection.execute(_SQL["moved"], bucket, mark)

    # --- reading ---------------------------------------------------------------------------------------------------------

    async def find(self, org_id: str, event_id: int) -> tuple[EventRow, int] | None:
        row = await self._connection.fetchrow(_SQL["find"], org_id, event_id)
        return (_event(row), row["net"]) if row is not None else None

    async def page(self, which: Filter, after: tuple[int, int] | None, limit: int) -> list[EventRow]:
        rows = await self._connection.fetch(
            _SQL["page"], which.org_id, which.meter, _at(which.from_ms), _at(which.to_ms), _at(after[0]) if after else None,
            after[1] if after else None, limit,
        )  # fmt: skip
        return [_event(row) for row in rows]

    async def stream(self, which: Filter) -> AsyncIterator[EventRow]:
        cursor = self._connection.cursor(
            _SQL["stream"], which.org_id, which.meter, _at(which.from_ms), _at(which.to_ms), prefetch=_PREFETCH
        )
        async for row in cursor:
            yield _event(row)


async def add_hours(connection: asyncpg.Connection, sums: Sequence[StagedSum]) -> None:
    await connection.execute(
        _SQL["add_hours"],
        [UUID(s.org_id) for s in sums], [s.meter for s in sums], [to_datetime(s.hour_ms) for s in sums],
        [to_datetime(s.start_ms) for s in sums], [keys.bucket_of(s.org_id) for s in sums],
        [s.units for s in sums], [s.events for s in sums],
    )  # fmt: skip


async def add_periods(connection: asyncpg.Connection, units: Mapping[tuple[str, str, int, int], int]) -> None:
    """(organization, meter, start, end of the period) -> base units."""
    await connection.execute(
        _SQL["add_periods"],
        [UUID(org) for org, _, _, _ in units], [meter for _, meter, _, _ in units], [to_datetime(start) for _, _, start, _ in units],
        [to_datetime(end) for _, _, _, end in units], [keys.bucket_of(org) for org, _, _, _ in units], list(units.values()),
    )  # fmt: skip


def _at(instant_ms: int | None) -> object:
    return None if instant_ms is None else to_datetime(instant_ms)


def _ms(instant: object) -> int | None:
    return None if instant is None else to_ms(instant)  # type: ignore[arg-type]


def _event(row: asyncpg.Record) -> EventRow:
    return EventRow(
        id=row["id"], org_id=str(row["org_id"]), meter=row["service"], units=row["quantity"], at_ms=to_ms(row["timestamp"]),
        start_ms=to_ms(row["period_start"]), source=row["source"], metadata=row["metadata"], corrects=row["corrects"], level=row["level"],
        part=part_of(row["metadata"]) if row["level"] else "", recorded_ms=to_ms(row["recorded_at"]),
        route_id=row["route_id"], method=row["method"], dimensions=row["dimensions"],
        template=row["template"],
    )  # fmt: skip
