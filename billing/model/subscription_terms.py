"""What was negotiated with one customer, in place of the plan's. Pure; stored with the subscription."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from billing.model.plan import Interval, PlanSpec
from billing.model.pricing import Price, price_from_json, price_to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The base price an interval (in the subscription's currency), prices of meters, the interval; None and none: the plan's."""

    price: Decimal | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    interval: Interval | None = None
    interval_count: int = 1

    def __bool__(self) -> bool:
        return self.price is not None or bool(self.prices) or self.interval is not None


def with_terms(spec: PlanSpec, terms: Terms | None, currency: str) -> PlanSpec:
    """The plan under negotiated terms."""
    if terms is None:
        return spec
    if terms.price is not None:
        spec = replace(spec, price={**spec.price, currency: terms.price})
    if terms.interval is not None:
        spec = replace(spec, interval=terms.interval, interval_count=terms.interval_count)
    return replace(spec, prices={**spec.prices, **terms.prices}) if terms.prices else spec


def to_json(terms: Terms) -> dict[str, Any]:
    """The stored form."""
    return {
        "price": None if terms.price is None else format(terms.price, "f"),
        "prices": {meter: price_to_json(terms.prices[meter]) for meter in sorted(terms.prices)},
        "interval": terms.interval,
        "interval_count": terms.interval_count,
    }


def from_json(value: Mapping[str, Any]) -> Terms:
    """The inverse of `to_json`. Raises UnknownPricingModel."""
    return Terms(
        price=None if value["price"] is None else Decimal(value["price"]),
        prices={meter: price_from_json(price) for meter, price in value["prices"].items()},
        interval=None if value["interval"] is None else Interval(value["interval"]),
        interval_count=value["interval_count"],
    )
