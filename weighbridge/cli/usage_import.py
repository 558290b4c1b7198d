"""`weighbridge usage import`: a file of usage, each row once; what will not do is written beside it, with its line and reason."""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TextIO

from billing.model import csvtext
from billing.operations import imports as operations
from billing.operations.imports import ImportAsk, ImportLine
from billing.services.importing import Progress, Reject
from metering.model.errors import BadInput, DependencyUnavailable

from .context import Context
from .output import show
from .verbs import verb

_PIECE = 256 * 1024
_BAR = 28
_NAMED = 5


def add_import(verbs: Any) -> None:
    parser = verb(
        verbs, "import", "a file of usage: CSV (timestamp,service,quantity,metadata) or JSON Lines", import_usage,
        example="weighbridge usage import usage_data.csv",
    )  # fmt: skip
    parser.add_argument("file", metavar="FILE", help="- reads standard input")
    parser.add_argument("--all-orgs", action="store_true", help="each row says whose it is, in org_id (an id or slug)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be taken, and take nothing")
    parser.add_argument("--rejects", metavar="FILE", help="where rows go that will not do (default: FILE.rejects.csv)")


async def import_usage(options: argparse.Namespace, context: Context) -> int:
    path = None if options.file == "-" else Path(options.file)
    if path is not None and not path.is_file():
        raise BadInput(f"there is no file {path}")
    size = path.stat().st_size if path else 0
    rejects = _Rejects(Path(options.rejects or f"{'usage' if path is None else path}.rejects.csv"))
    operation = operations.import_all if options.all_orgs else operations.import_usage
    last: Progress | None = None
    async with context.desk() as desk:
        org = None if options.all_orgs else context.org()
        answer = await desk.call(operation, ImportAsk(dry_run=options.dry_run), org=org, body=_pieces(path))
        async for line in _lines(answer.pieces):
            if line.rejected is not None:
                rejects.add(line.rejected)
            if line.failed is not None:
                _clear()
                raise BadInput(f"{line.failed}. What was read until then stays; run the same command again to go on")
            last = line.done or last
            _draw(line.progress, size)
    _clear()
    rejects.close()
    if last is None:
        raise DependencyUnavailable("the import broke off; what was read stays: run the same command again to go on")
    show({"dry_run": options.dry_run, **_said(last), "rejects": rejects.name}, options, lines=_words(last, options, rejects))
    return 1 if last.rejected else 0


def _words(done: Progress, options: argparse.Namespace, rejects: "_Rejects") -> list[str]:
    verb_ = "would be imported" if options.dry_run else "imported"
    lines = [f"{'' if options.dry_run else '✓ '}{done.accepted:,} of {done.lines:,} rows {verb_}"]
    if done.skipped:
        lines.append(f"  In before: {done.skipped:,}")
    if done.rejected:
        lines.append(f"  Not taken: {done.rejected:,}, in {rejects.name}")
        lines += [f"    line {each.line}: {each.reason}" for each in rejects.first]
    return lines


def _said(done: Progress) -> dict[str, int]:
    return {"lines": done.lines, "accepted": done.accepted, "skipped": done.skipped, "rejected": done.rejected}


class _Rejects:
    """Rows that were not taken, written as they come. There is no file where there are none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._out: TextIO | None = None
        self.first: list[Reject] = []

    @property
    def name(self) -> str | None:
        return str(self._path) if self.first else None

    def add(self, reject: Reject) -> None:
        if self._out is None:
            self._out = self._path.open("w", encoding="utf-8", errors="backslashreplace")
            self._out.write(csvtext.line(("line", "reason", "row")) + "\n")
        self._out.write(csvtext.line((reject.line, reject.reason, reject.text)) + "\n")
        if len(self.first) < _NAMED:
            self.first.append(reject)

    def close(self) -> None:
        if self._out is not None:
            self._out.close()


async def _pieces(path: Path | None) -> AsyncIterator[bytes]:
    with sys.stdin.buffer if path is None else path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[ImportLine]:
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield ImportLine.model_validate(json.loads(line))


def _draw(progress: Progress | None, size: int) -> None:
    """On a terminal, in one line."""
    if progress is None or not sys.stderr.isatty():
        return
    share = min(1.0, progress.size / size) if size else 0.0
    bar = ("█" * round(share * _BAR)).ljust(_BAR, "░") + f" {share:4.0%}" if size else ""
    sys.stderr.write(f"\r{bar}  {progress.lines:,} rows")
    sys.stderr.flush()


def _clear() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
