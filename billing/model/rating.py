"""From a period's use to money: what is beyond the included, in whole report units, at what price; and the line that says so.

Pure. Both sides of the bill use it: aggregator/overage.py cuts what Stripe hears from `overage_report_units`, invoices, the usage
report and `weighbridge plan estimate` show what `rate_period` says. A count that is reported in a larger unit than it is counted in
(MB for bytes) is charged by whole report units, so that Stripe and we come to the same; a level, of which Stripe hears nothing, is
charged on its exact mean.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext

from billing.model.invoice_item import ItemKind
from billing.model.money import EXACT, round_amount
from billing.model.plan import PlanSpec
from billing.model.pricing import EventsNeeded, NoPriceInCurrency, Part, Price, Usage
from billing.model.pricing.base import Quantity, decimals, total, usage_of
from metering.model.meter import Kind, Meter, report_units
from metering.model.quota import Mode, Per, Quota, Window

_SHOWN_DECIMALS = Decimal(1).scaleb(-10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one meter costs in one period, or what a commitment on it lacks (kind MINIMUM).

    `quantity` is what is charged for, in `unit`, the unit in which the meter is shown; `unit_price` is None where there is more to
    it than one price. `parts` add up to the amount before it was rounded, the only rounding it gets. `used`, `included` and
    `overage` are base units: what was used in all, what came first without charge, and what is beyond.
    """

    meter: str
    kind: ItemKind
    description: str
    quantity: Decimal
    unit: str
    unit_price: Decimal | None
    amount: Decimal
    parts: tuple[Part, ...] = ()
    report_units: int = 0  # whole report units charged for
    used: Decimal = Decimal(0)
    included: int = 0
    overage: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """An estimate for one period. `base` is None where the price was negotiated; `unrated` are the meters whose price is decided
    event by event, of which only the sum is known, or which have none in this currency."""

    currency: str
    base: Decimal | None
    lines: tuple[Line, ...]
    unrated: tuple[str, ...] = ()

    @property
    def overage(self) -> Decimal:
        return sum((line.amount for line in self.lines), Decimal(0))

    @property
    def total(self) -> Decimal:
        return (self.base or Decimal(0)) + self.overage


def included_units(quotas: Iterable[Quota], prices: Mapping[str, Price]) -> dict[str, int]:
    """For each meter that is charged for: how many base units come first without charge.

    `quotas` are those in force (Entitlement.quotas_at). A priced meter without an organization-wide period quota is
    charged from its first unit. One whose period quota is hard, soft or unlimited is never charged for, and is absent.
    """
    period = {q.meter: q for q in quotas if q.window is Window.PERIOD and q.per is Per.ORG and not q.routed}
    included = {}
    for meter in prices:
        quota = period.get(meter)
        if quota is None:
            included[meter] = 0
        elif quota.mode is Mode.OVERAGE and quota.limit is not None:
            included[meter] = quota.limit
    return included


def overage_units(cumulative: int, included: int) -> int:
    """Base units beyond the included; never below zero."""
    return max(0, cumulative - included)


def overage_report_units(cumulative: int, included: int, report_size: int) -> int:
    """Whole report units beyond the included: what Stripe should have heard of so far this period."""
    return report_units(overage_units(cumulative, included), report_size)


def rate_period(
    spec: PlanSpec,
    quotas: Iterable[Quota],
    used: Mapping[str, Quantity],
    meters: Mapping[str, Meter],
    currency: str,
    *,
    hours: Decimal | None = None,
) -> tuple[Line, ...]:
    """The lines of one usage period, by meter; a true-up follows the line it belongs to.

    `quotas` are those in force at the period's end, `used` is in base units; a meter that is missing there was not used, and may be
    due all the same. `hours`, the length of the period, is needed where a price is by the hour. Raises EventsNeeded,
    NoPriceInCurrency.
    """
    included = included_units(quotas, spec.prices)
    lines: list[Line] = []
    for name in sorted(included):
        if name in meters:
            usage = _for_hours(usage_of(used.get(name, 0)), hours)
            lines += lines_of(spec.prices[name], meters[name], usage, included=included[name], currency=currency)
    return tuple(lines)


def lines_of(price: Price, meter: Meter, usage: Usage, *, included: int, currency: str) -> tuple[Line, ...]:
    """One meter's line, and its true-up where a commitment lacks something."""
    price = price.in_currency(currency)
    line = _line(price, meter, usage, included, currency)
    lacking = round_amount(price.lacking(line.amount), currency)
    if not lacking:
        return (line,)
    true_up = Line(
        meter=meter.name,
        kind=ItemKind.MINIMUM,
        description=f"{meter.title or meter.name}: what is lacking of the commitment",
        quantity=Decimal(1),
        unit="",
        unit_price=lacking,
        amount=lacking,
    )
    return (line, true_up)


def rate(price: Price, meter: Meter, *, cumulative: Quantity, included: int, currency: str) -> Line:
    """The line of one meter. The amount is rounded half away from zero, once. Raises EventsNeeded, NoPriceInCurrency."""
    return _line(price.in_currency(currency), meter, usage_of(cumulative), included, currency)


def _line(price: Price, meter: Meter, usage: Usage, included: int, currency: str) -> Line:
    beyond = _beyond(usage, included)
    charged = _whole_report_units(beyond, meter.report_size) if meter.kind is Kind.COUNT else beyond
    parts = price.parts(charged)
    title = meter.title or meter.name
    return Line(
        meter=meter.name,
        kind=ItemKind.OVERAGE if included else ItemKind.USAGE,
        description=f"{title} beyond {shown_quantity(Decimal(included), meter)}" if included else title,
        quantity=display_quantity(charged.quantity, meter),
        unit=meter.show or meter.unit,
        unit_price=price.unit_price,
        amount=round_amount(total(parts), currency),
        parts=parts,
        report_units=int(beyond.quantity // meter.report_size),
        used=usage.quantity,
        included=included,
        overage=beyond.quantity,
    )


def _for_hours(usage: Usage, hours: Decimal | None) -> Usage:
    return usage if hours is None or usage.hours is not None else Usage(usage.quantity, usage.events, hours)


def _beyond(usage: Usage, included: int) -> Usage:
    """What is left when the first `included` units are taken away; of events, the first ones."""
    if not included:
        return usage
    events = None
    if usage.events is not None:
        left, rest = Decimal(included), []
        for value in usage.events:
            taken = min(left, value)
            left -= taken
            if value > taken:
                rest.append(value - taken)
        events = tuple(rest)
    return Usage(max(Decimal(0), usage.quantity - included), events, usage.hours)


def _whole_report_units(usage: Usage, size: int) -> Usage:
    rest = usage.quantity % size if size > 1 else Decimal(0)
    return Usage(usage.quantity - rest, usage.events, usage.hours) if rest else usage


def display_quantity(quantity: Decimal, meter: Meter) -> Decimal:
    """In the unit in which the meter is shown; what does not end is shown to ten decimals. For people: nothing is computed from it."""
    with localcontext(EXACT):
        shown = quantity / meter.show_size
        return shown.quantize(_SHOWN_DECIMALS).normalize() if decimals(shown) > 10 else shown.normalize()


def shown_quantity(quantity: Decimal, meter: Meter) -> str:
    """For people: 200,000; 50 GB."""
    figure = f"{display_quantity(quantity, meter):,f}"
    return f"{figure} {meter.show}" if meter.show else figure


def estimate(
    base: Decimal | None,
    prices: Mapping[str, Price],
    quotas: Iterable[Quota],
    used: Mapping[str, int],
    meters: Mapping[str, Meter],
    currency: str,
    *,
    hours: Decimal | None = None,
) -> Bill:
    """What this period costs if it ended now, as far as sums alone tell."""
    included = included_units(quotas, prices)
    lines: list[Line] = []
    unrated = []
    for name in sorted(included):
        if name not in meters:
            continue
        try:
            usage = _for_hours(usage_of(used.get(name, 0)), hours)
            lines += lines_of(prices[name], meters[name], usage, included=included[name], currency=currency)
        except (EventsNeeded, NoPriceInCurrency):
            unrated.append(name)
    return Bill(currency=currency, base=base, lines=tuple(lines), unrated=tuple(unrated))
