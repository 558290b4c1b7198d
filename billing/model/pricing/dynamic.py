"""Dynamic: the usage says its own cost, and is charged a multiple of it. A cost of 10, times 1.33333: 13.33. Pure.

The meter counts money, as it was spent (a provider's bill for a call).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from billing.model.pricing.base import Part, PartKind, Price, PricingModel, Usage, checked, checked_size, plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamic(Price):
    """`per_unit_size` base units are a major currency unit (100 where the meter counts cents)."""

    kind: ClassVar[str] = "dynamic"

    multiplier: Decimal
    per_unit_size: int = 1

    def __post_init__(self) -> None:
        checked(self.multiplier, "a multiplier")
        checked_size(self.per_unit_size)

    def _parts(self, usage: Usage) -> Iterator[Part]:
        amount = usage.quantity * self.multiplier / self.per_unit_size
        yield Part(PartKind.MULTIPLE, usage.quantity / self.per_unit_size, self.multiplier, amount)

    def to_json(self) -> dict[str, Any]:
        return {"multiplier": plain(self.multiplier), "per_unit_size": self.per_unit_size}


def _from_json(value: dict[str, Any]) -> Dynamic:
    return Dynamic(multiplier=Decimal(value["multiplier"]), per_unit_size=int(value["per_unit_size"]))


DYNAMIC = PricingModel(Dynamic.kind, _from_json)
