"""Which prices Stripe charges itself, from what it hears of a meter, and which become one rated item on the invoice. Pure.

A price goes native where Stripe's arithmetic on whole report units comes to our amount, to the cent. docs/pricing.md shows the
table. billing/model/outbox.py tells Stripe the native ones, aggregator/overage.py reports only their units.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.model.money import minor_digits
from billing.model.plan import PlanSpec
from billing.model.pricing import PerUnit, Price, RatedHere
from billing.model.rating import included_units
from metering.model.meter import Kind, Meter


@dataclass(frozen=True, slots=True)
class AtStripe:
    """`terms` are what Stripe is told of a report unit's price; None where the amount is rated here, for this `reason`."""

    terms: Mapping[str, Any] | None
    reason: str = ""

    @property
    def native(self) -> bool:
        return self.terms is not None


def native_at_stripe(price: Price, meter: Meter, *, included: int = 0, currency: str = "usd") -> AtStripe:
    """`included` are the units that come first without charge. Raises NoPriceInCurrency."""
    price = price.in_currency(currency)
    try:
        if meter.kind is Kind.LEVEL:
            raise RatedHere("the mean of a level is known when its period is over")
        if included and not isinstance(price, PerUnit):
            raise RatedHere("the first units are included, and Stripe's tiers and packages would begin with them")
        return AtStripe(price.at_stripe(meter.report_size, minor_digits(currency)))
    except RatedHere as reason:
        return AtStripe(None, str(reason))


def plan_at_stripe(spec: PlanSpec, meters: Mapping[str, Meter], currency: str) -> dict[str, AtStripe]:
    """Each priced meter of a plan. One that is never charged for is told as a price of a unit, or not at all: a tier's flat
    fee would be due for nothing."""
    included = included_units(spec.quotas, spec.prices)
    found = {}
    for name in sorted(set(spec.prices) & set(meters)):
        found[name] = native_at_stripe(spec.prices[name], meters[name], included=included.get(name, 0), currency=currency)
        if name not in included and not isinstance(spec.prices[name].in_currency(currency), PerUnit):
            found[name] = AtStripe(None, "its quota lets nothing be charged")
    return found
