"""What is decided about invoices: charged, noted as paid, void, given up, credited, corrected; and what stands on every one."""

from datetime import datetime
from typing import Any

from pydantic import Field

from billing.model.credit_note import CreditRefused
from billing.model.invoice import Invoice, InvoiceTransitionRefused
from billing.model.payment import NotPayable, PaymentState
from billing.model.token import Scope
from billing.operations.invoices import (
    AskInvoice,
    AskPreviewPaper,
    CreditNoteAnswer,
    InvoiceAnswer,
    credit_note_answer,
    invoice_answer,
    pdf,
)
from billing.operations.operation import About, Amount, Call, Download, GivenAmount, Model, Nothing, operation
from billing.services.collecting import PaymentRefused
from billing.services.lookup import NoSuchInvoice, WrittenByStripe
from billing.services.ports_invoice import MOST_DUE_DAYS, MOST_TEXT, InvoiceSettings
from billing.services.ports_stripe import NoStripe
from metering.model.errors import Conflict
from metering.model.outward import Forbidden, Reach

_LARGEST_LOGO = 1024 * 1024
_ERRORS = (NoSuchInvoice, WrittenByStripe, InvoiceTransitionRefused, Conflict)


class Paid(Model):
    """`transaction_id` names the payment at Stripe."""

    invoice: InvoiceAnswer
    transaction_id: str
    paid: datetime


class Receive(AskInvoice):
    amount: GivenAmount | None = Field(None, description="part of what is due; all of it where none is said")
    reference: str | None = Field(None, min_length=1, max_length=200, description="such as the bank's; the same twice counts once")


class CreditRow(Model):
    line: int = Field(ge=1, le=100_000, description="the row of the invoice, from 1")
    amount: GivenAmount | None = Field(None, description="all that is left of it where none is said")


class CreditAsk(AskInvoice):
    lines: tuple[CreditRow, ...] = Field(min_length=1, max_length=1000)
    reason: str = Field(min_length=1, max_length=500)
    refund: bool = Field(False, description="what was paid goes back; else it is kept for the next invoice")


class RefundAnswer(Model):
    """At Stripe: paid is given back."""

    state: PaymentState
    id: str | None
    reason: str | None


class Credited(CreditNoteAnswer):
    """`refund` null where nothing goes back, or it was not paid by Stripe: then it goes back the way it came."""

    refund: RefundAnswer | None


class CorrectAsk(AskInvoice):
    line: int = Field(ge=1, le=100_000)
    amount: GivenAmount = Field(description="such as -9.00")
    reason: str = Field(min_length=1, max_length=500)


class ChargeAsk(Model):
    amount: GivenAmount = Field(description="below zero it is a credit")
    description: str = Field(min_length=1, max_length=500, description="it stands on the invoice")
    now: bool = Field(False, description="on an invoice of its own, at once")


class ItemAnswer(Model):
    """What waits for the next invoice."""

    description: str
    amount: Amount
    currency: str


class ChargeAnswer(ItemAnswer):
    """`invoice` where it stands on one already."""

    invoice: InvoiceAnswer | None


class SettingsAnswer(Model):
    """Who writes the invoices. `logo`: there is a picture; `logo_url` is where it was fetched from."""

    company_name: str
    company_address: str
    company_email: str
    company_tax_id: str
    footer: str
    prefix: str
    due_days: int
    logo: bool
    logo_url: str | None


class SettingsAsk(Model):
    """Those that are said change; an empty text takes one away."""

    company_name: str | None = Field(None, max_length=MOST_TEXT)
    company_address: str | None = Field(None, max_length=MOST_TEXT)
    company_email: str | None = Field(None, max_length=MOST_TEXT)
    company_tax_id: str | None = Field(None, max_length=MOST_TEXT)
    footer: str | None = Field(None, max_length=MOST_TEXT)
    prefix: str | None = Field(None, description="begins the numbers of invoices to come")
    due_days: int | None = Field(None, ge=0, le=MOST_DUE_DAYS, description="from an invoice's date to its due date")
    logo: str | None = Field(None, max_length=2000, description="the address of a PNG or JPEG, fetched once")
    allow_private: bool = Field(False, description="the logo's address may be one inside")


@operation(
    "POST", "/invoices/{invoice}/pay", name="invoice.pay", need=Scope.BILLING, about=About.EITHER,
    errors=(*_ERRORS, PaymentRefused, NotPayable, NoStripe),
)  # fmt: skip
async def pay(call: Call, ask: AskInvoice) -> Paid:
    """Charge what is due, now, with the payment method that is the default."""
    done = await call.billing.collecting.charge(ask.invoice, org_id=call.org_id)
    answer = invoice_answer(done.invoice, call.now_ms)
    return Paid(invoice=answer, transaction_id=done.payment_id, paid=answer.paid_date or answer.date)


@operation("POST", "/invoices/{invoice}/receipts", name="invoice.receive", need=Scope.BILLING, about=About.ALL, errors=_ERRORS)
async def receive(call: Call, ask: Receive) -> InvoiceAnswer:
    """Note what came in otherwise; nothing is charged."""
    paid = await call.billing.invoices.pay(ask.invoice, reference=ask.reference, amount=ask.amount, org_id=call.org_id)
    return invoice_answer(paid, call.now_ms)


@operation("POST", "/invoices/{invoice}/void", name="invoice.void", need=Scope.BILLING, about=About.ALL, errors=_ERRORS)
async def void(call: Call, ask: AskInvoice) -> InvoiceAnswer:
    """Nobody owes it."""
    return invoice_answer(await call.billing.invoices.void(ask.invoice, org_id=call.org_id), call.now_ms)


@operation("POST", "/invoices/{invoice}/give-up", name="invoice.give-up", need=Scope.BILLING, about=About.ALL, errors=_ERRORS)
async def give_up(call: Call, ask: AskInvoice) -> InvoiceAnswer:
    """It is owed, and will not be paid: uncollectible."""
    return invoice_answer(await call.billing.invoices.give_up(ask.invoice, org_id=call.org_id), call.now_ms)


@operation(
    "POST", "/invoices/{invoice}/credit-notes", name="invoice.credit", need=Scope.BILLING, about=About.ALL, status=201,
    errors=(*_ERRORS, CreditRefused, NotPayable),
)  # fmt: skip
async def credit(call: Call, ask: CreditAsk) -> Credited:
    """Take back rows of an invoice that is final. The note stands whatever Stripe says of the refund."""
    rows = {row.line: row.amount for row in ask.lines}
    note = await call.billing.credit_notes.issue(ask.invoice, rows, reason=ask.reason, refund=ask.refund, org_id=call.org_id)
    outcome = await call.billing.collecting.refund(note)
    refund = None if outcome is None else RefundAnswer(state=outcome.state, id=outcome.payment_id, reason=outcome.reason)
    return Credited(**dict(credit_note_answer(note)), refund=refund)


@operation(
    "POST", "/invoices/{invoice}/corrections", name="invoice.correct", need=Scope.BILLING, about=About.ALL, status=201, errors=_ERRORS
)  # fmt: skip
async def correct(call: Call, ask: CorrectAsk) -> ItemAnswer:
    """A signed line on the next invoice that names the row it corrects."""
    item = await call.billing.invoices.correct(ask.invoice, ask.line, ask.amount, ask.reason, org_id=call.org_id)
    return ItemAnswer(description=item.description, amount=item.amount, currency=item.currency)


@operation("POST", "/charges", name="invoice.charge", need=Scope.BILLING, unbound=True, status=201, errors=(Conflict,))
async def charge(call: Call, ask: ChargeAsk) -> ChargeAnswer:
    """A one-time charge on the next invoice, or on one of its own at once."""
    made = await call.billing.invoices.charge_once(call.org, ask.description, ask.amount, now=ask.now)
    if isinstance(made, Invoice):
        answer = invoice_answer(made, call.now_ms)
        return ChargeAnswer(description=ask.description, amount=ask.amount, currency=made.currency, invoice=answer)
    return ChargeAnswer(description=made.description, amount=made.amount, currency=made.currency, invoice=None)


@operation("GET", "/invoice-settings", name="invoice.settings", about=About.ALL)
async def settings(call: Call, ask: Nothing) -> SettingsAnswer:
    """What stands on every invoice."""
    return _settings(await call.billing.invoices.settings())


@operation("PATCH", "/invoice-settings", name="invoice.config", need=Scope.BILLING, about=About.ALL, errors=(Forbidden,))
async def configure(call: Call, ask: SettingsAsk) -> SettingsAnswer:
    """Change it; invoices that are final keep what they say."""
    changes: dict[str, Any] = ask.model_dump(exclude_none=True, exclude={"logo", "allow_private"})
    if ask.logo is not None:
        reach = Reach.OPERATOR if ask.allow_private else Reach.PUBLIC
        changes |= await call.billing.documents.logo(ask.logo, reach=reach)
    return _settings(await call.billing.invoices.change_settings(**changes))


@operation("PUT", "/invoice-settings/logo", name="invoice.logo", need=Scope.BILLING, about=About.ALL, upload=True)
async def upload_logo(call: Call, ask: Nothing) -> SettingsAnswer:
    """A PNG or JPEG, up to 1 MiB; an empty body takes it away."""
    picture = bytearray()
    if call.body is not None:
        async for piece in call.body:
            picture += piece
            if len(picture) > _LARGEST_LOGO:
                break  # it is too large, and is refused as such
    changes = await call.billing.documents.logo(bytes(picture))
    return _settings(await call.billing.invoices.change_settings(**changes))


@operation("GET", "/invoice-settings/sample", name="invoice.sample", about=About.ALL)
async def sample(call: Call, ask: AskPreviewPaper) -> Download:
    """A sample invoice as PDF, to look at the template."""
    return pdf(await call.billing.documents.sample(language=ask.language))


def _settings(found: InvoiceSettings) -> SettingsAnswer:
    return SettingsAnswer(
        company_name=found.company_name, company_address=found.company_address, company_email=found.company_email,
        company_tax_id=found.company_tax_id, footer=found.footer, prefix=found.prefix, due_days=found.due_days,
        logo=found.logo is not None, logo_url=found.logo_url,
    )  # fmt: skip


OPERATIONS = (pay, receive, void, give_up, credit, correct, charge, settings, configure, upload_logo, sample)
