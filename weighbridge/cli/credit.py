"""`weighbridge credit`: money that pays invoices before anything is collected."""

import argparse
from typing import Any

from billing.model.wallet import USUAL, GrantKind
from billing.operations import credits as operations
from billing.operations.pages import AskPage

from .context import Context
from .output import show_answer, show_list
from .pages import ask_pages
from .verbs import nouns_verbs, verb
from .words import day_after, last_day, moment, money, read_amount

_COLUMNS = ("id", "kind", "amount", "left", "currency", "reason", "priority", "granted", "expires", "status")


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "credit", "credits: add, list, revoke")
    granted = _verb(verbs, "add", "grant credit to a customer", add_credit, '--customer cus_1abc --amount 25 --reason "Referral bonus"')
    granted.add_argument("--amount", required=True, help="25 or 25.50")
    granted.add_argument("--reason", required=True, help="why; it stands on the invoices that it pays")
    granted.add_argument("--currency", help="default: the subscription's")
    granted.add_argument("--expires", metavar="DATE", help="the last day on which it pays, UTC (default: none)")
    granted.add_argument("--priority", type=int, default=USUAL, metavar="N", help=f"0 is burned first, 100 last (default: {USUAL})")
    granted.add_argument("--paid", action="store_true", help="the customer prepaid it: it is never lost by an invoice that is voided")
    _verb(verbs, "list", "what was granted, and what is left", list_credits, "--org acme-corp")
    revoked = _verb(verbs, "revoke", "what is left of a grant pays nothing any more", revoke_credit, "3 --org acme-corp")
    revoked.add_argument("grant", type=int, metavar="ID")


def _verb(verbs: Any, name: str, text: str, run: Any, example: str) -> argparse.ArgumentParser:
    parser = verb(verbs, name, text, run, example=f"weighbridge credit {name} {example}")
    about = "as --org: cus_… at Stripe, or an organization"
    parser.add_argument("--customer", metavar="CUS", dest="org", default=argparse.SUPPRESS, help=about)
    return parser


async def add_credit(options: argparse.Namespace, context: Context) -> int:
    ask = operations.NewGrant(
        amount=read_amount(options.amount), reason=options.reason, currency=options.currency, priority=options.priority,
        kind=GrantKind.PAID if options.paid else GrantKind.PROMOTIONAL,
        expires=None if options.expires is None else day_after(options.expires),
    )  # fmt: skip
    made = await context.ask(operations.add, ask)
    lines = [
        f"✓ Credit added: {money(made.amount, made.currency)} to {made.organization}",
        f"  Reason: {made.reason}",
        f"  Expires: {last_day(made.expires) if made.expires is not None else 'never'}",
        f"  Balance: {money(made.balance, made.currency)}",
    ]
    show_answer(made, options, lines=lines)
    return 0


async def list_credits(options: argparse.Namespace, context: Context) -> int:
    found = await ask_pages(context, operations.list_all, AskPage(), "credits")
    rows = [
        {**row.model_dump(mode="json"), "granted": moment(row.granted), "expires": None if row.expires is None else moment(row.expires)}
        for row in found.credits
    ]
    show_list(found, rows, _COLUMNS, options, empty="No credits. weighbridge credit add grants some.")
    return 0


async def revoke_credit(options: argparse.Namespace, context: Context) -> int:
    gone = await context.ask(operations.revoke, operations.AskGrant(grant=options.grant))
    show_answer(gone, options, lines=[f"✓ Credit {gone.id} revoked: {money(gone.left, gone.currency)} was left of it"])
    return 0
