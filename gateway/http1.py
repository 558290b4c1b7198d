"""Read the heads of HTTP/1 requests strictly.

Pure: bytes in, a head or a Refusal out. llhttp (through httptools) holds the grammar; what it lets pass and two servers could
read differently is refused here: a second Host, a missing one, Transfer-Encoding on HTTP/1.0 or other than `chunked`, targets and
versions out of form. Section numbers are RFC 9112's. Bodies are read in gateway/downstream.py and gateway/chunked.py.
"""

import re
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import httptools

_METHOD_NAMES = (
    "GET HEAD POST PUT DELETE OPTIONS PATCH TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND UNBIND ACL "
    "REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE MKCALENDAR LINK UNLINK QUERY"
)
_METHODS = {name.encode(): name for name in _METHOD_NAMES.split()}
_UNKNOWN_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32} [/*h]")
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]*)?")
_SPECIAL = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect"))
_MAX_BLANK_LINES = 8
_HOSTS_REMEMBERED = 4096
_LONGEST_REMEMBERED = 261  # the longest name, a colon, a port; who sends longer ones shall not fill memory


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


class Refusal(Exception):
    """What the client sent cannot be served; its connection is closed after the answer."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


class RequestHead:
    """One parsed request head. `names` are the headers' names in lower case, in the same order."""

    __slots__ = (
        "authority",
        "chunked",
        "connection",
        "content_length",
        "expect_continue",
        "headers",
        "host",
        "http_version",
        "keep_alive",
        "method",
        "names",
        "path",
        "target",
    )

    method: str
    target: bytes
    path: bytes
    headers: list[tuple[bytes, bytes]]
    names: list[bytes]
    http_version: str
    authority: bytes
    host: str
    content_length: int | None
    chunked: bool
    expect_continue: bool
    keep_alive: bool
    connection: tuple[bytes, ...]

    def header(self, lower_name: bytes) -> bytes | None:
        """The first value of a header, without the whitespace around it."""
        try:
            return self.headers[self.names.index(lower_name)][1]
        except ValueError:
            return None


Head = TypeVar("Head", bound=RequestHead)


class RequestParser(Generic[Head]):
    """Reads one head at a time, so that what follows a head stays with the caller.

    llhttp judges; the fields are then cut from the very bytes it judged, which costs half of its callbacks.
    """

    __slots__ = ("_held", "_limits", "_llhttp", "_make")

    def __init__(self, limits: Limits, make: Callable[[], Head]) -> None:
        self._limits = limits
        self._make = make
        self._held = bytearray()
        self._llhttp = httptools.HttpRequestParser(None)

    @property
    def started(self) -> bool:
        """Whether a part of a head was read."""
        return bool(self._held)

    def feed(self, data: bytes) -> tuple[Head | None, int]:
        """Read on. Returns the head once it is complete, and how many bytes of `data` were taken.

        Raises Refusal; the parser is of no use after that.
        """
        if self._held:
            return self._feed_fragment(data)
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
        held += data
        end = held.find(b"\r\n\r\n", max(0, before - 3)) + 4
        if end < 4:
            self._judge(data)  # so that nonsense is refused at once, not when the header time is over
            line = held.find(b"\r\n")
            self._check_size(len(held) if line < 0 else line, len(held))
            return None, len(data)
        self._judge(bytes(held[before:end]))
        raw = bytes(held[:end])
        self._held = bytearray()
        return self._read(raw), end - before

    def _judge(self, data: bytes) -> None:
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
        lines = raw.split(b"\r\n")
        self._check_size(len(lines[0]), len(raw))
        limits = self._limits
        if len(lines) - 3 > limits.max_header_count:
            raise Refusal(431, "too_many_headers", f"There are more than {limits.max_header_count} header fields.")
        head = self._make()
        target = _read_line(head, lines[0])
        fields = [line.partition(b":") for line in lines[1:-2]]
        head.headers = [(name, value.strip(b" \t")) for name, _, value in fields]
        head.names = [name.lower() for name, _, _ in fields]
        _read_fields(head)
        _read_target(head, target)
        if head.chunked or head.content_length or head.connection:
            self._llhttp = httptools.HttpRequestParser(None)  # this one waits for a body, or for the connection's end
        if limits.max_body is not None and (head.content_length or 0) > limits.max_body:
            raise Refusal(413, "body_too_large", f"The body is larger than {limits.max_body} bytes.")
        return head


def _read_line(head: RequestHead, line: bytes) -> bytes:
    """§3: method SP target SP version, exactly; llhttp takes several spaces, and other protocols' names. Returns the target."""
    try:
        method, target, version = line.split(b" ")
    except ValueError as error:
        raise Refusal(400, "bad_request", "The request line is malformed.") from error
    known = _METHODS.get(method)
    if version == b"HTTP/1.1":
        head.http_version = "1.1"
    elif version == b"HTTP/1.0":
        head.http_version = "1.0"
    else:
        raise Refusal(505, "version_not_supported", "Only HTTP/1.0 and HTTP/1.1 are spoken here.")
    if known is None:
        raise Refusal(501, "method_not_implemented", "The request method is not known here.")
    head.method = known
    return target


def _read_fields(head: RequestHead) -> None:
    head.content_length = None
    head.chunked = head.expect_continue = False
    head.keep_alive = head.http_version == "1.1"
    head.connection = ()
    host: bytes | None = None
    upgrade = b""
    for name, (_, value) in zip(head.names, head.headers, strict=True):
        if name not in _SPECIAL:
            continue
        if name == b"host":
            if host is not None:
                raise Refusal(400, "bad_request", "There are two Host fields.")
            host = value
        elif name == b"content-length":
            head.content_length = int(value)  # llhttp let only digits pass, once, and not beside Transfer-Encoding
        elif name == b"transfer-encoding":
            _read_transfer_encoding(head, value)
        elif name == b"connection":
            _read_connection(head, value)
        elif name == b"upgrade":
            upgrade += b"," + value
        elif value.lower() != b"100-continue":
            raise Refusal(417, "expectation_failed", "The only expectation met here is 100-continue.")
        else:
            head.expect_continue = head.http_version == "1.1"
    if host is None and head.http_version == "1.1":
        raise Refusal(400, "bad_request", "The Host field is missing.")
    head.authority = host or b""
    if host is not None:
        head.host = read_host(host)
    else:
        head.host = ""
    if upgrade and head.http_version == "1.1" and b"upgrade" in head.connection:
        _refuse_upgrade(upgrade)


def _read_transfer_encoding(head: RequestHead, value: bytes) -> None:
    if head.http_version == "1.0":  # §6.1: its framing is faulty
        raise Refusal(400, "bad_request", "Transfer-Encoding does not belong in HTTP/1.0.")
    if value.lower() != b"chunked":
        raise Refusal(501, "transfer_encoding_not_implemented", "The only transfer coding known here is chunked.")
    head.chunked = True


def _read_connection(head: RequestHead, value: bytes) -> None:
    tokens = tuple(token.strip(b" \t").lower() for token in value.split(b","))
    head.connection += tokens
    if b"close" in tokens:
        head.keep_alive = False
    elif b"keep-alive" in tokens and b"close" not in head.connection:
        head.keep_alive = True


def _refuse_upgrade(protocols: bytes) -> None:
    """An offer of h2c may be passed over (RFC 9110 §7.8; Java's client makes it by default); anything else is meant."""
    names = {name.strip(b" \t").lower() for name in protocols.split(b",")} - {b"", b"h2c"}
    if names:
        raise Refusal(501, "upgrade_not_implemented", "Protocol upgrades, such as WebSocket, do not pass this gateway.")


def _read_target(head: RequestHead, target: bytes) -> None:
    """§3.2: origin-form, absolute-form (reduced to it; its authority replaces Host), or `*` for OPTIONS."""
    if b"#" in target:
        raise Refusal(400, "bad_request", "The request target has a fragment.")
    if not target.startswith(b"/"):
        if target == b"*" and head.method == "OPTIONS":
            pass
        elif target[:7].lower() == b"http://":
            target = _reduce(head, target[7:])
        elif target[:8].lower() == b"https://":
            target = _reduce(head, target[8:])
        else:
            raise Refusal(400, "bad_request", "The request target is malformed.")
    head.target = target
    query = target.find(b"?")
    head.path = target if query < 0 else target[:query]


def _reduce(head: RequestHead, rest: bytes) -> bytes:
    match = _AUTHORITY.match(rest)
    if match is None or rest[match.end() : match.end() + 1] not in (b"", b"/", b"?"):
        raise Refusal(400, "bad_request", "The authority of the request target is malformed.")
    authority = match[0]
    head.host, head.authority = read_host(authority), authority
    if b"host" in head.names:
        at = head.names.index(b"host")
        head.headers[at] = (head.headers[at][0], authority)
    else:
        head.names.insert(0, b"host")
        head.headers.insert(0, (b"Host", authority))
    target = rest[match.end() :]
    if not target and head.method == "OPTIONS":
        return b"*"
    return target if target.startswith(b"/") else b"/" + target


_hosts: dict[bytes, str] = {}


def read_host(authority: bytes) -> str:
    """The host of an authority in lower case without its port; an IPv6 literal keeps its brackets.

    Raises Refusal for what is no authority. Remembers a few thousand, since few differ.
    """
    host = _hosts.get(authority)
    if host is None:
        match = _AUTHORITY.fullmatch(authority)
        if match is None:
            raise Refusal(400, "bad_request", "The Host field is malformed.")
        host = match[1].lower().decode("ascii")
        if len(authority) <= _LONGEST_REMEMBERED:
            if len(_hosts) >= _HOSTS_REMEMBERED:
                _hosts.clear()
            _hosts[authority] = host
    return host
