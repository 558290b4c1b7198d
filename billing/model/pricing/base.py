"""What every pricing model offers. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from metering.model.errors import BadInput


class UnknownPricingModel(BadInput):
    """There is no such pricing model."""

    code = "unknown_pricing_model"


class Price(Protocol):
    """What a quantity of one meter costs."""

    @property
    def kind(self) -> str: ...

    def amount(self, quantity: int) -> Decimal:
        """The unrounded amount, in major currency units, of `quantity` base units."""
        ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class PricingModel:
    """A model as the registry knows it: its word, and how a stored price of it is read."""

    kind: str
    from_json: Callable[[dict[str, Any]], Price]
