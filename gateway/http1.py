"""Read the heads of HTTP/1 requests strictly.

Pure: bytes in, a head or a Refusal out. llhttp (through httptools) holds the grammar; what it lets pass and two servers could
read differently is refused here and in gateway/fields.py: a second Host, a missing one, Transfer-Encoding on HTTP/1.0 or other than
`chunked`, targets and versions out of form. Section numbers are RFC 9112's. Bodies are read in gateway/client.py and
gateway/chunked.py.

A head that passed all of this under HTTP/1.1 is remembered by its bytes, and so is its block of fields. Where a block comes again below
another request line, that line alone is judged (`_read_plain_line`), by rules that let pass less than the full way does; what they do
not let pass goes the full way.
"""

import re
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

import httptools

from gateway.fields import Fields, Pairs, Refusal, read_host, split_authority
from gateway.memory import Memory
from gateway.shapes import Shape, Shapes

__all__ = ["Fields", "Limits", "Refusal", "RequestHead", "RequestParser", "read_host"]

_METHOD_NAMES: Final = (
    "GET HEAD POST PUT DELETE OPTIONS PATCH TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND UNBIND ACL "
    "REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE MKCALENDAR LINK UNLINK QUERY"
)
_METHODS: Final = {name.encode(): name for name in _METHOD_NAMES.split()}
_UNKNOWN_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32} [/*h]")
_TARGET: Final = bytes(byte if 0x21 <= byte < 0x7F and byte != ord("#") else 255 - byte for byte in range(256))
"""A target that this leaves as it is, is visible ASCII without a fragment."""
_END: Final = b"\r\n\r\n"
_MAX_BLANK_LINES: Final = 8
_MISSES: Final = 16  # after so many heads or blocks in a row that were its own, a client's are looked for only so often
_HARMLESS: Final = ((), (b"keep-alive",))  # after these, and without a body, llhttp reads on with the next head

_MOST_BLOCKS: Final = 4_096
_MOST_BLOCK_BYTES: Final = 2_097_152
_LONGEST_BLOCK: Final = 2_048
_MOST_FIELDS: Final = 40
_blocks: Memory[Fields] = Memory(_MOST_BLOCKS, _MOST_BLOCK_BYTES, _LONGEST_BLOCK)
_known_blocks: Final = _blocks.known
_heads: "Memory[_Whole]" = Memory(_MOST_BLOCKS, _MOST_BLOCK_BYTES, _LONGEST_BLOCK)
_known_heads: Final = _heads.known
_shapes = Shapes()


class Limits(Protocol):
    """What a client may send; config.gateway.Limits."""

    @property
    def max_line(self) -> int: ...
    @property
    def max_headers_bytes(self) -> int: ...
    @property
    def max_header_count(self) -> int: ...
    @property
    def max_body(self) -> int | None: ...
    @property
    def header_timeout_s(self) -> float: ...
    @property
    def keepalive_s(self) -> float: ...


class RequestHead:
    """One parsed request head. What the header fields say is in `fields`, which equal requests share."""

    __slots__ = ("chunked", "content_length", "fields", "host", "http_version", "keep_alive", "method", "path", "target")

    method: str
    target: bytes
    path: bytes
    fields: Fields
    http_version: str
    host: str
    content_length: int | None
    chunked: bool
    keep_alive: bool

    @property
    def headers(self) -> Pairs:
        return self.fields.headers

    @property
    def names(self) -> list[bytes]:
        """The headers' names in lower case, in the same order."""
        return self.fields.names

    @property
    def authority(self) -> bytes:
        return self.fields.authority

    @property
    def expect_continue(self) -> bool:
        return self.fields.expect_continue

    @property
    def connection(self) -> tuple[bytes, ...]:
        return self.fields.connection

    @property
    def upgrade(self) -> bytes:
        """The protocols that the client asks to change to; empty if none."""
        return self.fields.upgrade

    def header(self, lower_name: bytes) -> bytes | None:
        """The first value of a header, without the whitespace around it."""
        return self.fields.get(lower_name)


Head = TypeVar("Head", bound=RequestHead)


class _Whole:
    """A head without faults, and what it says."""

    __slots__ = ("fields", "line_bytes", "method", "path", "raw", "size", "target")

    def __init__(self, raw: bytes, line_bytes: int, method: str, target: bytes, path: bytes, fields: Fields) -> None:
        self.raw, self.size, self.line_bytes = raw, len(raw), line_bytes
        self.method, self.target, self.path, self.fields = method, target, path, fields


class RequestParser(Generic[Head]):
    """Reads one head at a time, so that what follows a head stays with the caller.

    llhttp judges; the fields are then cut from the very bytes it judged, which costs half of its callbacks.
    """

    __slots__ = (
        "_block", "_fields", "_head_misses", "_held", "_limits", "_llhttp", "_looked", "_make", "_max_body", "_max_fields", "_max_head",
        "_max_line", "_misses", "_shape", "_upgrades", "_whole",
    )  # fmt: skip

    def __init__(self, limits: Limits, make: Callable[[], Head], *, upgrades: bool = False) -> None:
        """`upgrades`: requests to change protocols are let pass; whoever lets them, looks at `upgrade`."""
        self._limits = limits
        self._make = make
        self._upgrades = upgrades
        self._max_line, self._max_head = limits.max_line, limits.max_headers_bytes
        self._max_fields, self._max_body = limits.max_header_count, limits.max_body
        self._held = bytearray()
        self._llhttp: httptools.HttpRequestParser | None = None
        self._block = b"\0"  # what this client sent last, if it is remembered: nobody begins like this
        self._fields: Fields | None = None
        self._shape: Shape | None = _shapes.latest  # of what this client sent last; that of another client is a good guess
        self._looked = False  # whether the block that is being read was looked for, and is to be remembered
        self._misses = self._head_misses = 0
        self._whole: _Whole | None = None  # the head that this client sent last, if it is remembered

    @property
    def started(self) -> bool:
        """Whether a part of a head was read."""
        return bool(self._held)

    def asks_for_head_alone(self, data: bytes = b"") -> bool:
        """Whether what could not be read, `data` behind what is held, begins as a HEAD request: its answer has no body."""
        return (bytes(self._held[:5]) or data.lstrip(b"\r\n")[:5]) == b"HEAD "

    def feed(self, data: bytes) -> tuple[Head | None, int]:
        """Read on. Returns the head once it is complete, and how many bytes of `data` were taken.

        Raises Refusal; the parser is of no use after that.
        """
        if self._held:
            return self._feed_fragment(data)
        whole = self._whole
        if whole is not None and data.startswith(whole.raw):
            return self._assemble(whole.method, whole.target, whole.path, whole.fields), whole.size
        return self._feed_other(data)

    def _feed_other(self, data: bytes) -> tuple[Head | None, int]:
        """What does not begin with the head that came last."""
        end = len(data) if data.endswith(_END) else data.find(_END) + 4
        if end < 4:
            return self._feed_fully(data)
        raw = data if end == len(data) else data[:end]
        self._head_misses += 1
        looked = self._head_misses < _MISSES or not self._head_misses % _MISSES
        whole = _known_heads.get(raw) if looked else None
        if whole is not None and self._takes(whole.fields, whole.line_bytes, end):
            self._head_misses, self._whole = 0, whole
            return self._assemble(whole.method, whole.target, whole.path, whole.fields), end
        method, at, fields = "", 0, self._fields
        if fields is not None and raw.endswith(self._block):
            at = end - len(self._block)
            method, target, path = _read_plain_line(raw[:at])
        if not method:
            lines = raw.split(b"\r\n")
            at = len(lines[0])
            method, target, path = _read_plain_line(lines[0])
            if not method:
                return self._feed_fully(data)
            fields = self._find_fields(raw, lines, at)
        if fields is None:
            end = raw.find(_END) + 4  # what stands behind a head may end as heads do; what was known was one head
            raw = raw[:end]
            fields = self._judge_whole(raw, at)
        elif not self._takes(fields, at, end):
            return self._feed_fully(data)
        if looked and fields.taken_under is not None and _heads.keep(raw, whole := _Whole(raw, at, method, target, path, fields)):
            fields.kept, self._whole = True, whole
        return self._assemble(method, target, path, fields), end

    def _find_fields(self, raw: bytes, lines: list[bytes], at: int) -> Fields | None:
        """What the fields say, if that is known of this block, or worked out for its kind. They begin behind the line, up to `at`."""
        self._misses += 1
        self._looked = self._misses < _MISSES or not self._misses % _MISSES
        block = raw[at:] if self._looked else b""
        if self._looked:
            fields = _known_blocks.get(block)
            if fields is not None:
                self._misses = 0
                self._block, self._fields = block, fields
                return fields
        shape = self._shape
        fields = shape.read(lines) if shape is not None else None
        if fields is not None and self._looked:
            fields.kept = _blocks.keep(block, fields)
        return fields

    def _judge_whole(self, raw: bytes, at: int) -> Fields:
        """A head whose request line, up to `at`, is as it should be."""
        self._judge(raw)
        self._check_size(at, len(raw))
        block = raw[at:]
        fields = self._read_fields(block, "1.1")
        self._check_body(fields)
        if not fields.upgrade and len(fields.names) <= _MOST_FIELDS and len(block) <= _LONGEST_BLOCK:
            fields.taken_under = self._limits
            fields.kept = self._looked and _blocks.keep(block, fields)
            if not fields.kept:
                self._shape = _shapes.of(block, fields)
        return fields

    def _takes(self, fields: Fields, line_bytes: int, head_bytes: int) -> bool:
        """Whether these limits let pass what is known to be well-formed."""
        if line_bytes > self._max_line or head_bytes > self._max_head:
            return False
        if fields.taken_under is not self._limits:
            if len(fields.names) > self._max_fields or (self._max_body is not None and (fields.content_length or 0) > self._max_body):
                return False
            fields.taken_under = self._limits
        return True

    def _begin(self) -> Head:
        return self._make()

    def _assemble(self, method: str, target: bytes, path: bytes, fields: Fields) -> Head:
        head = self._begin()
        head.method = method
        head.target = target
        head.path = path
        head.fields = fields
        head.http_version = fields.version
        head.host = fields.host
        head.content_length = fields.content_length
        head.chunked = fields.chunked
        head.keep_alive = fields.keep_alive
        return head

    def _feed_fully(self, data: bytes) -> tuple[Head | None, int]:
        start = 0
        while data.startswith(b"\r\n", start):  # §2.2: blank lines before a request line are skipped
            start += 2
            if start > 2 * _MAX_BLANK_LINES:
                raise Refusal(400, "bad_request", "Too many blank lines before a request.")
        end = data.find(b"\r\n\r\n", start) + 4
        if end < 4:
            head, taken = self._feed_fragment(data[start:]) if start < len(data) else (None, 0)
            return head, start + taken
        raw = data[start:end]  # the same object if it is all of it
        self._judge(raw)
        return self._read(raw), end

    def _feed_fragment(self, data: bytes) -> tuple[Head | None, int]:
        held = self._held
        before = len(held)
        if held == b"\r":  # half of a blank line, or nonsense
            if not data.startswith(b"\n"):
                raise Refusal(400, "bad_request", "A line before the request is not empty.")
            held.clear()
            head, taken = self.feed(data[1:])
            return head, taken + 1
        held += data
        if held == b"\r":
            return None, 1
        end = held.find(b"\r\n\r\n", max(0, before - 3)) + 4
        if end < 4:
            self._judge(data)  # so that nonsense is refused at once, not when the header time is over
            line = held.find(b"\r\n")
            self._check_size(len(held) if line < 0 else line, len(held))
            return None, len(data)
        self._judge(bytes(held[before:end]))
        head = self._read(bytes(held[:end]))
        self._held = bytearray()
        return head, end - before

    def _judge(self, data: bytes) -> None:
        if self._llhttp is None:
            self._llhttp = httptools.HttpRequestParser(None)
            self._llhttp.set_dangerous_leniencies(None, None, None, True, True)  # codings and versions are judged here, and in fields.py
        try:
            self._llhttp.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # told by our own reading of the fields
        except httptools.HttpParserInvalidMethodError as error:
            if _UNKNOWN_METHOD.match(bytes(self._held) or data):
                raise Refusal(501, "method_not_implemented", "The request method is not known here.") from error
            raise Refusal(400, "bad_request", "The request line is malformed.") from error
        except httptools.HttpParserError as error:
            raise Refusal(400, "bad_request", f"The request is malformed: {error}.") from error

    def _check_size(self, line_bytes: int, head_bytes: int) -> None:
        limits = self._limits
        if line_bytes > limits.max_line:
            raise Refusal(414, "line_too_long", f"The request line is longer than {limits.max_line} bytes.")
        if head_bytes > limits.max_headers_bytes:
            raise Refusal(431, "headers_too_large", f"The header fields are larger than {limits.max_headers_bytes} bytes.")

    def _read(self, raw: bytes) -> Head:
        """Cut up a head that llhttp let pass: no bare CR or LF, no fold, no space before a colon is in it."""
        at = raw.find(b"\r\n")
        self._check_size(at, len(raw))
        method, target, version = _split_line(raw[:at])
        fields = self._read_fields(raw[at:], version)
        target, named = _read_target(method, target)
        self._check_body(fields)
        if named:
            fields = fields.at(named)
        query = target.find(b"?")
        return self._assemble(method, target, target if query < 0 else target[:query], fields)

    def _read_fields(self, block: bytes, version: str) -> Fields:
        lines = block.split(b"\r\n")
        if len(lines) - 3 > self._limits.max_header_count:
            raise Refusal(431, "too_many_headers", f"There are more than {self._limits.max_header_count} header fields.")
        parts = [line.partition(b":") for line in lines[1:-2]]
        fields = Fields([part[0] for part in parts], [part[2].strip(b" \t") for part in parts], version)
        if fields.upgrade and not self._upgrades:
            raise Refusal(501, "upgrade_not_implemented", "Protocol upgrades, such as WebSocket, do not pass this gateway.")
        return fields

    def _check_body(self, fields: Fields) -> None:
        """Whether the body may be so large; and llhttp is made ready for the head behind it."""
        limit, length = self._limits.max_body, fields.content_length
        if fields.chunked or length or fields.connection not in _HARMLESS:
            self._llhttp = None  # this one waits for a body, or for the connection's end
        if limit is not None and length is not None and length > limit:
            raise Refusal(413, "body_too_large", f"The body is larger than {limit} bytes.")


def _read_plain_line(line: bytes) -> tuple[str, bytes, bytes]:
    """Method, target and path of a common request line: HTTP/1.1, and origin-form of visible ASCII. No method for any other."""
    if not line.endswith(b" HTTP/1.1"):
        return "", b"", b""
    if line.startswith(b"GET "):
        method, target = "GET", line[4:-9]
    else:
        verb, _, target = line[:-9].partition(b" ")
        method = _METHODS.get(verb, "")
    if not target.startswith(b"/") or target.translate(_TARGET) != target:
        return "", b"", b""
    return method, target, target.partition(b"?")[0]


def _split_line(line: bytes) -> tuple[str, bytes, str]:
    """§3: method SP target SP version, exactly; llhttp takes several spaces, and other protocols' names."""
    try:
        method, target, version = line.split(b" ")
    except ValueError as error:
        raise Refusal(400, "bad_request", "The request line is malformed.") from error
    if not version.startswith(b"HTTP/1."):
        raise Refusal(505, "version_not_supported", "Only HTTP/1.0 and HTTP/1.1 are spoken here.")
    known = _METHODS.get(method)
    if known is None:
        raise Refusal(501, "method_not_implemented", "The request method is not known here.")
    return known, target, "1.0" if version == b"HTTP/1.0" else "1.1"  # RFC 9110 §2.5: a later 1.x is read as the latest known


def _read_target(method: str, target: bytes) -> tuple[bytes, bytes]:
    """§3.2: origin-form, absolute-form (reduced to it; its authority replaces Host), or `*` for OPTIONS.

    Returns the target in origin-form, and the authority that it named.
    """
    if b"#" in target:
        raise Refusal(400, "bad_request", "The request target has a fragment.")
    if target.startswith(b"/") or (target == b"*" and method == "OPTIONS"):
        return target, b""
    if target[:7].lower() == b"http://":
        authority, rest = split_authority(target[7:])
    elif target[:8].lower() == b"https://":
        authority, rest = split_authority(target[8:])
    else:
        raise Refusal(400, "bad_request", "The request target is malformed.")
    if not rest and method == "OPTIONS":
        return b"*", authority
    return rest if rest.startswith(b"/") else b"/" + rest, authority
