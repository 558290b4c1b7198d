"""A second reading of HTTP/1.1, independent of the gateway's: RFC 9112 to the letter, no leniency. Pure: bytes in, messages out.

The fuzz run reads with it what it sends to the gateway, what the gateway sends to the service, and all answers on both sides.
Nothing here is shared with gateway/: two readers with one fault would agree on it.
"""

import re
from dataclasses import dataclass, field

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%b) ([\x21-\x7e]+) HTTP/(1\.[0-9])" % TOKEN)
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)")
_ANY_STATUS_LINE = re.compile(rb"HTTP/[0-9]\.[0-9] ?([1-9][0-9][0-9]) ?([^\r\n]*)")
_REASON = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_FIELD = re.compile(rb"(%b):[ \t]*(|[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)[ \t]*" % TOKEN)
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_ABSOLUTE = re.compile(rb"https?://([^/?#@]+)(.*)", re.IGNORECASE)
_MOST_BLANK_LINES = 8
Fields = list[tuple[bytes, bytes]]


class Fault(Exception):
    """The bytes are no HTTP/1.1 message."""


class Short(Exception):
    """The bytes so far may become a message."""


@dataclass
class Message:
    """A request or a response. `whole` False: its body has not ended, or has a fault; `body` is what came of it."""

    fields: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    whole: bool = True
    fault: str = ""

    def all(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.fields if found.lower() == name]

    def tokens(self, name: bytes) -> set[bytes]:
        return {token.strip(b" \t").lower() for value in self.all(name) for token in value.split(b",")}


@dataclass
class Request(Message):
    """`target` in origin form; `ends` says that no request follows it on its connection."""

    method: bytes = b""
    target: bytes = b""
    ends: bool = False


@dataclass
class Response(Message):
    """`until_close`: its body goes on until the connection ends."""

    status: int = 0
    until_close: bool = False
    ends: bool = False
    chunked: bool = False


def line_at(data: bytes, at: int) -> tuple[bytes, int]:
    """The line that begins at `at`, and where the next one does. A bare CR or LF is a fault wherever it stands."""
    end = data.find(b"\n", at)
    line = data[at:] if end < 0 else data[at : end + 1]
    bare = line.find(b"\r")
    if end < 0:
        if 0 <= bare < len(line) - 1:
            raise Fault("a bare CR")
        raise Short
    if bare != len(line) - 2:
        raise Fault("a bare CR or LF")
    return line[:-2], end + 1


def fields_at(data: bytes, at: int) -> tuple[Fields, int]:
    """Field lines up to the blank one."""
    found: Fields = []
    while True:
        line, at = line_at(data, at)
        if not line:
            return found, at
        match = _FIELD.fullmatch(line)
        if match is None:
            raise Fault(f"no field: {line[:60]!r}")
        found.append((match[1], match[2]))


def length_of(message: Message) -> int | None:
    """The Content-Length."""
    values = message.all(b"content-length")
    if not values:
        return None
    if len(values) > 1 or not _LENGTH.fullmatch(values[0]):
        raise Fault("a faulty Content-Length")
    return int(values[0])


def is_chunked(message: Message, version: bytes) -> bool:
    values = message.all(b"transfer-encoding")
    if not values:
        return False
    if len(values) > 1 or values[0].lower() != b"chunked" or version == b"1.0" or message.all(b"content-length"):
        raise Fault("a faulty Transfer-Encoding")
    return True


def read_chunks(message: Message, data: bytes, at: int) -> int:
    """Read a chunked body into the message; what is missing or wrong is noted there."""
    try:
        while True:
            line, at = line_at(data, at)
            match = _SIZE.fullmatch(line)
            if match is None:
                raise Fault(f"no chunk size: {line[:40]!r}")
            size = int(match[1], 16)
            if not size:
                message.trailers, at = fields_at(data, at)
                return at
            message.body += data[at : at + size]
            at += size
            if len(data) < at + 2:
                if data[at:] not in (b"", b"\r"):
                    raise Fault("a chunk longer than its size")
                raise Short
            if data[at : at + 2] != b"\r\n":
                raise Fault("a chunk longer than its size")
            at += 2
    except Short:
        message.whole = False
    except Fault as fault:
        message.whole, message.fault = False, str(fault)
    return len(data)


def read_length(message: Message, data: bytes, at: int, length: int) -> int:
    message.body = data[at : at + length]
    message.whole = len(message.body) == length
    return at + len(message.body)


def request_at(data: bytes, at: int) -> tuple[Request, int]:
    """The request that begins at `at`, and where it ends. Raises Fault or Short for its head; its body's state is noted in it."""
    for _ in range(_MOST_BLANK_LINES + 1):
        if data[at : at + 2] != b"\r\n":
            break
        at += 2
    line, at = line_at(data, at)
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Fault(f"no request line: {line[:60]!r}")
    fields, at = fields_at(data, at)
    request = Request(fields, method=match[1], target=_origin_form(match[2], match[1]))
    version, hosts = match[3], request.all(b"host")
    if len(hosts) > 1 or (not hosts and version != b"1.0") or hosts == [b""]:
        raise Fault("not one Host")
    options = request.tokens(b"connection")
    request.ends = b"close" in options or (version == b"1.0" and b"keep-alive" not in options)
    if is_chunked(request, version):
        return request, read_chunks(request, data, at)
    return request, read_length(request, data, at, length_of(request) or 0)


def _origin_form(target: bytes, method: bytes) -> bytes:
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise Fault("a target of no form")
    rest = match[2]
    if not rest and method == b"OPTIONS":
        return b"*"
    return rest if rest.startswith(b"/") else b"/" + rest


def requests_in(data: bytes) -> tuple[list[Request], str]:
    """What a strict server reads in all that one client sends: its requests, and what ended them: clean, close, short or fault."""
    found: list[Request] = []
    at = 0
    while at < len(data):
        try:
            request, at = request_at(data, at)
        except Short:
            return found, "short" if data[at:].strip(b"\r\n") else "clean"
        except Fault:
            return found, "fault"
        found.append(request)
        if not request.whole:
            return found, "fault" if request.fault else "short"
        if request.ends:
            return found, "close"
    return found, "clean"


def response_at(data: bytes, at: int, method: bytes, *, ended: bool, lenient: bool = False) -> tuple[Response, int]:
    """The final response to `method` that begins at `at`. `ended`: the connection was closed, cleanly, behind `data`.

    `lenient` reads over blank lines before a status line and takes any version, as the gateway does with services: nothing is cut
    off or added by that.
    """
    while True:
        while lenient and data[at : at + 1] in (b"\r", b"\n"):
            at += 1
        line, at = line_at(data, at)
        match = (_ANY_STATUS_LINE if lenient else _STATUS_LINE).fullmatch(line)
        if match is None:
            raise Fault(f"no status line: {line[:60]!r}")
        fields, at = fields_at(data, at)
        status = int(match[1])
        if status == 101:
            raise Fault("a switch nobody asked for")
        if status >= 200:
            break
    if lenient and not _REASON.fullmatch(line):
        raise Fault("control bytes in the reason phrase")
    response = Response(fields, status=status)
    version = b"1.0" if line.startswith(b"HTTP/1.0") else b"1.1"
    options = response.tokens(b"connection")
    response.ends = b"close" in options or (version == b"1.0" and b"keep-alive" not in options)
    response.chunked = is_chunked(response, version)
    length = length_of(response)
    if method == b"HEAD" or status in (204, 304):
        return response, at
    if response.chunked:
        return response, read_chunks(response, data, at)
    if length is not None:
        return response, read_length(response, data, at, length)
    response.body, response.until_close, response.whole = data[at:], True, ended
    return response, len(data)


def responses_in(data: bytes, methods: list[bytes], *, ended: bool) -> tuple[list[Response], str]:
    """What a strict client reads in all that came: final responses to `methods`, and what ended them."""
    found: list[Response] = []
    at = 0
    while at < len(data):
        method = methods[len(found)] if len(found) < len(methods) else b"GET"
        try:
            response, at = response_at(data, at, method, ended=ended)
        except Short:
            return found, "short"
        except Fault as fault:
            return found, f"fault: {fault}"
        found.append(response)
        if not response.whole:
            return found, f"fault: {response.fault}" if response.fault else "short"
        if response.ends or response.until_close:
            return found, "close" if at == len(data) else "fault: bytes behind the last response"
    return found, "clean"
