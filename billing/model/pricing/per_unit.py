"""Per unit: every unit costs the same. `each: "0.0003"` a request, `each: "0.10"` a GB. Pure."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from billing.model.money import EXACT
from billing.model.pricing.base import PricingModel
from metering.model.errors import BadInput

MOST_DECIMALS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class PerUnit:
    """`each` major currency units for every `per_unit_size` base units (10**9 where the price is a GB's)."""

    kind: ClassVar[str] = "each"

    each: Decimal
    per_unit_size: int = 1

    def __post_init__(self) -> None:
        if not self.each.is_finite() or self.each < 0:
            raise BadInput(f"a price is a number not below zero, not {self.each}")
        if decimals(self.each) > MOST_DECIMALS:
            raise BadInput(f"a price has at most {MOST_DECIMALS} decimals; {self.each} has {decimals(self.each)}")
        if self.per_unit_size < 1:
            raise BadInput(f"a unit is at least one base unit, not {self.per_unit_size}")

    def amount(self, quantity: int) -> Decimal:
        """Exact for every size that divides a power of ten; else to 60 digits."""
        return EXACT.divide(EXACT.multiply(self.each, Decimal(quantity)), Decimal(self.per_unit_size))

    def to_json(self) -> dict[str, Any]:
        return {"each": format(self.each.normalize(), "f"), "per_unit_size": self.per_unit_size}


def _from_json(value: dict[str, Any]) -> PerUnit:
    return PerUnit(each=Decimal(value["each"]), per_unit_size=int(value["per_unit_size"]))


def decimals(number: Decimal) -> int:
    """How many digits stand behind the point, trailing zeros not counted."""
    exponent = number.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


PER_UNIT = PricingModel(PerUnit.kind, _from_json)
