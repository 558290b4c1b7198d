"""By currency: one price for each, chosen before anything is rated. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from billing.model.pricing.around import Inner, with_word
from billing.model.pricing.base import Part, Price, PricingModel, Usage
from metering.model.errors import BadInput


class NoPriceInCurrency(BadInput):
    """There is no price in this currency."""

    code = "no_price_in_currency"


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
        return {"prices": {currency: with_word(self.prices[currency]) for currency in sorted(self.prices)}}


def by_currency(inner: Inner) -> PricingModel:
    """Its registry line, given how the prices inside are read."""
    return PricingModel(ByCurrency.kind, lambda v: ByCurrency(prices={c: inner(p) for c, p in v["prices"].items()}))
