"""`weighbridge customer`: who an organization's invoices go to, and its own page at Stripe."""

import argparse
from typing import Any

from billing.operations import customers as operations
from billing.operations.operation import Nothing

from .context import Context
from .org import unpublished
from .output import show_answer
from .verbs import nouns_verbs, verb
from .words import day, money

_FIELDS = {  # option -> field
    "email": "email", "name": "name", "phone": "phone", "address": "line1", "address2": "line2", "city": "city", "state": "state",
    "postal_code": "postal_code", "country": "country", "language": "language", "user_id": "user_id", "marketplace": "marketplace",
    "marketplace_customer_id": "marketplace_customer_id",
}  # fmt: skip


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "customer", "customers: show, update, create, portal")
    verb(verbs, "show", "who is billed, and what came in", show_customer, example="weighbridge customer show --org acme-corp")
    update = verb(
        verbs, "update", "change contact, address, language; an empty text takes a field away", update_customer,
        example='weighbridge customer update --email billing@example.com --address "123 Main St" --country US',
    )  # fmt: skip
    verb(
        verbs, "portal", "the customer's own page at Stripe: invoices, payment methods", portal,
        example="weighbridge customer portal --org acme-corp",
    )  # fmt: skip
    create = verb(
        verbs, "create", "an organization with its customer, on the default plan", create_customer, org=False,
        example="weighbridge customer create --email billing@example.com --name Acme",
    )  # fmt: skip
    create.add_argument("--plan", help="default: BILLING_DEFAULT_PLAN")
    for parser in (update, create):
        for option in _FIELDS:
            parser.add_argument("--" + option.replace("_", "-"), metavar=option.upper())
        parser.add_argument("--tax-id", action="append", metavar="TYPE=VALUE", help="such as eu_vat=DE123456789; several times")


def _given(options: argparse.Namespace) -> dict[str, Any]:
    said: dict[str, Any] = {field: value for option, field in _FIELDS.items() if (value := getattr(options, option)) is not None}
    if options.tax_id is not None:
        said["tax_ids"] = tuple(_tax_id(text) for text in options.tax_id if text)
    return said


def _tax_id(text: str) -> operations.TaxId:
    kind, _, value = text.partition("=")
    return operations.TaxId(type=kind, value=value)


async def show_customer(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.show, Nothing())
    show_answer(found, options, lines=_lines(found))
    return 0


async def update_customer(options: argparse.Namespace, context: Context) -> int:
    changed = await context.ask(operations.update, operations.CustomerFields(**_given(options)))
    show_answer(changed, options, lines=[f"✓ Customer updated: {changed.name}"])
    return 0


async def create_customer(options: argparse.Namespace, context: Context) -> int:
    made = await context.ask(operations.create, operations.NewCustomer(**_given(options), plan=options.plan))
    lines = [
        f"✓ Customer created: {made.customer.name}",
        f"  Organization: {made.slug} on plan {made.plan}",
        f"  API key: {made.api_key}   (shown this once: we store only its hash)",
    ]
    show_answer(made, options, lines=lines)
    unpublished(made.told_gateways)
    return 0


async def portal(options: argparse.Namespace, context: Context) -> int:
    page = await context.ask(operations.portal, Nothing())
    show_answer(page, options, lines=["Customer Portal URL (expires in 1 hour):", page.url])
    return 0


def _lines(found: operations.CustomerAnswer) -> list[str]:
    methods = {0: "none", 1: "1 card on file"}.get(found.payment_methods, f"{found.payment_methods} cards on file")
    subscription = f"1 {found.subscription} ({found.plan} Plan)" if found.subscription else "none"
    months = "1 month" if found.lifetime_months == 1 else f"{found.lifetime_months} months"
    return [
        f"Customer: {found.stripe_id or found.org_id}",
        f"Organization: {found.organization}",
        f"Email: {found.email or '-'}",
        *(f"Address: {line}" if i == 0 else f"         {line}" for i, line in enumerate(found.address_lines)),
        *(f"Tax ID: {each.type} {each.value}" for each in found.tax_ids),
        f"Created: {day(found.created)}",
        f"Payment Methods: {methods}",
        f"Subscriptions: {subscription}",
        f"Lifetime Value: {money(found.lifetime_value, found.currency)} ({months})",
    ]
