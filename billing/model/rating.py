"""From a cumulative count to money: what is over, in whole report units, at what price.

Pure. Both sides of the bill use it: aggregator/overage.py cuts what Stripe hears from `overage_report_units`, the usage
report shows what `rate` says. Stripe hears whole report units (MB for bytes), so we rate whole report units too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from billing.model.money import EXACT, round_amount
from billing.model.pricing import Price
from billing.model.pricing.per_unit import decimals
from metering.model.errors import BadInput
from metering.model.meter import Meter, report_units
from metering.model.quota import Mode, Per, Quota, Window

STRIPE_DECIMALS = 12  # of a minor unit, in `unit_amount_decimal`


class PriceNotExact(BadInput):
    """The price of one report unit has no exact decimal form."""

    code = "price_not_exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one meter costs beyond what is included. `amount` is rounded, the only rounding it gets."""

    meter: str
    overage: int  # base units beyond the included
    report_units: int  # whole report units of them: what is billed
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """An estimate for one period. `base` is None where the price was negotiated."""

    currency: str
    base: Decimal | None
    lines: tuple[Line, ...]

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


def rate(price: Price, meter: Meter, *, cumulative: int, included: int, currency: str) -> Line:
    """The line of one meter. The amount is rounded half away from zero, once."""
    units = overage_report_units(cumulative, included, meter.report_size)
    return Line(
        meter=meter.name,
        overage=overage_units(cumulative, included),
        report_units=units,
        amount=round_amount(price.amount(units * meter.report_size), currency),
    )


def estimate(
    base: Decimal | None,
    prices: Mapping[str, Price],
    quotas: Iterable[Quota],
    used: Mapping[str, int],
    meters: Mapping[str, Meter],
    currency: str,
) -> Bill:
    """What this period costs if it ended now."""
    included = included_units(quotas, prices)
    lines = tuple(
        rate(prices[name], meters[name], cumulative=used.get(name, 0), included=included[name], currency=currency)
        for name in sorted(included)
        if name in meters
    )
    return Bill(currency=currency, base=base, lines=lines)


def report_unit_price(price: Price, meter: Meter, minor_digits: int = 2) -> Decimal:
    """The price of one report unit in major units, exact. Raises PriceNotExact where Stripe could not hold it.

    $0.05 a GB, reported in MB: 0.00005.
    """
    each = price.amount(meter.report_size)
    if decimals(each) > STRIPE_DECIMALS + minor_digits:
        raise PriceNotExact(
            f"{meter.name}: the price of one {meter.report or meter.unit} would be {EXACT.plus(each):.20f}…, "
            f"which does not end. Report in a unit that divides the priced one, such as MB for GB."
        )
    return each.normalize()
