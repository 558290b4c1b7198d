"""Per hour: for what is held. The quantity is the mean over the period, the price is for a unit held an hour (a GB-hour). Pure.

The mean itself, weighted by time, is in billing/model/aggregation.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from billing.model.pricing.around import Around, Inner, with_word
from billing.model.pricing.base import Part, PricingModel, RatedHere, Usage
from metering.model.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class PerHour(Around):
    """For what is held: the price is for a unit held an hour (a GB-hour). The quantity is the mean over the period."""

    kind: ClassVar[str] = "per_hour"

    def _parts(self, usage: Usage) -> Iterator[Part]:
        if usage.hours is None:
            raise BadInput("a price by the hour needs to know how long the period is: its start and its end")
        yield from self.price.parts(Usage(usage.quantity * usage.hours, usage.events))

    def at_stripe(self, report_size: int, digits: int) -> dict[str, Any]:
        raise RatedHere("Stripe does not know for how long a unit was held")

    def to_json(self) -> dict[str, Any]:
        return {"price": with_word(self.price)}


def per_hour(inner: Inner) -> PricingModel:
    """Its registry line, given how the price inside is read."""
    return PricingModel(PerHour.kind, lambda v: PerHour(price=inner(v["price"])))
