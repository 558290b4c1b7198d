"""`weighbridge usage record|void|correct|events|import`: usage that no gateway saw, and what was stated wrongly."""

import argparse
import json
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.operations import events as operations
from billing.operations.events import CorrectAsk, EventIn, ListAsk, VoidAsk
from metering.model.errors import BadInput

from .context import Context
from .output import show_answer, show_list
from .usage_import import add_import
from .verbs import verb
from .words import read_amount

_COLUMNS = ("id", "timestamp", "service", "quantity", "unit", "source", "corrects", "metadata")


def add(verbs: Any) -> None:
    recording = verb(
        verbs, "record", "usage that no gateway saw; of a level (storage), what is held now", record,
        example='weighbridge usage record api 500 --metadata \'{"endpoint": "/api/custom"}\'',
    )  # fmt: skip
    recording.add_argument("service")
    recording.add_argument("quantity", help="in the unit the service is shown in: requests, GB")
    recording.add_argument("--metadata", metavar="JSON", help="an object that is kept with it")
    recording.add_argument("--timestamp", metavar="INSTANT", help="when it happened, as 2026-01-29T10:00:00Z (default: now)")
    recording.add_argument("--idempotency-key", metavar="KEY", help="the same key again is the same use, and counts once")
    voiding = verb(verbs, "void", "take an event back: a row says that it never was", void, example="weighbridge usage void 4711")
    correcting = verb(verbs, "correct", "say what an event should have been", correct, example="weighbridge usage correct 4711 450")
    for parser in (voiding, correcting):
        parser.add_argument("id", type=int, help="of the event (usage events)")
        parser.add_argument("--reason", help="why; it is kept")
    correcting.add_argument("quantity", help="in the unit the service is shown in")
    listing = verb(verbs, "events", "the ledger's rows, newest first", list_events, example="weighbridge usage events --service api")
    listing.add_argument("--service")
    listing.add_argument("--limit", type=int, default=50, help="how many (default: 50, at most 200)")
    listing.add_argument("--after", metavar="CURSOR", help="`next` of the page before")
    add_import(verbs)


async def record(options: argparse.Namespace, context: Context) -> int:
    ask = EventIn(
        service=options.service, quantity=read_amount(options.quantity), metadata=_metadata(options.metadata),
        timestamp=_instant(options.timestamp), idempotency_key=options.idempotency_key,
    )  # fmt: skip
    found = await context.ask(operations.record, ask)
    lines = [f"✓ {'Recorded before' if found.duplicate else 'Usage recorded'}: {_said(found.quantity, found.unit)}{found.service}"]
    lines.append(f"  Event: {found.id}")
    if found.billable is False:
        lines.append(f"  It counts and is not charged for: {found.reason}")
    show_answer(found, options, lines=lines)
    return 0


async def void(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.void, VoidAsk(id=options.id, reason=options.reason))
    show_answer(found, options, lines=[f"✓ Event {options.id} voided", f"  Event: {found.id}"])
    return 0


async def correct(options: argparse.Namespace, context: Context) -> int:
    ask = CorrectAsk(id=options.id, quantity=read_amount(options.quantity), reason=options.reason)
    found = await context.ask(operations.correct, ask)
    by = f"to {_said(found.quantity, found.unit)}" if found.level else f"by {_said(found.quantity, found.unit)}"
    show_answer(found, options, lines=[f"✓ Event {options.id} corrected {by}{found.service}", f"  Event: {found.id}"])
    return 0


async def list_events(options: argparse.Namespace, context: Context) -> int:
    ask = ListAsk(service=options.service, limit=max(1, min(options.limit, 200)), after=options.after)
    found = await context.ask(operations.list_events, ask)
    rows = [
        {
            "id": str(row.id), "timestamp": f"{row.timestamp:%Y-%m-%dT%H:%M:%SZ}", "service": row.service,
            "quantity": format(row.quantity, "f"), "unit": row.unit, "source": row.source,
            "corrects": None if row.corrects is None else str(row.corrects),
            "metadata": None if row.metadata is None else json.dumps(row.metadata, ensure_ascii=False),
        }
        for row in found.events
    ]  # fmt: skip
    show_list(found, rows, _COLUMNS, options, empty="No usage.")
    return 0


_PLAIN = ("request", "query", "invocation")  # what the service's name says already


def _said(quantity: Decimal, unit: str) -> str:
    return f"{quantity:,f} " if unit in _PLAIN else f"{quantity:,f} {unit} of "


def _metadata(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as exc:
        raise BadInput(f"--metadata is not JSON: {exc}") from None
    if not isinstance(found, dict):
        raise BadInput('--metadata is not a JSON object; write it as \'{"endpoint": "/api"}\'')
    return found


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise BadInput(f"{text!r} is no instant; write it as 2026-01-29T10:00:00Z")
    return found
