"""`weighbridge payment`: what a customer pays with. Cards are typed at Stripe, never here."""

import argparse
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from billing.model.payment import BRANDS, PaymentMethod
from billing.store.books import PostgresBooks
from billing.stripe.payments import StripePayments
from metering.model.errors import BadInput, DependencyUnavailable

from .context import Context, add_folders
from .flush import stripe_of
from .output import add_format, show, show_rows

_COLUMNS = ("id", "type", "brand", "last4", "exp_date", "default")


def add(nouns: Any) -> None:
    verbs = nouns.add_parser("payment", help="payment methods: list, add, default, remove").add_subparsers(
        dest="verb", metavar="verb", required=True
    )
    _verb(verbs, "list", "those on file", list_methods)
    _verb(verbs, "add", "a page at Stripe on which one is added", add_method)
    _verb(verbs, "default", "the one that is charged", set_default).add_argument("method", metavar="pm_ID")
    _verb(verbs, "remove", "it is never charged again", remove).add_argument("method", metavar="pm_ID")


def _verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    parser.add_argument("--org", metavar="ORG", help="id or slug; not needed where there is one organization")
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=run)
    return parser


@contextlib.asynccontextmanager
async def payments_of(context: Context) -> AsyncIterator[StripePayments]:
    """Raises DependencyUnavailable where there is no Stripe."""
    async with context.database() as pool, stripe_of(context, pool) as stripe:
        if stripe is None:
            raise DependencyUnavailable("there is no Stripe to ask: set STRIPE_API_KEY, or run `weighbridge up`, which brings a sandbox")
        yield StripePayments(PostgresBooks(pool), stripe, context.clock, currency=context.settings.billing_currency)


async def the_org(options: argparse.Namespace, context: Context) -> str:
    """The one that was named, or the only one there is. Raises BadInput."""
    if options.org:
        return str(options.org)
    async with context.billing() as billing:
        slugs = [org.slug for org, _ in await billing.orgs.all()]
    if len(slugs) != 1:
        raise BadInput(
            f"say which organization with --org; there are: {', '.join(slugs[:10]) or 'none yet'}{', …' if len(slugs) > 10 else ''}"
        )
    return slugs[0]


def back_to(context: Context) -> str:
    """Where a page at Stripe sends the customer afterwards."""
    settings = context.settings
    return settings.public_url or (context.running or {}).get("gateway") or f"http://{settings.host}:{settings.port}"


async def list_methods(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with payments_of(context) as payments:
        found = await payments.methods(org)
    show_rows([_row(method) for method in found], _COLUMNS, options, empty="No payment methods. weighbridge payment add adds one.")
    return 0


async def add_method(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with payments_of(context) as payments:
        url = await payments.setup_url(org, back_to=back_to(context))
    lines = ["Opening Stripe Checkout...", "Complete payment method setup in your browser", f"Checkout URL: {url}"]
    show({"url": url}, options, lines=lines)
    return 0


async def set_default(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with payments_of(context) as payments:
        method = await payments.set_default(org, options.method)
    show(_row(method), options, lines=[f"✓ Default payment method updated to {method.title}"])
    return 0


async def remove(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with payments_of(context) as payments:
        method = await payments.remove(org, options.method)
    show(_row(method), options, lines=[f"✓ Payment method removed ({method.title})"])
    return 0


def _row(method: PaymentMethod) -> dict[str, Any]:
    ends = f"{method.exp_month:02d}/{method.exp_year}" if method.exp_month and method.exp_year else None
    brand = BRANDS.get(method.brand or "", method.brand)
    return {
        "id": method.id, "type": method.type, "brand": brand, "last4": method.last4, "exp_date": ends,
        "default": "Yes" if method.default else "No",
    }  # fmt: skip
