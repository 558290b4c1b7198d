"""A YAML text, read safely, with the line of every value.

Safe: no tags, no merge keys, no doubled keys, few aliases, bounded size and depth, one document. Plain words are read
as YAML 1.2 does: `yes`, `on` and `no` are words, only `true` and `false` are truth values; `10_000` is a number.
"""

import re
from collections.abc import Iterator
from typing import Any, ClassVar

import yaml

MOST_CHARACTERS = 1_000_000
MOST_DEPTH = 30
MOST_VALUES = 100_000  # aliases expanded

_INT = re.compile(r"[-+]?[0-9](_?[0-9])*")
_FLOAT = re.compile(
    r"[-+]?([0-9][0-9_]*)?\.[0-9_]*([eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_WORDS: dict[str, bool | None] = {
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    "null": None, "Null": None, "NULL": None, "~": None, "": None,
}  # fmt: skip

_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


UNREAD: Any = object()
"""Stands for the value of a file that could not be read; its fault is in the report already."""


class Table(dict[str, Any]):
    """A mapping of the file: `path` from the file's top, `line` where it starts, `lines` where each key stands."""

    def __init__(self, path: str, line: int) -> None:
        super().__init__()
        self.path, self.line = path, line
        self.lines: dict[str, int] = {}
        self.written: Table = self  # the mapping as it stands in the file, where this one is a part of it


class Items(list[Any]):
    """A list of the file, positioned as a Table is."""

    def __init__(self, path: str, line: int) -> None:
        super().__init__()
        self.path, self.line = path, line
        self.lines: list[int] = []


class PlainFloat(float):
    """A number with a point, and how it was written: where money is meant, the text is what counts."""

    text: str

    def __new__(cls, text: str) -> "PlainFloat":
        number = super().__new__(cls, text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
        number.text = text
        return number


class Unreadable(Exception):
    """The text is no YAML that Weighbridge reads. Carries the line."""

    def __init__(self, line: int, path: str, message: str) -> None:
        super().__init__(message)
        self.line, self.path, self.message = line, path, message


def read(text: str) -> tuple[Any, list[Unreadable]]:
    """The document's value, and what was skipped in it (doubled keys, tags). Raises Unreadable for what cannot be read at all."""
    if len(text) > MOST_CHARACTERS:
        raise Unreadable(1, "", f"the file has {len(text):,} characters; at most {MOST_CHARACTERS:,} are read")
    try:
        return _Builder(yaml.parse(text, Loader=_LOADER)).document()
    except yaml.MarkedYAMLError as error:
        opened = "flow" in (error.context or "") or "quoted" in (error.context or "")  # a bracket or quote that stays open
        mark = (error.context_mark if opened else None) or error.problem_mark or error.context_mark
        raise Unreadable(mark.line + 1 if mark else 1, "", _sentence(error)) from error
    except yaml.YAMLError as error:
        raise Unreadable(_line_of(error, text), "", "not YAML: " + " ".join(str(error).split())) from error


def _line_of(error: yaml.YAMLError, text: str) -> int:
    return text.count("\n", 0, getattr(error, "position", 0)) + 1


def _sentence(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "cannot be read"
    if "cannot start any token" in problem:
        problem = "a tab, or another character no value may start with; YAML is indented with spaces, odd texts go in quotes"
    elif "mapping values are not allowed" in problem:
        problem = "a second `key:` in one line, or wrong indentation (a value that holds `: ` goes in quotes)"
    elif "flow" in (error.context or ""):
        problem = "the bracket that opens here is not closed, or a comma is missing in it"
    elif "quoted" in (error.context or ""):
        problem = "the quote that opens here is not closed"
    elif "expected <block end>" in problem or "did not find expected key" in problem:
        problem = "the indentation does not match the lines above"
    return f"not YAML: {problem}"


class _Builder:
    """Values from the parser's events. Nesting is bounded before it is walked."""

    _start: ClassVar[dict[type, type]] = {yaml.MappingStartEvent: Table, yaml.SequenceStartEvent: Items}

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = 0
        self.skipped: list[Unreadable] = []

    def document(self) -> tuple[Any, list[Unreadable]]:
        next(self._events)  # stream start
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None, []
        value = self._value(next(self._events), "", 0)
        next(self._events)  # document end
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise Unreadable(event.start_mark.line + 1, "", "a second document starts here (`---`): one file holds one")
        return value, self.skipped

    def _value(self, event: Any, path: str, depth: int) -> Any:
        line = event.start_mark.line + 1
        if depth > MOST_DEPTH:
            raise Unreadable(line, "", f"nested more than {MOST_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), path, line)
        if event.tag not in (None, "!"):
            self.skipped.append(Unreadable(line, path, f"the tag {event.tag} is refused: write the plain value"))
        before = self._count(1, line)
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event.value) if event.implicit[0] and event.style in (None, "") else event.value
        elif isinstance(event, yaml.MappingStartEvent):
            value = self._table(path, line, depth)
        else:
            value = self._items(path, line, depth)
        if event.anchor:
            self._anchors[event.anchor] = (value, self._values - before)
        return value

    def _count(self, more: int, line: int) -> int:
        before, self._values = self._values, self._values + more
        if self._values > MOST_VALUES:
            raise Unreadable(line, "", f"the aliases make more than {MOST_VALUES:,} values of it")
        return before

    def _alias(self, name: str, path: str, line: int) -> Any:
        if name not in self._anchors:
            raise Unreadable(line, path, f"the alias *{name} names nothing above it, or holds itself")
        value, size = self._anchors[name]
        self._count(size, line)
        return _moved(value, path)

    def _table(self, path: str, line: int, depth: int) -> Table:
        table = Table(path, line)
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            at = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise Unreadable(at, path, "a key is a plain word here, not a list, a mapping or an alias")
            key, inner = event.value, join(path, event.value)
            value = self._value(next(self._events), inner, depth + 1)
            if key == "<<":
                self.skipped.append(Unreadable(at, path, "merge keys (`<<`) are refused: repeat the words, or use copy_from"))
            elif key in table:
                self.skipped.append(Unreadable(at, inner, f"`{key}` stands here twice, first in line {table.lines[key]}: keep one"))
            else:
                table[key] = value
                table.lines[key] = at
        return table

    def _items(self, path: str, line: int, depth: int) -> Items:
        items = Items(path, line)
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.lines.append(event.start_mark.line + 1)
            items.append(self._value(event, f"{path}[{len(items)}]", depth + 1))
        return items


def join(path: str, key: str) -> str:
    """The path of `key` below `path`; a key that is no plain word stands in quotes."""
    shown = key if re.fullmatch(r"[\w-]+", key) else f'"{key}"'
    return f"{path}.{shown}" if path else shown


def _scalar(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text.replace("_", "")) if len(text) <= 40 else text
    if _FLOAT.fullmatch(text) and any(c.isdigit() or c in "fFnN" for c in text):
        return PlainFloat(text.lower())
    return text


def _moved(value: Any, path: str) -> Any:
    """A copy of an anchored value at the place of its alias; its lines stay those where it is written."""
    if isinstance(value, Table):
        table = Table(path, value.line)
        table.lines = dict(value.lines)
        table.update({key: _moved(inner, join(path, key)) for key, inner in value.items()})
        return table
    if isinstance(value, Items):
        items = Items(path, value.line)
        items.lines = list(value.lines)
        items.extend(_moved(inner, f"{path}[{index}]") for index, inner in enumerate(value))
        return items
    return value
