"""`weighbridge close 2026-01`: freeze a month once usage, lines, invoices, payments and refunds tie out."""

import argparse
from typing import Any

from billing.operations import closing as operations
from billing.operations.operation import Nothing

from .context import Context, add_folders
from .output import add_format, show_answer


def add(nouns: Any) -> None:
    parser = nouns.add_parser(
        "close",
        help="freeze a month: usage, lines, invoices, payments and refunds tie out, and nothing dated in it changes any more",
        description="Refuses with the list of what does not tie out. Without a month: those that are closed.",
        epilog="example: weighbridge close 2026-01 --dry-run",
    )
    parser.add_argument("month", nargs="?", help="2026-01; months are closed in their order")
    parser.add_argument("--dry-run", action="store_true", help="look whether it ties out, and close nothing")
    add_folders(parser)
    add_format(parser, "csv")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace, context: Context) -> int:
    if options.month is None:
        found = await context.ask(operations.closed, Nothing())
        show_answer(found, options, lines=found.closed or ["No month is closed."])
        return 0
    done = await context.ask(operations.close, operations.AskMonth(month=options.month, dry_run=options.dry_run))
    lines = [f"✓ {done.month} {'ties out' if done.dry_run else 'is closed'}"]
    for currency, figures in sorted(done.figures.items()):
        lines += [f"  {currency.upper()}", *(f"    {name}: {value}" for name, value in figures.items())]
    show_answer(done, options, lines=lines)
    return 0
