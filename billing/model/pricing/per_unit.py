"""Per unit: every unit costs the same. `each: "0.0003"` a request, `each: "0.10"` a GB. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from billing.model.pricing.base import (
    MOST_DECIMALS,
    Part,
    PartKind,
    Price,
    PricingModel,
    Usage,
    checked,
    checked_size,
    decimals,
    each_report_unit,
    plain,
)

__all__ = ["MOST_DECIMALS", "PER_UNIT", "PerUnit", "decimals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PerUnit(Price):
    """`each` major currency units for every `per_unit_size` base units (10**9 where the price is a GB's)."""

    kind: ClassVar[str] = "each"

    each: Decimal
    per_unit_size: int = 1

    def __post_init__(self) -> None:
        checked(self.each)
        checked_size(self.per_unit_size)

    @property
    def unit_price(self) -> Decimal:
        return self.each

    def _parts(self, usage: Usage) -> Iterator[Part]:
        yield Part(PartKind.UNITS, usage.quantity / self.per_unit_size, self.each, self.each * usage.quantity / self.per_unit_size)

    def at_stripe(self, report_size: int, digits: int) -> dict[str, Any]:
        return {"each": each_report_unit(self.each, self.per_unit_size, report_size, digits)}

    def to_json(self) -> dict[str, Any]:
        return {"each": plain(self.each), "per_unit_size": self.per_unit_size}


def _from_json(value: dict[str, Any]) -> PerUnit:
    return PerUnit(each=Decimal(value["each"]), per_unit_size=int(value["per_unit_size"]))


PER_UNIT = PricingModel(PerUnit.kind, _from_json)
