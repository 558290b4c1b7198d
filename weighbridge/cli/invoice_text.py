"""Invoices as the command line prints them for people, as the guide shows them; made of the answers alone."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.model.invoice import BELOW_SUBTOTAL, LineKind
from billing.model.tax import percent
from billing.model.wording import wording
from billing.operations.invoices import Explanation, InvoiceAnswer, InvoiceShown, LineAnswer, LineExplained

from .output import table
from .words import day, moment, money

_COLUMNS = ("description", "quantity", "unit_price", "amount")


def called(invoice: InvoiceAnswer) -> str:
    return invoice.number or invoice.id


def day_or_none(at: datetime | None) -> str | None:
    return None if at is None else day(at)


def utc(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def added_up(amounts: list[tuple[Decimal, str]]) -> str:
    by: dict[str, Decimal] = {}
    for amount, currency in amounts:
        by[currency] = by.get(currency, Decimal(0)) + amount
    return " and ".join(money(amount, currency) for currency, amount in by.items())


def row(invoice: InvoiceAnswer) -> dict[str, Any]:
    return {
        "id": called(invoice), "date": day(invoice.date), "amount": money(invoice.total, invoice.currency), "status": invoice.status,
        "due_date": day_or_none(invoice.due_date), "paid_date": day_or_none(invoice.paid_date), "attempts": str(invoice.attempts),
        "next_retry": day_or_none(invoice.next_retry),
    }  # fmt: skip


def lines_of(invoice: InvoiceAnswer) -> list[str]:
    """As the guide shows one."""
    customer_id = invoice.customer_id if isinstance(invoice, InvoiceShown) else None
    found = [
        f"Invoice: {called(invoice)}",
        f"Customer: {invoice.customer}{f' ({customer_id})' if customer_id else ''}",
        f"Date: {day(invoice.date)}",
        f"Due Date: {day_or_none(invoice.due_date) or '-'}",
        f"Status: {invoice.status}",
        f"Amount: {money(invoice.total, invoice.currency)}",
        "",
        "Line Items:",
    ]
    rows = [_cells(line, invoice.currency) for line in invoice.lines if line.kind not in BELOW_SUBTOTAL]
    found += table(rows, _COLUMNS) if rows else ["No lines."]
    below = _below(invoice)
    width = max(len(f"{name}:") for name, _ in below)
    found += [f"  {f'{name}:':<{width}} {money(amount, invoice.currency)}" for name, amount in below]
    if invoice.payment_method:
        found += ["", f"Payment Method: {invoice.payment_method}"]
    found += [f"Paid: {utc(invoice.paid_date)}"] if invoice.paid_date else []
    notes = invoice.credit_notes if isinstance(invoice, InvoiceShown) else ()
    return [*found, *(f"Credit note {note.number}: {money(note.total, note.currency)} ({note.reason})" for note in notes)]


def _below(invoice: InvoiceAnswer) -> list[tuple[str, Decimal]]:
    """What stands below the lines, with its label."""
    below = [("Subtotal", invoice.subtotal)]
    below += [(line.description, line.amount) for line in invoice.lines if line.kind is LineKind.DISCOUNT]
    if invoice.tax_rate:
        below.append((f"Tax ({percent(invoice.tax_rate)}%{', included' if invoice.tax_inclusive else ''})", invoice.tax))
    below.append(("Total", invoice.total))
    below += [(line.description, line.amount) for line in invoice.lines if line.kind is LineKind.CREDIT]
    if invoice.credit or invoice.credited or invoice.amount_paid:
        below += [("Credited", -invoice.credited)] if invoice.credited else []
        below += [("Amount due", invoice.amount_remaining if invoice.number else invoice.amount_due)]
    return below


def _cells(line: LineAnswer, currency: str) -> list[str]:
    price = "-" if line.unit_price is None else money(line.unit_price, currency)
    return [line.description, wording("en").number(line.quantity), price, money(line.amount, currency)]


def explained(found: Explanation) -> list[str]:
    return [f"Invoice: {found.number or found.id}", *(line for each in found.lines for line in _told(each, found.currency))]


def _told(each: LineExplained, currency: str) -> list[str]:
    facts = each.evidence
    found = ["", f"{each.position}. {each.description}: {money(each.amount, currency)}"]
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
    found += [f"   {moment(hour.hour)[:13]}h  {hour.quantity:,} in {hour.events:,} rows" for hour in each.hours]
    if not each.agree:
        found.append(f"   rows hold {each.rows_quantity:,} now: usage came later, or its rows are gone")
    return found
