"""One plan of a file, for an estimate: a plans.yaml, or the words of a plan alone. Nothing else of a configuration is needed.

A meter that no meters.yaml names is counted in plain units, so that a price can be tried out before there is a meter for it.
"""

import re
from collections.abc import Iterator, Mapping

from billing.model.plan import PlanSpec
from metering.model.errors import BadInput, ConfigFaulty
from metering.model.meter import Meter

from .document import Items, Table
from .faults import Report, did_you_mean
from .files import FileSet
from .gateway_read import load
from .meters import read_meters
from .plans import read_plans
from .plans_file import CONTACT_SALES, PlanShape
from .words import METER_NAME

_ALONE = "plan"  # the name of a plan that stands in the file alone


def meters_of(text: str, name: str) -> dict[str, Meter]:
    """The meters of a meters.yaml. Raises ConfigFaulty with every fault."""
    report = Report(name)
    found = read_meters(load(FileSet(texts={name: text}), name, report), report)
    _good(report)
    return found or {}


def plan_of(text: str, name: str, wanted: str | None, meters: Mapping[str, Meter]) -> tuple[PlanSpec, dict[str, Meter]]:
    """The plan of this name, or the only one, and the meters with those that only it knows. Raises ConfigFaulty, BadInput."""
    report = Report(name)
    value = load(FileSet(texts={name: text}), name, report)
    if isinstance(value, Table) and "plans" not in value and set(value) & PlanShape.words():
        value = _alone(value)
    _needs_no_price(value)
    known = {meter: Meter(name=meter, unit="unit", title=meter.replace("_", " ").capitalize()) for meter in _named(value)} | dict(meters)
    report.meters = known
    plans = read_plans(value, report).plans
    _good(report)
    if wanted is None and len(plans) > 1:
        raise BadInput(f"{name} holds several plans; say --plan with one of: {', '.join(sorted(plans))}")
    if wanted is not None and wanted not in plans:
        raise BadInput(f"{name} holds no plan `{wanted}`{did_you_mean(wanted, plans)}")
    return plans[wanted if wanted is not None else next(iter(plans))], known


def _needs_no_price(value: object) -> None:
    """Usage alone can be estimated: a plan that says no base price has none here."""
    plans = value.get("plans") if isinstance(value, Table) else None
    for plan in plans.values() if isinstance(plans, Table) else ():
        if isinstance(plan, Table) and "price" not in plan and "copy_from" not in plan:
            plan["price"] = CONTACT_SALES


def _alone(plan: Table) -> Table:
    plans, file = Table("", plan.line), Table("", plan.line)
    plans[_ALONE] = plan
    file["plans"] = plans
    return file


def _named(value: object) -> Iterator[str]:
    """The meters that the file prices or limits."""
    plans = value.get("plans") if isinstance(value, Table) else None
    for plan in plans.values() if isinstance(plans, Table) else ():
        prices, quotas = (plan.get("prices"), plan.get("quotas")) if isinstance(plan, Table) else (None, None)
        names: list[object] = list(prices) if isinstance(prices, Table) else []
        names += [quota.get("meter") for quota in quotas if isinstance(quota, Table)] if isinstance(quotas, Items) else []
        yield from (each for each in names if isinstance(each, str) and re.fullmatch(METER_NAME, each))


def _good(report: Report) -> None:
    if report.faults:
        raise ConfigFaulty(f"{report.file} has faults, nothing was computed:\n" + "\n".join(f"  {fault}" for fault in report.faults))
