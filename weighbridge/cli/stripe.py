"""`weighbridge stripe`: take over an account that was there before; move from the sandbox to test mode, and to live mode."""

import argparse
import contextlib
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from billing.services.ports_stripe import Side
from billing.store.books import PostgresBooks
from billing.stripe import installation
from billing.stripe.adopt import adopt
from billing.stripe.client import StripeApi
from billing.stripe.cutover import cutover, described
from billing.wiring import invoicing_of
from metering.model.errors import BadInput
from metering.store.postgres import redacted

from .context import Context, add_folders
from .output import add_format, show
from .verbs import typed


def add(nouns: Any) -> None:
    verbs = nouns.add_parser("stripe", help="an account at Stripe: import, cutover").add_subparsers(
        dest="verb", metavar="verb", required=True
    )
    _verb(
        verbs, "import", "link an account's customers, subscriptions and prices to organizations; nothing is made at Stripe", import_account
    )
    _verb(verbs, "cutover", "from the sandbox to test mode, from there to live mode: to the side of STRIPE_API_KEY", cut_over)


def _verb(verbs: Any, name: str, text: str, run: Any) -> None:
    parser = verbs.add_parser(name, help=text, description=f"{text}. Says what it would do; --yes does it.")
    parser.add_argument("--yes", action="store_true", help="do it; without, it is only said")
    add_folders(parser)
    add_format(parser)
    typed(parser, f"weighbridge stripe {name}")
    parser.set_defaults(run=run)


@contextlib.asynccontextmanager
async def _account(context: Context) -> AsyncIterator[tuple[StripeApi, Side]]:
    """The account of STRIPE_API_KEY, whatever a running `up` speaks to. Raises BadInput where there is none."""
    settings = context.own_settings
    if settings.stripe_api_key is None:
        raise BadInput("set STRIPE_API_KEY to a key of the account (sk_test_…, rk_test_…, or of live mode)")
    stripe = StripeApi(api_key=settings.stripe_api_key, api_base=settings.stripe_api_base)
    try:
        yield stripe, Side(mode=settings.stripe_mode, account=await stripe.account())
    finally:
        await stripe.close()


async def import_account(options: argparse.Namespace, context: Context) -> int:
    settings = context.own_settings
    async with _account(context) as (stripe, side), context.database() as pool:
        where = redacted(context.database_url)
        await installation.check(pool, side.mode, where=where, account=side.account)
        if options.yes:
            await installation.stamp(pool, side.mode, context.clock, where=where, account=side.account)
        found = await adopt(PostgresBooks(pool), stripe, context.clock, currency=settings.billing_currency, dry_run=not options.yes)
    verb = "Linked" if options.yes else "Would link"
    lines = [f"{verb} {link.kind} {link.stripe_id} to {link.slug} ({link.why})" for link in found.links]
    lines += [f"Left {stripe_id}: {why}" for stripe_id, why in found.left]
    lines += _closing(options, nothing=not found.links, done="Stripe's events bring these organizations up to date from now on.")
    value = {"done": options.yes, "links": [asdict(link) for link in found.links], "left": [list(each) for each in found.left]}
    show(value, options, lines=lines)
    return 0


async def cut_over(options: argparse.Namespace, context: Context) -> int:
    async with _account(context) as (_, side), context.database() as pool:
        meters = context.configuration.meters
        taxes = invoicing_of(context.settings, context.configuration.plans.issuer).taxes
        moved = await cutover(PostgresBooks(pool), side, context.clock, meters, dry_run=not options.yes, taxes=taxes)
    closing = _closing(
        options, nothing=False, done="Start control and aggregator with the new key, and set STRIPE_WEBHOOK_SECRET to the new endpoint's."
    )
    show({"done": options.yes, **asdict(moved)}, options, lines=[*described(moved, dry_run=not options.yes), *closing])
    return 0


def _closing(options: argparse.Namespace, *, nothing: bool, done: str) -> list[str]:
    if nothing:
        return ["Nothing to do."]
    return [done] if options.yes else ["Nothing was changed. Stop the aggregator, then run it again with --yes."]
