"""Volume: all units cost what the tier says that their number reaches. 6 at 1-5 @ 7, 6-10 @ 6.50: 39. Pure.

Stripe's `tiers_mode=volume`. More use can cost less here; graduated never does that.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from billing.model.pricing.base import Part, PartKind, Price, PricingModel, Usage, checked_size
from billing.model.pricing.tiers import Tier, check_tiers, tiers_at_stripe, tiers_from_json, tiers_to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Price):
    """A tier's `each` is for `per_unit_size` base units, its `flat` is due where the tier is the one reached; zero usage is in
    the first. Raises TiersNotContiguous."""

    kind: ClassVar[str] = "volume"

    tiers: tuple[Tier, ...]
    per_unit_size: int = 1

    def __post_init__(self) -> None:
        check_tiers(self.tiers)
        checked_size(self.per_unit_size)

    def _parts(self, usage: Usage) -> Iterator[Part]:
        number, tier = next((n, t) for n, t in enumerate(self.tiers, start=1) if t.to is None or usage.quantity <= t.to)
        if tier.flat:
            yield Part(PartKind.FLAT, Decimal(1), tier.flat, tier.flat, number)
        if usage.quantity:
            yield Part(
                PartKind.TIER,
                usage.quantity / self.per_unit_size,
                tier.each,
                tier.each * usage.quantity / self.per_unit_size,
                number,
            )

    def at_stripe(self, report_size: int, digits: int) -> dict[str, Any]:
        return {"tiers_mode": "volume", "tiers": tiers_at_stripe(self.tiers, self.per_unit_size, report_size, digits)}

    def to_json(self) -> dict[str, Any]:
        return {"tiers": tiers_to_json(self.tiers), "per_unit_size": self.per_unit_size}


def _from_json(value: dict[str, Any]) -> Volume:
    return Volume(tiers=tiers_from_json(value["tiers"]), per_unit_size=int(value["per_unit_size"]))


VOLUME = PricingModel(Volume.kind, _from_json)
