"""What stands around another price: a price itself, so that they nest, and stored with the price inside it. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from billing.model.pricing.base import Price

Inner = Callable[[dict[str, Any]], Price]  # reads the price inside


def with_word(price: Price) -> dict[str, Any]:
    """The stored form of a price inside another."""
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
