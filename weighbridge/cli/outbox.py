"""`weighbridge outbox`: what Stripe was not told, why, and sending it again where nothing can be counted twice."""

import argparse
import json
from typing import Any

from billing.model.delivery import State
from billing.operations import outbox as operations
from billing.services.logs import OutboxLog
from billing.store.books import PostgresBooks
from billing.stripe.outbox_care import OutboxCare
from metering.model.errors import BadInput

from .context import Context
from .flush import stripe_of
from .output import row_of, show_answer, show_list
from .pages import ask_pages
from .verbs import nouns_verbs, verb

_COLUMNS = ("id", "kind", "org", "state", "attempts", "created", "error")


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "outbox", "what Stripe was not told: list, show, retry")
    about = "rows that wait or stopped, newest first"
    listed = verb(verbs, "list", about, list_rows, org=False, example="weighbridge outbox list --state dead")
    listed.add_argument("--state", choices=[state.value for state in State], help="default: all but the delivered")
    listed.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default: 50)")
    shown = verb(verbs, "show", "one row, with what it says", show_row, org=False, example="weighbridge outbox show 12")
    about = "send one again that is dead or unknown, where it cannot count twice"
    retry = verb(verbs, "retry", about, retry_row, org=False, example="weighbridge outbox retry 12")
    for parser in (shown, retry):
        parser.add_argument("row", help="its number or identifier")


async def list_rows(options: argparse.Namespace, context: Context) -> int:
    if options.limit < 1:
        raise BadInput("--limit is at least 1")
    ask = operations.AskOutbox(state=State(options.state) if options.state else None)
    found = await ask_pages(context, operations.list_all, ask, "rows", most=options.limit)
    show_list(found, [row_of(row) for row in found.rows], _COLUMNS, options, empty="Nothing waits: Stripe was told everything.")
    return 0


async def show_row(options: argparse.Namespace, context: Context) -> int:
    row = await context.ask(operations.show, operations.WhichRow(row=options.row))
    facts = row_of(row)
    del facts["payload"]
    lines = [f"{name.replace('_', ' ').capitalize()}: {value}" for name, value in facts.items() if value is not None]
    show_answer(row, options, lines=[*lines, "Payload:", *json.dumps(row.payload, indent=2).splitlines()])
    return 0


async def retry_row(options: argparse.Namespace, context: Context) -> int:
    ask = operations.WhichRow(row=options.row)
    if context.own_settings.token is not None:
        row = await context.ask(operations.retry, ask)
    else:
        async with context.database() as pool, stripe_of(context, pool) as stripe:
            care = OutboxCare(pool, OutboxLog(PostgresBooks(pool)), stripe, context.clock)
            row = operations.outbox_answer(await care.retry(ask.row))
    said = "Stripe has it: it is delivered" if row.state is State.DELIVERED else "it goes again with the next delivery"
    show_answer(row, options, lines=[f"✓ Outbox row {row.id} ({row.identifier}): {said}"])
    return 0
