"""What a plan of plans.yaml says beside price and quotas: the cap on spending, units that are carried over."""

from collections.abc import Mapping
from decimal import Decimal

from billing.model.money import minor_digits
from billing.model.plan import PlanSpec
from billing.model.pricing.base import decimals
from billing.model.rollover import rolling
from metering.model.quota import Quota

from .document import Table
from .faults import Report
from .plans_file import PlanShape
from .units import base_units


def spend_cap(shape: PlanShape, base: PlanSpec, price: Mapping[str, Decimal], report: Report) -> Mapping[str, Decimal]:
    """Its own, or the one that it copies. A cap is said in every currency in which the plan is sold."""
    if shape.spend_cap is None:
        return base.spend_cap
    written = shape.table.get("spend_cap")
    for currency, amount in shape.spend_cap.items():
        places = minor_digits(currency)
        if decimals(amount) > places and isinstance(written, Table):
            report.fault(written, currency, f"{amount} {currency} has more than the {places} decimals that this currency has")
    missing = sorted(set(price) - set(shape.spend_cap)) if shape.spend_cap else []
    if missing:
        report.fault(shape.table, "spend_cap", f"the plan is sold in {missing[0]} too: say the cap in {missing[0]}")
    return shape.spend_cap


def rollover(shape: PlanShape, base: PlanSpec, quotas: tuple[Quota, ...], report: Report) -> Mapping[str, int]:
    """Beside those that are copied: meter -> the most base units that go on into the next period."""
    if not shape.rollover:
        return base.rollover if shape.rollover is None else {}
    found = dict(base.rollover)
    written = shape.table.get("rollover")
    for name, amount in shape.rollover.items():
        meter = report.meter(name)
        if meter is None or not isinstance(written, Table):
            continue
        try:
            most = base_units(amount, meter)
        except ValueError as error:
            report.fault(written, name, str(error))
            continue
        if name not in rolling(quotas, [name]):
            report.fault(written, name, f"`{name}` has no quota of a period whose units could be carried over: write one, with a limit")
        elif most is None:
            report.fault(written, name, "say how many units at most are carried over")
        else:
            found[name] = most
    return found
