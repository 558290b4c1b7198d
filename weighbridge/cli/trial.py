"""`weighbridge trial`: a plan for some days for nothing, and what becomes of it at the end."""

import argparse
from typing import Any

from billing.model.charges import title_of
from metering.model.clock import isoformat

from .context import Context, add_folders
from .org import unpublished
from .output import add_format, say, show


def add(nouns: Any) -> None:
    verbs = nouns.add_parser("trial", help="trials: start, auto-downgrade").add_subparsers(dest="verb", metavar="verb", required=True)
    start = verbs.add_parser("start", help="let an organization try a plan")
    start.add_argument("org", help="id, slug, or the e-mail address of its customer")
    start.add_argument("--plan", help="default: the first of BILLING_TRIAL_PLANS")
    start.add_argument("--days", type=int, help="default: those of the plan, or BILLING_TRIAL_DAYS")
    downgrade = verbs.add_parser("auto-downgrade", help="what becomes of a trial that ends with nothing to charge")
    how = downgrade.add_mutually_exclusive_group()
    how.add_argument("--enable", action="store_true", help="back to the plan before, or the default plan")
    how.add_argument("--disable", action="store_true", help="it waits, paused; with a payment method a reverse trial goes on, paid")
    for parser, run in ((start, start_trial), (downgrade, auto_downgrade)):
        add_folders(parser)
        add_format(parser)
        parser.set_defaults(run=run)


async def start_trial(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        changed = await billing.trials.start(options.org, options.plan, options.days)
    trial = changed.after.trial
    assert trial is not None
    value = {"id": changed.after.id, "org": changed.org.slug, "plan": changed.after.plan, "trial_end": isoformat(trial.end_ms)[:10]}
    show(
        value,
        options,
        lines=[f"✓ Trial of {title_of(changed.spec_after)} started for {changed.org.name}", f"  Ends: {isoformat(trial.end_ms)[:10]}"],
    )
    unpublished(changed.published)
    return 0


async def auto_downgrade(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        if options.enable or options.disable:
            await billing.trials.set_auto_downgrade(options.enable)
        enabled = await billing.trials.auto_downgrade()
    if options.format == "json":
        show({"auto_downgrade": enabled}, options)
    else:
        say(f"{'✓ ' if options.enable or options.disable else ''}Auto-downgrade after a trial: {'on' if enabled else 'off'}")
    return 0
