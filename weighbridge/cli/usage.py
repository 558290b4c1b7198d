"""`weighbridge usage`: what an organization has used of its quotas, and what that costs; now, or in a time gone by."""

import argparse
import datetime as dt
from decimal import Decimal
from typing import Any

from billing.model.usage_span import PeriodWord
from billing.operations import usage as operations
from billing.operations.operation import Nothing
from metering.model.errors import BadInput

from . import usage_record
from .context import Context, add_folders
from .figures import counted, each, figure, left_percent, number, one_title, used_percent
from .output import add_format, row_of, show_answer, show_list, table
from .verbs import typed
from .words import day, last_day, money, read_day

_NO_TENANT = "No call named a tenant in this period, as far as it was flushed. gateway.yaml: tenant: {header: X-Tenant-Id}"
_COLUMNS = ("Service", "Usage", "Quota", "% Used", "Status")
_FACTS = ("service", "title", "current_usage", "unit", "quota", "percentage_used", "status")
_ENDPOINT_FACTS = ("endpoint", "usage", "percent", "calls", "average_ms", "error_rate")
_PART_FACTS = ("part", "usage", "percent")


def add(nouns: Any) -> None:
    about = "what an organization has used of its quotas, and what that costs"
    parser = nouns.add_parser("usage", help=about, description=about)
    typed(
        parser, "weighbridge usage", "weighbridge usage --service=api", "weighbridge usage --service=storage --detailed",
        "weighbridge usage --period=custom --start=2025-12-01 --end=2025-12-15",
    )  # fmt: skip
    parser.add_argument("--org", metavar="ORG", help="id or slug (default: WEIGHBRIDGE_ORG, or the only one there is)")
    parser.add_argument("--service", "--meter", help="one meter, by endpoint")
    parser.add_argument("--detailed", action="store_true", help="with --service: by what it is held in, or counted by")
    parser.add_argument("--period", choices=[word.value for word in PeriodWord], help="default: current; the others are UTC")
    parser.add_argument("--start", metavar="DAY", help="the first day, UTC: 2025-12-01")
    parser.add_argument("--end", metavar="DAY", help="the last day, UTC (default: today)")
    parser.add_argument("--by", choices=("tenant",), help="tenant: what each of the organization's own customers used")
    add_folders(parser)
    add_format(parser, "csv")
    parser.set_defaults(run=run)
    usage_record.add(parser.add_subparsers(dest="verb", metavar="verb"))


async def run(options: argparse.Namespace, context: Context) -> int:
    if options.by == "tenant":
        return await _by_tenant(options, context)
    if options.detailed and not options.service:
        raise BadInput("--detailed is about one service: add --service storage")
    when = {
        "period": PeriodWord(options.period) if options.period else None,
        "start": read_day(options.start) if options.start else None,
        "end": read_day(options.end) if options.end else None,
    }
    if options.service:
        one = await context.ask(operations.service_usage, operations.AskServiceUsage(service=options.service, **when))
        rows, columns = (one.parts, _PART_FACTS) if options.detailed else (one.endpoints, _ENDPOINT_FACTS)
        if options.format == "csv":
            show_list(one, [row_of(row) for row in rows], columns, options, empty="")
        else:
            show_answer(one, options, lines=_detail_lines(one) if options.detailed else _service_lines(one))
        return 0
    found = await context.ask(operations.usage, operations.AskUsage(**when))
    if options.format == "csv":
        show_list(found, [row_of(use) for use in found.usage], _FACTS, options, empty="")
    else:
        show_answer(found, options, lines=_lines(found))
    return 0


async def _by_tenant(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.tenants, Nothing())
    used = [
        {
            "Tenant": row.tenant or "(none named)",
            **{use.service: figure(use.current_usage, use.unit) for use in row.usage if options.service in (None, use.service)},
        }
        for row in found.tenants
    ]
    columns = list(dict.fromkeys(use.service for row in found.tenants for use in row.usage if options.service in (None, use.service)))
    if options.service and not columns and found.tenants:
        raise BadInput(f"no tenant used {options.service}")
    show_list(found, used, ("Tenant", *columns), options, empty=_NO_TENANT)
    return 0


def _heading(title: str, head: operations.UsageHead) -> list[str]:
    return [f"{title}: {day(head.period.start)} to {_last(head.period.end)}   {head.org.name}, {head.plan.title} plan", ""]


def _last(end: dt.datetime) -> str:
    """The last day that the report has: of a calendar month its last; of a period that turns at noon the day it turns."""
    return last_day(end) if end.time() == dt.time() else day(end)


def _lines(found: operations.UsageAnswer) -> list[str]:
    lines = _heading("Usage Report", found) + table([_row(use, found) for use in found.usage], _COLUMNS)
    if (cost := found.estimated_cost) is not None:
        base, overage, total = (money(amount, cost.currency) for amount in (cost.base or Decimal(0), cost.overage, cost.total))
        lines += ["", f"Total Estimated Cost: {base} (base) + {overage} (overage) = {total}"]
    return lines


def _row(use: operations.MeterUse, found: operations.UsageAnswer) -> list[str]:
    quota = figure(use.quota, use.unit) if found.quotas_apply else "-"
    return [use.title, figure(use.current_usage, use.unit), quota, used_percent(use), use.status.upper()]


def _service_lines(one: operations.ServiceUsage) -> list[str]:
    used = "Requests" if one.unit == "request" else "Usage"
    rows = [
        [
            row.endpoint or "(recorded)", figure(row.usage, one.unit), "-" if row.average_ms is None else f"{row.average_ms:,}ms",
            "-" if row.error_rate is None else f"{row.error_rate:.1f}%",
        ]
        for row in one.endpoints
    ]  # fmt: skip
    return [
        *_heading(f"{one_title(one.title)} Usage Report", one),
        *_table(rows, ("Endpoint", used, "Avg Response", "Error Rate")),
        *_sums(one),
    ]


def _detail_lines(one: operations.ServiceUsage) -> list[str]:
    rows = [[row.part or "(whole)", figure(row.usage, one.unit), f"{row.percent}%"] for row in one.parts]
    return [*_heading(f"{one_title(one.title)} Usage Report", one), *_table(rows, ("Resource Type", "Usage", "% of Total")), *_sums(one)]


def _table(rows: list[list[str]], columns: tuple[str, ...]) -> list[str]:
    return [*table(rows, columns), ""] if rows else []


def _sums(one: operations.ServiceUsage) -> list[str]:
    lines = [f"Total: {counted(one.current_usage, one.unit)}"]
    if not one.quotas_apply:
        return lines
    lines.append(f"Quota: {counted(one.quota, one.unit)}{each(one)}")
    if one.remaining is not None:
        lines.append(f"Remaining: {figure(one.remaining, one.unit)} ({left_percent(one)})")
    others = [limit for limit in one.limits if limit.window != one.window]
    return lines + [
        f"  {limit.name}: {number(limit.current_usage)} of {figure(limit.quota, one.unit)}, {limit.mode}, "
        f"resets {limit.reset_at:%Y-%m-%d %H:%M} UTC"
        for limit in others
    ]
