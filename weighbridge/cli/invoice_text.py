"""Invoices as the command line prints them: for people as the guide shows them, for programs with exact amounts."""

from decimal import Decimal
from typing import Any

from billing.model.invoice import BELOW_SUBTOTAL, Invoice, Line, LineKind, word
from billing.model.tax import percent
from billing.model.wording import wording
from billing.services.invoices import Explained
from metering.model.clock import isoformat, to_datetime

from .output import table

EN = wording("en")
_COLUMNS = ("description", "quantity", "unit_price", "amount")


def day(at_ms: int | None) -> str | None:
    return None if at_ms is None else isoformat(at_ms)[:10]


def utc(at_ms: int | None) -> str:
    return "" if at_ms is None else f"{to_datetime(at_ms):%Y-%m-%d %H:%M:%S} UTC"


def added_up(amounts: list[tuple[Decimal, str]]) -> str:
    by: dict[str, Decimal] = {}
    for amount, currency in amounts:
        by[currency] = by.get(currency, Decimal(0)) + amount
    return " and ".join(EN.money(amount, currency) for currency, amount in by.items())


def row(invoice: Invoice, now_ms: int) -> dict[str, Any]:
    return {
        "id": invoice.number or invoice.id, "date": day(invoice.dated_ms), "amount": EN.money(invoice.totals.total, invoice.currency),
        "status": word(invoice, now_ms), "due_date": day(invoice.due_ms), "paid_date": day(invoice.paid_ms),
        "attempts": str(invoice.attempts), "next_retry": day(invoice.next_attempt_ms),
    }  # fmt: skip


def as_json(invoice: Invoice, now_ms: int) -> dict[str, Any]:
    sums = invoice.totals
    return {
        "id": invoice.id, "number": invoice.number, "org_id": invoice.org_id, "issuer": invoice.issuer.value, "date": day(invoice.dated_ms),
        "status": word(invoice, now_ms), "state": invoice.state.value, "currency": invoice.currency, "due_date": day(invoice.due_ms),
        "paid_date": day(invoice.paid_ms), "attempts": invoice.attempts, "next_retry": day(invoice.next_attempt_ms),
        "subtotal": str(sums.subtotal), "discount": str(sums.discount), "tax": str(sums.tax), "total": str(sums.total),
        "credit": str(sums.credit), "amount_due": str(sums.amount_due), "amount_paid": str(invoice.amount_paid),
        "amount_remaining": str(invoice.remaining), "lines": [line_as_json(line, i) for i, line in enumerate(invoice.lines, 1)],
    }  # fmt: skip


def line_as_json(line: Line, position: int) -> dict[str, Any]:
    return {
        "position": position, "kind": line.kind.value, "description": line.description, "quantity": str(line.quantity),
        "unit_price": None if line.unit_price is None else str(line.unit_price), "amount": str(line.amount), "meter": line.meter,
    }  # fmt: skip


def lines_of(invoice: Invoice, now_ms: int) -> list[str]:
    """As the guide shows one."""
    sums, currency = invoice.totals, invoice.currency
    found = [
        f"Invoice: {invoice.number or invoice.id}",
        f"Customer: {invoice.buyer.get('name', invoice.org_id)}",
        f"Date: {day(invoice.dated_ms)}",
        f"Due Date: {day(invoice.due_ms) or '-'}",
        f"Status: {word(invoice, now_ms)}",
        f"Amount: {EN.money(sums.total, currency)}",
        "",
        "Line Items:",
    ]
    rows = [_cells(line, currency) for line in invoice.lines if line.kind not in BELOW_SUBTOTAL]
    found += table(rows, _COLUMNS) if rows else ["No lines."]
    below = [("Subtotal", sums.subtotal)]
    below += [(line.description, line.amount) for line in invoice.lines if line.kind is LineKind.DISCOUNT]
    if invoice.tax_rate:
        below.append((f"Tax ({percent(invoice.tax_rate)}%{', included' if sums.tax_inclusive else ''})", sums.tax))
    below.append(("Total", sums.total))
    below += [(line.description, line.amount) for line in invoice.lines if line.kind is LineKind.CREDIT]
    if sums.credit or invoice.credited or invoice.amount_paid:
        below += [("Credited", -invoice.credited)] if invoice.credited else []
        below += [("Amount due", invoice.remaining if invoice.number else sums.amount_due)]
    width = max(len(f"{name}:") for name, _ in below)
    found += [f"  {f'{name}:':<{width}} {EN.money(amount, currency)}" for name, amount in below]
    if invoice.payment_method:
        found += ["", f"Payment Method: {invoice.payment_method}"]
    return [*found, f"Paid: {utc(invoice.paid_ms)}"] if invoice.paid_ms else found


def _cells(line: Line, currency: str) -> list[str]:
    price = "-" if line.unit_price is None else EN.money(line.unit_price, currency)
    return [line.description, EN.number(line.quantity), price, EN.money(line.amount, currency)]


def told(each: Explained, invoice: Invoice) -> list[str]:
    line, facts = each.line, each.line.evidence
    found = ["", f"{each.position}. {line.description}: {EN.money(line.amount, invoice.currency)}"]
    if facts.get("plan"):
        found.append(f"   plan {facts['plan']}" + (f", version {facts['plan_version']}" if "plan_version" in facts else ""))
    if "used" in facts:
        found.append(f"   used {facts['used']} in {facts['period_start'][:10]} to {facts['period_end'][:10]}, included {facts['included']}")
    if "used_before" in facts:
        found.append(f"   billed before: {facts['billed_before']} for {facts['used_before']}")
    for part in facts.get("parts", ()):
        if isinstance(part, dict):
            price = f" × {part['unit_price']}" if part["unit_price"] is not None else ""
            tier = f" {part['tier']}" if part["tier"] is not None else ""
            found.append(f"   {part['kind']}{tier}: {part['quantity']}{price} = {part['amount']}")
    found += [f"   {isoformat(hour.hour_ms)[:13]}h  {hour.quantity:,} in {hour.events:,} rows" for hour in each.hours]
    if not each.agree:
        found.append(f"   rows hold {each.rows_quantity:,} now: usage came later, or its rows are gone")
    return found
