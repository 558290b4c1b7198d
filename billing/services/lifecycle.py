"""What every change of a subscription has in common: its organization held, what it owes cut before, everything that follows from the
change in one transaction, the gateways told after."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from billing.model import mailing, outbox
from billing.model.charges import title_of
from billing.model.invoice_item import InvoiceItem
from billing.model.lifecycle import Step, net
from billing.model.mail import Mail
from billing.model.organization import Organization
from billing.model.outbox import OutboxRow
from billing.model.plan import PlanSpec
from billing.model.subscription import State, Subscription, sold
from billing.model.tax import NO_TAXES_AT_STRIPE, StripeTaxes
from billing.services import lookup
from billing.services.entitlements import Entitlements
from billing.services.ports import Books, Cut, PlanRow, Unit, cut_nothing
from metering.model.clock import Clock
from metering.model.errors import BadInput, Conflict, NotFound
from metering.model.meter import Meter

HasPaymentMethod = Callable[[str], Awaitable[bool]]  # by an organization's id: is there anything to charge


async def anybody_can_pay(_org_id: str) -> bool:
    """Where nobody knows of payment methods: invoices are sent, and paid by hand."""
    return True


class NoSuchPlan(NotFound):
    """There is no such plan."""

    code = "no_such_plan"


class NoSubscription(NotFound):
    """The organization has no subscription that runs."""

    code = "no_subscription"


class ChangeRefused(Conflict):
    """The subscription cannot be changed so."""

    code = "change_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRules:
    """The BILLING_TRIAL_* settings."""

    days: int = 14
    plans: tuple[str, ...] = ("pro", "enterprise")
    requires_payment: bool = True
    notify_days_before: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A subscription whose organization is locked, with its plan as it is sold to it; its `revision` is that of the change to come."""

    org: Organization
    subscription: Subscription
    spec: PlanSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What a change does, or would do. `effective_ms` is when the terms change; `published` False: stored, and the gateways will hear
    of it once Redis answers."""

    org: Organization
    before: Subscription
    after: Subscription
    spec_before: PlanSpec
    spec_after: PlanSpec
    effective_ms: int
    items: Sequence[InvoiceItem] = field(default=())
    published: bool = True

    @property
    def credit(self) -> Decimal:
        """Zero or below."""
        return net([item for item in self.items if item.amount < 0])

    @property
    def charge(self) -> Decimal:
        return net([item for item in self.items if item.amount > 0])

    @property
    def net(self) -> Decimal:
        return net(self.items)


Work = Callable[[Unit, Held], Awaitable[Changed]]


class Lifecycle:
    """`items`: what is due is written down, for invoices of ours; `bills`: Stripe is told. Neither with BILLING_ENABLED=false."""

    def __init__(
        self,
        books: Books,
        entitlements: Entitlements,
        clock: Clock,
        *,
        meters: Mapping[str, Meter],
        bills: bool,
        items: bool = False,
        cut: Cut = cut_nothing,
        default_plan: str | None = "free",
        trials: TrialRules | None = None,
        has_payment_method: HasPaymentMethod = anybody_can_pay,
        taxes: StripeTaxes = NO_TAXES_AT_STRIPE,
    ) -> None:
        self._taxes = taxes
        self.books, self.clock, self.default_plan, self.bills, self.items = books, clock, default_plan, bills, items
        self.trials, self.has_payment_method = trials or TrialRules(), has_payment_method
        self._entitlements, self._meters, self._cut = entitlements, meters, cut

    async def find(self, ref: str) -> Organization:
        """Raises NoSuchOrganization."""
        async with self.books.transaction() as unit:
            return await lookup.organization(unit, ref)

    async def change(self, ref: str, work: Work, *, keep: bool = True) -> Changed:
        """`work` on the subscription that runs; with `keep` False the same work, undone. What is owed by the terms that still stand is
        cut before. Raises NoSuchOrganization, NoSubscription, and what `work` raises."""
        org = await self.find(ref)
        if keep:
            await self._cut([org.id])
        async with self.books.transaction(keep=keep) as unit:
            changed = await work(unit, await self.held(unit, org.id))
        return replace(changed, published=await self.tell(org.id)) if keep else changed

    async def cut(self, org_id: str) -> None:
        await self._cut([org_id])

    async def tell(self, org_id: str) -> bool:
        return await self._entitlements.tell([org_id])

    async def held(self, unit: Unit, org_id: str) -> Held:
        """Raises NoSuchOrganization, NoSubscription."""
        org = await lookup.organization(unit, org_id, lock=True)
        subscription = await unit.subscriptions.of_org(org.id)
        if subscription is None:
            raise NoSubscription(f"{org.slug} has no subscription that runs; choose a plan: subscription upgrade PLAN", org=org.slug)
        spec = await self.version(unit, subscription.plan, subscription.plan_version)
        return Held(org=org, subscription=replace(subscription, revision=subscription.revision + 1), spec=sold(spec, subscription))

    async def version(self, unit: Unit, plan: str, version: int) -> PlanSpec:
        """One that is stored: a foreign key keeps it."""
        spec = await unit.plans.version(plan, version)
        if spec is None:
            raise NoSuchPlan(f"there is no version {version} of plan {plan}", plan=plan)
        return spec

    async def sellable(self, unit: Unit, name: str, currency: str) -> PlanRow:
        """The newest version, held as it is. Raises NoSuchPlan, BadInput for one that is not sold in this currency."""
        row = await unit.plans.get(name, lock=True)
        if row is None or row.archived:
            known = sorted(each for each, plan in (await unit.plans.all()).items() if not plan.archived)
            why = "is not sold any more" if row else "does not exist"
            raise NoSuchPlan(f"plan {name} {why}; there are: {', '.join(known) or 'none yet'}", plan=name)
        if row.spec.price and currency not in row.spec.price:
            sold_in = ", ".join(sorted(row.spec.price))
            raise BadInput(f"plan {name} is sold in {sold_in}, and this subscription is billed in {currency}; a currency stays", plan=name)
        return row

    async def write(
        self, unit: Unit, held: Held, step: Step, *, spec: PlanSpec | None = None, effective_ms: int | None = None, tells: bool = True
    ) -> Changed:
        """Store a step with what is due for it. `spec` is the plan afterwards, where it is another; `tells` False: nothing of it
        concerns the gateways."""
        to, now_ms = step.to, self.clock.now_ms()
        await unit.subscriptions.put(to)
        if step.ends_usage_ms is not None:
            await unit.subscriptions.end_usage_period(to.org_id, step.ends_usage_ms)
        if self.items:
            await unit.invoice_items.add(step.items, now_ms)
        if tells:
            await unit.orgs.raise_versions([to.org_id])
        return Changed(
            org=held.org, before=held.subscription, after=to, spec_before=held.spec, spec_after=spec or held.spec, items=step.items,
            effective_ms=now_ms if effective_ms is None else effective_ms,
        )  # fmt: skip

    async def tell_stripe(self, unit: Unit, changed: Changed) -> None:
        """What it must know of the change, where it knows of the subscription or there is something to pay."""
        to = changed.after
        known = await unit.outbox.has(to.org_id, outbox.ENSURE_SUBSCRIPTION)
        if not self.bills or not (known or changed.spec_after.is_paid):
            return
        rows: list[OutboxRow] = []
        if to.ended_at_ms is not None or not changed.spec_after.is_paid:
            rows = [outbox.ended_row(to)] if known else []
        else:
            moved = to.id != changed.before.id or to.version != changed.before.version
            awaited = await self.version(unit, to.awaited.plan, to.awaited.version) if to.awaited else None
            rows = await self._next_price(unit, changed, awaited) if known and to.id == changed.before.id else []
            if moved or not known:
                emails = await unit.customers.emails([to.org_id])
                rows += [outbox.customer_row(changed.org, emails.get(to.org_id))]
                if not known:
                    rows += await self._first_told(unit, to.org_id)
                rows += outbox.subscription_rows(to, changed.spec_after, self._meters, effective_ms=changed.effective_ms)
            if known or to.ends_at_ms is not None:
                rows.append(outbox.update_row(to, next_spec=awaited))
        await unit.outbox.add(rows, self.clock.now_ms())

    async def _first_told(self, unit: Unit, org_id: str) -> list[OutboxRow]:
        """Before its first subscription: the address it gave, and its taxes."""
        customer, now_ms = await unit.customers.get(org_id), self.clock.now_ms()
        if customer is None:
            return []
        rows = [outbox.customer_changed_row(customer, now_ms)] if customer.address.lines or customer.phone else []
        return rows + ([outbox.tax_row(org_id, self._taxes.told(customer.place), now_ms)] if self._taxes.any else [])

    async def _next_price(self, unit: Unit, changed: Changed, awaited: PlanSpec | None) -> list[OutboxRow]:
        """Told where what is awaited is another than before; not where it has just come true."""
        before, after = changed.before, changed.after
        if before.awaited == after.awaited or (before.awaited is not None and before.awaited == after.version):
            return []
        stands = await self.version(unit, before.plan, before.plan_version)
        if awaited is not None and after.awaited is not None and awaited.is_paid:
            return list(outbox.next_price_rows(after, awaited, after.awaited.version, self._meters, stands=stands))
        if before.awaited is None:
            return []  # nothing was told
        return list(outbox.next_price_rows(after, stands, before.plan_version, self._meters, stands=stands))

    async def ended(self, unit: Unit, changed: Changed) -> None:
        """Mails of a trial are not wanted any more; to who paid goes an offer, a week later. Stripe charges no longer."""
        to, now_ms = changed.after, self.clock.now_ms()
        await unit.mails.drop(to.org_id, mailing.TRIAL_SERIES, now_ms)
        if changed.before.state is not State.TRIALING and changed.spec_before.is_paid and to.ended_at_ms is not None:
            told = mailing.win_back(
                org_id=to.org_id, subscription_id=to.id, plan=title_of(changed.spec_before), ended_ms=to.ended_at_ms
            )  # fmt: skip
            await self.mail(unit, told)
        await self.tell_stripe(unit, changed)

    async def mail_trial(self, unit: Unit, org: Organization, s: Subscription, spec: PlanSpec, falls_to: PlanSpec | None) -> None:
        """The series of a trial that starts."""
        trial = await self.trial_told(s, spec, falls_to)
        if trial is not None:
            await self.mail(unit, mailing.trial_mails(trial, self.trials.notify_days_before))

    async def trial_told(self, s: Subscription, spec: PlanSpec, falls_to: PlanSpec | None) -> mailing.Trial | None:
        if s.trial is None:
            return None
        charged = s.trial.former is None and await self.has_payment_method(s.org_id)
        return mailing.Trial(
            org_id=s.org_id, subscription_id=s.id, plan=title_of(spec), start_ms=s.trial.start_ms, end_ms=s.trial.end_ms, amount=s.amount,
            currency=s.currency, charged=charged, falls_to=title_of(falls_to) if falls_to else "Free",
        )  # fmt: skip

    async def mail(self, unit: Unit, mails: Sequence[Mail]) -> None:
        await unit.mails.add(mails, self.clock.now_ms())

    async def default(self, unit: Unit) -> PlanSpec | None:
        """What a subscription that ended falls to."""
        row = await unit.plans.get(self.default_plan) if self.default_plan else None
        return row.spec if row else None
