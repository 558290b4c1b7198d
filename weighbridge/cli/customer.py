"""`weighbridge customer`: who an organization's invoices go to, and its own page at Stripe."""

import argparse
from typing import Any

from billing.model.customer import ADDRESS_FIELDS, Customer, tax_ids_to
from billing.model.wording import wording
from billing.services.customers import CustomerView
from metering.model.clock import isoformat

from .context import Context, add_folders
from .org import unpublished
from .output import add_format, show
from .payment import back_to, payments_of, the_org

_FIELDS = {  # option -> field
    "email": "email", "name": "name", "phone": "phone", "address": "line1", "address2": "line2", "city": "city", "state": "state",
    "postal_code": "postal_code", "country": "country", "language": "language", "user_id": "user_id", "marketplace": "marketplace",
    "marketplace_customer_id": "marketplace_customer_id",
}  # fmt: skip


def add(nouns: Any) -> None:
    verbs = nouns.add_parser("customer", help="customers: show, update, create, portal").add_subparsers(
        dest="verb", metavar="verb", required=True
    )
    for name, text, run in (
        ("show", "who is billed, and what came in", show_customer),
        ("update", "change contact, address, language; an empty text takes a field away", update_customer),
        ("portal", "the customer's own page at Stripe: invoices, payment methods", portal),
    ):
        _verb(verbs, name, text, run).add_argument("--org", metavar="ORG", help="id or slug; not needed where there is one organization")
    _options(verbs.choices["update"])
    create = _verb(verbs, "create", "an organization with its customer, on the default plan", create_customer)
    _options(create)
    create.add_argument("--plan", help="default: BILLING_DEFAULT_PLAN")


def _verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=run)
    return parser


def _options(parser: argparse.ArgumentParser) -> None:
    for option in _FIELDS:
        parser.add_argument("--" + option.replace("_", "-"), metavar=option.upper())


def _given(options: argparse.Namespace) -> dict[str, str]:
    return {field: value for option, field in _FIELDS.items() if (value := getattr(options, option)) is not None}


async def show_customer(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with context.billing() as billing:
        view = await billing.customers.view(org)
    show(_value(view.customer), options, lines=_lines(view))
    return 0


async def update_customer(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with context.billing() as billing:
        customer = await billing.customers.update(org, **_given(options))
    show(_value(customer), options, lines=[f"✓ Customer updated: {customer.name}"])
    return 0


async def create_customer(options: argparse.Namespace, context: Context) -> int:
    fields = _given(options)
    async with context.billing() as billing:
        billing.customers.check_new(fields)
        plan = options.plan or context.settings.billing_default_plan
        made = await billing.orgs.create(fields.get("name") or fields.get("email") or "", plan=plan, email=fields.get("email"))
        customer = await billing.customers.update(made.org.id, **fields)
    lines = [
        f"✓ Customer created: {customer.name}",
        f"  Organization: {made.org.slug} on plan {made.subscription.plan}",
        f"  API key: {made.api_key}   (shown this once: we store only its hash)",
    ]
    show({**_value(customer), "slug": made.org.slug, "api_key": made.api_key}, options, lines=lines)
    unpublished(made.published)
    return 0


def _value(customer: Customer) -> dict[str, Any]:
    c = customer
    return {
        "org_id": c.org_id, "stripe_id": c.stripe_id, "name": c.name, "email": c.email, "phone": c.phone, "currency": c.currency,
        "language": c.language, "address": {field: getattr(c.address, field) for field in ADDRESS_FIELDS}, "tax_ids": tax_ids_to(c.tax_ids),
        "user_id": c.user_id, "marketplace": c.marketplace, "marketplace_customer_id": c.marketplace_customer_id,
        "created": isoformat(c.created_at_ms),
    }  # fmt: skip


def _lines(view: CustomerView) -> list[str]:
    customer = view.customer
    methods = {0: "none", 1: "1 card on file"}.get(view.payment_methods, f"{view.payment_methods} cards on file")
    subscription = f"1 {view.status} ({view.plan_title} Plan)" if view.status else "none"
    months = "1 month" if view.months == 1 else f"{view.months} months"
    return [
        f"Customer: {customer.stripe_id or customer.org_id}",
        f"Organization: {view.org_name}",
        f"Email: {customer.email or '-'}",
        *(f"Address: {line}" if i == 0 else f"         {line}" for i, line in enumerate(customer.address.lines)),
        f"Created: {isoformat(customer.created_at_ms)[:10]}",
        f"Payment Methods: {methods}",
        f"Subscriptions: {subscription}",
        f"Lifetime Value: {wording('en').money(view.paid, customer.currency)} ({months})",
    ]


async def portal(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with payments_of(context) as payments:
        url = await payments.portal_url(org, back_to=back_to(context))
    show({"url": url}, options, lines=["Customer Portal URL (expires in 1 hour):", url])
    return 0
