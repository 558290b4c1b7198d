"""`weighbridge audit`: who changed what, when, from what to what."""

import argparse
import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.services.ports import AuditEntry
from metering.model.clock import isoformat, to_ms
from metering.model.errors import BadInput

from .context import Context, add_folders
from .output import add_format, show_rows
from .words import seconds

_COLUMNS = ("id", "at", "actor", "action", "org", "subject", "change")
_EXPORTED = ("id", "at", "actor", "login", "program", "action", "org", "org_id", "subject", "before", "after")
_DAYS = 30


def add(nouns: Any) -> None:
    parser = nouns.add_parser(
        "audit",
        help="who changed which plan, quota, key, token, bypass, when, from what to what",
        description="The newest entries, in the order they happened. Entries are never changed and never deleted.",
    )
    parser.add_argument("--org", metavar="ORG", help="what concerns one organization: its slug, or its id, also where it was deleted")
    parser.add_argument("--since", default=f"{_DAYS}d", metavar="WHEN", help=f"7d, 2026-01-31 or 2026-01-31T12:00Z (default: {_DAYS}d)")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many, the newest (default: 100)")
    add_folders(parser)
    add_format(parser, "csv")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace, context: Context) -> int:
    since_ms = begin_ms(options.since, context.clock.now_ms())
    async with context.billing() as billing:
        entries = await billing.audit.entries(org_ref=options.org, since_ms=since_ms, limit=options.limit)
    rows = [_row(entry) for entry in entries]
    if options.format == "json":
        rows = [{name: row[name] for name in _EXPORTED} for row in rows]
    show_rows(rows, _EXPORTED if options.format == "csv" else _COLUMNS, options, empty=f"Nothing was changed since {isoformat(since_ms)}.")
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


def _row(entry: AuditEntry) -> dict[str, Any]:
    return {
        "id": str(entry.id), "at": isoformat(entry.at_ms), "actor": entry.actor, "login": entry.login, "program": entry.program,
        "action": entry.action, "org": entry.slug or entry.org_id, "org_id": entry.org_id, "subject": entry.subject,
        "before": entry.before, "after": entry.after, "change": change(entry.before, entry.after),
    }  # fmt: skip


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
