"""`weighbridge invoice`: what somebody decides about one: pay, void, give up, credit, correct, charge, config."""

import argparse
import asyncio
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from billing.documents import logo as pictures
from billing.model.credit_note import CreditNote
from billing.model.invoice import Invoice
from billing.model.payment import PaymentState
from billing.services.collecting import Collecting
from billing.services.use_cases import Billing
from billing.store.books import PostgresBooks
from metering.model.errors import BadInput, Conflict, DependencyUnavailable
from metering.model.outward import Reach

from .context import Context
from .invoice_text import EN, added_up, as_json, day, utc
from .output import say, show
from .payment import payments_of

_CONFIG = ("company_name", "company_address", "company_email", "company_tax_id", "footer", "prefix", "due_days")


def money(text: str) -> Decimal:
    """For an option. Raises ArgumentTypeError."""
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal("nan")
    if not found.is_finite():
        raise argparse.ArgumentTypeError(f"{text!r} is no amount; write 49.00")
    return found


async def pay_invoice(options: argparse.Namespace, context: Context) -> int:
    if (options.invoice is None) == (not options.all):
        raise BadInput("say which: weighbridge invoice pay INV-000001, or --all")
    if options.by_hand:
        async with context.billing() as billing:
            paid = await billing.invoices.pay(options.invoice, reference=options.reference, amount=options.amount)
        lines = [
            f"✓ Noted for {paid.number}: {EN.money(paid.amount_paid, paid.currency)} paid, {EN.money(paid.remaining, paid.currency)} due"
        ]
        show(as_json(paid, context.clock.now_ms()), options, lines=lines)
        return 0
    async with context.billing() as billing, context.database() as pool, payments_of(context) as payments:
        collecting = Collecting(PostgresBooks(pool), context.clock, billing.invoices, payments)
        return await (_pay_all(collecting, options) if options.all else _pay_one(collecting, billing, options))


async def _pay_one(collecting: Collecting, billing: Billing, options: argparse.Namespace) -> int:
    invoice = await billing.invoices.show(options.invoice)
    if options.format != "json":
        say(f"Processing payment for invoice {invoice.number or invoice.id}", f"Amount: {EN.money(invoice.remaining, invoice.currency)}")
    done = await collecting.charge(options.invoice)
    paid = done.invoice
    lines = [
        f"Payment method: {paid.payment_method}",
        "",
        "✓ Payment successful",
        f"  Transaction ID: {done.payment_id}",
        f"  Paid on: {utc(paid.paid_ms)}",
    ]
    show({"id": paid.id, "number": paid.number, "transaction_id": done.payment_id, "status": paid.state.value}, options, lines=lines)
    return 0


async def _pay_all(collecting: Collecting, options: argparse.Namespace) -> int:
    """One that is declined keeps no other from being paid."""
    found = await collecting.open_of(None)
    if not found:
        show({"paid": [], "failed": []}, options, lines=["No invoice is open."])
        return 0
    if options.format != "json":
        say(f"You have {len(found)} unpaid invoices totaling {added_up([(i.remaining, i.currency) for i in found])}:")
        say(*(f"  - {i.number} ({EN.money(i.remaining, i.currency)}, due {day(i.due_ms)})" for i in found), "")
    if not options.yes and not await asyncio.to_thread(agreed):
        return 1
    paid, failed = [], []
    for invoice in found:
        try:
            paid.append((await collecting.charge(invoice.id), invoice.remaining))
        except Conflict as exc:
            failed.append({"number": invoice.number, "reason": str(exc)})
    lines = [f"✓ {done.invoice.number} paid ({EN.money(amount, done.invoice.currency)})" for done, amount in paid]
    lines += [f"✗ {each['reason']}" for each in failed]
    lines.append(f"Total paid: {added_up([(amount, done.invoice.currency) for done, amount in paid]) or '0'}")
    show({"paid": [done.invoice.number for done, _ in paid], "failed": failed}, options, lines=lines)
    return 1 if failed else 0


async def void_invoice(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        invoice = await billing.invoices.void(options.invoice)
    show(as_json(invoice, context.clock.now_ms()), options, lines=[f"✓ Invoice {invoice.number} is void: nobody owes it"])
    return 0


async def give_up(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        invoice = await billing.invoices.give_up(options.invoice)
    show(as_json(invoice, context.clock.now_ms()), options, lines=[f"✓ Invoice {invoice.number} is uncollectible; it may still be paid"])
    return 0


async def credit_invoice(options: argparse.Namespace, context: Context) -> int:
    rows: dict[int, Decimal | None] = {}
    for text in options.line:
        number, _, amount = text.partition("=")
        try:
            rows[int(number)] = money(amount) if amount else None
        except (ValueError, argparse.ArgumentTypeError) as exc:
            raise BadInput(f"--line {text} will not do; write --line 2, or --line 2=9.00") from exc
    async with context.billing() as billing:
        note = await billing.credit_notes.issue(options.invoice, rows, reason=options.reason, refund=options.refund)
    given_back = await _given_back(note, context) if note.refunded else None
    cash = {"off what is due": note.off_due, "to be refunded": note.refunded, "kept for the next invoice": note.to_balance}
    lines = [f"✓ Credit note {note.number}: {EN.money(note.total, note.currency)}"]
    lines += [f"  Row {line.position}: {line.description}, {EN.money(line.amount, note.currency)}" for line in note.lines]
    lines += [f"  {EN.money(amount, note.currency)} {where}" for where, amount in cash.items() if amount]
    lines += [f"  {given_back}"] if given_back else []
    value = {
        "number": note.number, "invoice": note.invoice_id, "total": str(note.total), "tax": str(note.tax), "off_due": str(note.off_due),
        "refunded": str(note.refunded), "to_balance": str(note.to_balance),
    }  # fmt: skip
    show(value, options, lines=lines)
    return 0


async def _given_back(note: CreditNote, context: Context) -> str:
    """The refund, where the money came by Stripe. The note stands whatever Stripe says; asked again it is the same refund."""
    try:
        async with context.billing() as billing, context.database() as pool, payments_of(context) as payments:
            outcome = await Collecting(PostgresBooks(pool), context.clock, billing.invoices, payments).refund(note)
    except DependencyUnavailable:
        outcome = None
    if outcome is None:
        return "It was not paid by Stripe: give it back the way it came"
    if outcome.state is PaymentState.PAID:
        return f"Refunded by Stripe: {outcome.payment_id}"
    return f"Stripe has not refunded it ({outcome.state}: {outcome.reason}): look at Stripe's dashboard"


async def correct_line(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        item = await billing.invoices.correct(options.invoice, options.line, options.amount, options.reason)
    lines = [f"✓ On the next invoice: {item.description}, {EN.money(item.amount, item.currency)}"]
    show({"description": item.description, "amount": str(item.amount)}, options, lines=lines)
    return 0


async def charge_once(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        made = await billing.invoices.charge_once(options.org, options.description, options.amount, now=options.now)
    if isinstance(made, Invoice):
        lines = [f"✓ Invoice {made.number}: {EN.money(made.totals.amount_due, made.currency)}"]
        show(as_json(made, context.clock.now_ms()), options, lines=lines)
    else:
        lines = [f"✓ On the next invoice: {made.description}, {EN.money(made.amount, made.currency)}"]
        show({"description": made.description, "amount": str(made.amount)}, options, lines=lines)
    return 0


async def configure(options: argparse.Namespace, context: Context) -> int:
    changes = {name: value for name in _CONFIG if (value := getattr(options, name)) is not None}
    if options.logo is not None:
        changes |= await _logo(options)
    async with context.billing() as billing:
        made = await billing.invoices.change_settings(**changes) if changes else await billing.invoices.settings()
    value = {name: getattr(made, name) for name in _CONFIG} | {"logo": made.logo_url or ("a file" if made.logo else "")}
    head = ["✓ Invoice settings updated"] if changes else []
    show(value, options, lines=[*head, *(f"{name.replace('_', ' ').capitalize()}: {text}" for name, text in value.items() if text != "")])
    return 0


async def _logo(options: argparse.Namespace) -> dict[str, Any]:
    if not options.logo:
        return {"logo": None, "logo_url": None}
    if "://" in options.logo:
        reach = Reach.OPERATOR if options.allow_private else Reach.PUBLIC
        return {"logo": await pictures.fetch(options.logo, reach=reach), "logo_url": options.logo}
    try:
        return {"logo": pictures.check(await asyncio.to_thread(Path(options.logo).read_bytes)), "logo_url": None}
    except OSError as exc:
        raise BadInput(f"{options.logo} cannot be read: {exc.strerror}") from exc


def agreed() -> bool:
    return input("Proceed with payment? (y/N): ").strip().lower() in ("y", "yes")
