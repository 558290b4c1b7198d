"""`weighbridge payment`: what a customer pays with. Cards are typed at Stripe, never here."""

import argparse
from typing import Any

from billing.operations import payments as operations
from billing.operations.operation import Nothing

from .context import Context
from .output import show_answer, show_list
from .verbs import nouns_verbs, verb

_COLUMNS = ("id", "type", "brand", "last4", "exp_date", "default")


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "payment", "payment methods: list, add, default, remove")
    verb(verbs, "list", "those on file", list_methods, example="weighbridge payment list --org acme-corp")
    adding = verb(verbs, "add", "a page at Stripe on which one is added", add_method, example="weighbridge payment add --org acme-corp")
    adding.add_argument("--method", metavar="pm_ID", help="one that was made at Stripe already: no page is needed")
    for name, text, run in (("default", "the one that is charged", set_default), ("remove", "it is never charged again", remove)):
        verb(verbs, name, text, run, example=f"weighbridge payment {name} pm_1abc").add_argument("method", metavar="pm_ID")


async def list_methods(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.list_all, Nothing())
    rows = [_row(method) for method in found.payment_methods]
    show_list(found, rows, _COLUMNS, options, empty="No payment methods. weighbridge payment add adds one.")
    return 0


async def add_method(options: argparse.Namespace, context: Context) -> int:
    if options.method is not None:
        made = await context.ask(operations.attach, operations.AttachMethod(token=options.method))
        show_answer(made, options, lines=[f"✓ Payment method added ({made.title})"])
        return 0
    page = await context.ask(operations.add, Nothing())
    lines = ["Opening Stripe Checkout...", "Complete payment method setup in your browser", f"Checkout URL: {page.url}"]
    show_answer(page, options, lines=lines)
    return 0


async def set_default(options: argparse.Namespace, context: Context) -> int:
    method = await context.ask(operations.set_default, operations.AskMethod(method=options.method))
    show_answer(method, options, lines=[f"✓ Default payment method updated to {method.title}"])
    return 0


async def remove(options: argparse.Namespace, context: Context) -> int:
    method = await context.ask(operations.remove, operations.AskMethod(method=options.method))
    show_answer(method, options, lines=[f"✓ Payment method removed ({method.title})"])
    return 0


def _row(method: operations.Method) -> dict[str, Any]:
    ends = f"{method.exp_month:02d}/{method.exp_year}" if method.exp_month and method.exp_year else None
    return {
        "id": method.id, "type": method.type, "brand": method.brand, "last4": method.last4, "exp_date": ends,
        "default": "Yes" if method.default else "No",
    }  # fmt: skip
