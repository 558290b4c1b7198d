"""Credits and prepaid money: granted, burned by invoices, given back by those that are voided.

Whoever issues an invoice calls `burn_credits` within its transaction, and `give_back_credits` where it is voided: both lock the
grants, so nothing is ever spent twice. Which grant pays is decided by billing/model/wallet.py.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from billing.model import outbox, wallet
from billing.model.organization import Organization
from billing.model.wallet import Burn, GivenBack, Grant, GrantKind
from billing.services import lookup
from billing.services.ports import Books, Unit
from billing.services.ports_wallet import BurnRow, GrantRow
from metering.model.clock import Clock
from metering.model.errors import BadInput, NotFound


class NoSuchGrant(NotFound):
    """There is no such grant of credit."""

    code = "no_such_grant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What could pay an invoice now."""

    currency: str
    promotional: Decimal
    paid: Decimal

    @property
    def total(self) -> Decimal:
        return self.promotional + self.paid


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """An organization's credits: every grant, what each paid, and what is left."""

    org: Organization
    balances: tuple[Balance, ...]
    grants: tuple[GrantRow, ...]
    burns: tuple[BurnRow, ...]


class Credits:
    """What the command line and the API call. `bills`: Stripe writes the invoices, and pays them from the balance that it is told of."""

    def __init__(self, books: Books, clock: Clock, *, currency: str, bills: bool = False) -> None:
        self._books, self._clock, self._currency, self._bills = books, clock, currency, bills

    async def add(
        self,
        customer: str,
        amount: Decimal,
        *,
        reason: str,
        currency: str | None = None,
        kind: GrantKind = GrantKind.PROMOTIONAL,
        expires_at_ms: int | None = None,
        priority: int = wallet.USUAL,
        identifier: str | None = None,
    ) -> Grant:
        """Grant credit to a customer: an organization's id or slug, or Stripe's cus_…. Equal identifiers are the same grant: the second
        returns what stands.

        Raises NoSuchOrganization, GrantFaulty, AmountNotWhole; BadInput for an end where Stripe keeps the balance.
        """
        if self._bills and expires_at_ms is not None:
            raise BadInput("Stripe writes the invoices (issuer in plans.yaml), and its balances do not end: grant it without an end")
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            org = await lookup.customer(unit, customer)
            subscription = await unit.subscriptions.of_org(org.id)
            paid_in = currency or (subscription.currency if subscription else self._currency)
            grant = Grant(
                org_id=org.id, amount=amount, left=amount, currency=paid_in, reason=reason.strip(), kind=kind, priority=priority,
                granted_at_ms=now_ms, expires_at_ms=expires_at_ms, identifier=identifier or f"grant:{uuid.uuid4()}",
            ).checked(now_ms)  # fmt: skip
            number = await unit.credits.insert(grant)
            if number is not None:
                if self._bills:
                    emails = await unit.customers.emails([org.id])
                    rows = [outbox.customer_row(org, emails.get(org.id)), outbox.credit_row(grant, grant.amount, "given")]
                    await unit.outbox.add(rows, now_ms)
                return replace(grant, id=number)
            return _same(grant, (row.grant for row in await unit.credits.of_org(org.id)))

    async def refer(self, referrer: str, referred: str, amount: Decimal) -> Grant:
        """Credit for having brought another organization: once for each that was brought. Raises NoSuchOrganization, BadInput."""
        async with self._books.transaction() as unit:
            one, other = await lookup.customer(unit, referrer), await lookup.customer(unit, referred)
        if one.id == other.id:
            raise BadInput("an organization cannot refer itself")
        return await self.add(one.id, amount, reason=f"Referral bonus: {other.name}", identifier=f"referral:{other.id}")

    async def revoke(self, customer: str, grant_id: int) -> Grant:
        """What is left of a grant pays nothing any more; what it paid stays paid. Raises NoSuchOrganization, NoSuchGrant."""
        async with self._books.transaction() as unit:
            org = await lookup.customer(unit, customer)
            now_ms = self._clock.now_ms()
            revoked = await unit.credits.revoke(org.id, grant_id, now_ms)
            if revoked is not None and self._bills and revoked.left > 0:
                await unit.outbox.add([outbox.credit_row(revoked, -revoked.left, "taken")], now_ms)
        if revoked is None:
            raise NoSuchGrant(f"{org.slug} has no credit {grant_id} that could be revoked", grant=grant_id)
        return revoked

    async def statement(self, customer: str) -> Statement:
        """Raises NoSuchOrganization."""
        async with self._books.transaction() as unit:
            org = await lookup.customer(unit, customer)
            grants = await unit.credits.of_org(org.id)
            burns = await unit.credits.burns(org.id)
        standing = [row.grant for row in grants if row.revoked_at_ms is None]
        return Statement(org=org, balances=_balances(standing, self._clock.now_ms()), grants=tuple(grants), burns=tuple(burns))


async def burn_credits(unit: Unit, org_id: str, invoice_id: str, amount: Decimal, currency: str, now_ms: int) -> Burn:
    """Pay as much of the invoice as the organization has credit in its currency; the rest is due."""
    if amount <= 0:
        return Burn(used=(), rest=max(Decimal(0), amount))
    burned = wallet.burn(await unit.credits.lock_usable(org_id, currency), amount, now_ms)
    if burned.used:
        await unit.credits.move(org_id, invoice_id, burned.used, now_ms)
    return burned


async def give_back_credits(unit: Unit, org_id: str, invoice_id: str, now_ms: int, *, why: str, amount: Decimal | None = None) -> GivenBack:
    """Return what paid an invoice that was voided, or `amount` of it; what was given back before does not come back twice.

    Paid credit whose end has passed returns as a new grant without end, whose reason is `why`.
    """
    back = wallet.give_back(await unit.credits.burned(invoice_id), amount, now_ms, why=why)
    if back.returned:
        await unit.credits.move(org_id, invoice_id, [(grant, -returned) for grant, returned in back.returned], now_ms)
    for grant_id, new in back.renewed:
        # The burn is undone on the grant that has ended, which pays nothing any more, and the money stands in the new one.
        await unit.credits.move(org_id, invoice_id, [(grant_id, -new.amount)], now_ms)
        await unit.credits.revoke(org_id, grant_id, now_ms)
        await unit.credits.insert(replace(new, identifier=f"renewed:{grant_id}:{invoice_id}:{uuid.uuid4()}"))
    return back


def _balances(grants: Iterable[Grant], now_ms: int) -> tuple[Balance, ...]:
    found = list(grants)
    return tuple(
        Balance(
            currency=currency,
            promotional=wallet.balance((g for g in found if g.currency == currency and g.kind is GrantKind.PROMOTIONAL), now_ms),
            paid=wallet.balance((g for g in found if g.currency == currency and g.kind is GrantKind.PAID), now_ms),
        )
        for currency in sorted({g.currency for g in found})
    )


def _same(grant: Grant, known: Iterable[Grant]) -> Grant:
    """The one that has the identifier. Raises BadInput where it is another organization's, or says something else."""
    for one in known:
        if one.identifier == grant.identifier and (one.amount, one.currency) == (grant.amount, grant.currency):
            return one
    raise BadInput(f"a credit {grant.identifier} was granted before, with another amount or to another organization")
