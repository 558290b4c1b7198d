"""Prices of plans.yaml, made from what was written: amounts in base units, tiers checked, one price for each currency."""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType

from billing.model.pricing import (
    ByCurrency,
    Commitment,
    Dynamic,
    Flat,
    Graduated,
    GraduatedPercentage,
    Package,
    Percentage,
    PerHour,
    PerUnit,
    Price,
    Spend,
    Tier,
    Volume,
)
from metering.model.errors import BadInput
from metering.model.meter import Kind, Meter

from .document import Table
from .faults import Report
from .prices_file import ANY, PriceShape, TierShape
from .units import base_units
from .words import Amount

_MONEY = ("each", "fixed", "free_amount", "event_minimum", "event_maximum", "flat", "minimum", "maximum", "commitment")
_SHARE = "graduated_percentage"

Amounts = Mapping[str, Decimal]


def make_price(shape: PriceShape, meter: Meter, report: Report) -> Price | None:
    """The price; None, with the faults in the report, where what was written makes none."""
    made = _Making(shape, meter, report)
    before = len(report.faults)
    currencies = made.currencies()
    made.check()
    if len(report.faults) != before or made.lacks_something():
        return None
    try:
        prices = {currency: made.price(currency) for currency in currencies}
    except BadInput as error:
        report.fault(shape.table, None, str(error))
        return None
    return prices[ANY] if ANY in prices else ByCurrency(prices=prices)


class _Making:
    """One price on its way from the file."""

    def __init__(self, shape: PriceShape, meter: Meter, report: Report) -> None:
        self._shape, self._meter, self._report = shape, meter, report
        self._tiers = [tier for tier in shape.tiers or () if tier is not None]

    def lacks_something(self) -> bool:
        """True where a word that the model needs was too faulty to be read: its own fault says so."""
        shape = self._shape
        if shape.chosen not in _MAKERS or not self._meter.unit:
            return True
        if shape.tiers is not None and (not self._tiers or len(self._tiers) != len(shape.tiers)):
            return True
        return any(word in shape.table and getattr(shape, word) is None for word in PriceShape.model_fields)

    # --- checks ------------------------------------------------------------------------------------------------

    def currencies(self) -> list[str]:
        """Those in which every amount is written; ANY alone where none says its currency."""
        written = list(self._amounts())
        known = sorted(set(written[0][2])) if written else [ANY]
        for table, word, amounts in written:
            if sorted(amounts) != known:
                said = f"only for {', '.join(known)}" if known != [ANY] else "without a currency"
                self._report.fault(table, word, f"the amounts of one price are in the same currencies; another of it is written {said}")
        return known

    def _amounts(self) -> Iterator[tuple[Table, str, Amounts]]:
        shapes: list[PriceShape | TierShape] = [self._shape, *self._tiers]
        for shape in shapes:
            for word in _MONEY:
                if (amounts := getattr(shape, word, None)) is not None:
                    yield shape.table, word, amounts

    def check(self) -> None:
        self._check_tiers()
        if self._shape.per == "hour" and self._meter.kind is not Kind.LEVEL:
            self._report.fault(self._shape.table, "per", f"only what is held is charged by the hour, and `{self._meter.name}` is no level")
        for word, amount in (("size", self._shape.size), ("free", self._shape.free)):
            if amount is not None:
                self._units(self._shape.table, word, amount)
        if self._shape.size is not None and self._shape.size.number == 0:
            self._report.fault(self._shape.table, "size", "a package holds at least one unit")

    def _check_tiers(self) -> None:
        start, share = 0, self._shape.chosen == _SHARE
        for number, tier in enumerate(self._tiers, start=1):
            self._check_cost(tier, share=share)
            if number == len(self._tiers):
                if "to" in tier.table:
                    self._report.fault(tier.table, "to", "the last tier has no end, so that every unit has a price; leave out `to`")
            elif tier.to is None or tier.to.number is None:
                if "to" not in tier.table or tier.to is not None:
                    self._report.fault(tier.table, None, "only the last tier has no end; write where this one ends: to: 1_000")
            else:
                end = self._units(tier.table, "to", tier.to)
                if end <= start and self._meter.unit:
                    self._report.fault(tier.table, "to", f"tiers rise: this one ends at {end:,}, and the one before at {start:,}")
                start = end

    def _check_cost(self, tier: TierShape, *, share: bool) -> None:
        each, other = ("percentage", "each") if share else ("each", "percentage")
        if other in tier.table:
            self._report.fault(tier.table, other, f"with model: {self._shape.chosen} what a unit costs is written {each}")
        elif each not in tier.table and "flat" not in tier.table:
            self._report.fault(tier.table, None, f"this tier has no price; write {each}, flat, or both")

    def _units(self, table: Table, word: str, amount: Amount) -> int:
        try:
            found = base_units(amount, self._meter)
        except ValueError as error:
            self._report.fault(table, word, str(error))
            return 0
        if found is None and self._meter.unit:
            self._report.fault(table, word, "write a number: nothing is reached at `unlimited`")
        return found or 0

    # --- making ------------------------------------------------------------------------------------------------

    def price(self, currency: str) -> Price:
        """Raises BadInput for amounts that contradict each other."""
        shape = self._shape
        price = _MAKERS[shape.chosen](self, currency)
        if shape.per == "hour":
            price = PerHour(price=price)
        if shape.minimum is not None or shape.maximum is not None:
            price = Spend(price=price, minimum=self.maybe("minimum", currency), maximum=self.maybe("maximum", currency))
        if shape.commitment is not None:
            price = Commitment(price=price, commitment=self.amount("commitment", currency))
        return price

    def maybe(self, word: str, currency: str) -> Decimal | None:
        amounts: Amounts | None = getattr(self._shape, word)
        return None if amounts is None else amounts[currency]

    def amount(self, word: str, currency: str) -> Decimal:
        return self.maybe(word, currency) or Decimal(0)

    def tiers(self, currency: str) -> tuple[Tier, ...]:
        found = []
        for tier in self._tiers:
            each = tier.percentage / 100 if tier.percentage is not None else (tier.each or {}).get(currency, Decimal(0))
            to = None if tier.to is None else self._units(tier.table, "to", tier.to)
            found.append(Tier(to=to, each=each, flat=(tier.flat or {}).get(currency, Decimal(0))))
        return tuple(found)

    def package(self, currency: str) -> Package:
        shape = self._shape
        return Package(
            size=self._units(shape.table, "size", shape.size) if shape.size is not None else 0,
            each=self.amount("each", currency),
            free=self._units(shape.table, "free", shape.free) if shape.free is not None else 0,
            per_unit_size=self.size,
        )

    def percentage(self, currency: str) -> Percentage:
        shape, free = self._shape, self.maybe("free_amount", currency)
        if free is not None and free * self.size != (free * self.size).to_integral_value():
            raise BadInput(f"free_amount: {free} is no whole number of `{self._meter.unit}`, which is what `{self._meter.name}` counts")
        return Percentage(
            percentage=shape.percentage or Decimal(0),
            fixed=self.amount("fixed", currency),
            free_events=shape.free_events,
            free_amount=None if free is None else int(free * self.size),
            event_minimum=self.maybe("event_minimum", currency),
            event_maximum=self.maybe("event_maximum", currency),
            per_unit_size=self.size,
        )

    def dynamic(self) -> Dynamic:
        return Dynamic(multiplier=self._shape.multiplier or Decimal(0), per_unit_size=self.size)

    @property
    def size(self) -> int:
        return self._meter.show_size


_MAKERS: Mapping[str, Callable[[_Making, str], Price]] = MappingProxyType(
    {
        "each": lambda made, currency: PerUnit(each=made.amount("each", currency), per_unit_size=made.size),
        "graduated": lambda made, currency: Graduated(tiers=made.tiers(currency), per_unit_size=made.size),
        "volume": lambda made, currency: Volume(tiers=made.tiers(currency), per_unit_size=made.size),
        "package": lambda made, currency: made.package(currency),
        "percentage": lambda made, currency: made.percentage(currency),
        "graduated_percentage": lambda made, currency: GraduatedPercentage(tiers=made.tiers(currency), per_unit_size=made.size),
        "dynamic": lambda made, currency: made.dynamic(),
        "flat": lambda made, currency: Flat(flat=made.amount("flat", currency)),
    }
)
