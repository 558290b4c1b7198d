"""A plan as it is sold: prices, quotas, overage prices, features; and its form in `plan_versions.spec`.

Pure. config/plans.py builds it from YAML, billing/services/plans.py stores it, billing/services/entitlements.py turns
it into what the gateway sees.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from billing.model.pricing import PerUnit, Price, price_from_json, price_to_json
from metering.model.entitlement import rule_from_json, rule_to_json
from metering.model.quota import Mode, Per, Quota, Window

__all__ = ["Feature", "Interval", "PerUnit", "PlanSpec", "Price", "Rollout", "from_json", "same_terms", "to_json"]


class Interval(StrEnum):
    """How often the base price is due. Usage periods are monthly either way."""

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
    in the billing currency.
    """

    name: str
    title: str = ""
    price: Mapping[str, Decimal] = field(default_factory=dict)
    interval: Interval = Interval.MONTH
    trial_days: int = 0
    quotas: tuple[Quota, ...] = ()
    prices: Mapping[str, Price] = field(default_factory=dict)
    features: tuple[Feature, ...] = ()
    copy_from: str | None = None
    rollout: Rollout = Rollout.RENEWAL
    discount_label: str | None = None

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
        "trial_days": spec.trial_days,
        "quotas": [_quota_to_json(q) for q in sorted(spec.quotas, key=lambda q: (q.meter, q.window, q.per))],
        "prices": {meter: price_to_json(spec.prices[meter]) for meter in sorted(spec.prices)},
        "features": [{"key": f.key, "label": f.label, "number": f.number} for f in spec.features],
        "copy_from": spec.copy_from,
        "rollout": spec.rollout.value,
        "discount_label": spec.discount_label,
    }


def from_json(value: Mapping[str, Any]) -> PlanSpec:
    """The inverse of `to_json`. Raises UnknownPricingModel."""
    return PlanSpec(
        name=value["name"],
        title=value["title"],
        price={currency: Decimal(amount) for currency, amount in value["price"].items()},
        interval=Interval(value["interval"]),
        trial_days=value["trial_days"],
        quotas=tuple(_quota_from_json(q) for q in value["quotas"]),
        prices={meter: price_from_json(p) for meter, p in value["prices"].items()},
        features=tuple(Feature(key=f["key"], label=f["label"], number=f["number"]) for f in value["features"]),
        copy_from=value["copy_from"],
        rollout=Rollout(value["rollout"]),
        discount_label=value["discount_label"],
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


# The stored form of a quota is the billing schema's own: plan versions outlive whatever Redis holds.
def _quota_to_json(q: Quota) -> dict[str, Any]:
    return {
        "meter": q.meter,
        "limit": q.limit,
        "window": q.window.value,
        "mode": q.mode.value,
        "per": q.per.value,
        "on_store_failure": rule_to_json(q.on_store_failure),
    }


def _quota_from_json(value: Mapping[str, Any]) -> Quota:
    return Quota(
        meter=value["meter"],
        limit=value["limit"],
        window=Window(value["window"]),
        mode=Mode(value["mode"]),
        per=Per(value["per"]),
        on_store_failure=rule_from_json(value["on_store_failure"]),
    )
