"""Graduated: each unit costs what the tier it falls in says. 550,000 at 100k @ 0.001, 400k @ 0.0008, rest @ 0.0005: 445. Pure.

Stripe's `tiers_mode=graduated`; docs.stripe.com, "tiered pricing".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from billing.model.pricing.base import Part, PartKind, Price, PricingModel, RatedHere, Usage, checked_size
from billing.model.pricing.tiers import Tier, check_tiers, full_tiers_are_whole, tiers_at_stripe, tiers_from_json, tiers_to_json


def graduated_parts(quantity: Decimal, tiers: tuple[Tier, ...], size: int, kind: PartKind) -> Iterator[Part]:
    """A tier's flat fee, then its units, for each tier that is reached."""
    start = 0
    for number, tier in enumerate(tiers, start=1):
        if number > 1 and quantity <= start:
            return
        if tier.flat:
            yield Part(PartKind.FLAT, Decimal(1), tier.flat, tier.flat, number)
        units = (quantity if tier.to is None else min(quantity, Decimal(tier.to))) - start
        if units:
            yield Part(kind, units / size, tier.each, tier.each * units / size, number)
        start = tier.to or 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Graduated(Price):
    """A tier's `each` is for `per_unit_size` base units. Raises TiersNotContiguous."""

    kind: ClassVar[str] = "graduated"

    tiers: tuple[Tier, ...]
    per_unit_size: int = 1

    def __post_init__(self) -> None:
        check_tiers(self.tiers)
        checked_size(self.per_unit_size)

    def _parts(self, usage: Usage) -> Iterator[Part]:
        return graduated_parts(usage.quantity, self.tiers, self.per_unit_size, PartKind.TIER)

    def at_stripe(self, report_size: int, digits: int) -> dict[str, Any]:
        if not full_tiers_are_whole(self.tiers, self.per_unit_size, digits):
            raise RatedHere("a full tier comes to no whole number of minor units: Stripe would round each tier by itself")
        return {"tiers_mode": "graduated", "tiers": tiers_at_stripe(self.tiers, self.per_unit_size, report_size, digits)}

    def to_json(self) -> dict[str, Any]:
        return {"tiers": tiers_to_json(self.tiers), "per_unit_size": self.per_unit_size}


def _from_json(value: dict[str, Any]) -> Graduated:
    return Graduated(tiers=tiers_from_json(value["tiers"]), per_unit_size=int(value["per_unit_size"]))


GRADUATED = PricingModel(Graduated.kind, _from_json)
