"""Tiers: what graduated, volume and graduated percentage share. Pure.

A tier starts where the one before ends, the last one has no end. Each costs `each` a unit, `flat` once, or both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.model.money import EXACT
from billing.model.pricing.base import RatedHere, checked, decimals, each_report_unit, plain, told
from metering.model.errors import BadInput


class TiersNotContiguous(BadInput):
    """A tier does not begin where the one before it ends, or the last one ends."""

    code = "tiers_not_contiguous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """`to`: the last of its base units; None, in the last tier, is without end. `flat` is due once the tier is reached; the
    first tier always is."""

    to: int | None = None
    each: Decimal = Decimal(0)
    flat: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        checked(self.each)
        checked(self.flat)


def check_tiers(tiers: Sequence[Tier]) -> None:
    """Raises TiersNotContiguous."""
    if not tiers:
        raise TiersNotContiguous("there is no tier; write at least one")
    if tiers[-1].to is not None:
        raise TiersNotContiguous(f"the last tier ends at {tiers[-1].to}; leave out its `to`, so that every unit has a price")
    start = 0
    for number, tier in enumerate(tiers[:-1], start=1):
        if tier.to is None:
            raise TiersNotContiguous(f"tier {number} has no `to`; only the last tier is without end")
        if tier.to <= start:
            raise TiersNotContiguous(f"tier {number} ends at {tier.to}, which is not beyond {start}, where it begins")
        start = tier.to


def tiers_to_json(tiers: Sequence[Tier]) -> list[dict[str, Any]]:
    return [{"to": tier.to, "each": plain(tier.each), "flat": plain(tier.flat)} for tier in tiers]


def tiers_from_json(value: Sequence[dict[str, Any]]) -> tuple[Tier, ...]:
    return tuple(Tier(to=t["to"], each=Decimal(t["each"]), flat=Decimal(t["flat"])) for t in value)


def tiers_at_stripe(tiers: Sequence[Tier], per_unit_size: int, report_size: int, digits: int) -> list[dict[str, Any]]:
    """In report units. Raises RatedHere where a tier ends within a report unit, or Stripe, which rounds a flat fee apart from
    the units, would come to another amount."""
    found = []
    for tier in tiers:
        if tier.to is not None and tier.to % report_size:
            raise RatedHere("a tier ends within a report unit")
        if decimals(tier.flat) > digits:
            raise RatedHere(f"a tier's flat fee of {plain(tier.flat)} is no whole number of minor units: Stripe would round it by itself")
        found.append(
            {
                "up_to": None if tier.to is None else tier.to // report_size,
                "each": each_report_unit(tier.each, per_unit_size, report_size, digits),
                "flat": told(tier.flat, digits),
            }
        )
    return found


def full_tiers_are_whole(tiers: Sequence[Tier], per_unit_size: int, digits: int) -> bool:
    """True where every tier but the last comes to whole minor units once it is full. Stripe rounds each graduated tier's line;
    only then is at most one of them rounded, and the sum is ours."""
    start = 0
    for tier in tiers[:-1]:
        assert tier.to is not None  # checked when the tiers were made
        amount = EXACT.divide(EXACT.multiply(tier.each, Decimal(tier.to - start)), Decimal(per_unit_size))
        if decimals(amount) > digits:
            return False
        start = tier.to
    return True
