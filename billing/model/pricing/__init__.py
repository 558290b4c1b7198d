"""Pricing models: one file each, and the registry that finds them by the word the YAML and the database use.

Pure. A model turns a period's use of a meter, in base units, into an unrounded amount in major currency units, and into the
parts that explain it; rounding happens once a line, in billing/model/rating.py. To add a model: its file, and its line in MODELS.
"""

from typing import Any

from billing.model.pricing.base import EventsNeeded, Part, PartKind, Price, PricingModel, RatedHere, UnknownPricingModel, Usage, plain
from billing.model.pricing.by_currency import ByCurrency, NoPriceInCurrency, by_currency
from billing.model.pricing.commitment import Commitment, commitment
from billing.model.pricing.dynamic import DYNAMIC, Dynamic
from billing.model.pricing.flat import FLAT, Flat
from billing.model.pricing.graduated import GRADUATED, Graduated
from billing.model.pricing.graduated_percentage import GRADUATED_PERCENTAGE, GraduatedPercentage
from billing.model.pricing.package import PACKAGE, Package
from billing.model.pricing.per_hour import PerHour, per_hour
from billing.model.pricing.per_unit import PER_UNIT, PerUnit
from billing.model.pricing.percentage import PERCENTAGE, Percentage
from billing.model.pricing.spend import Spend, spend
from billing.model.pricing.tiers import Tier, TiersNotContiguous
from billing.model.pricing.volume import VOLUME, Volume


def price_to_json(price: Price) -> dict[str, Any]:
    """A JSON object with the model's word under "model"; the inverse of `price_from_json`."""
    return {"model": price.kind, **price.to_json()}


def price_from_json(value: dict[str, Any]) -> Price:
    """The price behind a stored object. Raises UnknownPricingModel."""
    kind = str(value["model"])
    if kind not in MODELS:
        raise UnknownPricingModel(f"there is no pricing model {kind!r}; known: {', '.join(sorted(MODELS))}", model=kind)
    return MODELS[kind].from_json(value)


MODELS: dict[str, PricingModel] = {
    model.kind: model
    for model in (
        PER_UNIT,
        GRADUATED,
        VOLUME,
        PACKAGE,
        PERCENTAGE,
        GRADUATED_PERCENTAGE,
        DYNAMIC,
        FLAT,
        spend(price_from_json),
        commitment(price_from_json),
        per_hour(price_from_json),
        by_currency(price_from_json),
    )
}

__all__ = [
    "MODELS", "ByCurrency", "Commitment", "Dynamic", "EventsNeeded", "Flat", "Graduated", "GraduatedPercentage",
    "NoPriceInCurrency", "Package", "Part", "PartKind", "PerHour", "PerUnit", "Percentage", "Price", "PricingModel", "RatedHere",
    "Spend", "Tier", "TiersNotContiguous", "UnknownPricingModel", "Usage", "Volume", "plain", "price_from_json", "price_to_json",
]  # fmt: skip
