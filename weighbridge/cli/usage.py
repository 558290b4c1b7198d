"""`weighbridge usage`: what an organization has used of its quotas now, and what that costs."""

import argparse
from decimal import Decimal
from typing import Any

from billing.model.usage import UsageReport, meter_json, report_json, tenant_json
from billing.services.use_cases import Billing
from metering.model.clock import isoformat
from metering.model.errors import BadInput
from metering.model.meter import Meter

from . import usage_record
from .context import Context, add_folders
from .output import add_format, show, table

_NO_TENANT = "No call named a tenant in this period, as far as it was flushed. gateway.yaml: tenant: {header: X-Tenant-Id}"
_COLUMNS = ("Service", "Usage", "Quota", "% Used", "Status")


def add(nouns: Any) -> None:
    parser = nouns.add_parser("usage", help="what an organization has used of its quotas, and what that costs")
    parser.add_argument("--org", help="id or slug; needed where there are several")
    parser.add_argument("--service", "--meter", help="one meter")
    parser.add_argument("--by", choices=("tenant",), help="tenant: what each of the organization's own customers used")
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=run)
    usage_record.add(parser.add_subparsers(dest="verb", metavar="verb"))


async def run(options: argparse.Namespace, context: Context) -> int:
    if options.by == "tenant":
        return await _by_tenant(options, context)
    async with context.billing() as billing:
        report = await billing.usage.report(options.org or await _only_org(billing))
    names = [use.meter.name for use in report.meters]
    if options.service and options.service not in names:
        raise BadInput(f"there is no meter {options.service!r}; there are: {', '.join(names)}")
    if options.service:
        use = next(use for use in report.meters if use.meter.name == options.service)
        one = meter_json(use, report.end_ms)
        show(one, options, lines=_meter_lines(one))
    else:
        show(report_json(report), options, lines=_lines(report))
    return 0


async def _by_tenant(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        uses = await billing.usage.tenants(options.org or await _only_org(billing))
        meters = billing.usage.meters(use.used for use in uses)
    names = [meter.name for meter in meters]
    if options.service and options.service not in names:
        raise BadInput(f"there is no meter {options.service!r}; there are: {', '.join(names)}")
    shown = [m for m in meters if options.service in (None, m.name)]
    value = [tenant_json(use, shown) for use in uses]
    columns = [m for m in shown if any(m.name in use.used for use in uses)]
    lines = (
        table([_tenant_row(each, columns) for each in value], ("Tenant", *(m.title or m.name for m in columns))) if uses else [_NO_TENANT]
    )
    show(value, options, lines=lines)
    return 0


def _tenant_row(one: dict[str, Any], columns: list[Meter]) -> list[str]:
    used = {each["service"]: _number(each["current_usage"], each["unit"]) for each in one["usage"]}
    return [one["tenant"] or "(none named)", *(used.get(meter.name, "-") for meter in columns)]


async def _only_org(billing: Billing) -> str:
    found = [org.slug for org, _ in await billing.orgs.all()]
    if len(found) != 1:
        some = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
        raise BadInput(
            f"which organization? Say --org with one of: {some}" if found else "there are no organizations yet: weighbridge org create NAME"
        )
    return found[0]


_PLAIN = ("request", "query", "invocation")  # what the title says already


def _number(value: float | int | None, unit: str) -> str:
    if value is None:
        return "unlimited"
    text = f"{value:,}" if isinstance(value, int) else f"{Decimal(str(value)):,.6f}".rstrip("0").rstrip(".")
    return f"{text} {unit}" if unit not in _PLAIN else text


def _row(one: dict[str, Any]) -> list[str]:
    percent = one["percentage_used"]
    share = "-" if percent is None else f"{percent:g}%"
    return [one["title"], _number(one["current_usage"], one["unit"]), _number(one["quota"], one["unit"]), share, one["status"].upper()]


def _lines(report: UsageReport) -> list[str]:
    rows = [_row(meter_json(use, report.end_ms)) for use in report.meters]
    lines = [
        f"Usage Report: {isoformat(report.start_ms)[:10]} to {isoformat(report.end_ms)[:10]}   {report.org.name}, {report.plan_title} plan",
        "",
    ]
    lines += table(rows, _COLUMNS)
    if report.bill is not None:
        bill = report.bill
        lines += ["", f"Total Estimated Cost: ${bill.base or 0:.2f} (base) + ${bill.overage:.2f} (overage) = ${bill.total:.2f}"]
        if bill.currency != "usd":
            lines[-1] = lines[-1].replace("$", bill.currency.upper() + " ")
    return lines


def _meter_lines(one: dict[str, Any]) -> list[str]:
    lines = table([_row(one)], _COLUMNS)
    for limit in one["limits"]:
        used, quota = _number(limit["current_usage"], one["unit"]), _number(limit["quota"], one["unit"])
        lines.append(f"  {limit['name']}: {used} of {quota}, {limit['mode']}, resets {limit['reset_at']}")
    return lines
