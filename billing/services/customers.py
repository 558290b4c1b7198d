"""Customers: who an organization's invoices go to. Made with its first subscription (billing/services/orgs.py), shown and changed here."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.model import outbox
from billing.model.customer import Customer
from billing.model.tax import NO_TAXES_AT_STRIPE, StripeTaxes
from billing.services import lookup
from billing.services.ports import Books, Unit
from metering.model.clock import Clock
from metering.model.errors import BadInput, NotFound


class NoSuchCustomer(NotFound):
    """The organization has no customer."""

    code = "no_such_customer"


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerView:
    """With what came in: `paid` in the customer's currency, over so many `months` with a paid invoice."""

    customer: Customer
    org_name: str
    status: str | None
    plan_title: str
    payment_methods: int
    paid: Decimal
    months: int


class Customers:
    """`marketplaces` False (BILLING_MARKETPLACE_ENABLED) takes no customer of a marketplace. `bills`: Stripe writes the invoices, and taxes
    them by `taxes`."""

    def __init__(
        self, books: Books, clock: Clock, *, marketplaces: bool = False, bills: bool = False, taxes: StripeTaxes = NO_TAXES_AT_STRIPE
    ) -> None:
        self._books, self._clock, self._marketplaces, self._bills, self._taxes = books, clock, marketplaces, bills, taxes

    async def show(self, ref: str) -> Customer:
        """By the organization's id or slug, or cus_…. Raises NoSuchOrganization, NoSuchCustomer."""
        async with self._books.transaction() as unit:
            org = await lookup.customer(unit, ref)
            found = await unit.customers.get(org.id)
        if found is None:
            raise NoSuchCustomer(f"{org.slug} has no customer", org=org.slug)
        return found

    async def view(self, ref: str) -> CustomerView:
        """Raises NoSuchOrganization, NoSuchCustomer."""
        customer = await self.show(ref)
        async with self._books.transaction() as unit:
            [account] = await unit.orgs.accounts([customer.org_id])
            methods, paid, months = await unit.customers.lifetime(customer.org_id, customer.currency)
        live = account.subscription if account.subscription and account.spec else None
        return CustomerView(
            customer=customer, org_name=account.org.name, status=live.state.value if live else None,
            plan_title=(account.spec.title or account.spec.name) if live and account.spec else "", payment_methods=methods, paid=paid,
            months=months,
        )  # fmt: skip

    def check_new(self, fields: Mapping[str, str]) -> None:
        """Before anything is made of them. Raises CustomerFaulty, BadInput."""
        self._check_marketplace(fields)
        Customer(org_id="", name=fields.get("name") or fields.get("email") or "", currency="usd").changed(**fields)

    def _check_marketplace(self, fields: Mapping[str, Any]) -> None:
        if fields.get("marketplace") and not self._marketplaces:
            raise BadInput("customers of a marketplace are not taken here: set BILLING_MARKETPLACE_ENABLED=true")

    async def update(self, ref: str, **fields: Any) -> Customer:
        """These fields (billing/model/customer.py), the others as they were; an empty text takes one away.

        Raises NoSuchOrganization, NoSuchCustomer, CustomerFaulty, CustomerTaken; BadInput for a marketplace where there are none.
        """
        self._check_marketplace(fields)
        async with self._books.transaction() as unit:
            org = await lookup.customer(unit, ref)
            before = await unit.customers.get(org.id, lock=True)
            if before is None:
                raise NoSuchCustomer(f"{org.slug} has no customer", org=org.slug)
            after = before.changed(**fields)
            if after != before:
                await unit.customers.put(after)
                await self._tell_stripe(unit, before, after)
        return after

    async def _tell_stripe(self, unit: Unit, before: Customer, after: Customer) -> None:
        """Where it knows the customer, or soon will."""
        if after.stripe_id is None and not await unit.outbox.has(after.org_id, outbox.ENSURE_CUSTOMER):
            return
        now_ms = self._clock.now_ms()
        rows = [outbox.customer_changed_row(after, now_ms)]
        if self._bills and self._taxes.any and after.place != before.place:
            rows.append(outbox.tax_row(after.org_id, self._taxes.told(after.place), now_ms))
        await unit.outbox.add(rows, now_ms)
