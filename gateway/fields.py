"""The header fields of a request, read once for all requests that bring the same bytes.

Pure. A client's calls differ in their request line; the block of fields below it is mostly the same, byte for byte. What it says is
`Fields`, shared and never changed; what others derive from it they keep in its `memo`. Nothing in here may depend on the request
line but for the version: blocks are shared between requests of HTTP/1.1 alone. Section numbers are RFC 9112's.
"""

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gateway.shapes import Shape

_AUTHORITY: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]*)?")
SPECIAL: Final = frozenset((b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect"))
_HOSTS_REMEMBERED: Final = 4096
_LONGEST_REMEMBERED: Final = 261  # the longest name, a colon, a port; who sends longer ones shall not fill memory
_MOST_DERIVED: Final = 32

Pairs = tuple[tuple[bytes, bytes], ...]
_NOTHING: Final[dict[Any, Any]] = {}  # what is derived of a block that nobody will ask for again


class Refusal(Exception):
    """What the client sent cannot be served; its connection is closed after the answer."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


class Fields:
    """One block of header fields: names and values as they came, in order, and what they say.

    `names` are in lower case. `authority` is the Host field as it came, `host` the same in lower case without its port. `connection`
    are the tokens of the Connection fields; `upgrade` the protocols that are really asked for, empty if none. `kept`: more requests
    will bring this block, so deriving something from it for later is worth it. `shape`: the kind of blocks it is one of, where that
    is how it was read (gateway/shapes.py); what depends on the kind alone can be kept there. `lines` are then those of the block.
    `has_via`, `has_ids`: whether there is a Via; an X-Request-Id or a traceparent.
    """

    __slots__ = (
        "_first",
        "_headers",
        "_values",
        "authority",
        "chunked",
        "connection",
        "content_length",
        "expect_continue",
        "has_ids",
        "has_via",
        "host",
        "keep_alive",
        "kept",
        "lines",
        "memo",
        "names",
        "shape",
        "taken_under",
        "upgrade",
        "version",
        "written",
    )

    def __init__(self, written: list[bytes], values: list[bytes], version: str, shape: "Shape | None" = None) -> None:
        """`written` are the names as they came. Raises Refusal for what llhttp lets pass and two servers could read differently.

        `shape`: the block is of this kind, and its values are cut from `lines` when they are asked for.
        """
        self.written, self.version = written, version
        self._values: list[bytes] = values
        self._first: dict[bytes, bytes] | None = None
        self._headers: Pairs | None = None
        self.lines: list[bytes] = values
        self.memo: dict[Any, Any] = _NOTHING
        self.kept = False
        self.taken_under: object = None  # the limits that it was found to obey
        self.shape: Shape | None = shape
        self.names: list[bytes]
        self.content_length: int | None
        self.chunked: bool
        self.expect_continue: bool
        self.keep_alive: bool
        self.connection: tuple[bytes, ...]
        self.upgrade: bytes
        self.has_ids: bool
        self.has_via: bool
        self.authority: bytes
        self.host: str
        if shape is None:
            self._read(values)
            return
        like = shape.model
        self.names = like.names
        self.content_length = like.content_length
        self.chunked, self.expect_continue, self.keep_alive = like.chunked, like.expect_continue, like.keep_alive
        self.connection, self.upgrade = like.connection, like.upgrade
        self.has_ids, self.has_via = like.has_ids, like.has_via
        self.authority, self.host = like.authority, like.host

    def _read(self, values: list[bytes]) -> None:
        self.names = names = [name.lower() for name in self.written]
        first = dict(zip(names, values))  # noqa: B905 - they are as many, and it costs
        if len(first) < len(names):
            first = dict(zip(reversed(names), reversed(values), strict=True))
        self._first = first
        self.has_via, self.has_ids = b"via" in first, b"x-request-id" in first or b"traceparent" in first
        self.content_length = None
        self.chunked = self.expect_continue = False
        self.keep_alive = self.version == "1.1"
        self.connection = ()
        self.upgrade = b""
        if len(first) < len(names) or first.keys() & SPECIAL:
            self._read_special()
        host = first.get(b"host")
        if host is None:
            if self.version == "1.1":
                raise Refusal(400, "bad_request", "The Host field is missing.")
            self.authority, self.host = b"", ""
        else:
            self.authority, self.host = host, read_host(host)

    @property
    def values(self) -> list[bytes]:
        """As they came, without the whitespace around them."""
        shape = self.shape
        if shape is not None and self._values is self.lines:
            self._values = [line[size:] for line, size in zip(self.lines[1:], shape.sizes[1:], strict=False)]
        return self._values

    @property
    def first(self) -> dict[bytes, bytes]:
        """The first value of each field, by its name in lower case."""
        if self._first is None:
            self._first = dict(zip(self.names, self.values, strict=True))
        return self._first

    def get(self, name: bytes) -> bytes | None:
        """The first value of one field; `name` in lower case."""
        shape = self.shape
        if shape is None:
            return self.first.get(name)
        at = shape.places.get(name)
        return None if at is None else self.lines[at][shape.sizes[at] :]

    def value(self, at: int) -> bytes:
        """The value of the field that stands there."""
        shape = self.shape
        return self._values[at] if shape is None else self.lines[at + 1][shape.sizes[at + 1] :]

    @property
    def headers(self) -> Pairs:
        """Names as they came, and values without the whitespace around them."""
        if self._headers is None:
            self._headers = tuple(zip(self.written, self.values, strict=True))
        return self._headers

    def only(self, name: bytes) -> bytes | None:
        """The field's value where it stands there once; `name` in lower case."""
        return self.get(name) if self.names.count(name) == 1 else None

    def _read_special(self) -> None:
        """Read what frames and routes the message."""
        seen_host = False
        upgrade, codings = b"", list[bytes]()
        for name, value in zip(self.names, self.values, strict=True):
            if name not in SPECIAL and name != b"host":
                continue
            if name == b"host":
                if seen_host:
                    raise Refusal(400, "bad_request", "There are two Host fields.")
                seen_host = True
            elif name == b"content-length":
                self.content_length = int(value)  # llhttp let only digits pass, once, and not beside Transfer-Encoding
            elif name == b"transfer-encoding":
                codings += value.split(b",")
            elif name == b"connection":
                self._read_connection(value)
            elif name == b"upgrade":
                upgrade += b"," + value
            elif value.lower() != b"100-continue":
                raise Refusal(417, "expectation_failed", "The only expectation met here is 100-continue.")
            else:
                self.expect_continue = self.version == "1.1"
        if codings:
            self._read_codings([coding.strip(b" \t").lower() for coding in codings])
        if upgrade and self.version == "1.1" and b"upgrade" in self.connection:
            self.upgrade = _protocols(upgrade)

    def _read_codings(self, codings: list[bytes]) -> None:
        """Where `chunked` is not the last, nobody knows where the body ends (§6.3)."""
        if self.version == "1.0":  # §6.1: its framing is faulty
            raise Refusal(400, "bad_request", "Transfer-Encoding does not belong in HTTP/1.0.")
        if codings[-1] != b"chunked" or codings.count(b"chunked") > 1 or b"" in codings:
            raise Refusal(400, "bad_request", "The request's last transfer coding is not chunked, or not it alone.")
        if len(codings) > 1:
            raise Refusal(501, "transfer_encoding_not_implemented", "The only transfer coding known here is chunked.")
        self.chunked = True

    def _read_connection(self, value: bytes) -> None:
        tokens = tuple(token.strip(b" \t").lower() for token in value.split(b","))
        self.connection += tokens
        if b"close" in tokens:
            self.keep_alive = False
        elif b"keep-alive" in tokens and b"close" not in self.connection:
            self.keep_alive = True

    def remember(self, key: Any, value: Any) -> None:
        """Keep what was derived, if equal requests will come. The memo is emptied rather than grow with keys that vary."""
        if self.kept:
            if not self.memo or len(self.memo) >= _MOST_DERIVED:
                self.memo = {}
            self.memo[key] = value

    def at(self, authority: bytes) -> "Fields":
        """The same for another authority, which the request's target names (§3.2.2)."""
        written, values = list(self.written), list(self.values)
        if self.get(b"host") is not None:
            values[self.names.index(b"host")] = authority
        else:
            written.insert(0, b"Host")
            values.insert(0, authority)
        return Fields(written, values, self.version)


def _protocols(upgrade: bytes) -> bytes:
    """An offer of h2c may be passed over (RFC 9110 §7.8; Java's client makes it by default); anything else is meant."""
    names = [name.strip(b" \t") for name in upgrade.split(b",")]
    return b", ".join([name for name in names if name.lower() not in (b"", b"h2c")])


def split_authority(rest: bytes) -> tuple[bytes, bytes]:
    """The authority at the beginning of an absolute target behind its scheme, and what follows."""
    match = _AUTHORITY.match(rest)
    if match is None or rest[match.end() : match.end() + 1] not in (b"", b"/", b"?"):
        raise Refusal(400, "bad_request", "The authority of the request target is malformed.")
    return match[0], rest[match.end() :]


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
