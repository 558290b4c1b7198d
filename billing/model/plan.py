"""A plan as it is sold: prices, quotas, overage prices, features; and its form in `plan_versions.spec`.

Pure. config/plans.py builds it from YAML, billing/services/plans.py stores it, billing/services/entitlements.py turns
it into what the gateway sees.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from billing.model.limits import (
    concurrency_from_json,
    concurrency_to_json,
    quota_from_json,
    quota_to_json,
    rate_from_json,
    rate_to_json,
)
from billing.model.pricing import PerUnit, Price, price_from_json, price_to_json
from metering.model.quota import Concurrency, Quota, Rate

__all__ = ["Feature", "Interval", "PerUnit", "PlanSpec", "Price", "Rollout", "from_json", "same_terms", "to_json"]


class Interval(StrEnum):
    """How often the base price is due, or every so many of it. Usage periods are monthly either way."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


class Rollout(StrEnum):
    """Who gets an edit of the plan."""

    NEW = "new"  # only organizations that subscribe from now on
    RENEWAL = "renewal"  # every subscription, when its next period starts
    NOW = "now"  # every subscription, at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """`key` is what a program checks ("sso"), `label` what people read; `number` where the feature is an amount."""

    key: str
    label: str
    number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSpec:
    """One version of a plan, `copy_from` already resolved.

    `price` holds the base price in major units for each currency; empty means that sales are asked.
    `prices` holds the price of a meter's units beyond its overage quota (from the first unit where it has no quota),
    in the billing currency. `spend_cap` ends overage once a period costs so much beyond the base price; `rollover` carries up to so
    many base units of a meter's period quota into the next period.
    """

    name: str
    title: str = ""
    price: Mapping[str, Decimal] = field(default_factory=dict)
    interval: Interval = Interval.MONTH
    interval_count: int = 1
    trial_days: int = 0
    quotas: tuple[Quota, ...] = ()
    rates: tuple[Rate, ...] = ()
    concurrency: tuple[Concurrency, ...] = ()
    prices: Mapping[str, Price] = field(default_factory=dict)
    features: tuple[Feature, ...] = ()
    copy_from: str | None = None
    rollout: Rollout = Rollout.RENEWAL
    discount_label: str | None = None
    spend_cap: Mapping[str, Decimal] = field(default_factory=dict)
    rollover: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_paid(self) -> bool:
        """True where money may be due: a base price above zero, or a price on any meter."""
        return any(amount > 0 for amount in self.price.values()) or bool(self.prices)


def to_json(spec: PlanSpec) -> dict[str, Any]:
    """The stored form. Order is fixed, so that equal plans give equal objects."""
    return {
        "name": spec.name,
        "title": spec.title,
        "price": {currency: _plain(spec.price[currency]) for currency in sorted(spec.price)},
        "interval": spec.interval.value,
        **({"interval_count": spec.interval_count} if spec.interval_count != 1 else {}),
        "trial_days": spec.trial_days,
        "quotas": [quota_to_json(q) for q in sorted(spec.quotas, key=lambda q: (q.meter, q.window, q.per))],
        "rates": [rate_to_json(r) for r in sorted(spec.rates, key=lambda r: (r.meter or "", r.per, r.by))],
        "concurrency": [concurrency_to_json(c) for c in sorted(spec.concurrency, key=lambda c: c.by)],
        "prices": {meter: price_to_json(spec.prices[meter]) for meter in sorted(spec.prices)},
        "features": [{"key": f.key, "label": f.label, "number": f.number} for f in spec.features],
        "copy_from": spec.copy_from,
        "rollout": spec.rollout.value,
        "discount_label": spec.discount_label,
        **({"spend_cap": {c: _plain(spec.spend_cap[c]) for c in sorted(spec.spend_cap)}} if spec.spend_cap else {}),
        **({"rollover": {meter: spec.rollover[meter] for meter in sorted(spec.rollover)}} if spec.rollover else {}),
    }


def from_json(value: Mapping[str, Any]) -> PlanSpec:
    """The inverse of `to_json`; what was stored before there were rates has none. Raises UnknownPricingModel."""
    return PlanSpec(
        name=value["name"],
        title=value["title"],
        price={currency: Decimal(amount) for currency, amount in value["price"].items()},
        interval=Interval(value["interval"]),
        interval_count=value.get("interval_count", 1),
        trial_days=value["trial_days"],
        quotas=tuple(quota_from_json(q) for q in value["quotas"]),
        rates=tuple(rate_from_json(r) for r in value.get("rates", ())),
        concurrency=tuple(concurrency_from_json(c) for c in value.get("concurrency", ())),
        prices={meter: price_from_json(p) for meter, p in value["prices"].items()},
        features=tuple(Feature(key=f["key"], label=f["label"], number=f["number"]) for f in value["features"]),
        copy_from=value["copy_from"],
        rollout=Rollout(value["rollout"]),
        discount_label=value["discount_label"],
        spend_cap={currency: Decimal(amount) for currency, amount in value.get("spend_cap", {}).items()},
        rollover=value.get("rollover", {}),
    )


def same_terms(one: PlanSpec, other: PlanSpec) -> bool:
    """True where a customer could not tell the two apart. Who gets an edit (`rollout`) is not part of what is sold."""
    return _terms(one) == _terms(other)


def _terms(spec: PlanSpec) -> dict[str, Any]:
    terms = to_json(spec)
    del terms["rollout"], terms["copy_from"]
    return terms


def _plain(number: Decimal) -> str:
    return format(number.normalize(), "f")
