"""`weighbridge quota`: what is left of each quota, when it will be reached, and quotas set for one organization."""

import argparse
from decimal import Decimal
from typing import Any

from billing.operations import alerts, quotas
from billing.operations import usage as operations
from billing.operations.operation import Nothing
from metering.model.errors import BadInput
from metering.model.quota import Mode, Window

from . import quota_alert
from .context import Context, add_folders
from .figures import bar, counted, each, figure, left_percent, one_title, percent, short, short_title, used_percent
from .org import unpublished
from .output import add_format, row_of, show_answer, show_list, table
from .verbs import typed, verb
from .words import day, day_after, money, read_amount

_COLUMNS = ("Service", "Quota", "Used", "Remaining", "Status")
_FACTS = ("service", "title", "quota", "current_usage", "remaining", "unit", "percentage_used", "status", "mode", "window", "reset_at")
_WATCHES = ("service", "percent", "percentage_used", "status", "reached", "on")
_MODES = {
    Mode.HARD: "Hard limit (blocks at quota)", Mode.SOFT: "Soft limit (warns at quota)", Mode.OVERAGE: "Overage billing",
    Mode.THROTTLE: "Throttle (slower beyond quota)",
}  # fmt: skip


def add(nouns: Any) -> None:
    about = "quotas: what is left, alerts; set, reset"
    parser = nouns.add_parser("quota", help=about, description=about)
    typed(parser, "weighbridge quota", "weighbridge quota --usage", "weighbridge quota --service=api", "weighbridge quota --alerts")
    parser.add_argument("--org", metavar="ORG", help="id or slug (default: WEIGHBRIDGE_ORG, or the only one there is)")
    parser.add_argument("--service", help="one service, with who uses it most")
    parser.add_argument("--usage", action="store_true", help="as bars")
    parser.add_argument("--alerts", action="store_true", help="at which shares somebody is told, and when that will be")
    add_folders(parser)
    add_format(parser, "csv")
    parser.set_defaults(run=run)
    verbs = parser.add_subparsers(dest="verb", metavar="verb")
    setting = verb(
        verbs, "set", "in place of the plan's, for one organization", set_quota,
        example="weighbridge quota set --org=acme-corp --service=storage --limit=100 --mode=overage --overage-rate=0.08",
    )  # fmt: skip
    setting.add_argument("--service", required=True)
    setting.add_argument("--limit", required=True, help="in the unit that people see (50 is 50 GB), or unlimited")
    setting.add_argument("--mode", choices=[mode.value for mode in Mode], default=Mode.HARD.value, help="default: hard")
    setting.add_argument("--window", choices=[window.value for window in Window], default=Window.PERIOD.value, help="default: period")
    setting.add_argument("--overage-rate", metavar="PRICE", help="of one unit beyond it, for this organization")
    setting.add_argument("--then", metavar="LIMIT/WINDOW", help="with mode throttle: 100/hour")
    setting.add_argument("--until", metavar="DAY", help="the last day it holds, UTC")
    setting.add_argument("--reason", default="", help="it stays on record")
    verb(verbs, "reset", "the plan's again", reset, example="weighbridge quota reset --org=acme-corp")
    quota_alert.add(verbs)


async def run(options: argparse.Namespace, context: Context) -> int:
    if options.alerts:
        return await _alerts(options, context)
    if options.service and not options.usage:
        ask = operations.AskServiceUsage(service=options.service, period=None, start=None, end=None)
        one = await context.ask(operations.service_usage, ask)
        show_answer(one, options, lines=_service_lines(one, context.clock.now_ms()))
        return 0
    found = await context.ask(operations.quotas, operations.AskQuotas(service=options.service))
    if options.format == "csv":
        show_list(found, [row_of(use) for use in found.quotas], _FACTS, options, empty="")
    else:
        show_answer(found, options, lines=_bars(found) if options.usage else _lines(found))
    return 0


async def set_quota(options: argparse.Namespace, context: Context) -> int:
    then, window = _then(options.then)
    made = await context.ask(
        quotas.set_quota,
        quotas.SetQuota(
            service=options.service, limit=None if options.limit == "unlimited" else read_amount(options.limit), mode=Mode(options.mode),
            window=Window(options.window), overage_rate=read_amount(options.overage_rate) if options.overage_rate else None,
            then_limit=then, then_window=window, reason=options.reason, until=day_after(options.until) if options.until else None,
        ),
    )  # fmt: skip
    lines = [
        "✓ Quota updated" if made.changed or made.mode is Mode.OVERAGE else f"✓ Custom quota set for {made.org.name}",
        f"  Service: {made.title}",
        f"  Limit: {figure(made.limit, made.unit)}{made.each if made.limit is not None else ''}",
        f"  Mode: {_MODES[made.mode]}",
    ]
    if made.overage_rate is not None:
        lines.append(f"  Rate: {_rate(made.overage_rate, made.currency or 'usd', made.unit)} over quota")
    elif made.plan_title:
        lines.append(f"  Plan: {made.plan_title} (custom)")
    show_answer(made, options, lines=lines)
    unpublished(made.told_gateways)
    return 0


async def reset(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(quotas.reset, Nothing())
    lines = [f"✓ Quotas reset to {found.plan_title or 'the'} plan defaults", "  All custom overrides removed"]
    if found.of_files:
        lines[1] = f"  Custom overrides removed; those of the configuration files stay: {', '.join(found.of_files)}"
    show_answer(found, options, lines=lines)
    unpublished(found.told_gateways)
    return 0


async def _alerts(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(alerts.watched, Nothing())
    watches = [w for w in found.watches if options.service in (None, w.service)]
    if options.format != "table":
        show_list(found, [row_of(w) for w in watches], _WATCHES, options, empty="")
        return 0
    rows = [
        [
            short(w.service), f"{w.percent}%", f"{w.status.upper()} ({percent(w.percentage_used, 100)} used)",
            "Reached" if w.reached else f"{w.on}" if w.on else "Never",
        ]
        for w in watches
    ]  # fmt: skip
    lines = ["Active Quota Alerts:", "", *table(rows, ("Service", "Threshold", "Status", "Alert On"))] if rows else ["No quota is watched."]
    show_answer(found, options, lines=lines)
    return 0


def _lines(found: operations.QuotaAnswer) -> list[str]:
    rows = [
        [
            use.title, f"{figure(use.quota, use.unit)}{each(use)}", figure(use.current_usage, use.unit),
            "-" if use.remaining is None else figure(use.remaining, use.unit), use.status.upper(),
        ]
        for use in found.quotas
    ]  # fmt: skip
    lines = [f"Quota Report - {found.plan.title} Plan", "", *table(rows, _COLUMNS)]
    priced = [use for use in found.quotas if use.overage_price is not None and use.mode in (None, Mode.OVERAGE)]
    if priced:
        lines += ["", "Overage Pricing (if quota exceeded):"]
        lines += [f"  - {short_title(use)}: {price(use.overage_price, found.currency)} per {use.unit}" for use in priced]
    return lines


def _bars(found: operations.QuotaAnswer) -> list[str]:
    limited = [use for use in found.quotas if use.quota is not None]
    width = max((len(use.title) for use in limited), default=0) + 1
    share = max((len(used_percent(use)) for use in limited), default=0)
    lines = [
        f"{f'{use.title}:':<{width}}  {bar(use)} {used_percent(use):>{share}} "
        f"({figure(use.current_usage, use.unit)} / {figure(use.quota, use.unit)})"
        for use in limited
    ]
    return lines or ["Nothing is limited."]


def _service_lines(one: operations.ServiceUsage, now_ms: int) -> list[str]:
    lines = [f"{one_title(one.title)} Quota - {one.plan.title} Plan", "", f"Total Quota: {counted(one.quota, one.unit)}{each(one)}"]
    used = f" ({used_percent(one)})" if one.quota is not None else ""
    lines.append(f"Used: {counted(one.current_usage, one.unit)}{used}")
    if one.remaining is not None:
        lines.append(f"Remaining: {counted(one.remaining, one.unit)} ({left_percent(one)})")
    days = -(-(int(one.reset_at.timestamp() * 1000) - now_ms) // 86_400_000)
    lines.append(f"Resets: {day(one.reset_at)} ({days} day{'' if days == 1 else 's'})")
    top = [row for row in one.endpoints if row.endpoint is not None][:3]
    if top:
        width = max(len(row.endpoint or "") for row in top)
        lines += ["", "Top Endpoints:"]
        lines += [f"  {n}. {row.endpoint:<{width}} - {counted(row.usage, one.unit)} ({row.percent}%)" for n, row in enumerate(top, 1)]
    lines += ["", f"Status: {one.status.upper()}"]
    if one.overage_price is not None and one.mode in (None, Mode.OVERAGE):
        lines.append(f"Overage: {price(one.overage_price, one.currency)} per additional {one.unit}")
    return lines


def price(amount: Decimal | None, currency: str) -> str:
    """$0.10, $0.001: cents, and more digits where it has them."""
    amount = amount or Decimal(0)
    cents = amount.quantize(Decimal("0.01"))
    if amount == cents:
        return money(amount, currency)
    return money(Decimal(0), currency).replace("0.00", format(amount.normalize(), "f"))


def _rate(amount: Decimal, currency: str, unit: str) -> str:
    return f"{price(amount, currency)}/{'req' if unit == 'request' else unit}"


def _then(text: str | None) -> tuple[Decimal | None, Window]:
    if text is None:
        return None, Window.HOUR
    limit, slash, window = text.partition("/")
    if not slash or window not in [each.value for each in Window]:
        raise BadInput(f"{text!r} does not say how much may pass, and how often: write it as 100/hour")
    return read_amount(limit), Window(window)
