"""Subscriptions as people change them: another plan, an end, a pause, another billing day, terms of their own.

Each use case is one transaction with the organization held: the subscription, what is due for the change (items), mails, what Stripe
must know. A preview is the same work, undone. What happens by itself is in renewals.py, trials are in trials.py, and what a change
comes to is worked out in billing/model/lifecycle.py.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from billing.model import lifecycle, mailing
from billing.model.cycle import Cycle, day_anchor, midnight, next_start, period_of, said
from billing.model.lifecycle import Step
from billing.model.money import minor_digits, round_amount
from billing.model.organization import Organization
from billing.model.plan import Interval, PlanSpec
from billing.model.subscription import Event, Permit, PlanVersion, State, Subscription, check_permit, sold
from billing.model.subscription_terms import Terms, with_terms
from billing.services import lookup
from billing.services.lifecycle import Changed, ChangeRefused, Held, Lifecycle, NoSubscription, Work
from billing.services.ports import PlanRow, Unit
from billing.services.renewals import Overdue, Renewals, on_time
from billing.services.trials import blank
from metering.model.clock import isoformat
from metering.model.errors import BadInput

_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionView:
    """All there is to show. `next_amount` is what the next period will cost, None where nothing will be charged then."""

    org: Organization
    subscription: Subscription
    spec: PlanSpec
    awaited: PlanSpec | None
    period: tuple[int, int]
    next_charge_ms: int | None
    next_amount: Decimal | None


class Subscriptions:
    """By an organization's id or slug. Every method raises NoSuchOrganization, NoSubscription, TransitionRefused, ChangeRefused."""

    def __init__(self, lifecycle: Lifecycle, renewals: Renewals) -> None:
        self._life, self._renewals = lifecycle, renewals

    async def show(self, ref: str) -> SubscriptionView:
        """The one that runs, or the last that ended."""
        now_ms = self._life.clock.now_ms()
        async with self._life.books.transaction() as unit:
            org = await lookup.organization(unit, ref)
            s = await unit.subscriptions.latest(org.id)
            if s is None:
                raise NoSubscription(f"{org.slug} never had a subscription", org=org.slug)
            spec = sold(await self._life.version(unit, s.plan, s.plan_version), s)
            awaited = await self._life.version(unit, s.awaited.plan, s.awaited.version) if s.awaited else None
        at_ms = min(now_ms, s.ended_at_ms - 1) if s.ended_at_ms else now_ms
        following = (awaited.price.get(s.currency) if awaited else s.amount) or Decimal(0)
        due = lifecycle.next_due(s)
        charged = due is not None and due[1] is not Event.RUN_OUT and s.state not in (State.PAUSED, State.UNPAID)
        return SubscriptionView(
            org=org, subscription=s, spec=spec, awaited=awaited, period=s.billing_period(at_ms),
            next_charge_ms=due[0] if due and charged else None, next_amount=following if charged else None,
        )  # fmt: skip

    async def on_sale(self) -> list[PlanRow]:
        """Plans that can be bought, the cheapest first and those by agreement last."""
        async with self._life.books.transaction() as unit:
            rows = [row for row in (await unit.plans.all()).values() if not row.archived]
        return sorted(rows, key=lambda row: (not row.spec.price, min(row.spec.price.values(), default=Decimal(0)), row.spec.name))

    # --- the plan -------------------------------------------------------------------------------------------------------

    async def change_plan(self, ref: str, plan: str, *, terms: Terms | None = None, at_end: bool = False, preview: bool = False) -> Changed:
        """To another plan now, with proration, or when the period under way ends. `preview` tells what it would cost and changes
        nothing. An organization whose subscription ended subscribes anew.

        Raises NoSuchPlan, BadInput for a plan that is not sold in the subscription's currency, or is sold by agreement alone.
        """

        async def work(unit: Unit, held: Held) -> Changed:
            s, row = held.subscription, await self._life.sellable(unit, plan, held.subscription.currency)
            check_permit(s.state, Permit.CHANGE_PLAN)
            _check_stays(held)
            if s.state is State.TRIALING and s.plan == plan and terms is None:
                return await self._bought(unit, held)
            if plan == s.plan and row.version == s.plan_version and terms == s.terms and s.awaited is None:
                raise ChangeRefused(f"{held.org.slug} is on {plan} already", plan=plan)
            self._check_price(row.spec, terms, s.currency)
            if at_end and s.state is State.TRIALING:
                raise ChangeRefused(f"{held.org.slug} is trying {s.plan}; change the plan now, or cancel the trial", plan=plan)
            if at_end:
                return await self._await(unit, held, row, terms)
            step = lifecycle.move(s, held.spec, row.spec, row.version, terms, self._life.clock.now_ms())
            changed = await self._life.write(unit, held, step, spec=with_terms(row.spec, terms, s.currency))
            await self._life.tell_stripe(unit, changed)
            return changed

        if not await self._runs(ref):
            return await self._anew(ref, plan, terms, keep=not preview)
        return await self._change(ref, work, keep=not preview)

    async def _await(self, unit: Unit, held: Held, row: PlanRow, terms: Terms | None) -> Changed:
        """Downgrades happen when what was paid for has been used."""
        s, now_ms = held.subscription, self._life.clock.now_ms()
        if terms is not None:
            raise BadInput("terms are negotiated for what runs now; change the plan at once, or negotiate after the change")
        same = row.spec.name == s.plan and row.version == s.plan_version  # taking back a change that was asked for
        period = s.billing_period(now_ms)
        awaited = None if same else PlanVersion(plan=row.spec.name, version=row.version)
        step = Step(to=replace(s, awaited=awaited, period=period))
        changed = await self._life.write(unit, held, step, spec=row.spec, effective_ms=period[1])
        await self._life.tell_stripe(unit, replace(changed, spec_after=held.spec))  # what it has until then
        return changed

    async def _bought(self, unit: Unit, held: Held) -> Changed:
        """The plan that is being tried, before the trial ends."""
        step = lifecycle.convert(held.subscription, held.spec, self._life.clock.now_ms())
        changed = await self._life.write(unit, held, step)
        await unit.mails.drop(held.org.id, mailing.TRIAL_SERIES, self._life.clock.now_ms())
        await self._life.tell_stripe(unit, changed)
        return changed

    async def _runs(self, ref: str) -> bool:
        async with self._life.books.transaction() as unit:
            org = await lookup.organization(unit, ref)
            return await unit.subscriptions.of_org(org.id) is not None

    async def _anew(self, ref: str, plan: str, terms: Terms | None, *, keep: bool) -> Changed:
        """A customer comes back: a new subscription, counted from now."""
        now_ms = self._life.clock.now_ms()
        org = await self._life.find(ref)
        if keep:
            await self._life.cut(org.id)
        async with self._life.books.transaction(keep=keep) as unit:
            org = await lookup.organization(unit, org.id, lock=True)
            last = await unit.subscriptions.latest(org.id)
            if last is None or last.ended_at_ms is None:
                raise ChangeRefused(f"the subscription of {org.slug} was changed by somebody else just now; look at it again")
            row = await self._life.sellable(unit, plan, last.currency)
            self._check_price(row.spec, terms, last.currency)
            step = lifecycle.begin(lifecycle.onto(blank(last, row), row.spec, row.version, terms), row.spec, now_ms)
            await unit.subscriptions.insert(step.to, now_ms)
            held = Held(org=org, subscription=last, spec=await self._life.version(unit, last.plan, last.plan_version))
            changed = await self._life.write(unit, held, step, spec=with_terms(row.spec, terms, last.currency))
            await unit.subscriptions.end_usage_period(org.id, step.to.anchor_ms)
            await unit.mails.drop(org.id, mailing.OFFERS, now_ms)
            await self._life.tell_stripe(unit, changed)
        return replace(changed, published=await self._life.tell(org.id)) if keep else changed

    async def negotiate(self, ref: str, terms: Terms | None, *, preview: bool = False) -> Changed:
        """Terms of this subscription alone, from now on, with proration; None: those of the plan again."""

        async def work(unit: Unit, held: Held) -> Changed:
            s = held.subscription
            check_permit(s.state, Permit.CHANGE_PLAN)
            _check_stays(held)
            spec = await self._life.version(unit, s.plan, s.plan_version)
            self._check_price(spec, terms, s.currency)
            step = lifecycle.move(s, held.spec, spec, s.plan_version, terms, self._life.clock.now_ms())
            return await self._life.write(unit, held, step, spec=with_terms(spec, terms, s.currency))

        return await self._change(ref, work, keep=not preview)

    # --- its end --------------------------------------------------------------------------------------------------------

    async def cancel(self, ref: str, *, now: bool = False, reason: str | None = None) -> Changed:
        """At the end of the period, or at once; nothing is refunded. The reason is kept."""
        if reason is not None and len(reason) > _LONGEST_REASON:
            raise BadInput(f"a reason has at most {_LONGEST_REASON} characters")

        async def work(unit: Unit, held: Held) -> Changed:
            s, now_ms = held.subscription, lifecycle.whole(self._life.clock.now_ms())
            if now:
                step = lifecycle.finish(s, Event.CANCEL, now_ms, reason)
                changed = await self._life.write(unit, held, step, effective_ms=now_ms)
                await self._life.ended(unit, changed)
                return changed
            check_permit(s.state, Permit.CANCEL_AT_END)
            end_ms = s.billing_period(now_ms)[1]
            to = replace(s, cancel_at_ms=end_ms, canceled_at_ms=now_ms, cancel_reason=reason, awaited=None)
            return await self._told(unit, held, Step(to=to), end_ms)

        return await self._change(ref, work)

    async def reactivate(self, ref: str) -> Changed:
        """Takes back a cancellation that has not come yet, and turns auto-renewal on."""

        async def work(unit: Unit, held: Held) -> Changed:
            s = held.subscription
            if s.ends_at_ms is None:
                raise ChangeRefused(f"the subscription of {held.org.slug} is not canceled", org=held.org.slug)
            to = replace(s, cancel_at_ms=None, canceled_at_ms=None, cancel_reason=None, auto_renew=True)
            return await self._told(unit, held, Step(to=to), s.billing_period(self._life.clock.now_ms())[1])

        return await self._change(ref, work)

    async def set_auto_renewal(self, ref: str, enabled: bool) -> Changed:
        """Off: it ends with its period, without anybody having canceled it."""

        async def work(unit: Unit, held: Held) -> Changed:
            s, now_ms = held.subscription, self._life.clock.now_ms()
            if not enabled:
                check_permit(s.state, Permit.CANCEL_AT_END)
            period = s.billing_period(now_ms)
            return await self._told(unit, held, Step(to=replace(s, auto_renew=enabled, period=period)), period[1])

        return await self._change(ref, work)

    async def pause(self, ref: str) -> Changed:
        """The rest of the period is given back, and the organization falls to the default plan until it resumes."""

        async def work(unit: Unit, held: Held) -> Changed:
            step = lifecycle.pause(held.subscription, held.spec, self._life.clock.now_ms())
            return await self._told(unit, held, step)

        return await self._change(ref, work)

    async def resume(self, ref: str) -> Changed:
        """The rest of the period under way is charged."""

        async def work(unit: Unit, held: Held) -> Changed:
            step = lifecycle.resume(held.subscription, held.spec, Event.RESUME, self._life.clock.now_ms())
            return await self._told(unit, held, step)

        return await self._change(ref, work)

    # --- when it is billed ------------------------------------------------------------------------------------------------

    async def align(self, ref: str, date_ms: int, *, preview: bool = False) -> Changed:
        """The next period starts on that day, at midnight in the subscription's zone, and every later one is counted from it."""

        async def work(unit: Unit, held: Held) -> Changed:
            end_ms = midnight(date_ms, held.subscription.zone)
            return await self._aligned(unit, held, end_ms, end_ms)

        return await self._change(ref, work, keep=not preview)

    async def set_anchor_day(self, ref: str, day: int, *, preview: bool = False) -> Changed:
        """Billed on that day of the month from the next one on; the last day of a month that lacks it. 1 is calendar months. A longer
        interval is first billed on that day at or after the end of the period under way."""

        async def work(unit: Unit, held: Held) -> Changed:
            s, now_ms = held.subscription, self._life.clock.now_ms()
            monthly = (s.interval, s.interval_count) == (Interval.MONTH, 1)
            if s.interval not in (Interval.MONTH, Interval.YEAR):
                raise BadInput(f"a subscription that is billed every {said(s.interval, s.interval_count)} has no day of the month")
            from_ms = now_ms if monthly else s.billing_period(now_ms)[1] - 1
            days = Cycle(day_anchor(day, from_ms, s.zone), Interval.MONTH, 1, s.zone)
            end_ms = next_start(days, from_ms)
            return await self._aligned(unit, held, days.anchor_ms if monthly else end_ms, end_ms)

        return await self._change(ref, work, keep=not preview)

    async def _aligned(self, unit: Unit, held: Held, anchor_ms: int, end_ms: int) -> Changed:
        s, now_ms = held.subscription, self._life.clock.now_ms()
        if self._life.bills:
            raise ChangeRefused("Stripe writes the invoices (issuer in plans.yaml), and keeps the billing day: it is moved there")
        check_permit(s.state, Permit.CHANGE_CYCLE)
        _check_stays(held)
        last_ms = period_of(s.cycle, s.billing_period(now_ms)[1])[1]
        if not now_ms < end_ms <= last_ms:
            raise BadInput(f"the next period can start after now and until {isoformat(last_ms)}, not at {isoformat(end_ms)}")
        if (end_ms, anchor_ms) == (s.billing_period(now_ms)[1], s.anchor_ms):
            raise ChangeRefused(f"the next period starts at {isoformat(end_ms)} already")
        step = lifecycle.align(s, held.spec, anchor_ms, end_ms, now_ms)
        return await self._told(unit, held, step, end_ms)

    # --- what payments say ------------------------------------------------------------------------------------------------

    async def payment_failed(self, org_id: str) -> Changed | None:
        """An attempt failed; None where nothing is changed by it."""
        return await self._paid(org_id, [Event.FAIL])

    async def payment_succeeded(self, org_id: str) -> Changed | None:
        """Nothing is owed any more: back to what was bought. A period that was not charged meanwhile is, for what is left of it."""
        return await self._paid(org_id, [Event.PAY])

    async def gave_up(self, org_id: str, *, only_if: Callable[[Unit], Awaitable[bool]] | None = None) -> Changed | None:
        """The last attempt of the dunning schedule failed: it entitles to the default plan, until it is paid. `only_if` is asked within
        the transaction of the change, and may write in it."""
        return await self._paid(org_id, [Event.FAIL, Event.GIVE_UP], only_if)

    async def _paid(self, org_id: str, events: Sequence[Event], only_if: Callable[[Unit], Awaitable[bool]] | None = None) -> Changed | None:
        if not await self._runs(org_id):
            return None

        async def work(unit: Unit, held: Held) -> Changed:
            s, now_ms = held.subscription, self._life.clock.now_ms()
            step = lifecycle.paid(s, held.spec, events, now_ms)
            if (only_if is not None and not await only_if(unit)) or step.to.state is s.state:
                return Changed(org=held.org, before=s, after=s, spec_before=held.spec, spec_after=held.spec, effective_ms=now_ms)
            return await self._life.write(unit, held, step)

        changed = await self._change(org_id, work)
        return None if changed.after.state is changed.before.state else changed

    async def _change(self, ref: str, work: Work, *, keep: bool = True) -> Changed:
        """On the subscription as it stands now: what should have happened by itself has happened before."""
        org = await self._life.find(ref)
        while True:
            await self._renewals.catch_up(org.id)
            try:
                return await self._life.change(org.id, on_time(work, self._life.clock), keep=keep)
            except Overdue:
                continue

    def _check_price(self, spec: PlanSpec, terms: Terms | None, currency: str) -> None:
        if currency not in with_terms(spec, terms, currency).price:
            raise BadInput(f"plan {spec.name} is sold by agreement; say its price in {currency}", plan=spec.name)
        if terms is None:
            return
        if self._life.bills:
            raise ChangeRefused(
                "Stripe writes the invoices (issuer in plans.yaml), at the prices of plans: give this customer one of its own"
            )
        if terms.price is not None and (terms.price < 0 or terms.price != round_amount(terms.price, currency)):
            raise BadInput(f"{terms.price} is no price in {currency}: zero or more, with at most {minor_digits(currency)} decimals")
        if terms.interval is not None:
            Cycle(0, terms.interval, terms.interval_count)  # raises for one that cannot be

    async def _told(self, unit: Unit, held: Held, step: Step, effective_ms: int | None = None) -> Changed:
        changed = await self._life.write(unit, held, step, effective_ms=effective_ms)
        await self._life.tell_stripe(unit, changed)
        return changed


def _check_stays(held: Held) -> None:
    ends_ms = held.subscription.ends_at_ms
    if ends_ms is not None:
        raise ChangeRefused(f"the subscription of {held.org.slug} ends on {isoformat(ends_ms)}; reactivate it first", org=held.org.slug)
