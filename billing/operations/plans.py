"""Plans: what is sold. Made, changed, compared, archived; plans.yaml does the same by config apply."""

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from pydantic import Field

from billing.model.charges import title_of
from billing.model.cycle import said
from billing.model.plan import Feature, Interval, PerUnit, PlanSpec, Rollout
from billing.model.plan_offer import Offer, PlanFaulty, feature_of
from billing.model.plan_words import highlights, in_order, per_word, short_name, shown_figure, window_word
from billing.model.token import Scope
from billing.operations.operation import About, Amount, Call, GivenAmount, Model, Nothing, operation
from billing.services.lifecycle import NoSuchPlan
from billing.services.plans import DefaultPlanNeeded, Made, ManagedElsewhere
from billing.services.ports import PlanRow
from metering.model.meter import Kind, Meter
from metering.model.quota import Mode, Per, Quota, Window

_NAME = Field(min_length=1, max_length=63, description="pro, pro-annual")


class PlanFeature(Model):
    """`number` is null where there is no end to it, or it is no amount."""

    key: str
    label: str
    number: int | None = None


class PlanQuota(Model):
    """`limit` is in `unit`, null where unlimited; `base_limit` is exact, in the meter's base unit. `each` is the window in words:
    /month, or nothing for what is held."""

    service: str
    title: str
    unit: str
    limit: Amount | None
    base_limit: int | None
    window: Window
    each: str
    mode: Mode
    per: Per
    kind: Kind


class PlanPrice(Model):
    """The price of a unit beyond the quota, or of every one where there is no quota. `each` is null where the model is another."""

    service: str
    title: str
    name: str = Field(description="the service in one word: API")
    unit: str
    model: str
    each: Amount | None


class PlanAnswer(Model):
    """`price` is in `currency`, the installation's; null where the plan is sold by agreement, or in other currencies only."""

    name: str
    title: str
    version: int
    status: Literal["active", "archived"]
    managed_by: str
    currency: str
    price: Amount | None
    prices: dict[str, Amount] = Field(description="by currency; none: sold by agreement")
    interval: Interval
    interval_count: int
    every: str = Field(description="the interval in words: month, 3 months")
    trial_days: int
    quotas: tuple[PlanQuota, ...]
    overage: tuple[PlanPrice, ...]
    features: tuple[PlanFeature, ...]
    copy_from: str | None
    discount_label: str | None
    spend_cap: dict[str, Amount]
    rollout: Rollout
    highlights: tuple[str, ...] = Field(description="what it offers, in a few words")


class PlanList(Model):
    plans: tuple[PlanAnswer, ...]


class SavingAnswer(Model):
    """What the price is below that of the monthly plan `title` for the same time."""

    title: str
    instead: Amount
    saved: Amount
    percent: Amount


class CreatePlan(Model):
    """What is not said stays as it is in the plan that is copied, or in the version before."""

    name: str = _NAME
    title: str | None = Field(None, max_length=60)
    price: GivenAmount | None = Field(None, description="in the installation's currency; it stands above that of `prices`")
    prices: dict[str, GivenAmount] = Field(default_factory=dict, description="by currency")
    on_request: bool = Field(False, description="sold by agreement: no price of its own")
    interval: Interval | None = Field(None, description="default: month")
    interval_count: int | None = Field(None, ge=1, le=1095, description="every so many of them; default 1")
    trial_days: int | None = Field(None, ge=0, le=730)
    quotas: dict[str, GivenAmount | Literal["unlimited"]] = Field(
        default_factory=dict, description="by service, in the unit that people see: 50 is 50 GB"
    )
    overage: dict[str, GivenAmount] = Field(default_factory=dict, description="the price of one such unit beyond the quota, by service")
    mode: Literal["hard", "soft", "overage", "metered"] | None = Field(
        None, description="of the quotas that are said; metered: nothing is included and every unit is charged"
    )
    features: tuple[str | PlanFeature, ...] | None = Field(None, description="in place of those that stood; a text is a label")
    copy_from: str | None = Field(None, description="another plan")
    discount: GivenAmount | None = Field(None, description="percent off the monthly plan; it must be that of the price")
    rollout: Rollout | None = Field(None, description="who gets a change: new, renewal (default), now")


class PlanMade(Model):
    """`what` is created, changed, unchanged or returned (from the archive). `taken_over`: it was plans.yaml's, which changes it no more.
    `told_gateways` false: it is stored, and they hear of it once the store answers."""

    what: str
    plan: PlanAnswer
    taken_over: bool
    copied: str | None = Field(description="the title of the plan that was copied")
    saving: SavingAnswer | None
    orgs_now: int
    orgs_at_renewal: int
    told_gateways: bool


class AskPlan(Model):
    name: str = _NAME
    version: int | None = Field(None, ge=1, description="the newest where none is named")


class NamePlan(Model):
    name: str = _NAME


class AskComparison(Model):
    plans: tuple[str, ...] = Field((), description="those on sale where none is named")


class ComparedPlan(Model):
    name: str
    title: str
    price: Amount | None
    interval: Interval
    every: str


class ComparedRow(Model):
    """One property; `cells` are in the order of the plans. `first`: a short comparison has it."""

    name: str
    cells: tuple[str, ...]
    first: bool


class AnnualPlan(Model):
    """`title` is sold by the year too."""

    title: str
    plan: str
    percent: Amount
    saved: Amount


class ComparisonAnswer(Model):
    currency: str
    plans: tuple[ComparedPlan, ...]
    rows: tuple[ComparedRow, ...]
    annual: tuple[AnnualPlan, ...]


@operation("GET", "/plans", name="plan.list", about=About.ALL)
async def list_all(call: Call, ask: Nothing) -> PlanList:
    """Every plan, the archived too."""
    return PlanList(plans=tuple(plan_answer(row, call) for row in await call.billing.plans.by_price()))


@operation("GET", "/plans/{name}", name="plan.show", about=About.ALL, errors=(NoSuchPlan,))
async def show(call: Call, ask: AskPlan) -> PlanAnswer:
    """One plan, with all that it says."""
    return plan_answer(await call.billing.plans.show(ask.name, ask.version), call)


@operation(
    "POST", "/plans", name="plan.create", need=Scope.ADMIN, about=About.ALL, errors=(PlanFaulty, NoSuchPlan)
)  # fmt: skip
async def create(call: Call, ask: CreatePlan) -> PlanMade:
    """A new plan, or a new version of one."""
    return _made(await call.billing.plans.create(_offer(ask, call.facts.currency)), call)


@operation(
    "POST", "/plans/{name}/archive", name="plan.archive", need=Scope.ADMIN, about=About.ALL,
    errors=(NoSuchPlan, ManagedElsewhere, DefaultPlanNeeded),
)  # fmt: skip
async def archive(call: Call, ask: NamePlan) -> PlanAnswer:
    """Nobody new gets it; who has it keeps it."""
    return plan_answer(await call.billing.plans.archive(ask.name), call)


@operation("POST", "/plans/{name}/release", name="plan.release", need=Scope.ADMIN, about=About.ALL, errors=(NoSuchPlan,))
async def release(call: Call, ask: NamePlan) -> PlanAnswer:
    """plans.yaml manages it again, from the next config apply on."""
    return plan_answer(await call.billing.plans.release(ask.name), call)


@operation("GET", "/plan-comparison", name="plan.compare", about=About.ANYBODY, errors=(NoSuchPlan,))
async def compare(call: Call, ask: AskComparison) -> ComparisonAnswer:
    """Plans side by side."""
    found, currency = await call.billing.plans.compare(ask.plans), call.facts.currency
    return ComparisonAnswer(
        currency=currency,
        plans=tuple(
            ComparedPlan(
                name=row.spec.name, title=title_of(row.spec), price=row.spec.price.get(currency), interval=row.spec.interval,
                every=said(row.spec.interval, row.spec.interval_count),
            )
            for row in found.plans
        ),
        rows=tuple(ComparedRow(name=row.name, cells=row.cells, first=row.first) for row in found.rows),
        annual=tuple(
            AnnualPlan(title=each.title, plan=each.plan, percent=_percent(each.saving.percent), saved=each.saving.saved)
            for each in found.annual
        ),
    )  # fmt: skip


def plan_answer(row: PlanRow, call: Call) -> PlanAnswer:
    spec, meters, currency = row.spec, call.billing.plans.meters, call.facts.currency
    order = list(in_order(meters))
    return PlanAnswer(
        name=spec.name, title=title_of(spec), version=row.version, status="archived" if row.archived else "active",
        managed_by=row.managed_by, currency=currency, price=spec.price.get(currency), prices=dict(spec.price), interval=spec.interval,
        interval_count=spec.interval_count, every=said(spec.interval, spec.interval_count), trial_days=spec.trial_days,
        quotas=tuple(_quota(quota, meters) for quota in sorted(spec.quotas, key=lambda quota: _place(quota.meter, order))),
        overage=tuple(_price(name, spec, meters) for name in sorted(spec.prices, key=lambda name: _place(name, order))),
        features=tuple(PlanFeature(key=f.key, label=f.label, number=f.number) for f in spec.features),
        copy_from=spec.copy_from, discount_label=spec.discount_label, spend_cap=dict(spec.spend_cap), rollout=spec.rollout,
        highlights=highlights(spec, meters),
    )  # fmt: skip


def _made(made: Made, call: Call) -> PlanMade:
    saves, change = made.saving, made.change
    return PlanMade(
        what=change.what, plan=plan_answer(made.row, call), taken_over=made.taken_over,
        copied=title_of(made.copied) if made.copied else None,
        saving=None if saves is None else SavingAnswer(
            title=saves.title, instead=saves.instead, saved=saves.saved, percent=_percent(saves.percent)
        ),
        orgs_now=change.orgs_now, orgs_at_renewal=change.orgs_at_renewal, told_gateways=made.published,
    )  # fmt: skip


def _offer(ask: CreatePlan, currency: str) -> Offer:
    own = {} if ask.price is None else {currency: ask.price}
    return Offer(
        name=ask.name, title=ask.title, price={**{name.lower(): amount for name, amount in ask.prices.items()}, **own},
        on_request=ask.on_request, interval=ask.interval, interval_count=ask.interval_count, trial_days=ask.trial_days,
        quotas={name: limit if isinstance(limit, Decimal) else None for name, limit in ask.quotas.items()}, overage=ask.overage,
        mode=ask.mode, features=None if ask.features is None else tuple(map(_feature, ask.features)), copy_from=ask.copy_from,
        discount=ask.discount, rollout=ask.rollout,
    )  # fmt: skip


def _feature(said_as: str | PlanFeature) -> Feature:
    if isinstance(said_as, str):
        return feature_of(said_as)
    return Feature(key=said_as.key, label=said_as.label, number=said_as.number)


def _quota(quota: Quota, meters: Mapping[str, Meter]) -> PlanQuota:
    meter = _meter(quota.meter, meters)
    return PlanQuota(
        service=meter.name, title=meter.title or short_name(meter.name), unit=per_word(meter),
        limit=None if quota.limit is None else shown_figure(quota.limit, meter), base_limit=quota.limit, window=quota.window,
        each=window_word(quota, meter), mode=quota.mode, per=quota.per, kind=meter.kind,
    )  # fmt: skip


def _price(name: str, spec: PlanSpec, meters: Mapping[str, Meter]) -> PlanPrice:
    meter, price = _meter(name, meters), spec.prices[name]
    return PlanPrice(
        service=name, title=meter.title or short_name(name), name=short_name(name), unit=per_word(meter), model=price.kind,
        each=price.each if isinstance(price, PerUnit) else None,
    )  # fmt: skip


def _meter(name: str, meters: Mapping[str, Meter]) -> Meter:
    """One that meters.yaml lost is shown in plain units."""
    return meters.get(name) or Meter(name=name, unit="unit")


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _percent(exact: Decimal) -> Decimal:
    return exact.quantize(Decimal(1), rounding=ROUND_HALF_UP)


OPERATIONS = (list_all, show, create, archive, release, compare)
