"""What stands around another price: bounds of the spend, a commitment, hours, currencies. Pure.

Each is a price itself, so that they nest, and is stored with the price inside it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, ClassVar

from billing.model.pricing.base import Part, PartKind, Price, PricingModel, RatedHere, Usage, checked, plain, total
from metering.model.errors import BadInput

Inner = Callable[[dict[str, Any]], Price]  # reads the price inside


class NoPriceInCurrency(BadInput):
    """There is no price in this currency."""

    code = "no_price_in_currency"


def _with_word(price: Price) -> dict[str, Any]:
    return {"model": price.kind, **price.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Around(Price):
    """A price with another inside, which answers all that is not said otherwise."""

    price: Price

    @property
    def needs_events(self) -> bool:
        return self.price.needs_events

    def in_currency(self, currency: str) -> Price:
        return replace(self, price=self.price.in_currency(currency))

    def lacking(self, amount: Decimal) -> Decimal:
        return self.price.lacking(amount)


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
        return {"minimum": _plain(self.minimum), "maximum": _plain(self.maximum), "price": _with_word(self.price)}


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
        return {"commitment": plain(self.commitment), "price": _with_word(self.price)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PerHour(Around):
    """For what is held: the price is for a unit held an hour (a GB-hour). The quantity is the mean over the period."""

    kind: ClassVar[str] = "per_hour"

    def _parts(self, usage: Usage) -> Iterator[Part]:
        if usage.hours is None:
            raise BadInput("a price by the hour needs to know how long the period is")
        yield from self.price.parts(Usage(usage.quantity * usage.hours, usage.events))

    def at_stripe(self, report_size: int, digits: int) -> dict[str, Any]:
        raise RatedHere("Stripe does not know for how long a unit was held")

    def to_json(self) -> dict[str, Any]:
        return {"price": _with_word(self.price)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ByCurrency(Price):
    """One price for each currency. It has no amount before `in_currency` has chosen."""

    kind: ClassVar[str] = "by_currency"

    prices: Mapping[str, Price]

    @property
    def needs_events(self) -> bool:
        return any(price.needs_events for price in self.prices.values())

    def in_currency(self, currency: str) -> Price:
        if currency not in self.prices:
            raise NoPriceInCurrency(f"there is no price in {currency}, only in {', '.join(sorted(self.prices))}")
        return self.prices[currency]

    def _parts(self, usage: Usage) -> Iterator[Part]:
        raise NoPriceInCurrency(f"in which currency? There are prices in {', '.join(sorted(self.prices))}")

    def to_json(self) -> dict[str, Any]:
        return {"prices": {currency: _with_word(self.prices[currency]) for currency in sorted(self.prices)}}


def _plain(amount: Decimal | None) -> str | None:
    return None if amount is None else plain(amount)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def models_around(inner: Inner) -> tuple[PricingModel, ...]:
    """Their registry lines, given how the prices inside are read."""
    return (
        PricingModel(Spend.kind, lambda v: Spend(price=inner(v["price"]), minimum=_decimal(v["minimum"]), maximum=_decimal(v["maximum"]))),
        PricingModel(Commitment.kind, lambda v: Commitment(price=inner(v["price"]), commitment=Decimal(v["commitment"]))),
        PricingModel(PerHour.kind, lambda v: PerHour(price=inner(v["price"]))),
        PricingModel(ByCurrency.kind, lambda v: ByCurrency(prices={c: inner(p) for c, p in v["prices"].items()})),
    )
