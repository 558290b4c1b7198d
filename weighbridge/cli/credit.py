"""`weighbridge credit`: money that pays invoices before anything is collected."""

import argparse
from typing import Any

from billing.model.wallet import USUAL, Grant, GrantKind
from billing.model.wording import wording
from metering.model.clock import isoformat

from .context import Context, add_folders
from .coupon import day_after, decimal
from .output import add_format, show, show_rows
from .payment import the_org

_COLUMNS = ("id", "kind", "amount", "left", "currency", "reason", "priority", "granted", "expires", "status")


def add(nouns: Any) -> None:
    verbs = nouns.add_parser("credit", help="credits: add, list, revoke").add_subparsers(dest="verb", metavar="verb", required=True)
    granted = _verb(verbs, "add", "grant credit to a customer", add_credit)
    granted.add_argument("--amount", required=True, help="25 or 25.50")
    granted.add_argument("--reason", required=True, help="why; it stands on the invoices that it pays")
    granted.add_argument("--currency", help="default: the subscription's")
    granted.add_argument("--expires", metavar="DATE", help="the last day on which it pays, UTC (default: none)")
    granted.add_argument("--priority", type=int, default=USUAL, metavar="N", help=f"0 is burned first, 100 last (default: {USUAL})")
    granted.add_argument("--paid", action="store_true", help="the customer prepaid it: it is never lost by an invoice that is voided")
    _verb(verbs, "list", "what was granted, and what is left", list_credits)
    _verb(verbs, "revoke", "what is left of a grant pays nothing any more", revoke_credit).add_argument("grant", type=int, metavar="ID")


def _verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--customer", metavar="CUS", help="cus_… at Stripe, or an organization")
    who.add_argument("--org", metavar="ORG", help="id or slug; not needed where there is one organization")
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=run)
    return parser


async def add_credit(options: argparse.Namespace, context: Context) -> int:
    customer = options.customer or await the_org(options, context)
    async with context.billing() as billing:
        grant = await billing.credits.add(
            customer, decimal(options.amount), reason=options.reason, currency=options.currency.lower() if options.currency else None,
            kind=GrantKind.PAID if options.paid else GrantKind.PROMOTIONAL, expires_at_ms=day_after(options.expires),
            priority=options.priority,
        )  # fmt: skip
        statement = await billing.credits.statement(grant.org_id)
    balance = next(b.total for b in statement.balances if b.currency == grant.currency)
    lines = [
        f"✓ Credit added: {_money(grant)} to {statement.org.name}",
        f"  Reason: {grant.reason}",
        f"  Expires: {isoformat(grant.expires_at_ms - 1)[:10] if grant.expires_at_ms is not None else 'never'}",
        f"  Balance: {wording('en').money(balance, grant.currency)}",
        *context.not_at_stripe,
    ]
    show({**grant_row(grant, None), "balance": str(balance)}, options, lines=lines)
    return 0


async def list_credits(options: argparse.Namespace, context: Context) -> int:
    customer = options.customer or await the_org(options, context)
    async with context.billing() as billing:
        statement = await billing.credits.statement(customer)
    rows = [grant_row(row.grant, row.revoked_at_ms) for row in statement.grants]
    show_rows(rows, _COLUMNS, options, empty="No credits. weighbridge credit add grants some.")
    return 0


async def revoke_credit(options: argparse.Namespace, context: Context) -> int:
    customer = options.customer or await the_org(options, context)
    async with context.billing() as billing:
        grant = await billing.credits.revoke(customer, options.grant)
    show(grant_row(grant, context.clock.now_ms()), options, lines=[f"✓ Credit {grant.id} revoked: {_left(grant)} was left of it"])
    return 0


def grant_row(grant: Grant, revoked_at_ms: int | None) -> dict[str, Any]:
    return {
        "id": grant.id, "kind": grant.kind.value, "amount": str(grant.amount), "left": str(grant.left), "currency": grant.currency,
        "reason": grant.reason, "priority": grant.priority, "granted": isoformat(grant.granted_at_ms),
        "expires": None if grant.expires_at_ms is None else isoformat(grant.expires_at_ms),
        "status": "active" if revoked_at_ms is None else "revoked",
    }  # fmt: skip


def _money(grant: Grant) -> str:
    return wording("en").money(grant.amount, grant.currency)


def _left(grant: Grant) -> str:
    return wording("en").money(grant.left, grant.currency)
