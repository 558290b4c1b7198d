"""Customers: who an organization's invoices go to, and its own page at Stripe."""

from datetime import datetime
from typing import Any

from pydantic import Field

from billing.model.customer import ADDRESS_FIELDS, CustomerFaulty, tax_ids_from, tax_ids_to
from billing.model.token import Scope
from billing.operations.instants import instant
from billing.operations.operation import About, Amount, Call, Model, Nothing, operation
from billing.services.customers import CustomerView, NoSuchCustomer
from billing.services.lifecycle import NoSuchPlan
from billing.services.ports_stripe import NoStripe, StripeFailed
from billing.services.ports_wallet import CustomerTaken
from metering.model.errors import BadInput

_ERRORS = (NoSuchCustomer, CustomerFaulty, CustomerTaken)


class TaxId(Model):
    """As Stripe names them: eu_vat, us_ein, gb_vat."""

    type: str
    value: str


class Address(Model):
    """`country` is ISO 3166-1 alpha-2."""

    line1: str | None
    line2: str | None
    city: str | None
    state: str | None
    postal_code: str | None
    country: str | None


class CustomerAnswer(Model):
    """`lifetime_value` is what came in, over `lifetime_months` with a paid invoice. `subscription` is the state of the one that runs."""

    org_id: str
    organization: str
    stripe_id: str | None
    name: str
    email: str | None
    phone: str | None
    address: Address
    address_lines: tuple[str, ...] = Field(description="as they stand on an invoice")
    tax_ids: tuple[TaxId, ...]
    currency: str
    language: str | None
    user_id: str | None
    marketplace: str | None
    marketplace_customer_id: str | None
    created: datetime
    payment_methods: int
    subscription: str | None
    plan: str | None
    lifetime_value: Amount
    lifetime_months: int


class CustomerFields(Model):
    """Those that are said change; an empty text takes one away."""

    email: str | None = None
    name: str | None = None
    phone: str | None = None
    line1: str | None = None
    line2: str | None = None
    city: str | None = None
    state: str | None = None
    postal_code: str | None = None
    country: str | None = Field(None, description="ISO 3166-1 alpha-2: US, DE")
    language: str | None = Field(None, description="of invoices and mails: en, de")
    tax_ids: tuple[TaxId, ...] | None = None
    user_id: str | None = Field(None, description="the user of the application who pays")
    marketplace: str | None = None
    marketplace_customer_id: str | None = None

    def given(self) -> dict[str, Any]:
        said = self.model_dump(exclude_none=True, exclude={"plan", "tax_ids"})
        return said if self.tax_ids is None else {**said, "tax_ids": tax_ids_from([each.model_dump() for each in self.tax_ids])}


class NewCustomer(CustomerFields):
    plan: str | None = Field(None, description="the default plan where none is named")


class NewCustomerAnswer(Model):
    """`api_key` is shown this once. `told_gateways` false: stored, and they hear of it once the store answers."""

    customer: CustomerAnswer
    slug: str
    plan: str
    api_key: str
    told_gateways: bool


class PageAtStripe(Model):
    url: str


@operation("GET", "/customer", name="customer.show", by_token=True, errors=(NoSuchCustomer,))
async def show(call: Call, ask: Nothing) -> CustomerAnswer:
    """Who is billed, and what came in."""
    return customer_answer(await call.billing.customers.view(call.org))


@operation("PATCH", "/customer", name="customer.update", need=Scope.BILLING, errors=_ERRORS)
async def update(call: Call, ask: CustomerFields) -> CustomerAnswer:
    """Contact, address, tax ids, language."""
    await call.billing.customers.update(call.org, **ask.given())
    return customer_answer(await call.billing.customers.view(call.org))


@operation(
    "POST", "/customers", name="customer.create", need=Scope.ADMIN, about=About.ALL, status=201, errors=(NoSuchPlan, *_ERRORS)
)  # fmt: skip
async def create(call: Call, ask: NewCustomer) -> NewCustomerAnswer:
    """An organization with its customer, and a first key."""
    fields, plan = ask.given(), ask.plan or call.facts.default_plan
    call.billing.customers.check_new(fields)
    if plan is None:
        raise BadInput("say which plan: there is no default plan (BILLING_DEFAULT_PLAN)")
    made = await call.billing.orgs.create(fields.get("name") or fields.get("email") or "", plan=plan, email=fields.get("email"))
    await call.billing.customers.update(made.org.id, **fields)
    return NewCustomerAnswer(
        customer=customer_answer(await call.billing.customers.view(made.org.id)), slug=made.org.slug, plan=made.subscription.plan,
        api_key=made.api_key, told_gateways=made.published,
    )  # fmt: skip


@operation("POST", "/customer/portal", name="customer.portal", need=Scope.BILLING, errors=(NoStripe, StripeFailed))
async def portal(call: Call, ask: Nothing) -> PageAtStripe:
    """The customer's own page at Stripe: invoices, payment methods. Good for an hour."""
    return PageAtStripe(url=await call.billing.payment_methods.portal_url(call.org, back_to=call.facts.back_to))


def customer_answer(view: CustomerView) -> CustomerAnswer:
    c = view.customer
    return CustomerAnswer(
        org_id=c.org_id, organization=view.org_name, stripe_id=c.stripe_id, name=c.name, email=c.email, phone=c.phone,
        address=Address(**{field: getattr(c.address, field) for field in ADDRESS_FIELDS}), address_lines=c.address.lines,
        tax_ids=tuple(TaxId(**each) for each in tax_ids_to(c.tax_ids)), currency=c.currency, language=c.language, user_id=c.user_id,
        marketplace=c.marketplace, marketplace_customer_id=c.marketplace_customer_id, created=instant(c.created_at_ms),
        payment_methods=view.payment_methods, subscription=view.status, plan=view.plan_title or None, lifetime_value=view.paid,
        lifetime_months=view.months,
    )  # fmt: skip


OPERATIONS = (show, update, create, portal)
