"""Package: units are sold by the package, begun ones are full. $5 per 100, 100 free: 201 units are two packages, 10. Pure.

Stripe's `transform_quantity` with `round=up`, where nothing is free.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from billing.model.pricing.base import Part, PartKind, Price, PricingModel, RatedHere, Usage, checked, checked_size, plain, told
from metering.model.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Package(Price):
    """`each` for every begun `size` base units beyond the first `free`. Parts show free units in units of `per_unit_size`."""

    kind: ClassVar[str] = "package"

    size: int
    each: Decimal
    free: int = 0
    per_unit_size: int = 1

    def __post_init__(self) -> None:
        checked(self.each)
        checked_size(self.per_unit_size)
        if self.size < 1:
            raise BadInput(f"a package holds at least one base unit, not {self.size}")
        if self.free < 0:
            raise BadInput(f"free units are not below zero, as {self.free} is")

    def _parts(self, usage: Usage) -> Iterator[Part]:
        free = min(usage.quantity, Decimal(self.free))
        if free:
            yield Part(PartKind.FREE, free / self.per_unit_size, Decimal(0), Decimal(0))
        full, begun = divmod(usage.quantity - free, Decimal(self.size))
        packages = full + 1 if begun else full
        yield Part(PartKind.PACKAGE, packages, self.each, self.each * packages)

    def at_stripe(self, report_size: int, digits: int) -> dict[str, Any]:
        if self.free:
            raise RatedHere("Stripe's packages have no free units")
        if self.size % report_size:
            raise RatedHere("a package ends within a report unit")
        return {"each": told(self.each, digits), "divide_by": self.size // report_size}

    def to_json(self) -> dict[str, Any]:
        return {"size": self.size, "each": plain(self.each), "free": self.free, "per_unit_size": self.per_unit_size}


def _from_json(value: dict[str, Any]) -> Package:
    return Package(size=int(value["size"]), each=Decimal(value["each"]), free=int(value["free"]), per_unit_size=int(value["per_unit_size"]))


PACKAGE = PricingModel(Package.kind, _from_json)
