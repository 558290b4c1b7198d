"""What a period on a plan would cost: the base price, the lines of its usage, tax. Pure; `weighbridge plan estimate` shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.model.invoice_item import ItemKind
from billing.model.money import EXACT, round_amount
from billing.model.plan import PlanSpec
from billing.model.pricing import Part, Usage, plain
from billing.model.pricing.base import decimals
from billing.model.rating import Line, rate_period
from billing.model.tax import tax
from metering.model.errors import BadInput
from metering.model.meter import Meter

_SHOWN_DECIMALS = 12


class EventsMissing(BadInput):
    """A price is decided event by event."""

    code = "events_missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Amounts are rounded as an invoice rounds them: once a line, and the tax once."""

    currency: str
    plan: str
    lines: tuple[Line, ...]
    tax_rate: Decimal

    @property
    def subtotal(self) -> Decimal:
        return sum((line.amount for line in self.lines), round_amount(Decimal(0), self.currency))

    @property
    def tax(self) -> Decimal:
        return tax(self.subtotal, self.tax_rate, inclusive=False, currency=self.currency)

    @property
    def total(self) -> Decimal:
        return self.subtotal + self.tax


def estimate_plan(
    spec: PlanSpec,
    used: Mapping[str, Usage],
    meters: Mapping[str, Meter],
    currency: str,
    *,
    tax_rate: Decimal = Decimal(0),
    hours: Decimal | None = None,
) -> Estimate:
    """One interval of the base price and one period of usage; meters of which nothing is said have a line where something is due.

    Raises EventsMissing, NoPriceInCurrency.
    """
    for name, price in spec.prices.items():
        if price.needs_events and name in used and used[name].events is None and used[name].quantity:
            raise EventsMissing(f'{name} is priced event by event; write them as a list: {{"{name}": [{{"value": 20}}, {{"value": 5}}]}}')
    rated = rate_period(spec, spec.quotas, used, meters, currency, hours=hours)
    lines = (line for line in rated if line.amount or line.meter in used)
    return Estimate(currency=currency, plan=spec.name, lines=(*_base(spec, currency), *lines), tax_rate=tax_rate)


def _base(spec: PlanSpec, currency: str) -> tuple[Line, ...]:
    amount = spec.price.get(currency)
    if not amount:
        return ()
    rounded = round_amount(amount, currency)
    description = f"{spec.title or spec.name} ({spec.interval.value})"
    return (Line(meter="", kind=ItemKind.BASE, description=description, quantity=Decimal(1), unit="", unit_price=rounded, amount=rounded),)


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    """Amounts and quantities are texts: exact, and read by nobody as floats."""
    return {
        "currency": estimate.currency,
        "plan": estimate.plan,
        "lines": [_line_json(line) for line in estimate.lines],
        "subtotal": format(estimate.subtotal, "f"),
        "tax_rate": plain(estimate.tax_rate),
        "tax": format(estimate.tax, "f"),
        "total": format(estimate.total, "f"),
    }


def _line_json(line: Line) -> dict[str, Any]:
    return {
        "meter": line.meter or None,
        "kind": line.kind.value,
        "description": line.description,
        "quantity": format(line.quantity, "f"),
        "unit": line.unit or None,
        "unit_price": None if line.unit_price is None else format(line.unit_price, "f"),
        "amount": format(line.amount, "f"),
        "parts": [part_json(part) for part in line.parts],
    }


def part_json(part: Part) -> dict[str, Any]:
    """One step of a line's arithmetic; what does not end is shown to twelve decimals."""
    return {
        "kind": part.kind.value,
        **({} if part.tier is None else {"tier": part.tier}),
        "quantity": shown(part.quantity),
        "unit_price": None if part.unit_price is None else shown(part.unit_price),
        "amount": shown(part.amount),
    }


def shown(number: Decimal) -> str:
    if decimals(number) > _SHOWN_DECIMALS:
        number = number.quantize(Decimal(1).scaleb(-_SHOWN_DECIMALS), context=EXACT)
    return plain(number)
