"""`weighbridge customer`: the customer's own page at Stripe."""

import argparse
from typing import Any

from .context import Context, add_folders
from .output import add_format, show
from .payment import back_to, payments_of, the_org


def add(nouns: Any) -> None:
    verbs = nouns.add_parser("customer", help="customers: portal").add_subparsers(dest="verb", metavar="verb", required=True)
    parser = verbs.add_parser("portal", help="the customer's own page at Stripe: invoices, payment methods")
    parser.add_argument("--org", metavar="ORG", help="id or slug; not needed where there is one organization")
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=portal)


async def portal(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with payments_of(context) as payments:
        url = await payments.portal_url(org, back_to=back_to(context))
    show({"url": url}, options, lines=["Customer Portal URL (expires in 1 hour):", url])
    return 0
