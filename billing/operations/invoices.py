"""Invoices: list, show, explain, on paper, and the one that would be due now. What is decided about one is in invoice_acts.py."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from pydantic import Field

from billing.model.credit_note import CreditNote
from billing.model.invoice import Invoice, Issuer, Line, LineKind, State, word
from billing.operations.instants import instant, instant_or_none
from billing.operations.operation import About, Amount, Call, Download, Model, Nothing, operation
from billing.operations.pages import AskPage, Page, page, read_cursor
from billing.services.documents import Paper
from billing.services.invoices import Explained
from billing.services.lookup import NoSuchInvoice
from billing.services.ports_invoice import place_of

_LANGUAGE = Field(None, pattern="^[a-z]{2}(-[A-Z]{2})?$", description="en or de; the customer's where none is named")


class LineAnswer(Model):
    """`unit_price` null where tiers decide."""

    position: int
    kind: LineKind
    description: str
    quantity: Amount
    unit_price: Amount | None
    amount: Amount
    meter: str | None


class CreditLineAnswer(Model):
    position: int
    description: str
    amount: Amount


class CreditNoteAnswer(Model):
    """`total` = `off_due` + `refunded` + `to_balance`: let off, given back, kept for the next invoice."""

    id: str
    number: str
    invoice: str
    currency: str
    date: datetime
    reason: str
    lines: tuple[CreditLineAnswer, ...]
    subtotal: Amount
    tax: Amount
    total: Amount
    off_due: Amount
    refunded: Amount
    to_balance: Amount


class InvoiceAnswer(Model):
    """`status` as people read it: past_due is an open one with a failed attempt, or overdue; `state` without that. `chargeable`: it can be
    paid here now."""

    id: str
    number: str | None
    org_id: str
    customer: str
    issuer: Issuer
    date: datetime
    status: str = Field(description="draft, open, past_due, paid, void, uncollectible")
    state: State
    currency: str
    period_start: datetime
    period_end: datetime
    due_date: datetime | None
    paid_date: datetime | None
    attempts: int
    next_retry: datetime | None
    subtotal: Amount
    discount: Amount
    tax: Amount
    tax_rate: Amount
    tax_inclusive: bool
    total: Amount
    credit: Amount
    credited: Amount
    amount_due: Amount
    amount_paid: Amount
    amount_remaining: Amount
    chargeable: bool
    payment_method: str | None
    lines: tuple[LineAnswer, ...]


class InvoiceShown(InvoiceAnswer):
    """`customer_id` is the customer's at Stripe."""

    customer_id: str | None
    credit_notes: tuple[CreditNoteAnswer, ...]


class InvoiceList(Page):
    invoices: tuple[InvoiceAnswer, ...]


class HourAnswer(Model):
    """Usage rows of one hour, in the meter's base unit."""

    hour: datetime
    quantity: int
    events: int


class LineExplained(LineAnswer):
    """`agree` false: rows came after it was billed, or are gone."""

    evidence: dict[str, Any]
    hours: tuple[HourAnswer, ...]
    rows_quantity: int
    agree: bool


class Explanation(Model):
    id: str
    number: str | None
    currency: str
    lines: tuple[LineExplained, ...]


class AskInvoices(AskPage):
    status: str | None = Field(None, description="draft, open, paid, void, uncollectible, unpaid (open), past_due")
    year: int | None = Field(None, description="of the date that stands on it, UTC")


class AskInvoice(Model):
    invoice: str = Field(min_length=1, max_length=100, description="number, id, or Stripe's id")


class AskPaper(AskInvoice):
    language: str | None = _LANGUAGE


class AskPreviewPaper(Model):
    language: str | None = _LANGUAGE


@operation("GET", "/invoices", name="invoice.list", by_token=True, about=About.EITHER)
async def list_all(call: Call, ask: AskInvoices) -> InvoiceList:
    """Newest first."""
    place = read_cursor(ask.after, int, str, str)
    found = await call.billing.invoices.page(
        org_id=call.org_id, asked=ask.status, year=ask.year, limit=ask.limit + 1,
        after=None if place is None else (int(place[0]), str(place[1]), str(place[2])),
    )  # fmt: skip
    rows, following = page(found, ask, place_of)
    return InvoiceList(invoices=tuple(invoice_answer(each, call.now_ms) for each in rows), next=following)


@operation("GET", "/invoices/{invoice}", name="invoice.show", by_token=True, about=About.EITHER, errors=(NoSuchInvoice,))
async def show(call: Call, ask: AskInvoice) -> InvoiceShown:
    """One invoice with its lines and credit notes."""
    view = await call.billing.invoices.view(ask.invoice, org_id=call.org_id)
    return InvoiceShown(
        **dict(invoice_answer(view.invoice, call.now_ms)), customer_id=view.customer_id,
        credit_notes=tuple(map(credit_note_answer, view.notes)),
    )  # fmt: skip


@operation("GET", "/invoices/{invoice}/explanation", name="invoice.explain", by_token=True, about=About.EITHER, errors=(NoSuchInvoice,))
async def explain(call: Call, ask: AskInvoice) -> Explanation:
    """Each line down to the hours of its usage."""
    invoice, found = await call.billing.invoices.explain(ask.invoice, org_id=call.org_id)
    return Explanation(id=invoice.id, number=invoice.number, currency=invoice.currency, lines=tuple(map(_explained, found)))


@operation("GET", "/invoices/{invoice}/pdf", name="invoice.download", by_token=True, about=About.EITHER, errors=(NoSuchInvoice,))
async def download(call: Call, ask: AskPaper) -> Download:
    """As PDF."""
    return pdf(await call.billing.documents.invoice(ask.invoice, language=ask.language, org_id=call.org_id))


@operation("POST", "/invoices/preview", name="invoice.preview", by_token=True)
async def preview(call: Call, ask: Nothing) -> InvoiceAnswer:
    """What would be due if the period under way ended now, and the price of the next where one follows."""
    return invoice_answer(await call.billing.invoices.preview(call.org), call.now_ms)


@operation("POST", "/invoices/preview/pdf", name="invoice.preview-pdf", by_token=True)
async def preview_paper(call: Call, ask: AskPreviewPaper) -> Download:
    """The same as PDF."""
    return pdf(await call.billing.documents.preview(call.org, language=ask.language))


def invoice_answer(invoice: Invoice, now_ms: int) -> InvoiceAnswer:
    i, sums = invoice, invoice.totals
    return InvoiceAnswer(
        id=i.id, number=i.number, org_id=i.org_id, customer=str(i.buyer.get("name", i.org_id)), issuer=i.issuer, date=instant(i.dated_ms),
        status=word(i, now_ms), state=i.state, currency=i.currency, period_start=instant(i.period_start_ms),
        period_end=instant(i.period_end_ms), due_date=instant_or_none(i.due_ms), paid_date=instant_or_none(i.paid_ms), attempts=i.attempts,
        next_retry=instant_or_none(i.next_attempt_ms), subtotal=sums.subtotal, discount=sums.discount, tax=sums.tax, tax_rate=i.tax_rate,
        tax_inclusive=sums.tax_inclusive, total=sums.total, credit=sums.credit, credited=i.credited, amount_due=sums.amount_due,
        amount_paid=i.amount_paid, amount_remaining=i.remaining, chargeable=i.chargeable, payment_method=i.payment_method,
        lines=tuple(_line(line, position) for position, line in enumerate(i.lines, 1)),
    )  # fmt: skip


def credit_note_answer(note: CreditNote) -> CreditNoteAnswer:
    return CreditNoteAnswer(
        id=note.id, number=note.number, invoice=note.invoice_id, currency=note.currency, date=instant(note.created_ms), reason=note.reason,
        lines=tuple(CreditLineAnswer(position=e.position, description=e.description, amount=e.amount) for e in note.lines),
        subtotal=note.subtotal, tax=note.tax, total=note.total, off_due=note.off_due, refunded=note.refunded, to_balance=note.to_balance,
    )  # fmt: skip


def _line(line: Line, position: int) -> LineAnswer:
    return LineAnswer(
        position=position, kind=line.kind, description=line.description, quantity=line.quantity, unit_price=line.unit_price,
        amount=line.amount, meter=line.meter,
    )  # fmt: skip


def _explained(each: Explained) -> LineExplained:
    return LineExplained(
        **dict(_line(each.line, each.position)), evidence=dict(each.line.evidence), rows_quantity=each.rows_quantity, agree=each.agree,
        hours=tuple(HourAnswer(hour=instant(h.hour_ms), quantity=h.quantity, events=h.events) for h in each.hours),
    )  # fmt: skip


def pdf(paper: Paper) -> Download:
    async def pieces() -> AsyncIterator[bytes]:
        yield paper.content

    return Download(pieces(), content_type="application/pdf", filename=paper.name)


OPERATIONS = (list_all, show, explain, download, preview, preview_paper)
