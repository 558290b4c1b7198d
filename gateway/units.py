"""What a service's answer says of the units that a call took: read as the answer passes, from a copy of bounded size.

The answer goes to the client as it came, whatever is found here. Sources are a header, a trailer, a JSON pointer into the body,
a JSON pointer into the last server-sent event that has it. What becomes of the number is in gateway/reserve.py.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from config.gateway import Settled, Source
from metering.model.pointer import ABSENT, Pointer

from .events import EventScanner
from .reply import ResponseHead
from .service import UpstreamConnection

MOST_UNITS = 10**12
"""Of one call. More is no quantity but a fault of the service's."""

_MOST_DIGITS = 15
_EVENTS = b"text/event-stream"
_LAST_EVENT = b"[DONE]"  # what OpenAI and its like send at the end

# Why an answer gives no number. Labels of a metric.
ENCODED: Final = "encoded"
TOO_LARGE: Final = "too_large"
NOT_JSON: Final = "not_json"
NOT_EVENTS: Final = "not_events"
MISSING: Final = "missing"
NOT_A_NUMBER: Final = "not_a_number"
NEGATIVE: Final = "negative"
NOT_WHOLE: Final = "not_whole"
TOO_MANY: Final = "too_many"
BROKEN_OFF: Final = "broken_off"

Found = int | str
"""A number of units, or why there is none."""


def units_of(value: Any) -> Found:
    """A whole number, not negative, also as digits in a text; 12.0 is one, 12.5 is not."""
    if isinstance(value, str | bytes):
        text = value.strip()
        if not (text.isascii() and text.isdigit()):
            return NOT_A_NUMBER
        return _counted(int(text)) if len(text) <= _MOST_DIGITS else TOO_MANY
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NOT_A_NUMBER
    if value < 0:
        return NEGATIVE
    if value > MOST_UNITS:
        return TOO_MANY
    return _counted(int(value)) if value == int(value) else NOT_WHOLE


def _counted(units: int) -> Found:
    return units if units <= MOST_UNITS else TOO_MANY


def field_units(name: str, fields: Iterable[tuple[bytes, bytes]]) -> Found:
    """What the first field of this name says."""
    wanted = name.lower().encode()
    for found, value in fields:
        if found.lower() == wanted:
            return units_of(value)
    return MISSING


class Wanted:
    """What is to be read in the answers of a route, worked out once."""

    __slots__ = ("events", "json", "within")

    def __init__(self, costs: Iterable[Settled]) -> None:
        settled = list(costs)
        sources = [source for cost in settled for source in cost.sources]
        self.within = max((cost.within for cost in settled), default=0)
        self.json = any(source.kind == "json" for source in sources)
        self.events = {source.name: Pointer(source.name) for source in sources if source.kind == "sse"}


class Reading:
    """One answer, as far as it came. `whole`: nothing more of it can change what was found."""

    __slots__ = ("_body", "_document", "_events", "_fault", "_head", "_scanner", "_size", "_trailers", "_wanted", "whole")

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.whole = False
        self._head: ResponseHead | None = None
        self._trailers: Sequence[tuple[bytes, bytes]] = ()
        self._body: list[bytes] | None = None  # the copy, where it is to be read as one document
        self._size = 0
        self._document: Any = ABSENT
        self._scanner: EventScanner | None = None
        self._events: dict[str, Found] = {}
        self._fault = MISSING  # why the body says nothing

    def read(self, connection: UpstreamConnection) -> None:
        """Look at what came of the answer before it is passed on."""
        head = connection.head
        if head is None:
            return
        if self._head is None:
            self._head = head
            if not connection.switched:
                self._trailers = connection.trailers
                self._begin(head)
        if self._body is not None:
            self._keep(self._body, connection.pieces)
        elif self._scanner is not None:
            for piece in connection.pieces:
                if self._matters(piece) or not self._scanner.pass_over(piece):
                    self._scanner.feed(piece)
        if connection.complete and not self.whole:
            self.whole = True
            if self._scanner is not None:
                self._scanner.end()

    def _begin(self, head: ResponseHead) -> None:
        wanted = self._wanted
        if not (wanted.json or wanted.events):
            return
        fields = dict(zip(head.names, (value for _, value in head.fields), strict=True))
        if fields.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            self._fault = ENCODED
        elif fields.get(b"content-type", b"").partition(b";")[0].strip().lower() == _EVENTS:
            if wanted.events:
                self._scanner = EventScanner(wanted.within, self._event)
        elif wanted.json:
            if (head.content_length or 0) > wanted.within:
                self._fault = TOO_LARGE
            else:
                self._body = []

    def _keep(self, body: list[bytes], pieces: list[bytes]) -> None:
        self._size += sum(map(len, pieces))
        if self._size > self._wanted.within:
            self._body, self._fault = None, TOO_LARGE
        else:
            body += pieces

    def _matters(self, piece: bytes) -> bool:
        """Whether an event in it may say anything. Most pieces of a stream are a text that goes by."""
        if _LAST_EVENT in piece:
            return True
        return any(pointer.may_be_in(piece) for pointer in self._wanted.events.values())

    def _event(self, data: bytes | None) -> None:
        if data is None:  # it may have said something else than those before it
            self._events = dict.fromkeys(self._wanted.events, TOO_LARGE)
            return
        if data.strip() == _LAST_EVENT:
            self.whole = True
            return
        asked = [pointer for pointer in self._wanted.events.values() if pointer.may_be_in(data)]
        if not asked:
            return
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        for pointer in asked:
            value = pointer.find(document)
            if value is not ABSENT and value is not None:
                self._events[pointer.text] = units_of(value)

    @property
    def refused(self) -> bool:
        """Whether the service refused the call: it then need not say what it did not do."""
        return self._head is not None and self._head.status >= 400

    def units(self, cost: Settled) -> Found:
        """What the first source says that says anything; else why none does."""
        why = MISSING
        for source in cost.sources:
            found = self._of(source)
            if isinstance(found, int):
                return found
            if why in (MISSING, NOT_EVENTS):
                why = found
        return why

    def _of(self, source: Source) -> Found:
        if source.kind == "header":
            return field_units(source.name, self._head.fields if self._head is not None else ())
        if source.kind == "trailer":
            return field_units(source.name, self._trailers)
        if source.kind == "sse":
            if self._scanner is None:
                return self._fault if self._fault == ENCODED else NOT_EVENTS
            return self._events.get(source.name, MISSING)
        return self._in_document(source)

    def _in_document(self, source: Source) -> Found:
        if self._body is None:
            return self._fault
        if not self.whole:
            return BROKEN_OFF
        if self._document is ABSENT:
            try:
                self._document = orjson.loads(b"".join(self._body))
            except orjson.JSONDecodeError:
                self._body, self._fault = None, NOT_JSON
                return NOT_JSON
        value = Pointer(source.name).find(self._document)
        return MISSING if value is ABSENT or value is None else units_of(value)
