"""An invoice as people read it, before it is drawn: every text in its language, money as its readers write it. Pure.

billing/documents/invoice_pdf.py draws it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.model.invoice import BELOW_SUBTOTAL, Invoice, Line, LineKind, State
from billing.model.invoice_words import Words, words
from billing.model.tax import percent
from metering.model.clock import to_datetime

_MOST_PARTS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """A step of what a row comes to."""

    text: str
    quantity: str = ""
    unit_price: str = ""
    amount: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`details` stand below the description, smaller."""

    description: str
    quantity: str
    unit_price: str
    amount: str
    details: tuple[Detail, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """`facts` and `sums` are labels with their values; the sum that is marked `strong` is what it comes to."""

    title: str
    headline: str
    facts: tuple[tuple[str, str], ...]
    seller: tuple[str, ...]
    bill_to: str
    buyer: tuple[str, ...]
    columns: tuple[str, str, str, str]
    rows: tuple[Row, ...]
    sums: tuple[tuple[str, str, bool], ...]
    notes: tuple[str, ...]
    footer: str
    page: str  # Page {page} of {pages}
    continued: str
    created_ms: int
    letter: bool  # paper as North America has it
    language: str


class _Writer:
    """One invoice in one language."""

    def __init__(self, invoice: Invoice, tag: str | None) -> None:
        self.invoice = invoice
        self.words, self.language = words(tag)

    def money(self, amount: Decimal) -> str:
        return self.language.money(amount, self.invoice.currency)

    def date(self, at_ms: int | None) -> str:
        return "" if at_ms is None else self.language.date(to_datetime(at_ms))

    def row(self, line: Line) -> Row:
        quantity = self.language.number(line.quantity)
        if (unit := line.evidence.get("unit")) and unit not in _PLAIN:
            quantity = f"{quantity} {unit}"
        return Row(
            description=self.words.said(line.description, self.language),
            quantity=quantity,
            unit_price="" if line.unit_price is None else self.money(line.unit_price),
            amount=self.money(line.amount),
            details=tuple(self.details(line)),
        )

    def details(self, line: Line) -> list[Detail]:
        """The days that it is for, unless it says so itself; the tiers that it passed through."""
        found = []
        start_ms, end_ms = line.period_start_ms, line.period_end_ms
        if start_ms is not None and end_ms is not None and end_ms > start_ms and line.kind is not LineKind.LATE:
            found.append(Detail(text=f"{self.date(start_ms)} – {self.date(end_ms - 1)}"))
        parts = line.evidence.get("parts", ())
        if line.unit_price is None and line.kind is not LineKind.LATE and len(parts) > 1:
            found += [self.part(part) for part in parts[:_MOST_PARTS]]
        return found

    def part(self, part: Mapping[str, Any]) -> Detail:
        return Detail(
            text=self.words.parts[part["kind"]].format(tier=part["tier"] or ""),
            quantity=self.language.number(Decimal(part["quantity"])),
            unit_price="" if part["unit_price"] is None else self.money(Decimal(part["unit_price"])),
            amount=self.money(Decimal(part["amount"])),
        )

    def sums(self) -> list[tuple[str, str, bool]]:
        invoice, totals, label = self.invoice, self.invoice.totals, self.words.label
        rate = self.language.share(Decimal(percent(invoice.tax_rate)))
        found = [(label("subtotal"), self.money(totals.subtotal), False)]
        for line in invoice.lines:
            if line.kind is LineKind.DISCOUNT:
                found.append((self.words.said(line.description, self.language), self.money(line.amount), False))
        if invoice.tax_rate and not totals.tax_inclusive:
            found.append((label("tax", rate=rate), self.money(totals.tax), False))
        found.append((label("total"), self.money(totals.total), True))
        if invoice.tax_rate and totals.tax_inclusive:
            found.append((label("tax_included", rate=rate), self.money(totals.tax), False))
        for line in invoice.lines:
            if line.kind is LineKind.CREDIT:
                found.append((self.words.said(line.description, self.language), self.money(line.amount), False))
        if totals.carried:
            found.append((label("carried"), self.money(totals.carried), False))
        for name, amount in (("credited", invoice.credited), ("amount_paid", invoice.amount_paid)):
            if amount:
                found.append((label(name), self.money(-amount), False))
        if len(found) > 1 and (invoice.remaining != totals.total or invoice.state is not State.OPEN):
            remaining = totals.amount_due if invoice.state is State.DRAFT else invoice.remaining
            found.append((label("amount_due"), self.money(remaining), True))
        return found

    def headline(self) -> str:
        invoice, label = self.invoice, self.words.label
        if invoice.state is State.DRAFT:
            return self.money(invoice.totals.amount_due)
        if invoice.state is State.VOID:
            return label("void")
        if invoice.remaining:
            return label("due_now", amount=self.money(invoice.remaining), date=self.date(invoice.due_ms))
        if invoice.state is State.PAID and invoice.amount_paid:
            return label("paid_on", amount=self.money(invoice.amount_paid), date=self.date(invoice.paid_ms))
        return label("nothing_due")

    def facts(self) -> list[tuple[str, str]]:
        invoice, label = self.invoice, self.words.label
        start_ms, end_ms = invoice.period_start_ms, invoice.period_end_ms
        found = [
            (label("number"), invoice.number or ""),
            (label("date"), self.date(invoice.dated_ms)),
            (label("due"), self.date(invoice.due_ms)),
        ]
        if end_ms > start_ms:
            found.append((label("period"), f"{self.date(start_ms)} – {self.date(end_ms - 1)}"))
        return [(name, value) for name, value in found if value]

    def notes(self) -> list[str]:
        if self.invoice.state is State.DRAFT:
            return [self.words.label("not_yet")]
        if self.invoice.state is State.PAID and (method := self.invoice.payment_method):
            return [self.words.label("paid_by", method=self.words.labels.get(method) or self.words.said(method, self.language))]
        return []


_PLAIN = ("request", "requests", "query", "invocation")  # what the description says already


def page(invoice: Invoice, language: str | None = None) -> Page:
    """In `language`, else in its buyer's."""
    tag = language or invoice.buyer.get("language")
    writer = _Writer(invoice, tag)
    label, draft = writer.words.label, invoice.state is State.DRAFT
    number = invoice.number or label("draft")
    return Page(
        title=label("draft" if draft else "invoice"),
        headline=writer.headline(),
        facts=tuple(writer.facts()),
        seller=_party(invoice.seller, writer.words),
        bill_to=label("bill_to"),
        buyer=_party(invoice.buyer, writer.words),
        columns=(label("description"), label("quantity"), label("unit_price"), label("amount")),
        rows=tuple(writer.row(line) for line in invoice.lines if line.kind not in BELOW_SUBTOTAL),
        sums=tuple(writer.sums()),
        notes=tuple(writer.notes()),
        footer=str(invoice.seller.get("footer") or ""),
        page=label("page", page="{page}", pages="{pages}"),
        continued=label("continued", number=number),
        created_ms=invoice.dated_ms,
        letter=invoice.buyer.get("country") in ("US", "CA"),
        language=writer.language.language,
    )


def _party(party: Mapping[str, Any], word: Words) -> tuple[str, ...]:
    """Name, address, e-mail and tax ids, one a line."""
    address = party.get("address") or ()
    lines: Sequence[str] = address.splitlines() if isinstance(address, str) else [str(line) for line in address]
    ids = party.get("tax_id") or ()
    tax_ids = [ids] if isinstance(ids, str) else [str(each) for each in ids]
    found = [str(party.get("name") or ""), *lines, str(party.get("email") or ""), *(f"{word.label('tax_id')}: {each}" for each in tax_ids)]
    return tuple(line.strip() for line in found if line.strip())


def file_name(invoice: Invoice) -> str:
    """invoice_INV-000123_2026-01-15.pdf"""
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in invoice.number or invoice.id)
    return f"invoice_{name}_{to_datetime(invoice.dated_ms):%Y-%m-%d}.pdf"
