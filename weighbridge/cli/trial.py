"""`weighbridge trial`: a plan for some days for nothing, and what becomes of it at the end."""

import argparse
from typing import Any

from billing.operations import trials as operations
from billing.operations.dispatch import asked
from billing.operations.operation import Nothing

from .context import Context
from .org import unpublished
from .output import show_answer
from .verbs import nouns_verbs, verb
from .words import day


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "trial", "trials: start, auto-downgrade")
    start = verb(
        verbs, "start", "let an organization try a plan", start_trial, org=False,
        example="weighbridge trial start billing@acme.example --plan=pro --days=7",
    )  # fmt: skip
    start.add_argument("customer", help="id, slug, or the e-mail address of its customer")
    start.add_argument("--plan", help="default: the first of BILLING_TRIAL_PLANS")
    start.add_argument("--days", type=int, help="default: those of the plan, or BILLING_TRIAL_DAYS")
    downgrade = verb(
        verbs, "auto-downgrade", "what becomes of a trial that ends with nothing to charge", auto_downgrade, org=False,
        example="weighbridge trial auto-downgrade --enable",
    )  # fmt: skip
    how = downgrade.add_mutually_exclusive_group()
    how.add_argument("--enable", action="store_true", help="back to the plan before, or the default plan")
    how.add_argument("--disable", action="store_true", help="it waits, paused; with a payment method a reverse trial goes on, paid")


async def start_trial(options: argparse.Namespace, context: Context) -> int:
    ask = asked(operations.start, {"customer": options.customer, "plan": options.plan, "days": options.days})
    begun = await context.ask(operations.start, ask)
    show_answer(begun, options, lines=[f"✓ Trial of {begun.title} started for {begun.name}", f"  Ends: {day(begun.trial_end)}"])
    unpublished(begun.told_gateways)
    return 0


async def auto_downgrade(options: argparse.Namespace, context: Context) -> int:
    changes = options.enable or options.disable
    if changes:
        found = await context.ask(operations.set_auto_downgrade, operations.AutoDowngrade(enabled=options.enable))
    else:
        found = await context.ask(operations.auto_downgrade, Nothing())
    show_answer(found, options, lines=[f"{'✓ ' if changes else ''}Auto-downgrade after a trial: {'on' if found.enabled else 'off'}"])
    return 0
