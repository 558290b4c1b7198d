"""Blocks of header fields that differ in plain values alone: read by one pattern, made when their kind has come often.

Pure. Whoever calls for many organizations, or gives each call a trace id, sends the same names in the same order, and other values. Of
one such block llhttp has judged every byte. Another may differ from it in visible ASCII inside a value, of fields that neither frame
nor route the message (those must be equal, but for the digits of Content-Length): so what was found of the one holds for the other.
Whatever a pattern does not match is read the full way.
"""

import re
from itertools import islice
from typing import Any

from gateway.fields import SPECIAL, Fields

_LITERAL = (SPECIAL | {b"host", b"proxy-connection", b"te"}) - {b"content-length"}
_VALUE = rb"([!-~][ -~]*+)(?<! )"
_LENGTH = rb"([0-9]{1,15})"
_OFTEN = 32  # blocks that pay for a pattern, which takes a millisecond to make
_MOST_SEEN, _MOST_SHAPES = 512, 64
_MOST_DERIVED = 32

_Kind = tuple[bytes, ...]


class Shape:
    """One kind of block; `model` is the first of them. `memo`: what others derive from the kind alone, as in Fields.memo."""

    __slots__ = ("_length_at", "memo", "model", "pattern")

    def __init__(self, model: Fields) -> None:
        self.model = model
        self.memo: dict[Any, Any] = {}
        self._length_at = model.names.index(b"content-length") if b"content-length" in model.first else -1
        lines = [_line(*field) for field in zip(model.written, model.names, model.values, strict=True)]
        self.pattern = re.compile(b"".join(lines) + rb"\r\n\r\n")

    def fields(self, found: "re.Match[bytes]") -> Fields:
        """What the matched block says."""
        values = found.groups()
        fields = Fields(self.model.written, values, self.model.version, self.model)
        fields.shape = self
        if self._length_at >= 0:
            fields.content_length = int(values[self._length_at])
        return fields

    def remember(self, key: Any, value: Any) -> None:
        if len(self.memo) >= _MOST_DERIVED:
            self.memo.clear()
        self.memo[key] = value


def _line(written: bytes, name: bytes, value: bytes) -> bytes:
    may_be = _LENGTH if name == b"content-length" else b"(" + re.escape(value) + b")" if name in _LITERAL else _VALUE
    return rb"\r\n" + re.escape(written) + b": " + may_be


class Shapes:
    """The shapes that came often of late."""

    def __init__(self) -> None:
        self.latest: Shape | None = None  # what to try on a new connection
        self._known: dict[_Kind, Shape] = {}
        self._seen: dict[_Kind, int] = {}

    def of(self, block: bytes, fields: Fields) -> Shape | None:
        """The shape of a block that was read the full way, if it has one by now: to try on what comes next."""
        literal = [value for name, value in zip(fields.names, fields.values, strict=True) if name in _LITERAL]
        kind = (*fields.written, b":", *literal)
        shape = self._known.get(kind)
        if shape is None and self._comes_often(kind) and len(fields.first) == len(fields.names):
            shape = Shape(fields)
            if shape.pattern.fullmatch(block) is None:
                return None
            if len(self._known) >= _MOST_SHAPES:
                for old in list(islice(self._known, _MOST_SHAPES // 2)):
                    del self._known[old]
            self._known[kind] = shape
        self.latest = shape or self.latest
        return shape

    def _comes_often(self, kind: _Kind) -> bool:
        seen = self._seen.get(kind, 0) + 1
        if seen >= _OFTEN:
            self._seen.pop(kind, None)  # another pattern is not made at once where this one will not do
            return True
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen[kind] = seen
        return False
