"""Which plan has which feature, and what to buy for one that is lacking. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from billing.model.plan import Feature, Interval, PlanSpec

_ON_REQUEST = Decimal("Infinity")  # sales are asked: behind every price
_MONTHS = {Interval.DAY: Decimal("0.033"), Interval.WEEK: Decimal("0.23"), Interval.MONTH: Decimal(1), Interval.YEAR: Decimal(12)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureCheck:
    """`required_plan` is the cheapest plan on sale that has the feature (None: none has); `number` how many are allowed where the feature
    is an amount, None where there is no end to it or it is none."""

    feature: str
    allowed: bool
    required_plan: str | None
    label: str | None = None
    number: int | None = None


def check(key: str, held: Iterable[Feature], on_sale: Mapping[str, PlanSpec], currency: str) -> FeatureCheck:
    """`held` are the features of what the organization is entitled to; `on_sale` all plans that can be bought."""
    has = next((feature for feature in held if feature.key == key), None)
    offers = {name: feature for name, spec in on_sale.items() for feature in spec.features if feature.key == key}
    cheapest = min(offers, key=lambda name: (_monthly(on_sale[name], currency), name), default=None)
    known = has or (offers[cheapest] if cheapest else None)
    return FeatureCheck(
        feature=key,
        allowed=has is not None and has.number != 0,
        required_plan=cheapest,
        label=known.label if known else None,
        number=has.number if has else None,
    )


def words(features: Iterable[Feature]) -> tuple[str, ...]:
    """As the gateway tells services: sso, organizations=10. What is allowed 0 times is left out."""
    return tuple(f.key if f.number is None else f"{f.key}={f.number}" for f in features if f.number != 0)


def _monthly(spec: PlanSpec, currency: str) -> Decimal:
    """About what it costs a month: for the order of plans, and nothing else."""
    price = spec.price.get(currency)
    return _ON_REQUEST if price is None else price / (_MONTHS[spec.interval] * spec.interval_count)
