"""`weighbridge cap`: the most an organization spends beyond its base price in a period."""

import argparse
from decimal import Decimal
from typing import Any

from billing.model.wording import wording
from billing.services.ports_wallet import CUSTOMER, OPERATOR
from billing.services.spend_caps import CapView

from .context import Context, add_folders
from .output import add_format, show
from .payment import the_org
from .words import read_amount as decimal


def add(nouns: Any) -> None:
    verbs = nouns.add_parser("cap", help="spend caps: show, set, lift, remove").add_subparsers(dest="verb", metavar="verb", required=True)
    _verb(verbs, "show", "which caps there are, and what was spent", run_show)
    setting = _verb(verbs, "set", "in place of the plan's", run_set)
    setting.add_argument("amount")
    _verb(verbs, "lift", "the plan's does not hold for this organization", run_lift)
    removing = _verb(verbs, "remove", "what was set or lifted does not hold any more", run_remove)
    for parser in (setting, removing):
        parser.add_argument("--customer", action="store_true", help="the organization's own cap, not above the operator's")


def _verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    parser.add_argument("--org", metavar="ORG", help="id or slug; not needed where there is one organization")
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=run)
    return parser


async def run_show(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with context.billing() as billing:
        return _shown(await billing.spend_caps.show(org), options)


async def run_set(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with context.billing() as billing:
        return _shown(await billing.spend_caps.set(org, decimal(options.amount), by=_who(options)), options)


async def run_lift(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with context.billing() as billing:
        return _shown(await billing.spend_caps.lift(org), options)


async def run_remove(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with context.billing() as billing:
        return _shown(await billing.spend_caps.remove(org, by=_who(options)), options)


def _who(options: argparse.Namespace) -> str:
    return CUSTOMER if options.customer else OPERATOR


def _shown(view: CapView, options: argparse.Namespace) -> int:
    caps = view.caps
    amounts = {"plan": caps.plan, "operator": caps.operator, "customer": caps.customer, "cap": caps.effective, "spent": view.spent}

    def money(amount: Decimal | None) -> str:
        return "none" if amount is None else wording("en").money(amount, view.currency)

    lines = [
        f"Spend cap: {money(caps.effective)}{' (reached: overage has ended for this period)' if view.reached else ''}",
        f"  Plan: {money(caps.plan)}{' (lifted)' if caps.lifted else ''}",
        f"  Operator: {money(caps.operator)}",
        f"  Customer: {money(caps.customer)}",
        f"  Spent beyond the base price: {money(view.spent)}",
    ]
    facts = {name: None if amount is None else str(amount) for name, amount in amounts.items()}
    show({**facts, "lifted": caps.lifted, "reached": view.reached, "currency": view.currency}, options, lines=lines)
    return 0
