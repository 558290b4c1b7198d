"""Customers in Postgres. The SQL is in customers.sql."""

from collections.abc import Sequence
from decimal import Decimal

import asyncpg

from billing.model.customer import Address, Customer, tax_ids_from, tax_ids_to
from billing.model.organization import Organization
from billing.services.ports_wallet import CustomerTaken
from billing.store.rows import from_jsonb, jsonb
from metering.model.clock import to_datetime, to_ms
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "customers.sql")
_INSERT, _EMAILS, _GET, _GET_LOCKED = _SQL["insert"], _SQL["emails"], _SQL["get"], _SQL["get_locked"]
_LIFETIME, _MIRROR, _PUT, _AT_STRIPE = _SQL["lifetime"], _SQL["mirror"], _SQL["put"], _SQL["at_stripe"]
_WITH_EMAIL = _SQL["with_email"]


class CustomerTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def insert(self, org: Organization, email: str | None, currency: str, now_ms: int) -> None:
        await self._connection.execute(_INSERT, org.id, email, org.name, currency, to_datetime(now_ms))

    async def emails(self, org_ids: Sequence[str]) -> dict[str, str]:
        return {str(row["org_id"]): row["email"] for row in await self._connection.fetch(_EMAILS, list(org_ids))}

    async def with_email(self, email: str) -> list[str]:
        return [str(row["org_id"]) for row in await self._connection.fetch(_WITH_EMAIL, email)]

    async def mirror(self, org_id: str, *, name: str | None, email: str | None) -> None:
        await self._connection.execute(_MIRROR, org_id, name, email)

    async def get(self, org_id: str, *, lock: bool = False) -> Customer | None:
        row = await self._connection.fetchrow(_GET_LOCKED if lock else _GET, org_id)
        return _customer(row) if row else None

    async def put(self, customer: Customer) -> None:
        c, a = customer, customer.address
        try:
            await self._connection.execute(
                _PUT, c.org_id, c.name, c.currency, c.email, c.phone, a.line1, a.line2, a.city, a.state, a.postal_code, a.country,
                jsonb(tax_ids_to(c.tax_ids)), c.language, c.user_id, c.marketplace, c.marketplace_customer_id,
            )  # fmt: skip
        except asyncpg.UniqueViolationError as exc:
            raise CustomerTaken("another organization's customer has this user, or this id at the marketplace") from exc

    async def lifetime(self, org_id: str, currency: str) -> tuple[int, Decimal, int]:
        row = await self._connection.fetchrow(_LIFETIME, org_id, currency)
        return row["methods"], row["paid"], row["months"]

    async def at_stripe(self, stripe_id: str) -> str | None:
        return str(key) if (key := await self._connection.fetchval(_AT_STRIPE, stripe_id)) is not None else None


def _customer(row: asyncpg.Record) -> Customer:
    return Customer(
        org_id=str(row["org_id"]),
        name=row["name"],
        currency=row["currency"],
        email=row["email"],
        phone=row["phone"],
        address=Address(**{field: row[field] for field in ("line1", "line2", "city", "state", "postal_code", "country")}),
        tax_ids=tax_ids_from(from_jsonb(row["tax_ids"])),
        language=row["language"],
        user_id=str(row["user_id"]) if row["user_id"] else None,
        marketplace=row["marketplace"],
        marketplace_customer_id=row["marketplace_customer_id"],
        created_at_ms=to_ms(row["created_at"]),
        stripe_id=row["stripe_id"],
    )
