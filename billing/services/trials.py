"""Trials: a plan for some days for nothing, with a card at hand or, as a reverse trial, for who is on a plan without a base price."""

import uuid
from dataclasses import replace

from billing.model import lifecycle, mailing
from billing.model.organization import Organization
from billing.model.plan import PlanSpec
from billing.model.subscription import Event, State, Subscription, sold
from billing.services import lookup
from billing.services.lifecycle import Changed, ChangeRefused, Held, Lifecycle
from billing.services.ports import PlanRow, Unit
from metering.model.clock import isoformat
from metering.model.errors import BadInput

_MOST_DAYS = 730


class Trials:
    def __init__(self, lifecycle: Lifecycle) -> None:
        self._life = lifecycle

    async def start(self, ref: str, plan: str | None = None, days: int | None = None) -> Changed:
        """A trial of `plan` (the first of BILLING_TRIAL_PLANS) for `days` (its own trial_days, else BILLING_TRIAL_DAYS).

        Who is on a plan without a base price keeps it, and falls back to it at the end: a reverse trial. Who has no subscription
        begins one, with a payment method where BILLING_TRIAL_REQUIRES_PAYMENT says so. Raises NoSuchOrganization, NoSuchPlan,
        ChangeRefused, BadInput.
        """
        rules = self._life.trials
        plan = plan or next(iter(rules.plans), "")
        if plan not in rules.plans:
            raise BadInput(f"plan {plan} cannot be tried; BILLING_TRIAL_PLANS names {', '.join(rules.plans) or 'none'}", plan=plan)
        if days is not None and not 1 <= days <= _MOST_DAYS:
            raise BadInput(f"a trial has from 1 to {_MOST_DAYS} days")
        org = await self._found(ref)
        async with self._life.books.transaction() as unit:
            runs = await unit.subscriptions.of_org(org.id) is not None
        if not runs:
            if rules.requires_payment and not await self._life.has_payment_method(org.id):
                raise ChangeRefused(
                    f"a trial needs a payment method (BILLING_TRIAL_REQUIRES_PAYMENT), and {org.slug} has none: payment add"
                )
            return await self._anew(org.id, plan, days)

        async def work(unit: Unit, held: Held) -> Changed:
            return await self._reverse(unit, held, plan, days)

        return await self._life.change(org.id, work)

    async def _found(self, ref: str) -> Organization:
        """Also by the address of its customer, where only one has it."""
        if "@" not in ref:
            return await self._life.find(ref)
        async with self._life.books.transaction() as unit:
            found = await unit.customers.with_email(ref)
        if len(found) != 1:
            raise BadInput(f"{'several organizations have' if found else 'no organization has'} the address {ref}; give its id or slug")
        return await self._life.find(found[0])

    async def auto_downgrade(self) -> bool:
        async with self._life.books.transaction() as unit:
            return await unit.subscriptions.auto_downgrade()

    async def set_auto_downgrade(self, enabled: bool) -> None:
        """On: a trial that ends with nothing to charge falls to the plan before it, or to the default plan. Off: a trial that a
        subscription began with waits, paused, and a reverse trial with a payment method goes on as a paid subscription."""
        async with self._life.books.transaction() as unit:
            await unit.subscriptions.set_auto_downgrade(enabled)

    async def _reverse(self, unit: Unit, held: Held, plan: str, days: int | None) -> Changed:
        s, now_ms = held.subscription, self._life.clock.now_ms()
        row = await self._life.sellable(unit, plan, s.currency)
        if s.state is State.TRIALING and s.trial is not None:
            raise ChangeRefused(f"{held.org.slug} is trying {s.plan} already, until {isoformat(s.trial.end_ms)}")
        if s.trial is not None:
            raise ChangeRefused(f"{held.org.slug} has had its trial, until {isoformat(s.trial.end_ms)}")
        if s.plan == plan:
            raise ChangeRefused(f"{held.org.slug} is on {plan} already", plan=plan)
        if s.amount != 0 or s.ends_at_ms is not None:
            why = f"its subscription ends on {isoformat(s.ends_at_ms)}" if s.ends_at_ms else f"it pays for {s.plan}"
            raise ChangeRefused(f"{held.org.slug} cannot try another plan: {why}")
        step = lifecycle.reverse_trial(s, row.spec, row.version, self._days(row, days), now_ms)
        changed = await self._life.write(unit, held, step, spec=row.spec)
        await self._life.mail_trial(unit, held.org, changed.after, row.spec, held.spec)
        return changed

    async def _anew(self, org_id: str, plan: str, days: int | None) -> Changed:
        now_ms = self._life.clock.now_ms()
        async with self._life.books.transaction() as unit:
            org = await lookup.organization(unit, org_id, lock=True)
            last = await unit.subscriptions.latest(org_id)
            if last is None or last.ended_at_ms is None or last.trial is not None:
                raise ChangeRefused(
                    f"{org.slug} cannot begin a trial: {'it has had one' if last and last.trial else 'it never subscribed'}"
                )
            row = await self._life.sellable(unit, plan, last.currency)
            step = lifecycle.begin(blank(last, row), row.spec, now_ms, trial_days=self._days(row, days))
            await unit.subscriptions.insert(step.to, now_ms)
            held = Held(org=org, subscription=last, spec=await self._life.version(unit, last.plan, last.plan_version))
            changed = await self._life.write(unit, held, step, spec=row.spec)
            await unit.subscriptions.end_usage_period(org_id, lifecycle.whole(now_ms))
            await unit.mails.drop(org_id, mailing.OFFERS, now_ms)
            await self._life.mail_trial(unit, org, changed.after, row.spec, await self._life.default(unit))
            await self._life.tell_stripe(unit, changed)
        return replace(changed, published=await self._life.tell(org_id))

    def _days(self, row: PlanRow, days: int | None) -> int:
        return days or row.spec.trial_days or self._life.trials.days


def blank(last: Subscription, row: PlanRow) -> Subscription:
    """A new subscription to a plan, of which what stays of the last is known: whose it was, in which currency and zone."""
    new = Subscription(
        id=str(uuid.uuid4()), org_id=last.org_id, plan=row.spec.name, plan_version=row.version, state=State.ACTIVE, anchor_ms=0,
        interval=last.interval, currency=last.currency, amount=None, zone=last.zone, revision=last.revision + 1,
    )  # fmt: skip
    return lifecycle.onto(new, row.spec, row.version, None)


async def trial_over(life: Lifecycle, unit: Unit, held: Held, can_pay: bool) -> Changed:
    """Its time is over: it goes on as a paid subscription, falls back, lapses or waits."""
    if held.subscription.awaited is not None:  # a new version of the plan, from its first paid period on
        held = await _on_awaited(life, unit, held)
    s = held.subscription
    former = await _former(life, unit, s)
    auto = await unit.subscriptions.auto_downgrade()
    falls_to = former or await life.default(unit)
    told = await life.trial_told(s, held.spec, falls_to)
    step, event = lifecycle.end_trial(s, held.spec, former=former, can_pay=can_pay, auto_downgrade=auto)
    spec = former if event is Event.RETURN and former is not None else held.spec
    changed = await life.write(unit, held, step, spec=spec, effective_ms=s.trial.end_ms if s.trial else None)
    await unit.mails.drop(s.org_id, mailing.TRIAL_SERIES, life.clock.now_ms())
    if event is not Event.CONVERT and told is not None:
        await life.mail(unit, mailing.trial_over(told))
    await life.tell_stripe(unit, changed)
    return changed


async def _on_awaited(life: Lifecycle, unit: Unit, held: Held) -> Held:
    s = held.subscription
    assert s.awaited is not None
    spec = await life.version(unit, s.awaited.plan, s.awaited.version)
    to = lifecycle.onto(s, spec, s.awaited.version, s.terms)
    return replace(held, subscription=to, spec=sold(spec, to))


async def _former(life: Lifecycle, unit: Unit, s: Subscription) -> PlanSpec | None:
    if s.trial is None or s.trial.former is None:
        return None
    return await life.version(unit, s.trial.former.plan, s.trial.former.version)
