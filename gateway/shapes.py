"""Blocks of header fields that differ in plain values alone: read by their kind, once it has come often.

Pure. Whoever calls for many organizations, or gives each call a trace id, sends the same names in the same order, and other values. Of
one such block llhttp has judged every byte. Another may differ from it in visible ASCII inside a value, of fields that neither frame
nor route the message (those must be equal, but for the digits of Content-Length): so what was found of the one holds for the other.
Whatever is of no known kind is read the full way.
"""

from itertools import islice
from typing import Any, Final

from gateway.fields import SPECIAL, Fields

_PLAIN: Final = bytes(byte if 0x20 <= byte < 0x7F else 255 - byte for byte in range(256))
"""Text that this leaves as it is, is visible ASCII and spaces."""
_LITERAL = (SPECIAL | {b"host", b"proxy-connection", b"te"}) - {b"content-length"}
_SPACE: Final = 0x20
_LONGEST_LENGTH: Final = 15  # digits
_OFTEN: Final = 32  # blocks that pay for working out what is common to them
_MOST_SEEN: Final = 512
_MOST_SHAPES: Final = 64
_MOST_DERIVED: Final = 32

_Kind = tuple[bytes, ...]


class Shape:
    """One kind of block; `model` is the first of them. `memo`: what others derive from the kind alone, as in Fields.memo.

    The lines of a head are what stands between its CRLFs: the request line, one for each field, two that are empty. `places`: which
    line a field is, by its name in lower case; `sizes`: how long a line is before its value.
    """

    __slots__ = ("_exactly", "_length_at", "_starts", "memo", "model", "places", "sizes")

    def __init__(self, model: Fields) -> None:
        self.model = model
        self.memo: dict[Any, Any] = {}
        self._length_at = 1 + model.names.index(b"content-length") if b"content-length" in model.names else 0
        self._starts = [b"", *[name + b": " for name in model.written]]
        self.sizes = [len(start) for start in self._starts]
        fields = zip(self._starts[1:], model.names, model.values, strict=True)
        self._exactly = [b"", *[start + value if name in _LITERAL else b"" for start, name, value in fields]]  # empty: any value
        self.places = {name: at for at, name in enumerate(model.names, start=1)}

    def read(self, lines: list[bytes]) -> Fields | None:
        """What the fields in the lines of a head say, whose first line was judged; None where they are of another kind."""
        most = len(self._starts)
        if len(lines) != most + 2 or not self._takes(lines):
            return None
        text = b"".join(lines)
        if text.translate(_PLAIN) != text:
            return None
        length_at = self._length_at
        fields = Fields(self.model.written, lines, self.model.version, self)
        if length_at:
            digits = lines[length_at][self.sizes[length_at] :]
            if not digits.isdigit() or len(digits) > _LONGEST_LENGTH:
                return None
            fields.content_length = int(digits)
        return fields

    def _takes(self, lines: list[bytes]) -> bool:
        """Whether each line is the field that belongs there, with a value that neither begins nor ends with a space."""
        for line, exactly, start, size in zip(lines, self._exactly, self._starts, self.sizes):  # noqa: B905 - the empty ones are left
            if exactly:
                if line != exactly:
                    return False
            elif len(line) <= size or not line.startswith(start) or line[size] == _SPACE or line[-1] == _SPACE:
                return False
        return True

    def remember(self, key: Any, value: Any) -> None:
        if len(self.memo) >= _MOST_DERIVED:
            self.memo.clear()
        self.memo[key] = value


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
        if shape is None and self._comes_often(kind) and len(set(fields.names)) == len(fields.names):
            shape = Shape(fields)
            if shape.read((b"line" + block).split(b"\r\n")) is None:
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
            self._seen.pop(kind, None)  # another is not worked out at once where this one will not do
            return True
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen[kind] = seen
        return False
