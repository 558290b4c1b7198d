"""Usage in Postgres, read only: the aggregator writes it. The SQL is in usage.sql."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from billing.model.aggregation import HOUR_MS
from billing.model.usage_span import EndpointUse, Span
from billing.store import rows as r
from metering.model.clock import to_datetime
from metering.model.quota import Window
from metering.model.seeding import Begun
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "usage.sql")
_OF_PERIOD, _OF_WINDOWS, _OF_TENANTS, _OFFSETS = _SQL["of_period"], _SQL["of_windows"], _SQL["of_tenants"], _SQL["offsets"]
_OF_RANGE, _LEVELS_OVER, _BY_ENDPOINT = _SQL["of_range"], _SQL["levels_over"], _SQL["by_endpoint"]
_PARTS_HELD, _BY_DIMENSIONS = _SQL["parts_held"], _SQL["by_dimensions"]


class UsageTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def of_period(self, org_id: str, start_ms: int) -> dict[str, int]:
        found = await self._connection.fetch(_OF_PERIOD, org_id, to_datetime(start_ms))
        return {row["service"]: row["cumulative"] for row in found}

    async def of_windows(self, org_id: str, hour_ms: int, day_ms: int, month_ms: int) -> dict[str, dict[Window, int]]:
        starts = (to_datetime(hour_ms), to_datetime(day_ms), to_datetime(month_ms))
        found = await self._connection.fetch(_OF_WINDOWS, org_id, *starts)
        return {row["service"]: {Window.HOUR: row["in_hour"], Window.DAY: row["in_day"], Window.MONTH: row["in_month"]} for row in found}

    async def of_tenants(self, org_id: str, start_ms: int) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for row in await self._connection.fetch(_OF_TENANTS, org_id, to_datetime(start_ms)):
            found.setdefault(row["tenant"], {})[row["service"]] = row["quantity"]
        return found

    async def of_range(self, org_id: str, span: Span) -> dict[str, int]:
        sums = await self._connection.fetch(_OF_RANGE, org_id, *_ends(span))
        means = await self._connection.fetch(_LEVELS_OVER, org_id, *_ends(span))
        return {**{row["service"]: row["quantity"] for row in sums}, **{row["service"]: row["mean"] for row in means}}

    async def by_endpoint(self, org_id: str, service: str, span: Span) -> list[EndpointUse]:
        found = await self._connection.fetch(_BY_ENDPOINT, org_id, service, *_ends(span), _period(span))
        return [
            EndpointUse(
                endpoint=f"{row['method']} {row['host'] or ''}{row['template']}" if row["template"] is not None else None,
                units=row["units"], calls=row["calls"], duration_ms=row["duration_ms"], errors=row["errors"],
            )
            for row in found
        ]  # fmt: skip

    async def parts(self, org_id: str, service: str, span: Span, *, held: bool) -> list[tuple[str, int]]:
        if held:
            return [(row["part"], row["units"]) for row in await self._connection.fetch(_PARTS_HELD, org_id, service)]
        found = await self._connection.fetch(_BY_DIMENSIONS, org_id, service, *_ends(span), _period(span))
        return [(", ".join(f"{k}={v}" for k, v in sorted(r.from_jsonb(row["part"]).items())), row["units"]) for row in found]

    async def offsets(self, begun: Sequence[Begun]) -> list[int]:
        found = await self._connection.fetch(
            _OFFSETS, [UUID(b.org_id) for b in begun], [b.meter for b in begun],
            [to_datetime(b.start_ms) for b in begun], [to_datetime(b.period_start_ms) for b in begun],
        )  # fmt: skip
        return [row["units"] for row in found]


def _ends(span: Span) -> tuple[datetime, datetime]:
    """Of a period the hour in which it begins, too."""
    start_ms = span.start_ms - span.start_ms % HOUR_MS if span.is_period else span.start_ms
    return to_datetime(start_ms), to_datetime(span.end_ms)


def _period(span: Span) -> datetime | None:
    return to_datetime(span.start_ms) if span.is_period else None
