"""Commitment: what the line lacks of it is due as a line of its own, the true-up. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from billing.model.pricing.around import Around, Inner, with_word
from billing.model.pricing.base import Part, PricingModel, RatedHere, Usage, checked, plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment(Around):
    """What the line lacks of `commitment` is due as a line of its own, the true-up."""

    kind: ClassVar[str] = "commitment"

    commitment: Decimal

    def __post_init__(self) -> None:
        checked(self.commitment)

    @property
    def unit_price(self) -> Decimal | None:
        return self.price.unit_price

    def _parts(self, usage: Usage) -> Iterator[Part]:
        yield from self.price.parts(usage)

    def lacking(self, amount: Decimal) -> Decimal:
        return max(Decimal(0), self.commitment - amount)

    def at_stripe(self, report_size: int, digits: int) -> dict[str, Any]:
        raise RatedHere("Stripe knows no commitment")

    def to_json(self) -> dict[str, Any]:
        return {"commitment": plain(self.commitment), "price": with_word(self.price)}


def commitment(inner: Inner) -> PricingModel:
    """Its registry line, given how the price inside is read."""
    return PricingModel(Commitment.kind, lambda v: Commitment(price=inner(v["price"]), commitment=Decimal(v["commitment"])))
