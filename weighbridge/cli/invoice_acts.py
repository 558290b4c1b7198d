"""`weighbridge invoice`: what somebody decides about one: pay, void, give up, credit, correct, charge, config."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from billing.model.payment import PaymentState
from billing.operations import invoice_acts as operations
from billing.operations.invoices import AskInvoice, AskInvoices, InvoiceAnswer, list_all, show
from billing.operations.operation import Nothing
from metering.model.errors import BadInput, Conflict
from weighbridge.desk import Refused

from .context import Context
from .invoice_text import added_up, called, day_or_none, utc
from .output import say, show_answer, show_rows
from .output import show as show_value
from .pages import ask_pages
from .verbs import verb
from .words import money

_CONFIG = ("company_name", "company_address", "company_email", "company_tax_id", "footer", "prefix", "due_days")


def add(verbs: Any) -> None:
    about = "charge what is due; --by-hand: note what came in otherwise"
    pay = verb(verbs, "pay", about, pay_invoice, example="weighbridge invoice pay INV-000001")
    pay.add_argument("invoice", nargs="?", help="number or id")
    pay.add_argument("--all", action="store_true", help="every invoice that is open")
    pay.add_argument("--yes", action="store_true", help="do not ask")
    pay.add_argument("--by-hand", action="store_true", help="it was paid by other means: nothing is charged")
    pay.add_argument("--amount", type=amount, help="with --by-hand: part of what is due")
    pay.add_argument("--reference", help="with --by-hand: such as the bank's; the same twice counts once")
    _one(verbs, "void", "nobody owes it", void_invoice)
    _one(verbs, "give-up", "it is owed, and will not be paid: uncollectible", give_up)
    about = "a credit note: take back rows of an invoice that is final"
    credit = _one(verbs, "credit", about, credit_invoice, "--line 2 --line 3=5.00 --reason outage")
    credit.add_argument("--line", action="append", required=True, metavar="N[=AMOUNT]", help="a row, whole or in part; several times")
    credit.add_argument("--reason", required=True)
    credit.add_argument("--refund", action="store_true", help="what was paid goes back; else it is kept for the next invoice")
    about = "a signed line on the next invoice that names the row it corrects"
    correct = _one(verbs, "correct", about, correct_line, "--line 1 --amount=-9.00 --reason discount")
    correct.add_argument("--line", type=int, required=True, metavar="N")
    correct.add_argument("--amount", type=amount, required=True, help="such as -9.00")
    correct.add_argument("--reason", required=True)
    about = "a one-time charge, or below zero a credit, on the next invoice"
    charge = verb(verbs, "charge", about, charge_once, org=False, example="weighbridge invoice charge acme-corp 20.00 Setup")
    charge.add_argument("org", help="id or slug")
    charge.add_argument("amount", type=amount)
    charge.add_argument("description")
    charge.add_argument("--now", action="store_true", help="on an invoice of its own, at once")
    _add_config(verbs)


def _one(verbs: Any, name: str, text: str, run: Any, more: str = "") -> argparse.ArgumentParser:
    parser = verb(verbs, name, text, run, example=f"weighbridge invoice {name} INV-000001 {more}".rstrip())
    parser.add_argument("invoice", help="number or id")
    return parser


def _add_config(verbs: Any) -> None:
    example = 'weighbridge invoice config --company-name "Acme Corporation" --footer "Thank you"'
    config = verb(verbs, "config", "what stands on every invoice", configure, org=False, example=example)
    for name in ("company-name", "company-address", "company-email", "company-tax-id", "footer"):
        config.add_argument(f"--{name}", metavar="TEXT")
    config.add_argument("--logo", metavar="URL", help="PNG or JPEG: an address, or a file; empty takes it away")
    config.add_argument("--allow-private", action="store_true", help="the logo's address may be one inside")
    config.add_argument("--prefix", help="begins the numbers of invoices to come (default: INV)")
    config.add_argument("--due-days", type=int, metavar="N", help="days from an invoice's date to its due date")


def amount(text: str) -> Decimal:
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
    if options.by_hand and options.all:
        raise BadInput("what came in otherwise is noted for one invoice: weighbridge invoice pay INV-000001 --by-hand")
    async with context.desk():
        if options.by_hand:
            return await _note(options, context)
        return await (_pay_all(options, context) if options.all else _pay_one(options, context))


async def _note(options: argparse.Namespace, context: Context) -> int:
    ask = operations.Receive(invoice=options.invoice, amount=options.amount, reference=options.reference)
    paid = await context.ask(operations.receive, ask)
    sums = f"{money(paid.amount_paid, paid.currency)} paid, {money(paid.amount_remaining, paid.currency)} due"
    show_answer(paid, options, lines=[f"✓ Noted for {paid.number}: {sums}"])
    return 0


async def _pay_one(options: argparse.Namespace, context: Context) -> int:
    invoice = await context.ask(show, AskInvoice(invoice=options.invoice))
    if options.format == "table":
        say(f"Processing payment for invoice {called(invoice)}", f"Amount: {money(invoice.amount_remaining, invoice.currency)}")
    done = await context.ask(operations.pay, AskInvoice(invoice=invoice.id))
    lines = [
        f"Payment method: {done.invoice.payment_method}",
        "",
        "✓ Payment successful",
        f"  Transaction ID: {done.transaction_id}",
        f"  Paid on: {utc(done.paid)}",
    ]
    show_answer(done, options, lines=lines)
    return 0


async def _pay_all(options: argparse.Namespace, context: Context) -> int:
    """The oldest first. One that is declined keeps no other from being paid."""
    unpaid = await ask_pages(context, list_all, AskInvoices(status="unpaid"), "invoices")
    found = [each for each in reversed(unpaid.invoices) if each.chargeable]
    if not found:
        return _show_paid([], [], options, lines=["No invoice is open."])
    if options.format == "table":
        sums = added_up([(each.amount_remaining, each.currency) for each in found])
        say(f"You have {len(found)} unpaid invoice{'s' if len(found) > 1 else ''} totaling {sums}:")
        say(*(f"  - {called(i)} ({money(i.amount_remaining, i.currency)}, due {day_or_none(i.due_date)})" for i in found), "")
    if not options.yes and not await asyncio.to_thread(agreed):
        return 1
    return await _pay_each(found, options, context)


async def _pay_each(found: list[InvoiceAnswer], options: argparse.Namespace, context: Context) -> int:
    paid: list[InvoiceAnswer] = []
    failed: list[dict[str, str]] = []
    for invoice in found:
        try:
            await context.ask(operations.pay, AskInvoice(invoice=invoice.id))
            paid.append(invoice)
        except (Conflict, Refused) as exc:
            failed.append({"number": called(invoice), "reason": str(exc)})
    lines = [f"✓ {called(each)} paid ({money(each.amount_remaining, each.currency)})" for each in paid]
    lines += [f"✗ {each['reason']}" for each in failed]
    lines.append(f"Total paid: {added_up([(each.amount_remaining, each.currency) for each in paid]) or '0'}")
    return _show_paid(paid, failed, options, lines=lines)


def _show_paid(paid: list[InvoiceAnswer], failed: list[dict[str, str]], options: argparse.Namespace, *, lines: list[str]) -> int:
    if options.format == "csv":
        rows = [{"number": called(each), "paid": "yes"} for each in paid] + [{**each, "paid": "no"} for each in failed]
        show_rows(rows, ("number", "paid", "reason"), options, empty="")
    else:
        show_value({"paid": [called(each) for each in paid], "failed": failed}, options, lines=lines)
    return 1 if failed else 0


async def void_invoice(options: argparse.Namespace, context: Context) -> int:
    invoice = await context.ask(operations.void, AskInvoice(invoice=options.invoice))
    show_answer(invoice, options, lines=[f"✓ Invoice {invoice.number} is void: nobody owes it"])
    return 0


async def give_up(options: argparse.Namespace, context: Context) -> int:
    invoice = await context.ask(operations.give_up, AskInvoice(invoice=options.invoice))
    show_answer(invoice, options, lines=[f"✓ Invoice {invoice.number} is uncollectible; it may still be paid"])
    return 0


async def credit_invoice(options: argparse.Namespace, context: Context) -> int:
    rows = tuple(_credit_row(text) for text in options.line)
    ask = operations.CreditAsk(invoice=options.invoice, lines=rows, reason=options.reason, refund=options.refund)
    note = await context.ask(operations.credit, ask)
    cash = {"off what is due": note.off_due, "to be refunded": note.refunded, "kept for the next invoice": note.to_balance}
    lines = [f"✓ Credit note {note.number}: {money(note.total, note.currency)}"]
    lines += [f"  Row {line.position}: {line.description}, {money(line.amount, note.currency)}" for line in note.lines]
    lines += [f"  {money(taken, note.currency)} {where}" for where, taken in cash.items() if taken]
    lines += [f"  {_given_back(note.refund)}"] if note.refunded else []
    show_answer(note, options, lines=lines)
    return 0


def _credit_row(text: str) -> operations.CreditRow:
    number, _, part = text.partition("=")
    try:
        return operations.CreditRow(line=int(number), amount=amount(part) if part else None)
    except (ValueError, argparse.ArgumentTypeError) as exc:
        raise BadInput(f"--line {text} will not do; write --line 2, or --line 2=9.00") from exc


def _given_back(refund: operations.RefundAnswer | None) -> str:
    if refund is None:
        return "It was not paid by Stripe: give it back the way it came"
    if refund.state is PaymentState.PAID:
        return f"Refunded by Stripe: {refund.id}"
    return f"Stripe has not refunded it ({refund.state}: {refund.reason}): look at Stripe's dashboard"


async def correct_line(options: argparse.Namespace, context: Context) -> int:
    ask = operations.CorrectAsk(invoice=options.invoice, line=options.line, amount=options.amount, reason=options.reason)
    item = await context.ask(operations.correct, ask)
    show_answer(item, options, lines=[f"✓ On the next invoice: {item.description}, {money(item.amount, item.currency)}"])
    return 0


async def charge_once(options: argparse.Namespace, context: Context) -> int:
    ask = operations.ChargeAsk(amount=options.amount, description=options.description, now=options.now)
    made = await context.ask(operations.charge, ask)
    line = f"✓ On the next invoice: {made.description}, {money(made.amount, made.currency)}"
    if made.invoice is not None:
        line = f"✓ Invoice {made.invoice.number}: {money(made.invoice.amount_due, made.currency)}"
    show_answer(made, options, lines=[line])
    return 0


async def configure(options: argparse.Namespace, context: Context) -> int:
    changes: dict[str, Any] = {name: value for name in _CONFIG if (value := getattr(options, name)) is not None}
    logo: str | None = options.logo
    async with context.desk() as desk:
        if logo and "://" not in logo:
            made = await desk.call(operations.upload_logo, Nothing(), body=_file(await _picture(logo)))
        elif logo is not None:
            changes |= {"logo": logo, "allow_private": options.allow_private}
        if changes:
            made = await context.ask(operations.configure, operations.SettingsAsk(**changes))
        elif not logo:
            made = await context.ask(operations.settings, Nothing())
    head = ["✓ Invoice settings updated"] if changes or logo else []
    value = {name: getattr(made, name) for name in _CONFIG} | {"logo": made.logo_url or ("a file" if made.logo else "")}
    lines = [*head, *(f"{name.replace('_', ' ').capitalize()}: {text}" for name, text in value.items() if text != "")]
    show_answer(made, options, lines=lines)
    return 0


async def _picture(path: str) -> bytes:
    try:
        return await asyncio.to_thread(Path(path).read_bytes)
    except OSError as exc:
        raise BadInput(f"{path} cannot be read: {exc.strerror}") from exc


async def _file(content: bytes) -> AsyncIterator[bytes]:
    yield content


def agreed() -> bool:
    sys.stderr.write("Proceed with payment? (y/N): ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
