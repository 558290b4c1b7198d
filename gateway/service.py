"""One connection to a service: what it answers is parsed, and handed to the exchange that asked.

llhttp holds the grammar; what it lets pass and we cannot pass on is found by `fault`. Whose connection it is, and whether it is kept,
is decided in gateway/upstream.py; what becomes of the bytes in gateway/transfer.py.
"""

import asyncio
from typing import Protocol

import httptools

_MAX_HEAD_BYTES = 262_144
_WRITE_HIGH_WATER_BYTES = 65_536


class Owner(Protocol):
    """Who keeps connections; gateway.upstream.Target."""

    def put_back(self, connection: "UpstreamConnection") -> None: ...
    def forget_idle(self, connection: "UpstreamConnection") -> None: ...
    def closed(self, connection: "UpstreamConnection") -> None: ...


class ResponseTaker(Protocol):
    """What hears of a response; gateway.exchange.Exchange."""

    def response_read(self) -> None: ...
    def upstream_lost(self, clean_end: bool) -> None: ...
    def upstream_faulty(self, why: str) -> None: ...
    def upstream_paused(self) -> None: ...
    def upstream_resumed(self) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """One connection to a target. After each read the taker looks at what was parsed, and takes `pieces` away."""

    __slots__ = (
        "_head_bytes",
        "_headers",
        "_interim",
        "_owner",
        "_parser",
        "_reason",
        "bodiless",
        "complete",
        "headers",
        "interim",
        "keep_alive",
        "lost",
        "pieces",
        "reason",
        "reused",
        "spoiled",
        "status",
        "sweeps_idle",
        "taker",
        "trailers",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser: httptools.HttpResponseParser | None = None
        self.taker: ResponseTaker | None = None
        self.lost = False
        self.reused = False
        self.sweeps_idle = 0
        self.spoiled = self.bodiless = False
        self.keep_alive = True
        self.pieces: list[bytes] = []

    def begin(self, taker: ResponseTaker, head_only: bool) -> None:
        """The next response goes to `taker`; `head_only` if the request is HEAD."""
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        self.taker = taker
        self.bodiless = head_only
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.trailers: list[tuple[bytes, bytes]] = []
        self.interim: list[tuple[int, bytes, list[tuple[bytes, bytes]]]] = []
        self.complete = self._interim = self.keep_alive = False
        self._head_bytes = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._reason = b""

    @property
    def silent(self) -> bool:
        """Whether not a byte of a response came."""
        return not self.status and not self._head_bytes

    @property
    def ends_with_connection(self) -> bool:
        """Whether the response's body goes on until the connection ends."""
        if not self.status or self.bodiless or self.complete:
            return False
        return not any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self.headers)

    def fault(self, names: list[bytes]) -> str:
        """What llhttp lets pass and we cannot pass on; `names` are the headers' in lower case."""
        if b"transfer-encoding" in names:
            values = [value.strip().lower() for (_, value), name in zip(self.headers, names, strict=True) if name == b"transfer-encoding"]
            if values != [b"chunked"]:
                return "its transfer coding is not chunked alone"
            if self._parser is not None and self._parser.get_http_version() == "1.0":
                return "it sent Transfer-Encoding in HTTP/1.0"
        if not 200 <= self.status <= 999:
            return "its status is none"
        return "" if self.reason.isascii() and self.reason.decode().isprintable() else "its reason phrase has control bytes"

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        if self.complete:
            self.spoiled = True  # more than was asked for

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        if 100 <= status < 200:
            self.interim.append((status, self._reason, self._headers))
            self._interim = True
        else:
            self.status, self.reason, self.headers = status, self._reason, self._headers
            self.keep_alive = parser.should_keep_alive()
            self.trailers = []
            self.complete = self.bodiless
        self._headers = [] if self._interim else self.trailers
        self._reason = b""

    def on_body(self, piece: bytes) -> None:
        if self.bodiless:
            self.spoiled = True
        else:
            self.pieces.append(piece)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        else:
            self.complete = True

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] # a stream's transport is one
        self.transport.set_write_buffer_limits(high=_WRITE_HIGH_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        taker, parser = self.taker, self._parser
        if taker is None or parser is None:
            self._drop()  # nobody asked for anything
            return
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            taker.upstream_faulty("it changed protocols unasked")
            return
        except httptools.HttpParserError as error:
            self.spoiled = True
            if not self.complete:
                taker.upstream_faulty(str(error))
                return
        if not self.status:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                taker.upstream_faulty("its header fields are too large")
                return
        taker.response_read()

    def eof_received(self) -> None:
        self.lost = True
        if self.taker is None:
            self._owner.forget_idle(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        taker, self.taker = self.taker, None
        if taker is not None:
            taker.upstream_lost(exc is None)
        self._owner.closed(self)

    def pause_writing(self) -> None:
        if self.taker is not None:
            self.taker.upstream_paused()

    def resume_writing(self) -> None:
        if self.taker is not None:
            self.taker.upstream_resumed()

    # What a taker calls when it is done

    def release(self, reusable: bool) -> None:
        """Give the connection back; it is kept if both its response and its request ended well."""
        self.taker = None
        if not reusable or self.spoiled or self.lost or not self.keep_alive:
            self._drop()
            return
        if self.bodiless:
            self._parser = None  # it still waits for the body that HEAD never brings
        self.reused = True
        self._owner.put_back(self)

    def _drop(self) -> None:
        self.lost = True
        self._owner.forget_idle(self)
        self.transport.abort()
