"""CSV (RFC 4180) that no spreadsheet takes for formulas. Pure. Every export writes its lines here.

A cell that begins with = + - @, a tab or a line break is run by spreadsheets as soon as the file is opened, whoever typed it into a
label or a name. Such a cell gets an apostrophe in front, which they show as text; plain numbers stay numbers.
"""

import re
from collections.abc import Iterable

_RUN = re.compile(r"\s*[=+\-@＝＋－＠|%]|[\t\r\n]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def cell(value: object) -> str:
    """One value, unquoted. None is empty."""
    text = "" if value is None else str(value)
    return f"'{text}" if _RUN.match(text) and not _NUMBER.fullmatch(text) else text


def line(values: Iterable[object]) -> str:
    """One line without its end; quoted where a cell holds a comma, a quote, a line break or outer spaces."""
    return ",".join(_quoted(cell(value)) for value in values)


def _quoted(text: str) -> str:
    if text != text.strip() or any(mark in text for mark in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text
