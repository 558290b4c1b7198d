"""Pricing models: one file each, and the registry that finds them by the word the YAML and the database use.

Pure. A model turns a quantity in a meter's base units into an unrounded amount in major currency units; rounding
happens once a line, in billing/model/rating.py. To add a model: its file, and its line in MODELS.
"""

from typing import Any

from billing.model.pricing.base import Price, PricingModel, UnknownPricingModel
from billing.model.pricing.per_unit import PER_UNIT, PerUnit

MODELS: dict[str, PricingModel] = {
    PER_UNIT.kind: PER_UNIT,
}


def price_to_json(price: Price) -> dict[str, Any]:
    """A JSON object with the model's word under "model"; the inverse of `price_from_json`."""
    return {"model": price.kind, **price.to_json()}


def price_from_json(value: dict[str, Any]) -> Price:
    """The price behind a stored object. Raises UnknownPricingModel."""
    kind = str(value["model"])
    if kind not in MODELS:
        raise UnknownPricingModel(f"there is no pricing model {kind!r}; known: {', '.join(sorted(MODELS))}", model=kind)
    return MODELS[kind].from_json(value)


__all__ = ["MODELS", "PerUnit", "Price", "PricingModel", "UnknownPricingModel", "price_from_json", "price_to_json"]
