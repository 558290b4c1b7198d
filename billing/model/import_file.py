"""Files of usage: CSV in two forms and JSON Lines, a row a line, read a line at a time. Pure.

The guide's CSV writes its JSON column as it is, `2026-01-29T10:00:00Z,api,1000,{"endpoint":"/api/test"}`; RFC 4180 quotes it. Both are
read: where the last column begins with `{` unquoted, the rest of the line is JSON. A row is one line: a quoted cell with a line break in
it is refused, with its line.
"""

import csv
import json
import math
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from billing.model.event import LONGEST_METADATA, BadEvent, checked_metadata
from metering.model.clock import to_ms

COLUMNS = ("timestamp", "service", "quantity", "metadata", "org_id", "idempotency_key")
NEEDED = ("timestamp", "service", "quantity")
LONGEST_LINE = 64 * 1024


class Said(NamedTuple):
    """One row as it is written. `org` and `key` are empty where the file does not say them."""

    at_ms: int
    service: str
    quantity: str
    metadata: str | None  # JSON
    org: str
    key: str


Reader = Callable[[str], Said]


class NoHeader(BadEvent):
    """The first line of a CSV file names its columns."""

    code = "no_header"


def reader_of(first: str) -> tuple[Reader, bool]:
    """How to read a file's lines, by its first: (reader, whether that line is a header). Raises NoHeader."""
    line = first.removeprefix("\ufeff").strip()
    if line.startswith("{"):
        return read_json, False
    try:
        names = [name.strip().lower() for name in next(csv.reader([line]), [])]
    except csv.Error as exc:
        raise NoHeader(f"the first line is no header of usage: {exc}") from None
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or len(set(names)) < len(names) or not set(NEEDED) <= set(names):
        raise NoHeader(
            f"the first line is no header of usage ({first[:80]!r}); it names timestamp, service, quantity, and "
            "where they are given metadata, org_id, idempotency_key"
        )
    return _csv_reader(names), True


def read_json(line: str) -> Said:
    """One JSON object. Raises BadEvent."""
    try:
        row = json.loads(line, parse_float=str, parse_int=str)
        numbers = json.loads(line, parse_constant=_no_number)  # of metadata, whose numbers stay numbers
    except (ValueError, RecursionError) as exc:
        raise BadEvent(f"not JSON: {exc}") from None
    if not isinstance(row, dict):
        raise BadEvent("not a JSON object")
    unknown = [name for name in row if name not in COLUMNS]
    if unknown:
        raise BadEvent(f"there is no {unknown[0]!r} in a row of usage; there are: {', '.join(COLUMNS)}")
    words = {name: "" if row.get(name) is None else row[name] for name in COLUMNS if name != "metadata"}
    wrong = [name for name, value in words.items() if not isinstance(value, str)]
    if wrong:
        raise BadEvent(f"{wrong[0]} is neither text nor a number")
    metadata = checked_metadata(numbers.get("metadata"))
    return Said(instant(words["timestamp"]), words["service"], words["quantity"], metadata, words["org_id"], words["idempotency_key"])


def _csv_reader(names: Sequence[str]) -> Reader:
    width, place = len(names), {name: index for index, name in enumerate(names)}
    at, service, quantity = (place[name] for name in NEEDED)
    metadata, org, key = (place.get(name, -1) for name in COLUMNS[3:])
    last_is_json = metadata == width - 1

    def read(line: str) -> Said:
        cells = _cells(line, width, last_is_json)
        return Said(
            instant(cells[at]), cells[service], cells[quantity], _json(cells[metadata]) if metadata >= 0 else None,
            cells[org] if org >= 0 else "", cells[key] if key >= 0 else "",
        )  # fmt: skip

    return read


def _cells(line: str, width: int, last_is_json: bool) -> list[str]:
    if '"' not in line:
        cells = line.split(",")
    elif last_is_json and (cells := _with_json(line, width)):
        pass
    else:
        try:
            cells = next(csv.reader([line], strict=True))
        except (csv.Error, StopIteration) as exc:
            raise BadEvent(f"not CSV: {exc}; a row is one line") from None
    if len(cells) != width:
        raise BadEvent(f"{len(cells)} cells where the header names {width}")
    return cells


def _with_json(line: str, width: int) -> list[str]:
    """The cells, where only the last has quotes, and is an object: as it is, or quoted as RFC 4180 says. Else none, and CSV decides."""
    cells = line.split(",", width - 1)
    last = cells[-1]
    if len(cells) < width or line.index('"') < len(line) - len(last):
        return []
    if last.lstrip().startswith("{"):
        return cells
    if not (last.startswith('"{') and last.endswith('}"')) or "\0" in last:
        return []
    inner = last[1:-1].replace('""', "\0")
    cells[-1] = inner.replace("\0", '"')
    return [] if '"' in inner else cells


def _json(cell: str) -> str | None:
    """As it is stored. What no number of Postgres holds, and text that is none, is looked at more closely."""
    text = cell.strip()
    if not text:
        return None
    try:
        found, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError) as exc:
        raise BadEvent(f"metadata is not JSON: {exc}") from None
    if end != len(text):
        raise BadEvent("metadata is not JSON: there is more behind it")
    if type(found) is not dict or len(text) > LONGEST_METADATA or "\\u" in text or not text.isprintable():
        return checked_metadata(found)
    return text


def _float(text: str) -> float:
    """What Postgres takes for a number too."""
    found = float(text)
    if math.isinf(found) or (found == 0 and "e" in text.lower()):
        raise ValueError(f"{text[:20]} is no number")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(parse_constant=_no_number, parse_float=_float)


@lru_cache(maxsize=16_384)
def instant(text: str) -> int:
    """2026-01-29T10:00:00Z; an offset in place of Z, a fraction, a space in place of T will do. Raises BadEvent."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadEvent(f"{text[:40]!r} is no instant; write it as 2026-01-29T10:00:00Z") from None
    if found.tzinfo is None:
        raise BadEvent(f"{text[:40]!r} does not say its zone; write it as 2026-01-29T10:00:00Z")
    return to_ms(found)
