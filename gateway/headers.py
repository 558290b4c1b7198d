"""What of a message's header fields goes on, and what is added: hop-by-hop fields, identity, forwarding, edits.

Pure; bytes in order and case as they came. RFC 9110 §7.6. Names that differ only in `_` and `-` are the same name to many servers
(CGI, WSGI), so a field with `_` goes no further if its twin with `-` would not, or if its twin would be believed.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

from config.gateway import HeaderEdit, Route
from gateway.fields import Fields
from gateway.http1 import RequestHead
from gateway.reply import ResponseHead
from gateway.shapes import Shape

Pairs = Sequence[tuple[bytes, bytes]]
AddedNames = tuple[bytes, ...]  # the names in lines that are added, as they are written

VIA: Final = b"1.1 weighbridge"
_HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade", b"http2-settings"))
_KEPT: Final = frozenset((b"host", b"content-length", b"close", b"keep-alive"))  # whatever Connection says of them
_IDENTITY_PREFIXES: Final = (b"x-org-", b"x-weighbridge-")
_CLAIMED_PREFIXES: Final = (*_IDENTITY_PREFIXES, b"x-forwarded-")
_IDENTITY: Final = frozenset((b"x-key-id",))
_OURS = frozenset((b"x-request-id", b"traceparent"))  # what is sent on is the client's where it is well-formed, and never beside another
_CLAIMED: Final = frozenset((b"forwarded", b"x-real-ip"))
_BELIEVED: Final = frozenset((b"host", b"content-length", b"content-type", b"authorization", b"cookie", b"x-api-key"))
_NO_TRAILERS = _HOP_BY_HOP | _BELIEVED | {b"trailer", b"content-encoding", b"content-range", b"set-cookie", b"www-authenticate", b"expect"}
_ADDRESSES_REMEMBERED: Final = 4096
_SETS_REMEMBERED: Final = 64
_NAMES_REMEMBERED: Final = 1024
_LONGEST_REMEMBERED: Final = 100  # characters of a name or an address; who sends longer ones shall not fill memory
_NO_CONTENT: Final = 204
_WITHOUT_BODY: Final = (204, 304)
_OWN_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in HTTPStatus}
_LINES_REMEMBERED: Final = 1024


class _Made:
    """What goes on of equal blocks of fields: what stands before the lines to add, and behind them.

    Around the two stand the request line and the peer's address, which are mostly those of the time before.
    """

    __slots__ = ("_after", "_before", "_end", "_forwarded_for", "_method", "_peer", "_start", "_target", "scheme", "trusted")

    def __init__(self, trusted: bool, scheme: str, before: bytes, forwarded_for: bytes, after: bytes) -> None:
        self.trusted, self.scheme = trusted, scheme
        self._before, self._forwarded_for, self._after = before, forwarded_for, after
        self._method, self._target, self._start = "", b"", b""
        self._peer: str | None = None
        self._end = b""

    def start(self, method: str, target: bytes) -> bytes:
        """The request line, and the fields."""
        if target != self._target or method != self._method:
            self._method, self._target = method, target
            self._start = b"%b %b%b" % (method.encode(), target, self._before)
        return self._start

    def end(self, peer: str) -> bytes:
        """The rest of the head."""
        if peer != self._peer:
            self._peer, self._end = peer, b"%b%b%b" % (self._forwarded_for, peer.encode(), self._after)
        return self._end


class _MadeOfShape:
    """The same for all blocks of one kind: `lines` of them go on, by their numbers."""

    __slots__ = ("around", "before", "lines")

    def __init__(self, before: bytes, lines: list[int], around: _Made) -> None:
        self.before, self.lines, self.around = before, lines, around


class _Answer:
    """What goes on of equal heads of responses: what stands before the lines to add, and behind them; and whether a date is in it."""

    __slots__ = ("added", "after", "before", "dated")

    def __init__(self, added: AddedNames, before: bytes, dated: bool, after: bytes) -> None:
        self.added, self.before, self.dated, self.after = added, before, dated, after


class TrustedProxies:
    """Whose word on the client's address, scheme and host is taken."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """CIDR blocks or addresses; `unix` for whoever comes over a Unix socket. Raises ValueError for anything else."""
        names = list(networks)
        self._trusts_unix = "unix" in names
        self._networks = [ipaddress.ip_network(name, strict=False) for name in names if name != "unix"]
        self._known: dict[str, bool] = {}

    def trusts(self, address: str) -> bool:
        if not self._networks and not self._trusts_unix:
            return False
        known = self._known.get(address)
        if known is None:
            known = self._look_up(address)
            if len(address) <= _LONGEST_REMEMBERED:
                if len(self._known) >= _ADDRESSES_REMEMBERED:
                    self._known.clear()
                self._known[address] = known
        return known

    def _look_up(self, address: str) -> bool:
        if address == "unix":
            return self._trusts_unix
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def client_address(self, peer: str, forwarded_for: bytes | None) -> str:
        """The address nearest to us that no trusted proxy stands behind: what limits per address should count."""
        address = peer
        hops = [hop.strip() for hop in forwarded_for.decode("latin-1").split(",")] if forwarded_for else []
        while hops and self.trusts(address):
            hop = hops.pop()
            try:
                address = str(ipaddress.ip_address(hop))
            except ValueError:
                break
        return address


class Passage:
    """One route's rules for header fields, prepared once.

    What happens to a field depends on its name only, so each name is judged once: `_Lines` remembers how its line begins, or that it
    is dropped.
    """

    __slots__ = (
        "_added_request",
        "_added_response",
        "_drop_request",
        "_drop_response",
        "_host_of_upstream",
        "_never_named",
        "_proxied",
        "_request",
        "_responses",
        "_strip",
        "_trailers",
    )

    def __init__(self, route: Route, credentials: Iterable[bytes] = (), via: bytes = VIA, proxied: Iterable[bytes] = ()) -> None:
        """`credentials`: lower-case names of the fields a credential comes in; dropped if the route hides them. `via`: who we are.
        `proxied`: fields that only a trusted proxy may send.
        """
        self._proxied = frozenset(proxied)
        edit = route.request_headers
        hidden = frozenset(credentials) if route.hide_credentials else frozenset()
        drop = _HOP_BY_HOP | _IDENTITY | _OURS | {b"expect"} | _names(edit) | hidden
        self._host_of_upstream = route.host == "upstream"
        self._drop_request = drop | {b"host"} if self._host_of_upstream else drop
        self._never_named = _KEPT | self._drop_request  # what Connection may name without a difference
        self._drop_response = _HOP_BY_HOP | _names(route.response_headers)
        self._request = {trusted: self._request_lines(trusted) for trusted in (False, True)}
        self._responses: dict[tuple[bytes, ...], _Lines] = {}
        self._added_request = b"\r\n".join([b"", *_lines(edit.add), b"Via: " + via])
        self._added_response = b"\r\n".join([b"", *_lines(route.response_headers.add), b"Via: " + via])
        self._trailers = route.reads_trailers
        self._strip = route.strip_prefix.rstrip("/").encode() if route.strip_prefix else b""

    def _request_lines(self, trusted: bool, named: Iterable[bytes] = ()) -> "_Lines":
        drop = self._drop_request | frozenset(named)
        if trusted:
            return _Lines(drop | {b"x-forwarded-for"}, _IDENTITY_PREFIXES, self._proxied)
        return _Lines(drop | _CLAIMED | self._proxied, _CLAIMED_PREFIXES)

    def path(self, target: bytes, base_path: bytes) -> bytes:
        """The target to ask the upstream for. A prefix is stripped as written; an odd spelling of it is passed on whole."""
        prefix = self._strip
        if prefix and target.startswith(prefix) and target[len(prefix) : len(prefix) + 1] in (b"", b"/", b"?"):
            target = target[len(prefix) :]
            if not target.startswith(b"/"):
                target = b"/" + target
        return base_path + target if base_path and target != b"*" else target

    def request(self, head: RequestHead, peer: str, scheme: str, trusted: bool, authority: bytes, base_path: bytes, add: bytes) -> bytes:
        """The head that goes to the upstream at `authority`, its blank line included.

        `add` are lines ready-made, each with CRLF before it. The rest is made once for equal blocks of fields.
        """
        target = head.target if not (base_path or self._strip) else self.path(head.target, base_path)
        fields = head.fields
        key = (self, authority) if self._host_of_upstream else self
        shape = fields.shape
        if shape is not None and not fields.kept and not trusted:
            made_of_shape = self._of_shape(shape, key, scheme, authority)
            lines = fields.lines
            going = b"\r\n".join([lines[at] for at in made_of_shape.lines])
            around = made_of_shape.around
            return b"%b %b%b%b%b%b" % (head.method.encode(), target, made_of_shape.before, going, add, around.end(peer))
        made: _Made | None = fields.memo.get(key)
        if made is None or made.trusted is not trusted or made.scheme != scheme:
            made = self._make_request(fields, scheme, trusted, authority)
            fields.remember(key, made)
        return b"%b%b%b" % (made.start(head.method, target), add, made.end(peer))

    def _of_shape(self, shape: Shape, key: object, scheme: str, authority: bytes) -> _MadeOfShape:
        """What `_make_request` makes, for all blocks of a kind."""
        made: _MadeOfShape | None = shape.memo.get(key)
        if made is None or made.around.scheme != scheme:
            model = shape.model
            named = frozenset(model.connection) - self._never_named
            lines = self._request_lines(False, named) if named else self._request[False]
            own = b"\r\nHost: " + authority if self._host_of_upstream or not model.authority else b""
            going = [at for at, name in enumerate(model.written, start=1) if lines[name]]
            before = b" HTTP/1.1" + own + (b"\r\n" if going else b"")
            made = _MadeOfShape(before, going, self._make_request(model, scheme, False, authority))
            shape.remember(key, made)
        return made

    def _make_request(self, fields: Fields, scheme: str, trusted: bool, authority: bytes) -> _Made:
        """What stands around the target, the lines to add and the address of the peer."""
        parts = [b" HTTP/1.1"]
        if self._host_of_upstream or not fields.authority:
            parts += (b"\r\nHost: ", authority)
        named = frozenset(fields.connection) - self._never_named
        lines = self._request_lines(trusted, named) if named else self._request[trusted]
        for name, value in zip(fields.written, fields.values, strict=True):
            start = lines[name]
            if start:
                parts += (start, value)
        before, forwarded_for = b"".join(parts), b"\r\nX-Forwarded-For: "
        if trusted:
            came = [value for name, value in zip(fields.names, fields.values, strict=True) if name == b"x-forwarded-for"]
            forwarded_for += b"".join([value + b", " for value in came])
        parts = []
        if not trusted or fields.get(b"x-forwarded-proto") is None:
            parts += (b"\r\nX-Forwarded-Proto: ", scheme.encode())
        if fields.authority and (not trusted or fields.get(b"x-forwarded-host") is None):
            parts += (b"\r\nX-Forwarded-Host: ", fields.authority)
        parts += (self._added_request, _hop_lines(fields, trailers=self._trailers), b"\r\n\r\n")
        return _Made(trusted, scheme, before, forwarded_for, b"".join(parts))

    def response(self, head: ResponseHead, added: AddedNames, add: bytes, date: bytes) -> list[bytes]:
        """The head that goes to the client, in parts, up to but not with the end of its last line.

        `add` are lines ready-made, each with CRLF before it, and `added` the names in them. The rest is made once for equal heads.
        """
        made: _Answer | None = head.memo.get(self)
        if made is None or (made.added is not added and made.added != added):
            made = self._make_response(head, added)
            head.remember(self, made)
        if made.dated:
            return [made.before, add, made.after]
        return [made.before, add, b"\r\nDate: ", date, made.after]

    def _make_response(self, head: ResponseHead, added: AddedNames) -> _Answer:
        lines = self._response_lines(added)
        if b"connection" in head.names:
            lines = lines.but(frozenset(connection_tokens(head.fields, head.names)) - _KEPT)
        if head.status == _NO_CONTENT:
            lines = lines.but(frozenset((b"content-length",)))  # RFC 9110 §8.6: some services send it all the same
        parts = [status_line(head.status, head.reason)]
        for name, value in head.fields:
            start = lines[name]
            if start:
                parts += (start, value)
        return _Answer(added, b"".join(parts), b"date" in head.names, self._added_response)

    def interim(self, status: int, reason: bytes, fields: Pairs) -> bytes:
        """A 1xx response's head in full."""
        lines = [b"\r\n%b: %b" % field for field in fields if field[0].lower() not in self._drop_response]
        return b"".join([status_line(status, reason), *lines, b"\r\n\r\n"])

    def _response_lines(self, added: AddedNames) -> "_Lines":
        """What we add replaces what came under its name, cookies excepted; the same few sets of names come again and again."""
        lines = self._responses.get(added)
        if lines is None:
            if len(self._responses) >= _SETS_REMEMBERED:
                self._responses.clear()
            lines = self._responses[added] = _Lines(self._drop_response | ({name.lower() for name in added} - {b"set-cookie"}))
        return lines


class _Lines(dict[bytes, bytes]):
    """How the line of a field begins, by the field's name as it was written; empty for one that is dropped."""

    def __init__(self, drop: frozenset[bytes], prefixes: tuple[bytes, ...] = (), proxied: frozenset[bytes] = frozenset()) -> None:
        super().__init__()
        self._drop = drop
        self._prefixes = prefixes
        self._proxied = proxied

    def __missing__(self, name: bytes) -> bytes:
        line = b"" if self._drops(name.lower()) else b"\r\n" + name + b": "
        if len(name) <= _LONGEST_REMEMBERED:
            if len(self) >= _NAMES_REMEMBERED:
                self.clear()
            self[name] = line
        return line

    def _drops(self, name: bytes) -> bool:
        if name in self._drop or name.startswith(self._prefixes):
            return True
        return bool(self._prefixes) and b"_" in name and _poses(name, self._drop | self._proxied, self._prefixes)

    def but(self, more: frozenset[bytes]) -> "_Lines":
        """The same, with more dropped."""
        return _Lines(self._drop | more, self._prefixes, self._proxied) if more - self._drop else self


def _hop_lines(fields: Fields, *, trailers: bool) -> bytes:
    """What is said to the next hop alone, anew (RFC 9110 §7.6.1); with `trailers` we want them, whether or not the client does."""
    options = []
    lines = b""
    if trailers or (b"te" in fields.connection and b"trailers" in (fields.get(b"te") or b"").lower()):
        lines += b"\r\nTE: trailers"
        options.append(b"TE")
    if fields.upgrade:
        lines += b"\r\nUpgrade: " + fields.upgrade
        options.append(b"Upgrade")
    if options:
        lines += b"\r\nConnection: " + b", ".join(options)
    return lines + b"\r\nTransfer-Encoding: chunked" if fields.chunked else lines


def lines_of(fields: Pairs) -> bytes:
    """The fields as lines, each with CRLF before it."""
    return b"".join([b"\r\n%b: %b" % field for field in fields])


def names_of(fields: Pairs) -> AddedNames:
    return tuple([name for name, _ in fields])


def _poses(name: bytes, drop: frozenset[bytes], prefixes: tuple[bytes, ...]) -> bool:
    twin = name.replace(b"_", b"-")
    return twin in drop or twin in _BELIEVED or twin.startswith(prefixes)


def _names(edit: HeaderEdit) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in (*edit.remove, *edit.add))


def _lines(fields: Mapping[str, str]) -> list[bytes]:
    return [f"{name}: {value}".encode("latin-1") for name, value in fields.items()]


def connection_tokens(fields: Pairs, names: Sequence[bytes]) -> list[bytes]:
    """What the Connection fields name, in lower case."""
    values = [field[1] for field, name in zip(fields, names, strict=True) if name == b"connection"]
    return [token.strip(b" \t").lower() for value in values for token in value.split(b",")]


def pass_trailers(fields: Pairs) -> list[tuple[bytes, bytes]]:
    """Trailer fields that may go on: none that frames, routes or authenticates a message (RFC 9110 §6.5.1), or claims an identity."""
    passed = []
    for field in fields:
        name = field[0].lower().replace(b"_", b"-")
        if name not in _NO_TRAILERS and name not in _IDENTITY and not name.startswith(_CLAIMED_PREFIXES):
            passed.append(field)
    return passed


_status_lines: dict[tuple[int, bytes], bytes] = {}


def status_line(status: int, reason: bytes) -> bytes:
    """The status line without its end; the reason phrase as it came."""
    line = _status_lines.get((status, reason))
    if line is None:
        if len(_status_lines) >= _LINES_REMEMBERED:
            _status_lines.clear()
        line = _status_lines[(status, reason)] = b"HTTP/1.1 %d %b" % (status, reason)
    return line


def own_response(status: int, fields: Pairs, body: bytes, date: bytes, keep_alive: bool, request: RequestHead | None) -> bytes:
    """A whole response of our own; `request` None if it was not understood."""
    parts = [_OWN_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status]
    for name, value in fields:
        parts += (b"\r\n", name, b": ", value)
    parts += (b"\r\nDate: ", date)
    if status in _WITHOUT_BODY:
        body = b""
    else:
        parts.append(b"\r\nContent-Length: %d" % len(body))
    if not keep_alive:
        parts.append(b"\r\nConnection: close")
    elif request is not None and request.http_version == "1.0":
        parts.append(b"\r\nConnection: keep-alive")
    if request is not None and request.method == "HEAD":
        body = b""
    return b"".join([*parts, b"\r\n\r\n", body])
