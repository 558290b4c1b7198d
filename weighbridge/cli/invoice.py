"""`weighbridge invoice`: list, show, explain, preview, download; what is decided is in invoice_acts.py, the text in invoice_text.py."""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from billing.model.invoice import Word
from billing.operations import invoice_acts
from billing.operations import invoices as operations
from billing.operations.operation import Download, Nothing
from metering.model.errors import BadInput

from . import invoice_acts as acts
from .context import Context
from .invoice_text import called, explained, lines_of, row
from .output import say, show, show_answer, show_list, show_rows
from .pages import ask_pages
from .progress import Progress
from .verbs import nouns_verbs, verb

_COLUMNS = ("id", "date", "amount", "status", "due_date", "paid_date")
_PAST_DUE = ("id", "date", "amount", "status", "attempts", "next_retry")
_SAMPLE = Path("invoice_preview.pdf")


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "invoice", "invoices: list, show, explain, preview, download, pay, void, credit, config")
    listing = verb(verbs, "list", "newest first", list_invoices, example="weighbridge invoice list --status=past_due")
    listing.add_argument("--status", help="draft, open, paid, void, uncollectible, unpaid, past_due")
    listing.add_argument("--year", type=int)
    for name, text, run in (
        ("show", "one invoice with its lines", show_invoice),
        ("explain", "each line down to the hours of its usage", explain),
    ):
        verb(verbs, name, text, run, example=f"weighbridge invoice {name} INV-000001").add_argument("invoice", help="number or id")
    about = "a sample as PDF; with --org, what would be due if its period ended now"
    preview = verb(verbs, "preview", about, preview_invoice, example="weighbridge invoice preview --org acme-corp")
    preview.add_argument("--output", type=Path, metavar="FILE", help="where the PDF is written (default: invoice_preview.pdf)")
    preview.add_argument("--language", help="en or de; default: the customer's")
    download = verb(verbs, "download", "as PDF", download_invoices, example="weighbridge invoice download --year=2026 --output=invoices/")
    download.add_argument("invoice", nargs="?", help="number or id")
    download.add_argument("--year", type=int, help="all of one year")
    download.add_argument("--output", type=Path, metavar="PATH", help="a file, or with --year a folder")
    download.add_argument("--language", help="en or de; default: the customer's")
    acts.add(verbs)


async def list_invoices(options: argparse.Namespace, context: Context) -> int:
    ask = operations.AskInvoices(status=options.status, year=options.year)
    found = await ask_pages(context, operations.list_all, ask, "invoices")
    columns = _PAST_DUE if options.status == Word.PAST_DUE else _COLUMNS
    show_list(found, [row(each) for each in found.invoices], columns, options, empty="No invoices.")
    return 0


async def show_invoice(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.show, operations.AskInvoice(invoice=options.invoice))
    show_answer(found, options, lines=lines_of(found))
    return 0


async def explain(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.explain, operations.AskInvoice(invoice=options.invoice))
    show_answer(found, options, lines=explained(found))
    return 0


async def preview_invoice(options: argparse.Namespace, context: Context) -> int:
    paper = operations.AskPreviewPaper(language=options.language)
    async with context.desk():
        if context.named_org is None:
            path = options.output or _SAMPLE
            await _write(path, await context.ask(invoice_acts.sample, paper))
            _show_files(options, [path], lines=[f"✓ Sample invoice written: {path}"])
            return 0
        found = await context.ask(operations.preview, Nothing())
        show_answer(found, options, lines=lines_of(found))
        if options.output is not None:
            await _write(options.output, await context.ask(operations.preview_paper, paper))
    return 0


async def download_invoices(options: argparse.Namespace, context: Context) -> int:
    if (options.invoice is None) == (options.year is None):
        raise BadInput("say which: weighbridge invoice download INV-000001, or --year=2026")
    quiet = options.format != "table"
    async with context.desk():
        if options.invoice is not None:
            return await _download_one(options, context, quiet=quiet)
        found = await ask_pages(context, operations.list_all, operations.AskInvoices(year=options.year), "invoices")
        final = [each for each in found.invoices if each.number]
        folder = options.output or Path()
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        if not quiet:
            say(f"Downloading {len(final)} invoice{'' if len(final) == 1 else 's'}...")
        paths = await _download_all(options, context, final, folder)
    _show_files(options, paths, lines=[f"✓ Downloaded to: {folder}/", *(f"  - {path.name}" for path in paths)])
    return 0


async def _download_one(options: argparse.Namespace, context: Context, *, quiet: bool) -> int:
    invoice = await context.ask(operations.show, operations.AskInvoice(invoice=options.invoice))
    if not quiet:
        say(f"Downloading invoice {called(invoice)}...")
    paper = await context.ask(operations.download, operations.AskPaper(invoice=invoice.id, language=options.language))
    path = options.output or Path(paper.filename)
    await _write(path, paper)
    _show_files(options, [path], lines=[f"✓ Invoice downloaded: {path}"])
    return 0


async def _download_all(
    options: argparse.Namespace, context: Context, found: Sequence[operations.InvoiceAnswer], folder: Path
) -> list[Path]:  # fmt: skip
    paths = []
    with Progress("invoices", len(found)) as progress:
        for invoice in found:
            paper = await context.ask(operations.download, operations.AskPaper(invoice=invoice.id, language=options.language))
            paths.append(folder / Path(paper.filename).name)  # the name is the server's word: it leads to no other folder
            await _write(paths[-1], paper)
            progress.advance()
    return paths


def _show_files(options: argparse.Namespace, paths: Sequence[Path], *, lines: Sequence[str]) -> None:
    if options.format == "csv":
        show_rows([{"file": str(path)} for path in paths], ("file",), options, empty="")
    else:
        show({"files": [str(path) for path in paths]}, options, lines=lines)


async def _write(path: Path, file: Download) -> None:
    content = b"".join([piece async for piece in file.pieces])
    try:
        await asyncio.to_thread(path.write_bytes, content)
    except OSError as exc:
        raise BadInput(f"{path} cannot be written: {exc.strerror}") from exc
