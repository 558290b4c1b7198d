"""Usage as files, in the guide's columns. What is given out can be taken in again."""

import datetime as dt
from enum import StrEnum

from pydantic import Field

from billing.model.event import BadEvent, meter_of
from billing.operations.operation import About, Call, Download, Model, operation
from billing.services.ports_events import Filter
from metering.model.clock import to_ms
from metering.model.errors import BadInput

_DAY = dt.timedelta(days=1)


class FileFormat(StrEnum):
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"


class ExportAsk(Model):
    """Days are UTC, and `end` belongs to what is given out."""

    format: FileFormat = FileFormat.CSV
    service: str | None = Field(None, max_length=64)
    start: dt.date | None = Field(None, description="from this day on")
    end: dt.date | None = Field(None, description="up to this day, with it")


@operation("GET", "/usage/export", name="export.usage", errors=(BadEvent,))
async def export_usage(call: Call, ask: ExportAsk) -> Download:
    """The organization's usage, row by row, in order of time."""
    return _file(call, call.org, ask)


@operation("GET", "/usage/export-all", name="export.usage_all", about=About.ALL, errors=(BadEvent,))
async def export_all(call: Call, ask: ExportAsk) -> Download:
    """Every organization's."""
    return _file(call, None, ask)


def _file(call: Call, org_id: str | None, ask: ExportAsk) -> Download:
    if ask.start is not None and ask.end is not None and ask.end < ask.start:
        raise BadInput("end lies before start")
    if ask.service is not None:
        meter_of(ask.service, call.billing.recording.meters)
    which = Filter(org_id=org_id, meter=ask.service, from_ms=_ms(ask.start), to_ms=_ms(ask.end, behind=True))
    exporting = call.billing.exporting
    pieces, kind = {
        FileFormat.CSV: (exporting.csv, "text/csv; charset=utf-8"),
        FileFormat.JSON: (exporting.json, "application/json"),
        FileFormat.JSONL: (exporting.lines, "application/x-ndjson"),
    }[ask.format]
    return Download(pieces(which), content_type=kind, filename=f"usage.{ask.format}")


def _ms(day: dt.date | None, *, behind: bool = False) -> int | None:
    if day is None or (behind and day == dt.date.max):
        return None
    return to_ms(dt.datetime.combine(day + _DAY if behind else day, dt.time(), dt.UTC))


OPERATIONS = (export_usage, export_all)
