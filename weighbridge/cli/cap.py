"""`weighbridge cap`: the most an organization spends beyond its base price in a period."""

import argparse
from decimal import Decimal
from typing import Any

from billing.operations import caps as operations
from billing.operations.operation import Nothing

from .context import Context
from .output import show_answer
from .verbs import nouns_verbs, verb
from .words import money, read_amount


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "cap", "spend caps: show, set, lift, remove")
    verb(verbs, "show", "which caps there are, and what was spent", run_show, example="weighbridge cap show --org acme-corp")
    setting = verb(verbs, "set", "in place of the plan's", run_set, example="weighbridge cap set 200 --org acme-corp")
    setting.add_argument("amount")
    verb(verbs, "lift", "the plan's does not hold for this organization", run_lift, example="weighbridge cap lift --org acme-corp")
    removing = verb(
        verbs, "remove", "what was set or lifted does not hold any more", run_remove,
        example="weighbridge cap remove --org acme-corp --customer",
    )  # fmt: skip
    for parser in (setting, removing):
        parser.add_argument("--customer", action="store_true", help="the organization's own cap, not above the operator's")


async def run_show(options: argparse.Namespace, context: Context) -> int:
    return _shown(await context.ask(operations.show, Nothing()), options)


async def run_set(options: argparse.Namespace, context: Context) -> int:
    return _shown(await context.ask(operations.set_cap, operations.SetCap(amount=read_amount(options.amount), by=_by(options))), options)


async def run_lift(options: argparse.Namespace, context: Context) -> int:
    return _shown(await context.ask(operations.lift, Nothing()), options)


async def run_remove(options: argparse.Namespace, context: Context) -> int:
    return _shown(await context.ask(operations.remove, operations.RemoveCap(by=_by(options))), options)


def _by(options: argparse.Namespace) -> operations.By:
    return operations.By.CUSTOMER if options.customer else operations.By.OPERATOR


def _shown(view: operations.CapAnswer, options: argparse.Namespace) -> int:
    def amount(found: Decimal | None) -> str:
        return "none" if found is None else money(found, view.currency)

    lines = [
        f"Spend cap: {amount(view.cap)}{' (reached: overage has ended for this period)' if view.reached else ''}",
        f"  Plan: {amount(view.plan)}{' (lifted)' if view.lifted else ''}",
        f"  Operator: {amount(view.operator)}",
        f"  Customer: {amount(view.customer)}",
        f"  Spent beyond the base price: {money(view.spent, view.currency)}",
    ]
    show_answer(view, options, lines=lines)
    return 0
