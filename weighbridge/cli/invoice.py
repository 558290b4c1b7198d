"""`weighbridge invoice`: list, show, explain, preview, download, pay, void, credit, and what stands on every invoice.

What somebody decides is in invoice_acts.py, what is printed in invoice_text.py.
"""

import argparse
import asyncio
from pathlib import Path
from typing import Any

from billing.documents.invoice_pdf import render
from billing.model.invoice import Invoice, Word
from billing.model.invoice_page import file_name, page
from billing.model.invoice_sample import sample
from billing.services.invoice_writer import seller_of
from metering.model.clock import isoformat
from metering.model.errors import BadInput

from .context import Context, add_folders
from .invoice_acts import charge_once, configure, correct_line, credit_invoice, give_up, money, pay_invoice, void_invoice
from .invoice_text import EN, as_json, line_as_json, lines_of, row, told
from .output import add_format, say, show, show_rows

_COLUMNS = ("id", "date", "amount", "status", "due_date", "paid_date")
_PAST_DUE = ("id", "date", "amount", "status", "attempts", "next_retry")


def add(nouns: Any) -> None:
    verbs = nouns.add_parser("invoice", help="invoices: list, show, explain, preview, download, pay, void, credit, config").add_subparsers(
        dest="verb", metavar="verb", required=True
    )
    listing = _verb(verbs, "list", "newest first", list_invoices)
    listing.add_argument("--org", metavar="ORG", help="id or slug")
    listing.add_argument("--status", help="draft, open, paid, void, uncollectible, unpaid, past_due")
    listing.add_argument("--year", type=int)
    _one(_verb(verbs, "show", "one invoice with its lines", show_invoice))
    _one(_verb(verbs, "explain", "each line down to the hours of its usage", explain))
    preview = _verb(verbs, "preview", "a sample as PDF; with --org, what would be due if its period ended now", preview_invoice)
    preview.add_argument("--org", metavar="ORG", help="id or slug")
    preview.add_argument("--output", type=Path, metavar="FILE", help="where the PDF is written (default: invoice_preview.pdf)")
    preview.add_argument("--language", help="en or de; default: the customer's")
    download = _verb(verbs, "download", "as PDF", download_invoices)
    download.add_argument("invoice", nargs="?", help="number or id")
    download.add_argument("--year", type=int, help="all of one year")
    download.add_argument("--org", metavar="ORG", help="with --year: of one organization")
    download.add_argument("--output", type=Path, metavar="PATH", help="a file, or with --year a folder")
    download.add_argument("--language", help="en or de; default: the customer's")
    _deciding(verbs)


def _deciding(verbs: Any) -> None:
    pay = _verb(verbs, "pay", "charge what is due; --by-hand: note what came in otherwise", pay_invoice)
    pay.add_argument("invoice", nargs="?", help="number or id")
    pay.add_argument("--all", action="store_true", help="every invoice that is open")
    pay.add_argument("--yes", action="store_true", help="do not ask")
    pay.add_argument("--by-hand", action="store_true", help="it was paid by other means: nothing is charged")
    pay.add_argument("--amount", type=money, help="with --by-hand: part of what is due")
    pay.add_argument("--reference", help="with --by-hand: such as the bank's; the same twice counts once")
    _one(_verb(verbs, "void", "nobody owes it", void_invoice))
    _one(_verb(verbs, "give-up", "it is owed, and will not be paid: uncollectible", give_up))
    credit = _one(_verb(verbs, "credit", "a credit note: take back rows of an invoice that is final", credit_invoice))
    credit.add_argument("--line", action="append", required=True, metavar="N[=AMOUNT]", help="a row, whole or in part; several times")
    credit.add_argument("--reason", required=True)
    credit.add_argument("--refund", action="store_true", help="what was paid goes back; else it is kept for the next invoice")
    correct = _one(_verb(verbs, "correct", "a signed line on the next invoice that names the row it corrects", correct_line))
    correct.add_argument("--line", type=int, required=True, metavar="N")
    correct.add_argument("--amount", type=money, required=True, help="such as -9.00")
    correct.add_argument("--reason", required=True)
    charge = _verb(verbs, "charge", "a one-time charge, or below zero a credit, on the next invoice", charge_once)
    charge.add_argument("org", help="id or slug")
    charge.add_argument("amount", type=money)
    charge.add_argument("description")
    charge.add_argument("--now", action="store_true", help="on an invoice of its own, at once")
    config = _verb(verbs, "config", "what stands on every invoice", configure)
    for name in ("company-name", "company-address", "company-email", "company-tax-id", "footer"):
        config.add_argument(f"--{name}", metavar="TEXT")
    config.add_argument("--logo", metavar="URL", help="PNG or JPEG: an address, or a file; empty takes it away")
    config.add_argument("--allow-private", action="store_true", help="the logo's address may be one inside")
    config.add_argument("--prefix", help="begins the numbers of invoices to come (default: INV)")
    config.add_argument("--due-days", type=int, metavar="N", help="days from an invoice's date to its due date")


def _verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=run)
    return parser


def _one(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("invoice", help="number or id")
    return parser


async def list_invoices(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        found = await billing.invoices.all(org_ref=options.org, asked=options.status, year=options.year)
    columns = _PAST_DUE if options.status == Word.PAST_DUE else _COLUMNS
    now_ms = context.clock.now_ms()
    rows = [as_json(each, now_ms) if options.format == "json" else row(each, now_ms) for each in found]
    show_rows(rows, columns, options, empty="No invoices.")
    return 0


async def show_invoice(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        invoice = await billing.invoices.show(options.invoice)
        notes = await billing.credit_notes.of_invoice(invoice.id)
    value = as_json(invoice, context.clock.now_ms())
    value["credit_notes"] = [{"number": n.number, "total": str(n.total), "reason": n.reason} for n in notes]
    lines = lines_of(invoice, context.clock.now_ms())
    lines += [f"Credit note {n.number}: {EN.money(n.total, n.currency)} ({n.reason})" for n in notes]
    show(value, options, lines=lines)
    return 0


async def explain(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        invoice, found = await billing.invoices.explain(options.invoice)
    value = {
        "id": invoice.id, "number": invoice.number,
        "lines": [
            {
                **line_as_json(each.line, each.position), "evidence": dict(each.line.evidence), "rows_quantity": each.rows_quantity,
                "agree": each.agree,
                "hours": [{"hour": isoformat(h.hour_ms), "quantity": h.quantity, "events": h.events} for h in each.hours],
            }
            for each in found
        ],
    }  # fmt: skip
    show(value, options, lines=[f"Invoice: {invoice.number or invoice.id}", *(line for each in found for line in told(each, invoice))])
    return 0


async def preview_invoice(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        settings = await billing.invoices.settings()
        now_ms = context.clock.now_ms()
        made = await billing.invoices.preview(options.org) if options.org else sample(seller_of(settings), now_ms)
    if options.org:
        show(as_json(made, now_ms), options, lines=lines_of(made, now_ms))
        if options.output is None:
            return 0
    path = options.output or Path("invoice_preview.pdf")
    await _write(path, made, options.language, settings.logo)
    if not options.org:
        show({"file": str(path)}, options, lines=[f"✓ Sample invoice written: {path}"])
    return 0


async def download_invoices(options: argparse.Namespace, context: Context) -> int:
    if (options.invoice is None) == (options.year is None):
        raise BadInput("say which: weighbridge invoice download INV-000001, or --year=2026")
    async with context.billing() as billing:
        settings = await billing.invoices.settings()
        if options.invoice is not None:
            made = [await billing.invoices.show(options.invoice)]
        else:
            made = [each for each in await billing.invoices.all(org_ref=options.org, year=options.year) if each.number]
    folder = options.output if options.year is not None else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    paths = [(folder or Path()) / file_name(each) if options.year is not None or not options.output else options.output for each in made]
    if options.format != "json":
        name = made[0].number or made[0].id if options.invoice is not None else ""
        say(f"Downloading invoice {name}..." if name else f"Downloading {len(made)} invoices...")
    for path, invoice in zip(paths, made, strict=True):
        await _write(path, invoice, options.language, settings.logo)
    one = [f"✓ Invoice downloaded: {paths[0]}"] if options.invoice is not None else []
    many = [f"✓ Downloaded to: {folder or Path()}/", *(f"  - {path.name}" for path in paths)] if not one else []
    show({"files": [str(path) for path in paths]}, options, lines=[*one, *many])
    return 0


async def _write(path: Path, invoice: Invoice, language: str | None, logo: bytes | None) -> None:
    """Drawing takes a moment, and letters are looked up from disk."""
    data = await asyncio.to_thread(lambda: render(page(invoice, language), logo))
    try:
        await asyncio.to_thread(path.write_bytes, data)
    except OSError as exc:
        raise BadInput(f"{path} cannot be written: {exc.strerror}") from exc
