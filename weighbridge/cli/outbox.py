"""`weighbridge outbox`: what Stripe was not told, why, and sending it again where nothing can be counted twice."""

import argparse
import json
from typing import Any

from billing.model.delivery import State
from billing.stripe.outbox_care import Kept, OutboxCare
from metering.model.clock import isoformat

from .context import Context, add_folders
from .flush import stripe_of
from .output import add_format, show, show_rows

_COLUMNS = ("id", "kind", "org", "state", "attempts", "created", "error")
_STOPPED = (State.PENDING, State.DEAD, State.UNKNOWN)


def add(nouns: Any) -> None:
    verbs = nouns.add_parser("outbox", help="what Stripe was not told: list, show, retry").add_subparsers(
        dest="verb", metavar="verb", required=True
    )
    listed = _verb(verbs, "list", "rows that wait or stopped, newest first", list_rows)
    listed.add_argument("--state", choices=[state.value for state in State], help="default: all but the delivered")
    listed.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default: 50)")
    _verb(verbs, "show", "one row, with what it says", show_row).add_argument("row", help="its number or identifier")
    retry = _verb(verbs, "retry", "send one again that is dead or unknown, where it cannot count twice", retry_row)
    retry.add_argument("row", help="its number or identifier")


def _verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=run)
    return parser


async def list_rows(options: argparse.Namespace, context: Context) -> int:
    states = (State(options.state),) if options.state else _STOPPED
    async with context.database() as pool:
        found = await OutboxCare(pool, None, context.clock).all(states, options.limit)
    show_rows([_row(row) for row in found], _COLUMNS, options, empty="Nothing waits: Stripe was told everything.")
    return 0


async def show_row(options: argparse.Namespace, context: Context) -> int:
    async with context.database() as pool:
        row = await OutboxCare(pool, None, context.clock).one(options.row)
    facts = _row(row)
    lines = [f"{name.replace('_', ' ').capitalize()}: {value}" for name, value in facts.items() if value is not None]
    show({**facts, "payload": row.payload}, options, lines=[*lines, "Payload:", *json.dumps(row.payload, indent=2).splitlines()])
    return 0


async def retry_row(options: argparse.Namespace, context: Context) -> int:
    async with context.database() as pool, stripe_of(context, pool) as stripe:
        row = await OutboxCare(pool, stripe, context.clock).retry(options.row)
    said = "Stripe has it: it is delivered" if row.state is State.DELIVERED else "it goes again with the next delivery"
    show(_row(row), options, lines=[f"✓ Outbox row {row.id} ({row.identifier}): {said}"])
    return 0


def _row(row: Kept) -> dict[str, Any]:
    return {
        "id": row.id, "kind": row.kind, "org": row.slug, "identifier": row.identifier, "state": row.state.value, "attempts": row.attempts,
        "created": isoformat(row.created_ms), "first_attempt": _text(row.first_attempt_ms), "next_attempt": _text(row.next_attempt_ms),
        "delivered": _text(row.delivered_ms), "error": row.last_error,
    }  # fmt: skip


def _text(at_ms: int | None) -> str | None:
    return isoformat(at_ms) if at_ms is not None else None
