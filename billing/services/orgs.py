"""Organizations: create with a subscription and a first key, list, show, delete."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from billing.model import outbox
from billing.model.customer import check_email
from billing.model.lifecycle import Step, begin
from billing.model.organization import ApiKey, Organization, check_slug, numbered, slugify
from billing.model.plan import PlanSpec
from billing.model.subscription import Event, State, Subscription, after
from billing.model.tax import NO_TAXES_AT_STRIPE, Place, StripeTaxes
from billing.services import lookup
from billing.services.entitlements import Entitlements
from billing.services.keys import Keys
from billing.services.lifecycle import NoSuchPlan
from billing.services.ports import Books, Cut, LimitRow, PlanRow, QuotaRow, Unit, cut_nothing
from metering.model.clock import Clock
from metering.model.errors import BadInput, Conflict
from metering.model.meter import Meter


class SlugTaken(Conflict):
    """Another organization has this slug."""

    code = "slug_taken"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrganization:
    """`api_key` is shown this once. `published` False: stored, and the gateways will hear of it once Redis answers."""

    org: Organization
    subscription: Subscription
    key: ApiKey
    api_key: str
    published: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationView:
    """All there is to show."""

    org: Organization
    subscription: Subscription | None
    spec: PlanSpec | None
    keys: tuple[ApiKey, ...]
    overrides: tuple[QuotaRow | LimitRow, ...]


class Orgs:
    """`bills` False meters and limits, and tells Stripe nothing (BILLING_ENABLED=false). `items`: what is due is written down, for
    invoices of ours."""

    def __init__(
        self,
        books: Books,
        keys: Keys,
        entitlements: Entitlements,
        clock: Clock,
        *,
        meters: Mapping[str, Meter],
        currency: str,
        bills: bool,
        items: bool = False,
        cut: Cut = cut_nothing,
        taxes: StripeTaxes = NO_TAXES_AT_STRIPE,
    ) -> None:
        self._taxes = taxes
        self._books, self._keys, self._entitlements, self._clock = books, keys, entitlements, clock
        self._meters, self._currency, self._bills, self._items, self._cut = meters, currency, bills, items, cut

    async def create(
        self,
        name: str,
        *,
        plan: str,
        slug: str | None = None,
        email: str | None = None,
        anchor_ms: int | None = None,
        test_key: bool = False,
        zone: str = "UTC",
    ) -> NewOrganization:
        """A new organization on the plan's newest version, with one key; on a paid plan, what Stripe must know is queued
        in the same transaction. `anchor_ms` starts its periods (now, to the second, unless given);
        billing periods follow the time of day of `zone`.

        Raises NoSuchPlan, CustomerFaulty, SlugFaulty, SlugTaken (only for a slug that was asked for), BadInput.
        """
        if not name.strip():
            raise BadInput("an organization needs a name")
        check_email(email)
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            row = await self._plan(unit, plan)
            org = await self._insert(unit, name.strip(), slug, now_ms)
            step = self.subscription_to(org.id, row, now_ms, anchor_ms, zone)
            subscription = step.to
            await unit.subscriptions.insert(subscription, now_ms)
            await unit.customers.insert(org, email, self._currency, now_ms)
            key, secret = await self._keys.mint_into(unit, org.id, label="first key", test=test_key)
            if self._items:
                await unit.invoice_items.add(step.items, now_ms)
            if self._bills and row.spec.is_paid:
                rows = outbox.subscription_rows(subscription, row.spec, self._meters)
                taxes = [outbox.tax_row(org.id, self._taxes.told(Place()), now_ms)] if self._taxes.any else []
                await unit.outbox.add([outbox.customer_row(org, email), *taxes, *rows], now_ms)
        published = await self._entitlements.tell([org.id])
        return NewOrganization(org=org, subscription=subscription, key=key, api_key=secret, published=published)

    def subscription_to(self, org_id: str, row: PlanRow, now_ms: int, anchor_ms: int | None, zone: str) -> Step:
        """A subscription that starts now, with the plan's trial. Raises BadInput for a plan that is not sold in the billing currency."""
        spec = row.spec
        if spec.price and self._currency not in spec.price:
            raise BadInput(f"plan {spec.name} has no price in {self._currency}; it has {', '.join(sorted(spec.price))}")
        new = Subscription(
            id=str(uuid.uuid4()),
            org_id=org_id,
            plan=spec.name,
            plan_version=row.version,
            state=State.ACTIVE,
            anchor_ms=now_ms,
            interval=spec.interval,
            interval_count=spec.interval_count,
            currency=self._currency,
            amount=spec.price.get(self._currency),
            zone=zone,
        )
        return begin(new, spec, now_ms, anchor_ms=anchor_ms, trial_days=spec.trial_days)

    async def all(self, limit: int | None = None, after_slug: str | None = None) -> list[tuple[Organization, Subscription | None]]:
        """Every organization that lives, by slug; of those behind that one, at most so many."""
        async with self._books.transaction() as unit:
            return await unit.orgs.living(limit, after_slug)

    async def show(self, ref: str) -> OrganizationView:
        """By id or slug. Raises NoSuchOrganization."""
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, ref)
            subscription = await unit.subscriptions.of_org(org.id)
            spec = await unit.plans.version(subscription.plan, subscription.plan_version) if subscription else None
            keys = await unit.keys.of_org(org.id)
            overrides: list[QuotaRow | LimitRow] = [*await unit.quotas.of_org(org.id), *await unit.limits.of_org(org.id)]
        return OrganizationView(org=org, subscription=subscription, spec=spec, keys=tuple(keys), overrides=tuple(overrides))

    async def delete(self, ref: str) -> tuple[Organization, bool]:
        """Its keys stop working, its subscription ends; what it used stays on record, and what it owes is cut before. The
        flag: were the gateways told.

        Raises NoSuchOrganization.
        """
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, ref)
        await self._cut([org.id])
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org.id, lock=True)
            subscription = await unit.subscriptions.of_org(org.id)
            if subscription:
                await self._end(unit, subscription, now_ms)
            await unit.keys.revoke([k.id for k in await unit.keys.of_org(org.id) if k.revoked_at_ms is None], now_ms)
            await unit.orgs.mark_deleted(org.id, now_ms)
            await unit.orgs.raise_versions([org.id])
        return org, await self._entitlements.tell([org.id])

    async def _end(self, unit: Unit, subscription: Subscription, now_ms: int) -> None:
        """Also at Stripe, where it heard of the subscription: a deleted organization is not charged again."""
        await unit.subscriptions.end(subscription.org_id, after(subscription.state, Event.END).value, now_ms)
        if await unit.outbox.has(subscription.org_id, outbox.ENSURE_SUBSCRIPTION):
            await unit.outbox.add([outbox.cancel_row(subscription.org_id)], now_ms)

    async def _insert(self, unit: Unit, name: str, slug: str | None, now_ms: int) -> Organization:
        base = check_slug(slug) if slug is not None else slugify(name)
        number = 1
        while True:
            org = Organization(id=str(uuid.uuid4()), slug=numbered(base, number), name=name, created_at_ms=now_ms)
            if await unit.orgs.insert(org):
                return org
            if slug is not None:
                raise SlugTaken(f"there is an organization {slug} already", slug=slug)
            number += 1

    async def _plan(self, unit: Unit, name: str) -> PlanRow:
        row = await unit.plans.get(name, lock=True)
        if row is None:
            known = sorted(await unit.plans.all())
            raise NoSuchPlan(f"there is no plan {name!r}; there are: {', '.join(known) or 'none yet (apply plans.yaml first)'}", plan=name)
        if row.archived:
            raise NoSuchPlan(f"plan {name} is not sold any more", plan=name)
        return row
