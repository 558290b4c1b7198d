"""Graduated percentage: of the sum that was paid, each tier takes its share. 2 % of the first $1,000, 1 % of the rest. Pure.

The meter counts money; tiers are over the period's sum.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from billing.model.pricing.base import Part, PartKind, Price, PricingModel, Usage, checked_size, plain
from billing.model.pricing.graduated import graduated_parts
from billing.model.pricing.tiers import Tier, check_tiers


@dataclass(frozen=True, slots=True, kw_only=True)
class GraduatedPercentage(Price):
    """A tier's `each` is a share, 0.02 for 2 %, of `per_unit_size` base units to a major currency unit; its `flat` is money.
    Raises TiersNotContiguous."""

    kind: ClassVar[str] = "graduated_percentage"

    tiers: tuple[Tier, ...]
    per_unit_size: int = 1

    def __post_init__(self) -> None:
        check_tiers(self.tiers)
        checked_size(self.per_unit_size)

    def _parts(self, usage: Usage) -> Iterator[Part]:
        return graduated_parts(usage.quantity, self.tiers, self.per_unit_size, PartKind.PERCENTAGE)

    def to_json(self) -> dict[str, Any]:
        tiers = [{"to": t.to, "percentage": plain(t.each * 100), "flat": plain(t.flat)} for t in self.tiers]
        return {"tiers": tiers, "per_unit_size": self.per_unit_size}


def _from_json(value: dict[str, Any]) -> GraduatedPercentage:
    tiers = (Tier(to=t["to"], each=Decimal(t["percentage"]) / 100, flat=Decimal(t["flat"])) for t in value["tiers"])
    return GraduatedPercentage(tiers=tuple(tiers), per_unit_size=int(value["per_unit_size"]))


GRADUATED_PERCENTAGE = PricingModel(GraduatedPercentage.kind, _from_json)
