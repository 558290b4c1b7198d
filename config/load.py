"""The whole configuration: the files read as one set, checked together, every fault at once.

A gateway worker needs less, and imports less: config/gateway_read.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from billing.model.plan import PlanSpec
from billing.model.pricing import NoPriceInCurrency
from metering.model.errors import ConfigFaulty
from metering.model.meter import Meter

from . import orgs, plans, plans_file
from .document import Table
from .faults import Fault, Report, did_you_mean
from .files import ConfigMissing, FileSet, load_last_good, read_set, save_last_good
from .gateway import GatewayConfig
from .gateway_read import load, parse_gateway
from .orgs import OrgSet
from .plans import PlanSet
from .together import worth_a_look

__all__ = [
    "ConfigMissing", "Configuration", "Fault", "FileSet", "Parsed",
    "contradictions", "load_good", "load_last_good", "parse", "read_set", "save_last_good",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All files, resolved. `version` is the hash of their contents, `texts` they themselves. `orgs` is None where there is
    no orgs.yaml."""

    gateway: GatewayConfig
    meters: Mapping[str, Meter]
    plans: PlanSet
    orgs: OrgSet | None
    version: str
    texts: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """`config` is None where there is a fault. Warnings change nothing; they are worth a look."""

    config: Configuration | None
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)

    def good(self) -> Configuration:
        """The configuration. Raises ConfigFaulty with every fault in its message."""
        if self.config is None:
            raise ConfigFaulty("the configuration has faults, nothing was changed:\n" + "\n".join(f"  {fault}" for fault in self.faults))
        return self.config


def parse(files: FileSet) -> Parsed:
    """Check the set as a whole."""
    first = parse_gateway(files)
    known = first.meters or None
    reports = [Report(plans_file.FILE, meters=known)]
    written = load(files, plans_file.FILE, reports[0])
    found = plans.read_plans(written, reports[0])
    organizations = None
    if orgs.FILE in files.texts:
        reports.append(Report(orgs.FILE, meters=known))
        organizations = _orgs(files, reports[-1], reports[0], written, found)
    rest = [fault for fault in files.faults() if fault.file not in {fault.file for fault in first.faults}]
    faults = sorted({*first.faults, *rest, *(fault for report in reports for fault in report.faults)})
    config = None
    if not faults and first.config is not None:
        config = Configuration(
            gateway=first.config, meters=first.meters, plans=found, orgs=organizations, version=files.version, texts=files.texts
        )
    warnings = [*first.warnings, *(w for report in reports for w in report.warnings)]
    if config is not None:
        warnings += worth_a_look(config.gateway, config.plans)
    return Parsed(config=config, faults=faults, warnings=sorted(warnings))


def _orgs(files: FileSet, report: Report, plans_report: Report, written: object, found: PlanSet) -> OrgSet:
    names = written.get("plans") if isinstance(written, Table) else None
    organizations = orgs.read_orgs(load(files, orgs.FILE, report), report, names if isinstance(names, Table) else None)
    overrides = written.get("overrides") if isinstance(written, Table) else None
    for slug in found.overrides if not report.faults else ():
        if slug not in organizations.orgs and isinstance(overrides, Table):
            plans_report.fault(overrides, slug, f"there is no organization `{slug}` in orgs.yaml{did_you_mean(slug, organizations.orgs)}")
    return organizations


def load_good(files: FileSet) -> Configuration:
    """As `parse`, for who cannot go on with faults. Raises ConfigFaulty."""
    return parse(files).good()


def contradictions(config: Configuration, *, default_plan: str, currency: str) -> list[Fault]:
    """Where the settings name what the files lack: the plan of new organizations, a price in the billing currency."""
    found = []
    if default_plan not in config.plans.plans:
        near = did_you_mean(default_plan, config.plans.plans)
        found.append(Fault(plans_file.FILE, 0, "plans", f"BILLING_DEFAULT_PLAN is `{default_plan}`, but there is no such plan{near}"))
    for name, plan in config.plans.plans.items():
        if plan.price and currency not in plan.price:
            sentence = f"no price in {currency} (BILLING_CURRENCY), only in {', '.join(sorted(plan.price))}; add one"
            found.append(Fault(plans_file.FILE, 0, f"plans.{name}.price", sentence))
        found += _not_charged(name, plan, currency)
    return found


def _not_charged(name: str, plan: PlanSpec, currency: str) -> Iterator[Fault]:
    """Prices that an invoice could not have, though an estimate can."""
    for meter, price in plan.prices.items():
        path = f"plans.{name}.prices.{meter}"
        try:
            price.in_currency(currency)
        except NoPriceInCurrency as error:
            yield Fault(plans_file.FILE, 0, path, f"{error}; BILLING_CURRENCY is {currency}, add it")
        if price.needs_events:
            yield Fault(
                plans_file.FILE, 0, path,
                "a fee, a bound or free use of each event is for estimates: of calls only the sum is kept, which has no such price; "
                "leave out fixed, free_events, event_minimum and event_maximum",
            )  # fmt: skip
