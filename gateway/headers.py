"""What of a message's header fields goes on, and what is added: hop-by-hop fields, identity, forwarding, edits.

Pure; bytes in order and case as they came. RFC 9110 §7.6. Names that differ only in `_` and `-` are the same name to many servers
(CGI, WSGI), so a field with `_` goes no further if its twin with `-` would not, or if its twin would be believed.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus

from config.gateway import HeaderEdit, Route
from gateway.http1 import RequestHead

Fields = Sequence[tuple[bytes, bytes]]

VIA = b"1.1 weighbridge"
_HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade", b"http2-settings"))
_KEPT = frozenset((b"host", b"content-length", b"close", b"keep-alive"))  # whatever Connection says of them
_IDENTITY_PREFIXES = (b"x-org-", b"x-weighbridge-")
_CLAIMED_PREFIXES = (*_IDENTITY_PREFIXES, b"x-forwarded-")
_IDENTITY = frozenset((b"x-key-id",))
_CLAIMED = frozenset((b"forwarded", b"x-real-ip"))
_BELIEVED = frozenset((b"host", b"content-length", b"content-type", b"authorization", b"cookie", b"x-api-key"))
_NO_TRAILERS = _HOP_BY_HOP | _BELIEVED | {b"trailer", b"content-encoding", b"content-range", b"set-cookie", b"www-authenticate", b"expect"}
_ADDRESSES_REMEMBERED = 4096
_SETS_REMEMBERED = 64
_NAMES_REMEMBERED = 1024
_LONGEST_REMEMBERED = 100  # characters of a name or an address; who sends longer ones shall not fill memory
_NO_CONTENT = 204
_WITHOUT_BODY = (204, 304)
_OWN_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in HTTPStatus}
_LINES_REMEMBERED = 1024


class TrustedProxies:
    """Whose word on the client's address, scheme and host is taken."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """CIDR blocks or addresses; `unix` for whoever comes over a Unix socket. Raises ValueError for anything else."""
        names = list(networks)
        self._unix = "unix" in names
        self._networks = [ipaddress.ip_network(name, strict=False) for name in names if name != "unix"]
        self._known: dict[str, bool] = {}

    def trusts(self, address: str) -> bool:
        if not self._networks and not self._unix:
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
            return self._unix
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
        "_request",
        "_responses",
        "_strip",
    )

    def __init__(self, route: Route, credentials: Iterable[bytes] = ()) -> None:
        """`credentials`: lower-case names of the fields an API key comes in; dropped if the route hides them."""
        edit = route.request_headers
        drop = _HOP_BY_HOP | _IDENTITY | {b"expect"} | _names(edit) | (frozenset(credentials) if route.hide_credentials else frozenset())
        self._host_of_upstream = route.host == "upstream"
        self._drop_request = drop | {b"host"} if self._host_of_upstream else drop
        self._drop_response = _HOP_BY_HOP | _names(route.response_headers)
        self._request = {trusted: self._request_lines(trusted) for trusted in (False, True)}
        self._responses: dict[tuple[bytes, ...], _Lines] = {}
        self._added_request = b"\r\n".join([b"", *_lines(edit.add), b"Via: " + VIA])
        self._added_response = b"\r\n".join([b"", *_lines(route.response_headers.add), b"Via: " + VIA])
        self._strip = route.strip_prefix.rstrip("/").encode() if route.strip_prefix else b""

    def _request_lines(self, trusted: bool, named: Iterable[bytes] = ()) -> "_Lines":
        drop = self._drop_request | (frozenset(named) - _KEPT)
        if trusted:
            return _Lines(drop | {b"x-forwarded-for"}, _IDENTITY_PREFIXES)
        return _Lines(drop | _CLAIMED, _CLAIMED_PREFIXES)

    def path(self, target: bytes, base_path: bytes) -> bytes:
        """The target to ask the upstream for. A prefix is stripped as written; an odd spelling of it is passed on whole."""
        prefix = self._strip
        if prefix and target.startswith(prefix) and target[len(prefix) : len(prefix) + 1] in (b"", b"/", b"?"):
            target = target[len(prefix) :]
            if not target.startswith(b"/"):
                target = b"/" + target
        return base_path + target if base_path and target != b"*" else target

    def request(self, head: RequestHead, peer: str, scheme: str, trusted: bool, authority: bytes, base_path: bytes, add: Fields) -> bytes:
        """The head that goes to the upstream at `authority`, its blank line included."""
        target = head.target if not (base_path or self._strip) else self.path(head.target, base_path)
        parts = [head.method.encode(), b" ", target, b" HTTP/1.1"]
        if self._host_of_upstream or not head.authority:
            parts += (b"\r\nHost: ", authority)
        lines = self._request[trusted] if not head.connection else self._request_lines(trusted, head.connection)
        for name, value in head.headers:
            start = lines[name]
            if start:
                parts += (start, value)
        for name, value in add:
            parts += (b"\r\n", name, b": ", value)
        _add_forwarded(parts, head, peer, scheme, trusted)
        parts.append(self._added_request)
        if b"te" in head.connection and b"trailers" in (head.header(b"te") or b"").lower():
            parts.append(b"\r\nTE: trailers\r\nConnection: TE")
        parts.append(b"\r\nTransfer-Encoding: chunked\r\n\r\n" if head.chunked else b"\r\n\r\n")
        return b"".join(parts)

    def response(self, status: int, reason: bytes, fields: Fields, names: Sequence[bytes], add: Fields, date: bytes) -> list[bytes]:
        """The head that goes to the client, in parts, up to but not with the end of its last line. `names`: the fields' in lower case."""
        lines = self._response_lines(add)
        if b"connection" in names:
            lines = lines.but(frozenset(connection_tokens(fields, names)) - _KEPT)
        if status == _NO_CONTENT:
            lines = lines.but(frozenset((b"content-length",)))  # RFC 9110 §8.6: some services send it all the same
        parts = [status_line(status, reason)]
        for name, value in fields:
            start = lines[name]
            if start:
                parts += (start, value)
        for name, value in add:
            parts += (b"\r\n", name, b": ", value)
        if b"date" not in names:
            parts += (b"\r\nDate: ", date)
        parts.append(self._added_response)
        return parts

    def interim(self, status: int, reason: bytes, fields: Fields) -> bytes:
        """A 1xx response's head in full."""
        lines = [b"\r\n%b: %b" % field for field in fields if field[0].lower() not in self._drop_response]
        return b"".join([status_line(status, reason), *lines, b"\r\n\r\n"])

    def _response_lines(self, add: Fields) -> "_Lines":
        """What we add replaces what came under its name, cookies excepted; the same few sets of names come again and again."""
        key = tuple([name for name, _ in add])
        lines = self._responses.get(key)
        if lines is None:
            if len(self._responses) >= _SETS_REMEMBERED:
                self._responses.clear()
            lines = self._responses[key] = _Lines(self._drop_response | ({name.lower() for name in key} - {b"set-cookie"}))
        return lines


class _Lines(dict[bytes, bytes]):
    """How the line of a field begins, by the field's name as it was written; empty for one that is dropped."""

    def __init__(self, drop: frozenset[bytes], prefixes: tuple[bytes, ...] = ()) -> None:
        super().__init__()
        self._drop = drop
        self._prefixes = prefixes

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
        return bool(self._prefixes) and b"_" in name and _poses(name, self._drop, self._prefixes)

    def but(self, more: frozenset[bytes]) -> "_Lines":
        """The same, with more dropped."""
        return _Lines(self._drop | more, self._prefixes) if more else self


def _add_forwarded(parts: list[bytes], head: RequestHead, peer: str, scheme: str, trusted: bool) -> None:
    address = peer.encode()
    if trusted:
        came = [value for (_, value), name in zip(head.headers, head.names, strict=True) if name == b"x-forwarded-for"]
        address = b", ".join([*came, address])
    parts += (b"\r\nX-Forwarded-For: ", address)
    if not trusted or b"x-forwarded-proto" not in head.names:
        parts += (b"\r\nX-Forwarded-Proto: ", scheme.encode())
    if head.authority and (not trusted or b"x-forwarded-host" not in head.names):
        parts += (b"\r\nX-Forwarded-Host: ", head.authority)


def _poses(name: bytes, drop: frozenset[bytes], prefixes: tuple[bytes, ...]) -> bool:
    twin = name.replace(b"_", b"-")
    return twin in drop or twin in _BELIEVED or twin.startswith(prefixes)


def _names(edit: HeaderEdit) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in (*edit.remove, *edit.add))


def _lines(fields: Mapping[str, str]) -> list[bytes]:
    return [f"{name}: {value}".encode("latin-1") for name, value in fields.items()]


def connection_tokens(fields: Fields, names: Sequence[bytes]) -> list[bytes]:
    """What the Connection fields name, in lower case."""
    values = [field[1] for field, name in zip(fields, names, strict=True) if name == b"connection"]
    return [token.strip(b" \t").lower() for value in values for token in value.split(b",")]


def pass_trailers(fields: Fields) -> list[tuple[bytes, bytes]]:
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


def own_response(status: int, fields: Fields, body: bytes, date: bytes, keep_alive: bool, request: RequestHead | None) -> bytes:
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
