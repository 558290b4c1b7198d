"""plans.yaml, resolved: copies filled in, amounts in base units, prices as the billing model has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from billing.model.cycle import LONGEST
from billing.model.money import minor_digits
from billing.model.plan import Feature, Interval, PlanSpec, Price, Rollout
from billing.model.pricing.per_unit import decimals
from metering.model.quota import Concurrency, Mode, Per, Quota, Rate, Window, replace_concurrency, replace_quotas, replace_rates

from .document import Table
from .faults import Report, did_you_mean
from .limits import make_concurrency, make_rates
from .plan_extras import rollover, spend_cap
from .plans_file import CONTACT_SALES, FeatureShape, OverrideShape, PlansFile, PlanShape
from .prices import make_price
from .quotas import make_quotas
from .shape import read_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideSpec:
    """Limits of one organization in place of its plan's, until an instant."""

    slug: str
    reason: str
    until_ms: int
    quotas: tuple[Quota, ...] = ()
    rates: tuple[Rate, ...] = ()
    concurrency: tuple[Concurrency, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSet:
    """plans.yaml, resolved."""

    plans: Mapping[str, PlanSpec] = field(default_factory=dict)
    overrides: Mapping[str, OverrideSpec] = field(default_factory=dict)
    issuer: str = "stripe"


def read_plans(value: Any, report: Report) -> PlanSet:
    """The plans and overrides of the file, as far as they could be read."""
    file = read_shape(PlansFile, value, report)
    if file is None:
        return PlanSet()
    if not file.plans:
        report.fault(file.table, "plans" if "plans" in file.table else None, "there is no plan; write at least one")
    plans = _Plans(file, report)
    return PlanSet(
        plans={name: plans.spec(name) for name, shape in file.plans.items() if shape is not None and plans.can(name)},
        overrides={slug: _override(slug, shape, report) for slug, shape in file.overrides.items() if shape is not None},
        issuer=file.issuer,
    )


def _override(slug: str, shape: OverrideShape, report: Report) -> OverrideSpec:
    for quota in shape.quotas:
        if quota is not None and quota.mode == Mode.OVERAGE:
            report.warn(quota.table, "mode", "what goes beyond is billed at the price of the organization's plan; without one it is soft")
    known_callers(shape, report)
    return OverrideSpec(
        slug=slug,
        reason=shape.reason,
        until_ms=shape.until,
        quotas=make_quotas(shape.quotas, report, source="override"),
        rates=make_rates(shape.rates, report, source="override"),
        concurrency=make_concurrency(shape.concurrency, shape.table, report, source="override"),
    )


def known_callers(shape: PlanShape | OverrideShape, report: Report) -> None:
    """Who has a plan is known, whatever address it calls from."""
    by_address = [(each.table, "per") for each in shape.quotas if each is not None and each.per == Per.ADDRESS]
    by_address += [(each.table, "by") for each in shape.rates or () if each is not None and each.by == Per.ADDRESS]
    by_address += [(shape.table, "concurrency") for each in shape.concurrency or () if each is not None and each.by == Per.ADDRESS]
    for table, word in by_address:
        said = "concurrency: {limit: 2, by: key}" if word == "concurrency" else f"{word}: key"
        report.fault(table, word, f"`address` is for routes that anybody may call (auth: none); who has a plan is known: write {said}")


class _Plans:
    """The plans of one file; each is resolved once, after the one that it copies."""

    def __init__(self, file: PlansFile, report: Report) -> None:
        self._shapes, self._report = file.plans, report
        written = file.table.get("plans")
        self._names = list(written) if isinstance(written, Table) else []
        self._specs: dict[str, PlanSpec] = {}
        self._copyable = {name: self._copies_end(name) for name in self._shapes}

    def can(self, name: str) -> bool:
        return self._copyable.get(name, False)

    def _copies_end(self, name: str) -> bool:
        """False, with a fault, where the copies run in a circle or lead to a plan that is not there."""
        chain = [name]
        while (shape := self._shapes.get(chain[-1])) is not None and shape.copy_from is not None:
            source = shape.copy_from
            if source not in self._names:
                self._report.fault(shape.table, "copy_from", f"there is no plan `{source}`{did_you_mean(source, self._names)}")
                return False
            if source in chain:
                circle = " → ".join([*chain[chain.index(source) :], source])
                if source == name:  # the circle is told once for each plan in it, not for those that lead into it
                    self._report.fault(shape.table, "copy_from", f"copies run in a circle ({circle}); let one stand for itself")
                return False
            chain.append(source)
        return shape is not None

    def spec(self, name: str) -> PlanSpec:
        if name not in self._specs:
            shape = self._shapes[name]
            assert shape is not None  # `can` was asked
            source = self.spec(shape.copy_from) if shape.copy_from else None
            self._specs[name] = self._resolved(name, shape, source)
        return self._specs[name]

    def _resolved(self, name: str, shape: PlanShape, source: PlanSpec | None) -> PlanSpec:
        base = source or PlanSpec(name=name)
        interval = Interval(shape.interval) if shape.interval else base.interval
        own_quotas = make_quotas(shape.quotas, self._report, source="plan")
        known_callers(shape, self._report)
        prices = {**base.prices, **self._prices(shape)}
        quotas = replace_quotas(base.quotas, own_quotas)
        self._check_prices(shape, quotas, prices)
        price = self._base_price(name, shape, source)
        return PlanSpec(
            name=name,
            title=shape.title or name.replace("_", " ").replace("-", " ").capitalize(),
            price=price,
            interval=interval,
            interval_count=self._interval_count(shape, base, interval),
            trial_days=base.trial_days if shape.trial_days is None else shape.trial_days,
            quotas=quotas,
            rates=self._rates(shape, base),
            concurrency=self._concurrency(shape, base),
            prices=prices,
            features=base.features if shape.features is None else self._features(shape),
            copy_from=shape.copy_from,
            rollout=Rollout(shape.rollout) if shape.rollout else base.rollout,
            discount_label=shape.discount_label,
            spend_cap=spend_cap(shape, base, price, self._report),
            rollover=rollover(shape, base, quotas, self._report),
        )

    def _interval_count(self, shape: PlanShape, base: PlanSpec, interval: Interval) -> int:
        """That of the plan copied, where the interval is its own too."""
        if shape.interval_count is None:
            return base.interval_count if interval is base.interval else 1
        if shape.interval_count > LONGEST[interval]:
            self._report.fault(shape.table, "interval_count", f"a price is due within three years: at most {LONGEST[interval]} {interval}s")
        return shape.interval_count

    def _rates(self, shape: PlanShape, base: PlanSpec) -> tuple[Rate, ...]:
        """Beside those that are copied, or, with `none`, not even those."""
        if not shape.rates:
            return base.rates if shape.rates is None else ()
        return replace_rates(base.rates, make_rates(shape.rates, self._report, source="plan"))

    def _concurrency(self, shape: PlanShape, base: PlanSpec) -> tuple[Concurrency, ...]:
        if not shape.concurrency:
            return base.concurrency if shape.concurrency is None else ()
        return replace_concurrency(base.concurrency, make_concurrency(shape.concurrency, shape.table, self._report, source="plan"))

    def _base_price(self, name: str, shape: PlanShape, source: PlanSpec | None) -> Mapping[str, Decimal]:
        price: Mapping[str, Decimal] | None = shape.price
        if price is None:
            if source is None and "price" not in shape.table:
                self._report.fault(shape.table, None, f'say what `{name}` costs: price: {{usd: "0"}}, or price: {CONTACT_SALES}')
            return source.price if source else {}
        written = shape.table.get("price")
        for currency, amount in price.items():
            places = minor_digits(currency)
            if decimals(amount) > places and isinstance(written, Table):
                self._report.fault(written, currency, f"{amount} {currency} has more than the {places} decimals that this currency has")
        return price

    def _features(self, shape: PlanShape) -> tuple[Feature, ...]:
        return tuple(Feature(key=feature.key, label=_label(feature), number=feature.number) for feature in shape.features or ())

    def _prices(self, shape: PlanShape) -> dict[str, Price]:
        found: dict[str, Price] = {}
        for meter_name, price in shape.prices.items():
            meter = self._report.meter(meter_name)
            if price is None or meter is None or (made := make_price(price, meter, self._report)) is None:
                continue
            found[meter_name] = made
        return found

    def _check_prices(self, shape: PlanShape, quotas: tuple[Quota, ...], prices: Mapping[str, Price]) -> None:
        """A quota and a price that do not meet: said here, not refused."""
        modes = {quota.meter: quota.mode for quota in quotas if quota.window is Window.PERIOD}
        for quota in shape.quotas:
            if quota is not None and quota.mode == Mode.OVERAGE and quota.meter not in shape.prices and quota.meter not in prices:
                self._report.warn(
                    quota.table,
                    "mode",
                    f"`{quota.meter}` has no price, so this quota is soft: it warns and bills nothing; add one to `prices`",
                )
        for meter, price in shape.prices.items():
            if price is not None and meter in modes and modes[meter] is not Mode.OVERAGE:
                self._report.warn(price.table, None, f"the quota on `{meter}` is {modes[meter]}, so this price is never charged")


def _label(feature: FeatureShape) -> str:
    if feature.label:
        return feature.label
    words = feature.key.replace("_", " ")
    if "number" in feature.model_fields_set:
        return f"{'Unlimited' if feature.number is None else f'{feature.number:,}'} {words}"
    return words[:1].upper() + words[1:]
