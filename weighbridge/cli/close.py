"""`weighbridge close 2026-01`: freeze a month once usage, lines, invoices, payments and refunds tie out."""

import argparse
from typing import Any

from .context import Context, add_folders
from .output import add_format, show


def add(nouns: Any) -> None:
    parser = nouns.add_parser(
        "close",
        help="freeze a month: usage, lines, invoices, payments and refunds tie out, and nothing dated in it changes any more",
        description="Refuses with the list of what does not tie out. Without a month: those that are closed.",
    )
    parser.add_argument("month", nargs="?", help="2026-01; months are closed in their order")
    parser.add_argument("--dry-run", action="store_true", help="look whether it ties out, and close nothing")
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        if options.month is None:
            closed = await billing.months.closed()
            show({"closed": closed}, options, lines=closed or ["No month is closed."])
            return 0
        done = await billing.months.close(options.month, dry_run=options.dry_run)
    lines = [f"✓ {done.month} {'ties out' if options.dry_run else 'is closed'}"]
    for currency, figures in sorted(done.figures.items()):
        lines += [f"  {currency.upper()}", *(f"    {name}: {value}" for name, value in figures.items())]
    show({"month": done.month, "figures": done.figures, "dry_run": options.dry_run}, options, lines=lines)
    return 0
