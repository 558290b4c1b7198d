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
_DROPS_REMEMBERED = 64
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
            if len(self._known) >= _ADDRESSES_REMEMBERED:
                self._known.clear()
            known = self._known[address] = self._look_up(address)
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
    """One route's rules for header fields, prepared once."""

    __slots__ = (
        "_added_request",
        "_added_response",
        "_drop_response",
        "_drop_trusted",
        "_drop_untrusted",
        "_host_of_upstream",
        "_response_drops",
        "_strip_prefix",
    )

    def __init__(self, route: Route, credentials: Iterable[bytes] = ()) -> None:
        """`credentials`: lower-case names of the fields an API key comes in; dropped if the route hides them."""
        edit = route.request_headers
        drop = _HOP_BY_HOP | _IDENTITY | {b"expect"} | _names(edit) | (frozenset(credentials) if route.hide_credentials else frozenset())
        self._drop_trusted = drop | {b"x-forwarded-for"}
        self._drop_untrusted = drop | _CLAIMED
        self._added_request = _lines(edit.add)
        self._drop_response = _HOP_BY_HOP | _names(route.response_headers)
        self._added_response = _lines(route.response_headers.add)
        self._host_of_upstream = route.host == "upstream"
        self._strip_prefix = route.strip_prefix.rstrip("/").encode() if route.strip_prefix else b""
        self._response_drops: dict[tuple[bytes, ...], frozenset[bytes]] = {}

    def path(self, target: bytes, base_path: bytes) -> bytes:
        """The target to ask the upstream for. A prefix is stripped as written; an odd spelling of it is passed on whole."""
        prefix = self._strip_prefix
        if prefix and target.startswith(prefix) and target[len(prefix) : len(prefix) + 1] in (b"", b"/", b"?"):
            target = target[len(prefix) :]
            if not target.startswith(b"/"):
                target = b"/" + target
        return base_path + target if base_path and target != b"*" else target

    def request(self, head: RequestHead, peer: str, scheme: str, trusted: bool, authority: bytes, base_path: bytes, add: Fields) -> bytes:
        """The head that goes to the upstream at `authority`, its blank line included."""
        parts = [head.method.encode(), b" ", self.path(head.target, base_path), b" HTTP/1.1\r\n"]
        drop = self._drop_trusted if trusted else self._drop_untrusted
        prefixes = _IDENTITY_PREFIXES if trusted else _CLAIMED_PREFIXES
        if head.connection:
            drop = drop | (frozenset(head.connection) - _KEPT)
        if self._host_of_upstream or not head.authority:
            parts += (b"Host: ", authority, b"\r\n")
            drop = drop | {b"host"}
        for field, name in zip(head.headers, head.names, strict=True):
            if name in drop or name.startswith(prefixes) or (b"_" in name and _poses(name, drop, prefixes)):
                continue
            parts += (field[0], b": ", field[1], b"\r\n")
        for field in add:
            parts += (field[0], b": ", field[1], b"\r\n")
        self._forwarded(parts, head, peer, scheme, trusted)
        if b"te" in head.connection and b"trailers" in (head.header(b"te") or b"").lower():
            parts.append(b"TE: trailers\r\nConnection: TE\r\n")
        if head.chunked:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)

    def _forwarded(self, parts: list[bytes], head: RequestHead, peer: str, scheme: str, trusted: bool) -> None:
        address = peer.encode()
        if trusted:
            came = [value for (_, value), name in zip(head.headers, head.names, strict=True) if name == b"x-forwarded-for"]
            address = b", ".join([*came, address])
        parts += (b"X-Forwarded-For: ", address, b"\r\n")
        if not trusted or b"x-forwarded-proto" not in head.names:
            parts += (b"X-Forwarded-Proto: ", scheme.encode(), b"\r\n")
        if head.authority and (not trusted or b"x-forwarded-host" not in head.names):
            parts += (b"X-Forwarded-Host: ", head.authority, b"\r\n")
        parts += (self._added_request, b"Via: ", VIA, b"\r\n")

    def response(self, status: int, reason: bytes, fields: Fields, names: Sequence[bytes], add: Fields, date: bytes) -> list[bytes]:
        """The head that goes to the client, in parts, without its framing and blank line. `names`: the fields' in lower case."""
        drop = self._response_drop(add)
        if b"connection" in names:
            drop = drop | (frozenset(connection_tokens(fields, names)) - _KEPT)
        if status == HTTPStatus.NO_CONTENT:
            drop = drop | {b"content-length"}  # RFC 9110 §8.6: some services send it all the same
        parts = [status_line(status, reason)]
        for field, name in zip(fields, names, strict=True):
            if name not in drop:
                parts += (field[0], b": ", field[1], b"\r\n")
        for field in add:
            parts += (field[0], b": ", field[1], b"\r\n")
        if b"date" not in names:
            parts += (b"Date: ", date, b"\r\n")
        parts += (self._added_response, b"Via: ", VIA, b"\r\n")
        return parts

    def interim(self, status: int, reason: bytes, fields: Fields) -> bytes:
        """A 1xx response's head in full."""
        lines = [b"%b: %b\r\n" % field for field in fields if field[0].lower() not in self._drop_response]
        return b"".join([status_line(status, reason), *lines, b"\r\n"])

    def _response_drop(self, add: Fields) -> frozenset[bytes]:
        """What we add replaces what came under its name, cookies excepted; the same few sets of names come again and again."""
        key = tuple([name for name, _ in add])
        drop = self._response_drops.get(key)
        if drop is None:
            if len(self._response_drops) >= _DROPS_REMEMBERED:
                self._response_drops.clear()
            drop = self._response_drops[key] = self._drop_response | ({name.lower() for name in key} - {b"set-cookie"})
        return drop


def _poses(name: bytes, drop: frozenset[bytes], prefixes: tuple[bytes, ...]) -> bool:
    twin = name.replace(b"_", b"-")
    return twin in drop or twin in _BELIEVED or twin.startswith(prefixes)


def _names(edit: HeaderEdit) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in (*edit.remove, *edit.add))


def _lines(fields: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode("latin-1")


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
    """The status line; the reason phrase as it came."""
    line = _status_lines.get((status, reason))
    if line is None:
        if len(_status_lines) >= _LINES_REMEMBERED:
            _status_lines.clear()
        line = _status_lines[(status, reason)] = b"HTTP/1.1 %d %b\r\n" % (status, reason)
    return line
