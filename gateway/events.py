"""Server-sent events, as bytes come: the data of each event, whatever the chunks (WHATWG HTML §9.2.5, event streams).

Pure. Lines end in CR, LF or CRLF; the lines `data:` of an event are joined by LF; an empty line ends it. An event whose data is
larger than the bound is not kept, and is told as one that was too large; nothing that is no data is kept at all.
"""

from collections.abc import Callable

_BOM = b"\xef\xbb\xbf"
_DATA = b"data"
_FIELD_BYTES = 5  # of a line are enough to say whether it is data
_TERMINATORS = (10, 13)
_BLANK_LINES = (b"\n\n", b"\r\n\r\n")  # a line of its own that is empty, whatever came before


class EventScanner:
    """`on_event(data)` is called with each event's data; None: it was larger than `most_bytes`."""

    __slots__ = ("_after_cr", "_data", "_line", "_line_bytes", "_most", "_on_event", "_size", "_started")

    def __init__(self, most_bytes: int, on_event: Callable[[bytes | None], None]) -> None:
        self._most, self._on_event = most_bytes, on_event
        self._line: list[bytes] = []  # of the line that has not ended
        self._line_bytes = 0
        self._data: list[bytes] = []  # lines of the event that has not ended
        self._size = -1  # of its data, each line counted with its end; -1: no line of data yet
        self._after_cr = False
        self._started = False

    def pass_over(self, chunk: bytes) -> bool:
        """Whether this chunk is whole events, none beyond the bound: then it need not be fed, if nobody wants to hear of them."""
        if self._line_bytes or self._after_cr or self._size >= 0 or len(chunk) > self._most or not chunk.endswith(_BLANK_LINES):
            return False
        self._started = True
        return True

    def feed(self, chunk: bytes) -> None:
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == _TERMINATORS[0]:
                chunk = chunk[1:]
        if not chunk:
            return
        self._after_cr = chunk[-1] == _TERMINATORS[1]
        for line in chunk.splitlines(keepends=True):
            if line[-1] in _TERMINATORS:
                self._ended(line.rstrip(b"\r\n"))
            else:
                self._keep(line)

    def end(self) -> None:
        """The answer has ended. An event that no empty line ended counts: what cuts it short is the answer's end."""
        if self._line_bytes:
            self._ended(b"")
        self._dispatch()

    def _keep(self, part: bytes) -> None:
        """Of a line without its end: no more than what may become data within the bound."""
        room = max(self._most - max(self._size, 0), 0) + len(_BOM) + _FIELD_BYTES + 2
        if self._line_bytes <= room:
            self._line.append(part)
            self._line_bytes += len(part)
            if self._line_bytes > _FIELD_BYTES + len(_BOM) and not self._is_data(b"".join(self._line)):
                self._line = [b":"]  # the rest of it is nobody's business either

    def _ended(self, rest: bytes) -> None:
        """A line, of which `rest` had not been kept yet."""
        line = rest
        if self._line_bytes:
            self._line.append(rest)
            line = b"".join(self._line)
            self._line, self._line_bytes = [], 0
        if not self._started:
            self._started = True
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch()
        elif self._is_data(line):
            self._take(line[_FIELD_BYTES:].removeprefix(b" "))

    def _is_data(self, line: bytes) -> bool:
        if not self._started:
            line = line.removeprefix(_BOM)
        return line.startswith(_DATA) and line[4:5] in (b":", b"")

    def _take(self, data: bytes) -> None:
        self._size = max(self._size, 0) + len(data) + 1
        if self._size - 1 <= self._most:
            self._data.append(data)
        else:
            self._data.clear()

    def _dispatch(self) -> None:
        if self._size < 0:
            return
        data = b"\n".join(self._data) if self._size - 1 <= self._most else None
        self._data.clear()
        self._size = -1
        self._on_event(data)
