"""Percentage: a share of what was paid, and a fee for each payment. 1.2 % + $0.10 of the fourth payment, of $50: 0.70. Pure.

The meter counts money. The first events are free until there were `free_events` of them or they came to `free_amount`,
whichever is first; of the event that crosses the amount, what lies beyond it is charged. `event_minimum` and `event_maximum`
bound what one event costs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from billing.model.pricing.base import EventsNeeded, Part, PartKind, Price, PricingModel, Usage, checked, checked_size, plain
from metering.model.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentage(Price):
    """`percentage` is 1.2 for 1.2 %, of `per_unit_size` base units to a major currency unit (100 where the meter counts
    cents). `free_amount` is in base units, all else in major currency units."""

    kind: ClassVar[str] = "percentage"

    percentage: Decimal
    fixed: Decimal = Decimal(0)
    free_events: int | None = None
    free_amount: int | None = None
    event_minimum: Decimal | None = None
    event_maximum: Decimal | None = None
    per_unit_size: int = 1

    def __post_init__(self) -> None:
        checked(self.percentage, "a percentage")
        checked(self.fixed)
        checked_size(self.per_unit_size)
        for bound in (self.event_minimum, self.event_maximum):
            if bound is not None:
                checked(bound)
        if self.event_minimum is not None and self.event_maximum is not None and self.event_minimum > self.event_maximum:
            raise BadInput(f"an event costs at least {self.event_minimum} and at most {self.event_maximum}: no amount is both")
        if any(free is not None and free < 0 for free in (self.free_events, self.free_amount)):
            raise BadInput("what is free is not below zero")

    @property
    def needs_events(self) -> bool:
        return bool(self.fixed) or any(x is not None for x in (self.free_events, self.event_minimum, self.event_maximum))

    def _parts(self, usage: Usage) -> Iterator[Part]:
        if usage.events is None and self.needs_events:
            raise EventsNeeded("this percentage has a fee, free events or bounds for each event: their sum alone has no price")
        charged = self._charged(usage.events if usage.events is not None else (usage.quantity,))
        volume = sum(charged, Decimal(0))
        free = usage.quantity - volume
        if free:
            yield Part(PartKind.FREE, free / self.per_unit_size, Decimal(0), Decimal(0))
        rate = self.percentage / 100
        yield Part(PartKind.PERCENTAGE, volume / self.per_unit_size, rate, volume * rate / self.per_unit_size)
        if self.fixed and charged:
            yield Part(PartKind.FIXED, Decimal(len(charged)), self.fixed, self.fixed * len(charged))
        yield from self._bounds(charged, rate)

    def _charged(self, values: tuple[Decimal, ...]) -> list[Decimal]:
        """What of each event is charged for; events that are free as a whole are left out."""
        found, before = [], Decimal(0)
        for number, value in enumerate(values):
            free = self._is_free(number, before)
            beyond = before + value - self.free_amount if free and self.free_amount is not None else Decimal(0)
            before += value
            if not free:
                found.append(value)
            elif beyond > 0:
                found.append(beyond)
        return found

    def _is_free(self, number: int, before: Decimal) -> bool:
        if self.free_events is None and self.free_amount is None:
            return False
        return (self.free_events is None or number < self.free_events) and (self.free_amount is None or before < self.free_amount)

    def _bounds(self, charged: list[Decimal], rate: Decimal) -> Iterator[Part]:
        """What the bounds of single events add and take."""
        if self.event_minimum is None and self.event_maximum is None:
            return
        fees = [value * rate / self.per_unit_size + self.fixed for value in charged]
        low, high = self.event_minimum, self.event_maximum
        raised = [low - fee for fee in fees if low is not None and fee < low]
        lowered = [high - fee for fee in fees if high is not None and fee > high]
        if raised:
            yield Part(PartKind.EVENT_MINIMUM, Decimal(len(raised)), low, sum(raised, Decimal(0)))
        if lowered:
            yield Part(PartKind.EVENT_MAXIMUM, Decimal(len(lowered)), high, sum(lowered, Decimal(0)))

    def to_json(self) -> dict[str, Any]:
        return {
            "percentage": plain(self.percentage),
            "fixed": plain(self.fixed),
            "free_events": self.free_events,
            "free_amount": self.free_amount,
            "event_minimum": None if self.event_minimum is None else plain(self.event_minimum),
            "event_maximum": None if self.event_maximum is None else plain(self.event_maximum),
            "per_unit_size": self.per_unit_size,
        }


def _from_json(value: dict[str, Any]) -> Percentage:
    low, high = value["event_minimum"], value["event_maximum"]
    return Percentage(
        percentage=Decimal(value["percentage"]),
        fixed=Decimal(value["fixed"]),
        free_events=value["free_events"],
        free_amount=value["free_amount"],
        event_minimum=None if low is None else Decimal(low),
        event_maximum=None if high is None else Decimal(high),
        per_unit_size=int(value["per_unit_size"]),
    )


PERCENTAGE = PricingModel(Percentage.kind, _from_json)
