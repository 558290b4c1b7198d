"""Give usage out as files: the guide's columns, in order of time, however much it is, in memory that stays the same."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from billing.model import csvtext
from billing.model.event import shown_text
from billing.services.ports import Books
from billing.services.ports_events import EventRow, Filter
from metering.model.clock import to_datetime
from metering.model.meter import Meter

COLUMNS = ("timestamp", "service", "quantity", "org_id", "metadata")
_ROWS_A_PIECE = 1_000


class Exporting:
    def __init__(self, books: Books, *, meters: Mapping[str, Meter]) -> None:
        self._books, self._meters = books, meters

    async def csv(self, which: Filter) -> AsyncIterator[bytes]:
        """RFC 4180, which no spreadsheet takes for formulas."""
        yield f"{csvtext.line(COLUMNS)}\r\n".encode()
        async for rows in self._pieces(which):
            yield "".join(f"{csvtext.line(self._row(row).values())}\r\n" for row in rows).encode()

    async def lines(self, which: Filter) -> AsyncIterator[bytes]:
        """JSON Lines."""
        async for rows in self._pieces(which):
            yield "".join(f"{self._json(row)}\n" for row in rows).encode()

    async def json(self, which: Filter) -> AsyncIterator[bytes]:
        """One JSON list."""
        yield b"["
        first = True
        async for rows in self._pieces(which):
            yield ("" if first else ",").encode() + (b"\n" + ",\n".join(map(self._json, rows)).encode())
            first = False
        yield b"\n]\n"

    async def _pieces(self, which: Filter) -> AsyncIterator[list[EventRow]]:
        async with self._books.transaction() as unit:
            rows: list[EventRow] = []
            async for row in unit.events.stream(which):
                rows.append(row)
                if len(rows) >= _ROWS_A_PIECE:
                    yield rows
                    rows = []
            if rows:
                yield rows

    def _row(self, row: EventRow) -> dict[str, Any]:
        meter = self._meters.get(row.meter) or Meter(name=row.meter, unit=row.meter)
        metadata = said_with(row)
        return {
            "timestamp": instant_text(row.at_ms),
            "service": row.meter,
            "quantity": shown_text(row.units, meter),
            "org_id": row.org_id,
            "metadata": json.dumps(metadata, ensure_ascii=False, separators=(",", ":")) if metadata else "",
        }

    def _json(self, row: EventRow) -> str:
        return json.dumps({**self._row(row), "metadata": said_with(row) or None}, ensure_ascii=False)


def instant_text(at_ms: int) -> str:
    """2026-01-29T10:00:00Z, with a fraction where there is one."""
    return to_datetime(at_ms).isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds").replace("+00:00", "Z")


def said_with(row: EventRow) -> dict[str, Any]:
    """What was said with an event; of a row that a gateway counted, by which route and how."""
    found: dict[str, Any] = json.loads(row.metadata) if row.metadata else {}
    found |= json.loads(row.dimensions)
    if row.template:
        found["route"] = row.template
    if row.method:
        found["method"] = row.method
    return found
