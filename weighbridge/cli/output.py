"""What a command prints: a table for people, JSON for programs, CSV for spreadsheets.

The only place of the command line that writes to stdout.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from billing.model import csvtext

from .words import moment


def add_format(parser: argparse.ArgumentParser, *more: str) -> None:
    """--format; `more` are those that a command has beside the three that all have."""
    choices = tuple(dict.fromkeys(("table", "json", "csv", *more)))
    parser.add_argument("--format", choices=choices, default="table", help="how to print the result (default: table)")


def say(*lines: str) -> None:
    """Plain lines."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def give(text: str) -> None:
    """A piece of a file, as it is."""
    sys.stdout.write(text)


def show(value: Any, options: argparse.Namespace, *, lines: Sequence[str] = ()) -> None:
    """`value` as JSON, as one row of CSV where it is an object, or `lines` as they are."""
    if options.format == "json":
        say(json.dumps(value, indent=2, ensure_ascii=False, default=str))
    elif options.format == "csv" and isinstance(value, Mapping):
        say(csvtext.line(value), csvtext.line(_plain(each) for each in value.values()))
    else:
        say(*map(printable, lines))


def show_answer(answer: BaseModel, options: argparse.Namespace, *, lines: Sequence[str] = ()) -> None:
    """An operation's answer: the JSON that REST has too, one row of CSV, or `lines`."""
    show(answer.model_dump(mode="json"), options, lines=lines)


def show_list(
    answer: BaseModel, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], options: argparse.Namespace, *, empty: str
) -> None:
    """An operation's answer that is a list: the JSON that REST has too, or `rows` of it with these columns as a table or CSV."""
    if options.format == "json":
        show(answer.model_dump(mode="json"), options)
    else:
        show_rows(rows, columns, options, empty=empty)


def row_of(answer: BaseModel) -> dict[str, Any]:
    """An answer as a row of a table: instants to the second."""
    row = answer.model_dump(mode="json")
    return {name: moment(at) if isinstance(at := getattr(answer, name), datetime) else value for name, value in row.items()}


def show_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], options: argparse.Namespace, *, empty: str) -> None:
    """Rows as a JSON list or as an aligned table of `columns`; `empty` says so where there are none."""
    if options.format == "json":
        say(json.dumps([dict(row) for row in rows], indent=2, ensure_ascii=False, default=str))
    elif options.format == "csv":
        say(csvtext.line(columns), *(csvtext.line(_plain(row.get(column)) for column in columns) for row in rows))
    elif rows:
        say(*table([[_cell(row.get(column)) for column in columns] for row in rows], columns))
    else:
        say(empty)


def table(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> list[str]:
    """Left-aligned columns, two spaces apart."""
    widths = [max(len(column), *(len(row[i]) for row in rows)) for i, column in enumerate(columns)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (columns, *rows)]


def printable(text: str) -> str:
    """What somebody typed into a name or a label moves no cursor and begins no line of its own: control characters are shown."""
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _plain(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (dict, list)) else value


def _cell(value: Any) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, list):
        return printable(" ".join(map(str, value)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))
