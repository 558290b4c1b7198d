"""`weighbridge audit`: who changed what, when, from what to what."""

import argparse
import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.model.organization import is_uuid
from billing.operations.audit import AskAudit, entries
from billing.services.audit import MOST
from metering.model.clock import isoformat, to_datetime, to_ms
from metering.model.errors import BadInput

from .context import Context
from .output import row_of, show_list
from .pages import ask_pages
from .verbs import verb
from .words import seconds

_COLUMNS = ("id", "at", "actor", "action", "org", "subject", "change")
_EXPORTED = ("id", "at", "actor", "login", "program", "action", "org", "org_id", "subject", "before", "after")
_DAYS = 30


def add(nouns: Any) -> None:
    parser = verb(
        nouns, "audit", "who changed which plan, quota, key, token, bypass, when, from what to what", run, org=False,
        example="weighbridge audit --org acme-corp --since 7d",
    )  # fmt: skip
    parser.description = "The newest entries, in the order they happened. Entries are never changed and never deleted."
    parser.add_argument("--org", metavar="ORG", help="what concerns one organization: its slug, or its id, also where it was deleted")
    parser.add_argument("--since", default=f"{_DAYS}d", metavar="WHEN", help=f"7d, 2026-01-31 or 2026-01-31T12:00Z (default: {_DAYS}d)")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many, the newest (default: 100)")


async def run(options: argparse.Namespace, context: Context) -> int:
    since_ms = begin_ms(options.since, context.clock.now_ms())
    if not 0 < options.limit <= MOST:
        raise BadInput(f"from 1 to {MOST:,} entries can be asked for at once")
    ask = AskAudit(since=to_datetime(since_ms), org_id=options.org if is_uuid(options.org or "") else None)
    options.org = None if ask.org_id else options.org  # by its id a deleted one too
    found = await ask_pages(context, entries, ask, "entries", most=options.limit)
    found = found.model_copy(update={"entries": found.entries[::-1]})  # in the order they happened
    rows = [{**row_of(entry), "id": str(entry.id), "change": change(entry.before, entry.after)} for entry in found.entries]
    columns = _EXPORTED if options.format == "csv" else _COLUMNS
    show_list(found, rows, columns, options, empty=f"Nothing was changed since {isoformat(since_ms)}.")
    return 0


def begin_ms(text: str, now_ms: int) -> int:
    """A span back from now, a date, or an instant (UTC where it names no zone). Raises BadInput."""
    try:
        if text[-1:] in "smhd" and text[:-1].isdecimal():
            return max(0, now_ms - seconds(text) * 1000)
        instant = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as exc:
        raise BadInput(f"{text!r} is no time; write 12h, 7d, 2026-01-31 or 2026-01-31T12:00Z") from exc
    return max(0, to_ms(datetime.fromisoformat(text + "T00:00Z") if len(text) == len("2026-01-31") else _utc(instant, text)))


def _utc(instant: datetime, text: str) -> datetime:
    return instant if instant.tzinfo else datetime.fromisoformat(text + "Z")


def change(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
    """limit_units 100 → 200, mode soft → hard; of what was made or removed, what it was."""
    names = list(dict.fromkeys([*(before or {}), *(after or {})]))
    if before is None or after is None:
        facts = after if before is None else before
        return ", ".join(f"{name} {_short(facts[name])}" for name in names if facts and facts[name] not in (None, {}, [], ""))
    return ", ".join(f"{name} {_short(before.get(name))} → {_short(after.get(name))}" for name in names)


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, str | Decimal) else json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return text if len(text) <= 60 else text[:59] + "…"
