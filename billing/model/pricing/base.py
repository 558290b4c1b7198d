"""What every pricing model offers: a period's use of one meter turned into parts, whose sum is the amount. Pure.

The interface is one for all models. Most need a quantity only, and an int will do; those that charge by the event (a fixed
fee for each payment) are given `Usage` with its events, those that charge by the hour held, with its hours.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from enum import StrEnum
from typing import Any, ClassVar

from billing.model.money import EXACT
from metering.model.errors import BadInput

MOST_DECIMALS = 12
STRIPE_DECIMALS = 12  # of a minor unit, in Stripe's unit_amount_decimal

# A division by 3,600,000 ms an hour may not end. What is summed from such parts is put back on the decimal that it stands
# for: a true amount cannot come this close to another one, as its denominator has far fewer digits.
_ENDS = Decimal(1).scaleb(-40)
_MOST_PLACES = 40


class UnknownPricingModel(BadInput):
    """There is no such pricing model."""

    code = "unknown_pricing_model"


class EventsNeeded(BadInput):
    """The price is decided event by event, and only their sum is known."""

    code = "events_needed"


class RatedHere(BadInput):
    """Stripe has no such arithmetic: the amount goes onto the invoice as one item that was rated here."""

    code = "rated_here"


class PartKind(StrEnum):
    """What a part of a line charges for."""

    UNITS = "units"
    FREE = "free"  # units that the price itself gives for nothing
    TIER = "tier"
    FLAT = "flat"
    PACKAGE = "package"
    PERCENTAGE = "percentage"
    FIXED = "fixed"  # a fee for each event
    EVENT_MINIMUM = "event_minimum"
    EVENT_MAXIMUM = "event_maximum"
    MULTIPLE = "multiple"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"


@dataclass(frozen=True, slots=True)
class Part:
    """One step of the arithmetic: so many units, in the unit that is priced, at this price. Amounts are not rounded.

    `tier` counts from 1. The sum of a line's parts is its amount before the rounding.
    """

    kind: PartKind
    quantity: Decimal
    unit_price: Decimal | None
    amount: Decimal
    tier: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """A period's use of one meter, in base units. `events`: the value of each, in the order they happened; None where only
    their sum is known. `hours`: how long the period is, where what is held is charged by the hour."""

    quantity: Decimal
    events: tuple[Decimal, ...] | None = None
    hours: Decimal | None = None

    def __post_init__(self) -> None:
        if not self.quantity.is_finite() or self.quantity < 0:
            raise BadInput(f"a quantity is a number not below zero, not {self.quantity}")


Quantity = int | Decimal | Usage


def usage_of(quantity: Quantity) -> Usage:
    """The plain number as a Usage whose events nobody knows; where it is 0, there were none."""
    if isinstance(quantity, Usage):
        return quantity
    return Usage(Decimal(quantity), None if quantity else ())


class Price(ABC):
    """What a quantity of one meter costs. Frozen; equal prices have equal JSON."""

    __slots__ = ()
    kind: ClassVar[str]

    @abstractmethod
    def _parts(self, usage: Usage) -> Iterable[Part]:
        """In a context that is wide enough for every product."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]: ...

    def parts(self, quantity: Quantity) -> tuple[Part, ...]:
        """The steps of the arithmetic, in major currency units, unrounded. Raises EventsNeeded."""
        with localcontext(EXACT):
            return tuple(self._parts(usage_of(quantity)))

    def amount(self, quantity: Quantity) -> Decimal:
        """The unrounded amount, in major currency units, of a quantity in base units. Raises EventsNeeded."""
        return total(self.parts(quantity))

    @property
    def unit_price(self) -> Decimal | None:
        """The one price of one unit, as the meter is shown; None where there is more to it."""
        return None

    @property
    def needs_events(self) -> bool:
        return False

    def in_currency(self, currency: str) -> "Price":
        """This price in a currency. Raises BadInput where it has none in it."""
        return self

    def lacking(self, amount: Decimal) -> Decimal:
        """What a commitment lacks beside this much of the line."""
        return Decimal(0)

    def at_stripe(self, report_size: int, digits: int) -> dict[str, Any]:
        """The same arithmetic in Stripe's words, on report units; `digits` are those of the minor unit.

        {"each"}, {"each", "divide_by"} or {"tiers_mode", "tiers"}: amounts are texts in major units. Raises RatedHere.
        """
        raise RatedHere(f"Stripe has no prices of the model `{self.kind}`")


@dataclass(frozen=True, slots=True)
class PricingModel:
    """A model as the registry knows it: its word, and how a stored price of it is read."""

    kind: str
    from_json: Callable[[dict[str, Any]], Price]


def total(parts: Iterable[Part]) -> Decimal:
    """The exact sum."""
    with localcontext(EXACT):
        found = sum((part.amount for part in parts), Decimal(0))
        return found.quantize(_ENDS).normalize() if decimals(found) > _MOST_PLACES else found


def checked(amount: Decimal, what: str = "a price") -> Decimal:
    """Raises BadInput for what is no amount of money: below zero, not finite, or with more than 12 decimals."""
    if not amount.is_finite() or amount < 0:
        raise BadInput(f"{what} is a number not below zero, not {amount}")
    if decimals(amount) > MOST_DECIMALS:
        raise BadInput(f"{what} has at most {MOST_DECIMALS} decimals; {amount} has {decimals(amount)}")
    return amount


def checked_size(size: int) -> int:
    """Raises BadInput for a unit of less than one base unit."""
    if size < 1:
        raise BadInput(f"a unit is at least one base unit, not {size}")
    return size


def decimals(number: Decimal) -> int:
    """How many digits stand behind the point, trailing zeros not counted."""
    exponent = number.normalize(EXACT).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def plain(number: Decimal) -> str:
    """Without exponent and trailing zeros: 0.0003."""
    return format(number.normalize(EXACT), "f")


def told(amount: Decimal, digits: int) -> str:
    """An amount in the decimals that Stripe holds of a minor unit. Raises RatedHere where it has more: Stripe would round each unit."""
    if decimals(amount) > STRIPE_DECIMALS + digits:
        raise RatedHere(f"one report unit would cost {plain(amount)[:24]}…, which has more decimals than Stripe holds")
    return plain(amount)


def each_report_unit(each: Decimal, per_unit_size: int, report_size: int, digits: int) -> str:
    """The price of one report unit, told to Stripe. Raises RatedHere."""
    return told(EXACT.divide(EXACT.multiply(each, Decimal(report_size)), Decimal(per_unit_size)), digits)
