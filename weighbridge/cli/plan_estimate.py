"""`weighbridge plan estimate`: what a plan would cost for what was used. Needs no database and nothing that runs."""

import argparse
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import config
from billing.model.estimate import Estimate, estimate_json, estimate_plan, shown
from billing.model.invoice_item import ItemKind
from billing.model.plan import PlanSpec
from billing.model.pricing import Part
from billing.model.rating import Line
from billing.model.tax import percent
from config.environment import rate
from config.one_plan import meters_of, plan_of
from config.usage_file import period_between, read_usage
from metering.model.errors import BadInput
from metering.model.meter import Meter

from .context import Context
from .output import show, show_rows, table
from .verbs import verb

_METERS = "meters.yaml"
_COLUMNS = ("Line", "Quantity", "Unit", "Price", "Amount")


def add(verbs: Any) -> None:
    found = verb(
        verbs, "estimate", "the priced lines of a plan for a usage, from files alone", estimate, org=False,
        example="weighbridge plan estimate --file plan.yaml --usage usage.json",
    )  # fmt: skip
    found.add_argument("--file", type=Path, metavar="PLAN.YAML", required=True, help="a plans.yaml, or one plan's words")
    found.add_argument("--usage", type=Path, metavar="USAGE.JSON", required=True, help='{"api": 250000}, or lists of dated events')
    found.add_argument("--plan", metavar="NAME", help="which plan, where the file holds several")
    found.add_argument("--currency", metavar="CODE", help="default: BILLING_CURRENCY, or the only one that the plan has")
    found.add_argument("--tax-rate", metavar="SHARE", help="0.085 is 8.5 %% (default: BILLING_TAX_RATE)")
    found.add_argument("--start", metavar="DAY", help="first day of the period, UTC (default: the month of the first event)")
    found.add_argument("--end", metavar="DAY", help="its last day")
    found.add_argument("--meters", type=Path, metavar="METERS.YAML", help="default: that of --config, else the one that is shipped")


def estimate(options: argparse.Namespace, context: Context) -> int:
    settings = context.own_settings
    spec, meters = plan_of(_text(options.file), options.file.name, options.plan, _meters(options, settings.config_dir))
    usage = read_usage(_text(options.usage), meters, period_between(options.start, options.end))
    currency = _currency(spec, options.currency, settings.billing_currency)
    tax_rate = settings.billing_tax_rate if options.tax_rate is None else _rate(options.tax_rate)
    found = estimate_plan(spec, usage.used, meters, currency, tax_rate=tax_rate, hours=usage.hours)
    for note in usage.notes:
        sys.stderr.write(f"weighbridge: {note}\n")
    if options.format == "csv":
        show_rows(_facts(found), ("line", "quantity", "unit", "price", "amount"), options, empty="")
    else:
        show(estimate_json(found), options, lines=_lines(found))
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error


def _meters(options: argparse.Namespace, config_dir: Path) -> dict[str, Meter]:
    if options.meters is not None:
        return meters_of(_text(options.meters), options.meters.name)
    own = config_dir / _METERS
    return meters_of(_text(own if own.is_file() else Path(config.__file__).parent / _METERS), _METERS)


def _currency(spec: PlanSpec, wanted: str | None, usual: str) -> str:
    currency = (wanted or usual).lower()
    if not spec.price or currency in spec.price:
        return currency
    if wanted is None and len(spec.price) == 1:
        return next(iter(spec.price))
    raise BadInput(f"plan {spec.name} has no price in {currency}, only in {', '.join(sorted(spec.price))}; say --currency with one of them")


def _rate(text: str) -> Decimal:
    try:
        return rate(text)
    except ValueError as error:
        raise BadInput(f"--tax-rate {text} will not do: {error}") from error


def _lines(found: Estimate) -> list[str]:
    rows = [row for line in found.lines for row in _rows(line)]
    taxed = [("Subtotal", found.subtotal), (f"Tax {percent(found.tax_rate)} %", found.tax)] if found.tax_rate else []
    sums = [*taxed, ("Total", found.total)]
    rows += [(word, "", "", "", f"{amount:,f}") for word, amount in sums]
    return [f"{found.plan}, in {found.currency.upper()}", "", *table(rows, _COLUMNS)]


def _rows(line: Line) -> list[tuple[str, str, str, str, str]]:
    price = "" if line.unit_price is None else f"{line.unit_price:f}"
    parts = line.parts if len(line.parts) > 1 or line.unit_price is None else ()
    quantity = "" if line.kind is ItemKind.MINIMUM else f"{line.quantity:,f}"
    return [(line.description, quantity, line.unit, price, f"{line.amount:,f}"), *(_part(part) for part in parts)]


def _part(part: Part) -> tuple[str, str, str, str, str]:
    words = part.kind.value.replace("_", " ")
    name = words if part.tier is None else f"tier {part.tier}" + ("" if words == "tier" else f", {words}")
    price = "" if part.unit_price is None else shown(part.unit_price)
    return (f"  {name}", _figure(part.quantity), "", price, _figure(part.amount))


def _figure(number: Decimal) -> str:
    return f"{Decimal(shown(number)):,f}"


def _facts(found: Estimate) -> list[dict[str, Any]]:
    """The lines and the total, as exact figures."""
    rows: list[dict[str, Any]] = [
        {"line": x.description, "quantity": shown(x.quantity), "unit": x.unit, "price": x.unit_price, "amount": x.amount}
        for x in found.lines
        for x in found.lines
    ]
    return [*rows, {"line": "Tax", "amount": found.tax}, {"line": "Total", "amount": found.total}]
