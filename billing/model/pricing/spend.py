"""Minimum and maximum spend: the line comes to at least the one, also for nothing, and at most to the other. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from billing.model.pricing.around import Around, Inner, with_word
from billing.model.pricing.base import Part, PartKind, PricingModel, RatedHere, Usage, checked, plain, total
from metering.model.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend(Around):
    """The line comes to at least `minimum`, also where nothing was used, and at most to `maximum`."""

    kind: ClassVar[str] = "spend"

    minimum: Decimal | None = None
    maximum: Decimal | None = None

    def __post_init__(self) -> None:
        for bound in (self.minimum, self.maximum):
            if bound is not None:
                checked(bound)
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise BadInput(f"the minimum of {self.minimum} is above the maximum of {self.maximum}")

    def _parts(self, usage: Usage) -> Iterator[Part]:
        inner = self.price.parts(usage)
        yield from inner
        amount = total(inner)
        if self.minimum is not None and amount < self.minimum:
            yield Part(PartKind.MINIMUM, Decimal(1), self.minimum, self.minimum - amount)
        elif self.maximum is not None and amount > self.maximum:
            yield Part(PartKind.MAXIMUM, Decimal(1), self.maximum, self.maximum - amount)

    def at_stripe(self, report_size: int, digits: int) -> dict[str, Any]:
        raise RatedHere("Stripe knows no minimum or maximum of a line")

    def to_json(self) -> dict[str, Any]:
        return {"minimum": _plain(self.minimum), "maximum": _plain(self.maximum), "price": with_word(self.price)}


def _plain(amount: Decimal | None) -> str | None:
    return None if amount is None else plain(amount)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def spend(inner: Inner) -> PricingModel:
    """Its registry line, given how the price inside is read."""
    return PricingModel(
        Spend.kind, lambda v: Spend(price=inner(v["price"]), minimum=_decimal(v["minimum"]), maximum=_decimal(v["maximum"]))
    )
