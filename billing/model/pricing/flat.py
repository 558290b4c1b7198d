"""Flat: one fee a period for the meter, whatever was used; also for nothing. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from billing.model.pricing.base import Part, PartKind, Price, PricingModel, Usage, checked, plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat(Price):
    """`flat` major currency units."""

    kind: ClassVar[str] = "flat"

    flat: Decimal

    def __post_init__(self) -> None:
        checked(self.flat)

    def _parts(self, usage: Usage) -> Iterator[Part]:
        yield Part(PartKind.FLAT, Decimal(1), self.flat, self.flat)

    def to_json(self) -> dict[str, Any]:
        return {"flat": plain(self.flat)}


def _from_json(value: dict[str, Any]) -> Flat:
    return Flat(flat=Decimal(value["flat"]))


FLAT = PricingModel(Flat.kind, _from_json)
