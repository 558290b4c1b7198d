"""What an organization is subscribed to, and how that is changed."""

import datetime as dt
from datetime import UTC, datetime

from pydantic import Field

from billing.model.charges import title_of
from billing.model.cycle import said
from billing.model.discount import CouponNotRedeemable
from billing.model.plan import Interval, PlanSpec
from billing.model.subscription import State, Subscription
from billing.model.subscription_terms import Terms
from billing.model.token import Scope
from billing.operations.instants import instant, instant_or_none
from billing.operations.operation import About, Amount, Call, Model, Nothing, operation
from billing.operations.plans import PlanList, plan_answer
from billing.services.coupons import NoSuchCoupon, NothingToDiscount
from billing.services.lifecycle import Changed, ChangeRefused, NoSubscription, NoSuchPlan
from billing.services.subscriptions import SubscriptionView
from metering.model.clock import to_ms
from metering.model.errors import BadInput

_ERRORS = (NoSubscription, ChangeRefused)


class Feature(Model):
    key: str
    label: str
    number: int | None = None


class PlanTerms(Model):
    """A plan as this subscription has it. `price` is null where it is sold by agreement."""

    name: str
    title: str
    version: int
    price: Amount | None
    interval: Interval
    interval_count: int
    every: str = Field(description="the interval in words: month, 3 months")
    features: tuple[Feature, ...]


class SubscriptionAnswer(Model):
    """A subscription. `next_charge` and `next_amount` are null where nothing will be charged by itself."""

    id: str
    org: str
    plan: PlanTerms
    status: State
    currency: str
    period_start: datetime
    period_end: datetime
    next_charge: datetime | None
    next_amount: Amount | None
    next_plan: str | None
    next_plan_title: str | None
    ends: datetime | None = Field(description="when it ends or ended, where that is known")
    ended: bool
    cancel_reason: str | None
    auto_renew: bool
    trial_end: datetime | None


class Item(Model):
    """An amount that is due, or given back, for a change."""

    description: str
    amount: Amount


class ChangeAnswer(Model):
    """A change, or with `preview` what it would be. `effective` is when its terms begin; `told_gateways` false: it is stored, and the
    gateways hear of it once the store answers."""

    preview: bool
    org: str
    plan_before: PlanTerms
    plan: PlanTerms
    status: State
    currency: str
    effective: datetime
    amount: Amount | None
    credit: Amount
    charge: Amount
    net: Amount
    items: tuple[Item, ...]
    told_gateways: bool


class ChangePlan(Model):
    plan: str = Field(min_length=1, max_length=100)
    at_end: bool = Field(False, description="when the period under way ends, in place of now with proration")
    preview: bool = Field(False, description="say what it would cost, and change nothing")
    price: Amount | None = Field(None, description="as negotiated with this customer, an interval")


@operation("GET", "/subscription", name="subscription.show", errors=(NoSubscription,))
async def show(call: Call, ask: Nothing) -> SubscriptionAnswer:
    """The subscription that runs, or the last that ended."""
    return subscription_answer(await call.billing.subscriptions.show(call.org))


@operation(
    "POST", "/subscription/upgrade", name="subscription.upgrade", need=Scope.BILLING, errors=(NoSubscription, NoSuchPlan, ChangeRefused)
)
async def upgrade(call: Call, ask: ChangePlan) -> ChangeAnswer:
    """To another plan: now, prorated by the second, or at the end of the period."""
    terms = Terms(price=ask.price) if ask.price is not None else None
    changed = await call.billing.subscriptions.change_plan(call.org, ask.plan, terms=terms, at_end=ask.at_end, preview=ask.preview)
    return change_answer(changed, preview=ask.preview)


class CancelAsk(Model):
    now: bool = Field(False, description="at once; nothing is refunded")
    reason: str | None = Field(None, description="why; it is kept")


class AlignAsk(Model):
    date: dt.date = Field(description="the first day of the next period, in the subscription's zone")
    preview: bool = False


class UpdateAsk(Model):
    billing_cycle_anchor: int | None = Field(None, ge=1, le=31, description="the day of the month it is billed on; 1 is calendar months")
    auto_renew: bool | None = Field(None, description="false: it ends with its period")
    preview: bool = False


@operation("POST", "/subscription/cancel", name="subscription.cancel", need=Scope.BILLING, errors=_ERRORS)
async def cancel(call: Call, ask: CancelAsk) -> ChangeAnswer:
    """At the end of the period, or at once; nothing is refunded."""
    return change_answer(await call.billing.subscriptions.cancel(call.org, now=ask.now, reason=ask.reason))


@operation("POST", "/subscription/reactivate", name="subscription.reactivate", need=Scope.BILLING, errors=_ERRORS)
async def reactivate(call: Call, ask: Nothing) -> ChangeAnswer:
    """Take back a cancellation that has not come yet."""
    return change_answer(await call.billing.subscriptions.reactivate(call.org))


@operation("POST", "/subscription/pause", name="subscription.pause", need=Scope.BILLING, errors=_ERRORS)
async def pause(call: Call, ask: Nothing) -> ChangeAnswer:
    """Not charged, and on the default plan, until it resumes."""
    return change_answer(await call.billing.subscriptions.pause(call.org))


@operation("POST", "/subscription/resume", name="subscription.resume", need=Scope.BILLING, errors=_ERRORS)
async def resume(call: Call, ask: Nothing) -> ChangeAnswer:
    """Go on; the rest of the period is charged."""
    return change_answer(await call.billing.subscriptions.resume(call.org))


@operation("POST", "/subscription/align", name="subscription.align", need=Scope.BILLING, errors=_ERRORS)
async def align(call: Call, ask: AlignAsk) -> ChangeAnswer:
    """Let the next period start on a day."""
    day_ms = to_ms(datetime.combine(ask.date, dt.time(), UTC))
    return change_answer(await call.billing.subscriptions.align(call.org, day_ms, preview=ask.preview), preview=ask.preview)


@operation("PATCH", "/subscription", name="subscription.update", need=Scope.BILLING, errors=_ERRORS)
async def update(call: Call, ask: UpdateAsk) -> ChangeAnswer:
    """The day of the month it is billed on, or whether it renews."""
    if (ask.billing_cycle_anchor is None) == (ask.auto_renew is None):
        raise BadInput("say one thing to update: billing_cycle_anchor, or auto_renew")
    if ask.billing_cycle_anchor is not None:
        changed = await call.billing.subscriptions.set_anchor_day(call.org, ask.billing_cycle_anchor, preview=ask.preview)
        return change_answer(changed, preview=ask.preview)
    if ask.preview:
        raise BadInput("a change of renewal costs nothing: there is nothing to preview")
    return change_answer(await call.billing.subscriptions.set_auto_renewal(call.org, bool(ask.auto_renew)))


class ApplyCoupon(Model):
    code: str = Field(min_length=1, max_length=64)


class AppliedCoupon(Model):
    """`until` is null where it has no end."""

    code: str
    discount: str
    until: datetime | None


@operation("GET", "/subscription/plans", name="subscription.plans", about=About.ANYBODY)
async def on_sale(call: Call, ask: Nothing) -> PlanList:
    """What can be bought, the cheapest first."""
    return PlanList(plans=tuple(plan_answer(row, call) for row in await call.billing.plans.by_price(archived=False)))


@operation(
    "POST", "/subscription/coupons", name="subscription.apply-coupon", need=Scope.BILLING,
    errors=(NoSuchCoupon, NothingToDiscount, CouponNotRedeemable),
)  # fmt: skip
async def apply_coupon(call: Call, ask: ApplyCoupon) -> AppliedCoupon:
    """Take a coupon off the next invoices."""
    found = await call.billing.coupons.apply(call.org, ask.code)
    currency = (await call.billing.subscriptions.show(call.org)).subscription.currency
    return AppliedCoupon(code=found.coupon.code, discount=found.coupon.offer(currency), until=instant_or_none(found.end_ms))


def plan_terms(spec: PlanSpec, version: int, s: Subscription | None, currency: str) -> PlanTerms:
    """As `s` has it, where it is on it; else as it is sold."""
    interval, count = (s.interval, s.interval_count) if s else (spec.interval, spec.interval_count)
    price = s.amount if s is not None and s.amount is not None else spec.price.get(currency)
    return PlanTerms(
        name=spec.name, title=title_of(spec), version=version, price=price, interval=interval, interval_count=count,
        every=said(interval, count), features=tuple(Feature(key=f.key, label=f.label, number=f.number) for f in spec.features),
    )  # fmt: skip


def subscription_answer(view: SubscriptionView) -> SubscriptionAnswer:
    s = view.subscription
    ends_ms = s.ended_at_ms if s.ended_at_ms is not None else s.ends_at_ms
    return SubscriptionAnswer(
        id=s.id, org=view.org.slug, plan=plan_terms(view.spec, s.plan_version, s, s.currency), status=s.state, currency=s.currency,
        period_start=instant(view.period[0]), period_end=instant(view.period[1]),
        next_charge=None if view.next_charge_ms is None else instant(view.next_charge_ms), next_amount=view.next_amount,
        next_plan=s.awaited.plan if s.awaited else None, next_plan_title=title_of(view.awaited) if view.awaited else None,
        ends=None if ends_ms is None else instant(ends_ms), ended=s.ended_at_ms is not None, cancel_reason=s.cancel_reason,
        auto_renew=s.auto_renew, trial_end=instant(s.trial.end_ms) if s.trial else None,
    )  # fmt: skip


def change_answer(changed: Changed, *, preview: bool = False) -> ChangeAnswer:
    before, after = changed.before, changed.after
    awaited = after.awaited  # the plan that comes at the period's end, where it does not come now
    return ChangeAnswer(
        preview=preview, org=changed.org.slug, plan_before=plan_terms(changed.spec_before, before.plan_version, before, before.currency),
        plan=plan_terms(changed.spec_after, awaited.version if awaited else after.plan_version, None if awaited else after, after.currency),
        status=after.state, currency=after.currency, effective=instant(changed.effective_ms), amount=after.amount,
        credit=changed.credit, charge=changed.charge, net=changed.net,
        items=tuple(Item(description=item.description, amount=item.amount) for item in changed.items), told_gateways=changed.published,
    )  # fmt: skip


OPERATIONS = (show, upgrade, cancel, reactivate, pause, resume, align, update, on_sale, apply_coupon)
