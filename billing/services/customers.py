"""Customers: who an organization's invoices go to. Made with its first subscription (billing/services/orgs.py), shown and changed here."""

from typing import Any

from billing.model.customer import Customer
from billing.services import lookup
from billing.services.ports import Books
from metering.model.errors import BadInput, NotFound


class NoSuchCustomer(NotFound):
    """The organization has no customer."""

    code = "no_such_customer"


class Customers:
    """`marketplaces` False (BILLING_MARKETPLACE_ENABLED) takes no customer of a marketplace."""

    def __init__(self, books: Books, *, marketplaces: bool = False) -> None:
        self._books, self._marketplaces = books, marketplaces

    async def show(self, ref: str) -> Customer:
        """By the organization's id or slug, or cus_…. Raises NoSuchOrganization, NoSuchCustomer."""
        async with self._books.transaction() as unit:
            org = await lookup.customer(unit, ref)
            found = await unit.customers.get(org.id)
        if found is None:
            raise NoSuchCustomer(f"{org.slug} has no customer", org=org.slug)
        return found

    async def update(self, ref: str, **fields: Any) -> Customer:
        """These fields (billing/model/customer.py), the others as they were; an empty text takes one away.

        Raises NoSuchOrganization, NoSuchCustomer, CustomerFaulty, CustomerTaken; BadInput for a marketplace where there are none.
        """
        if fields.get("marketplace") and not self._marketplaces:
            raise BadInput("customers of a marketplace are not taken here: set BILLING_MARKETPLACE_ENABLED=true")
        async with self._books.transaction() as unit:
            org = await lookup.customer(unit, ref)
            before = await unit.customers.get(org.id, lock=True)
            if before is None:
                raise NoSuchCustomer(f"{org.slug} has no customer", org=org.slug)
            after = before.changed(**fields)
            if after != before:
                await unit.customers.put(after)
        return after
