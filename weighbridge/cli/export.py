"""`weighbridge export`: usage as a file."""

import argparse
import codecs
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from billing.operations import exports as operations
from billing.operations.exports import ExportAsk, FileFormat

from .context import Context, add_folders
from .output import give
from .verbs import nouns_verbs
from .words import read_day


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "export", "usage as a file: CSV, JSON, JSON Lines")
    text = "row by row, in order of time; what is exported can be imported again"
    example = "example: weighbridge export usage --format=csv --output=usage_2026_01.csv"
    parser = verbs.add_parser("usage", help=text, description=text, epilog=example)
    parser.add_argument("--org", metavar="ORG", help="id or slug (default: WEIGHBRIDGE_ORG, or the only one there is)")
    parser.add_argument("--all-orgs", action="store_true", help="every organization's")
    parser.add_argument("--service", "--meter", help="one service")
    parser.add_argument("--start", metavar="YYYY-MM-DD", help="from this day on, UTC")
    parser.add_argument("--end", metavar="YYYY-MM-DD", help="up to this day, with it")
    parser.add_argument("--output", metavar="FILE", help="default: standard output")
    parser.add_argument("--format", choices=[each.value for each in FileFormat], default="csv", help="default: csv")
    add_folders(parser)
    parser.set_defaults(run=export_usage)


async def export_usage(options: argparse.Namespace, context: Context) -> int:
    ask = ExportAsk(
        format=FileFormat(options.format), service=options.service,
        start=None if options.start is None else read_day(options.start), end=None if options.end is None else read_day(options.end),
    )  # fmt: skip
    operation = operations.export_all if options.all_orgs else operations.export_usage
    async with context.desk() as desk:
        answer = await desk.call(operation, ask, org=None if options.all_orgs else context.org())
        if options.output is None:
            read = codecs.getincrementaldecoder("utf-8")()
            async for piece in answer.pieces:
                give(read.decode(piece))
            return 0
        size = await _write(answer.pieces, Path(options.output))
    sys.stderr.write(f"✓ Usage exported to {options.output} ({size:,} bytes)\n")
    return 0


async def _write(pieces: AsyncIterator[bytes], path: Path) -> int:
    """All of it, or no file."""
    part, size = path.with_name(f"{path.name}.part"), 0
    try:
        with part.open("wb") as file:
            async for piece in pieces:
                size += file.write(piece)
                if sys.stderr.isatty():
                    sys.stderr.write(f"\r{size:,} bytes")
        os.replace(part, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    return size
