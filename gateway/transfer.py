"""One exchange's bytes, moved from protocol to protocol without a task or a future.

What the client's connection reads goes to the upstream's, and back; a side that cannot take more stops the reading on the other.
Nothing is collected, so an exchange costs the same memory for a gigabyte as for a kilobyte. Who gets which connection, and the
retry, are in gateway/relay.py.
"""

from typing import TYPE_CHECKING, Final, Protocol

from config.gateway import Route
from gateway.chunked import frame, last_chunk
from gateway.headers import AddedNames, Passage, pass_trailers
from gateway.http1 import Refusal
from gateway.outcome import Ended, Outcome
from gateway.reply import ResponseHead
from gateway.request import Request
from gateway.service import UpstreamConnection
from gateway.tunnel import Counters, Tunnel
from gateway.upstream import Target

if TYPE_CHECKING:
    from gateway.gate import Gate
    from gateway.relay import Relay


class Tap(Protocol):
    """Who looks at an answer before it is passed on: at the connection's head, pieces and trailers as far as they have come."""

    def read(self, connection: UpstreamConnection) -> None: ...


_CONTINUE: Final = 100
UNREADABLE: Final = "websocket_unreadable"
_PROTOCOL_ERROR: Final = 1002  # a close code (RFC 6455 §7.4.1)
_REPLAYED_BYTES: Final = 65_536  # a request up to this size can be sent a second time
_IDEMPOTENT: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND", "SEARCH", "REPORT", "QUERY"))


class Transfer(Outcome):
    """Takes the request's body and the response, and is its own outcome. What becomes of it then, a subclass says in `finished`."""

    __slots__ = (
        "_chunked_out",
        "_connection",
        "_keep_client",
        "_last_moved",
        "_moved",
        "_paused_by_client",
        "_paused_by_upstream",
        "_replay",
        "_timeouts",
        "_told",
        "_unsent",
        "begun",
        "client",
        "ended_at",
        "gate",
        "over",
        "passage",
        "relay",
        "request",
        "route",
        "tap",
        "target",
        "to_service",
        "tunnel",
    )

    begun: float
    ended_at: float  # by the monotonic clock
    passage: Passage
    relay: "Relay"
    route: Route | None

    def __init__(self, request: Request) -> None:
        self.status: int | None = None
        self.ended: Ended = "complete"
        self.bytes_in = self.bytes_out = self.upstream_ms = 0
        self.first_byte_sent = self.retried = False
        self.unsent = True
        self.response_headers: list[tuple[bytes, bytes]] | None = None
        self.detail = ""
        self.request = request
        self.client = request.client
        self.route = None
        self.target: Target | None = None
        self.to_service = b""  # lines to add to the request, each with CRLF before it
        self.over = False
        self.tap: Tap | None = None
        self.tunnel: Tunnel | None = None
        self.gate: Gate | None = None  # what lets its bytes pass, where they are drawn first
        self._connection: UpstreamConnection | None = None
        self._moved = False
        self._paused_by_client = self._paused_by_upstream = False
        self._replay: bytes | None = None  # the body, as it was sent
        self._unsent = 0

    # What a subclass says

    def to_client(self) -> tuple[AddedNames, bytes]:
        """Lines to add to the response: the names in them, and all of them, each with CRLF before it."""
        return (), b""

    def progressed(self) -> None:
        """Called about once a second while bytes move; `request.body_bytes` and `bytes_out` are the totals."""

    def unfit(self, protocol: bytes) -> str:
        """Why no tunnel of this protocol is to be had; empty where one is."""
        return ""

    def counters(self) -> Counters | None:
        """What counts the messages of the tunnel that begins now, where somebody wants to know."""
        return None

    def finished(self) -> None:
        """It has ended. Where nothing of a response was sent, and the client is there, it wants an answer."""
        raise NotImplementedError

    # Beginning

    def aim(self, relay: "Relay", route: Route, passage: Passage, now: float) -> None:
        """From here on it is on its way: through `relay`, by the rules of `route`."""
        self.relay, self.route, self.passage = relay, route, passage
        self.begun = self._last_moved = self._told = now
        self._timeouts = route.timeouts

    def connected(self, now: float) -> None:
        """Getting a connection took a while; being idle begins only now."""
        self._last_moved = self._told = now

    def start(self, connection: UpstreamConnection, head: bytes, *, by_gate: bool = False) -> None:
        """Send the head and what has come of the body; from here on things happen by themselves until `finished`."""
        if self.gate is not None and not by_gate:
            self.gate.start(connection, head)
            return
        request, client = self.request, self.client
        if client.gone or request.responded or self.over:  # it left, or broke the rules in its body, while we connected
            connection.release(True)
            self.end("client_gone")
            return
        self._connection = connection
        self.unsent = False
        connection.begin(self, request.method == "HEAD", request.fields.upgrade)
        if self._replay is not None:
            client.attach(request)
            connection.transport.write(head + self._replay)
            return
        pieces = client.attach(request)
        first = b"".join((head, *self._frame(pieces, request.body_ended))) if pieces or request.chunked else head
        if not request.body_ended:
            connection.transport.write(first)
            client.go_on(request)
            return
        if connection.reused and request.method in _IDEMPOTENT and len(first) <= _REPLAYED_BYTES:
            self._replay = first[len(head) :] if first is not head else b""
        connection.transport.write(first)

    def _frame(self, pieces: list[bytes], ended: bool) -> list[bytes]:
        if not self.request.chunked:
            return pieces
        parts = frame(pieces)
        if ended:
            parts.append(last_chunk(pass_trailers(self.request.trailers)))
        return parts

    # From the client

    def take_body(self, pieces: list[bytes], ended: bool) -> None:
        connection = self._connection
        if connection is None or connection.lost:
            return
        self._moved = True
        connection.transport.writelines(self._frame(pieces, ended))

    def client_gone(self) -> None:
        self._let_go()
        self.end("client_gone")

    def client_paused(self) -> None:
        if self._connection is not None and not self._paused_by_client and not self._connection.lost:
            self._paused_by_client = True
            self._connection.transport.pause_reading()

    def client_resumed(self) -> None:
        self._moved = True
        if self._connection is not None and self._paused_by_client and not self._connection.lost:
            self._paused_by_client = False
            self._connection.transport.resume_reading()

    # From the upstream

    def response_read(self) -> None:
        connection = self._connection
        if connection is None:
            return
        self._moved = True
        if self.tap is not None:
            self.tap.read(connection)
        if connection.interim:
            self._pass_interim(connection)
        if self.first_byte_sent:
            parts = []
        else:
            head = connection.head
            if head is None:
                return
            if head.fault:
                self.upstream_faulty(head.fault)
                return
            if connection.switched:
                fault = self.unfit(connection.switched) if self.request.body_ended else "it changed protocols before the request had ended"
                if fault:
                    self.upstream_faulty(fault)
                    return
                self._begin_tunnel(connection, head)
                return
            parts = self._begin_response(connection, head)
        size = 0
        if connection.pieces:
            pieces, connection.pieces = connection.pieces, []
            if self._chunked_out:
                parts += frame(pieces)
            for piece in pieces:
                size += len(piece)
                if not self._chunked_out:
                    parts.append(piece)
            self.bytes_out += size
        complete = connection.complete
        if complete and self._chunked_out:
            parts.append(last_chunk(pass_trailers(connection.trailers)))
        if parts:
            self.client.write(parts, size)
        if complete:
            self._complete(connection)

    def _pass_interim(self, connection: UpstreamConnection) -> None:
        """103 and its like go to clients that know of them; 100 we have told, or will tell, ourselves."""
        interim, connection.interim = connection.interim, ()
        for status, reason, fields in interim:
            if status != _CONTINUE and self.request.http_version == "1.1" and not self.first_byte_sent:
                self.client.write([self.passage.interim(status, reason, fields)], 0)

    def _begin_response(self, connection: UpstreamConnection, head: ResponseHead) -> list[bytes]:
        """The head for the client, in parts."""
        request = self.request
        self.status, self.response_headers, self.first_byte_sent = head.status, head.fields, True
        request.responded = True
        keep = self.client.may_keep_alive(request) and request.body_ended  # RFC 9112 §9.3: else what comes yet is read by nobody
        added, lines = self.to_client()
        parts = self.passage.response(head, added, lines, self.client.date)
        bodiless = connection.bodiless or head.bodiless
        self._chunked_out = not bodiless and head.content_length is None and request.http_version == "1.1"
        if self._chunked_out:
            parts.append(b"\r\nTransfer-Encoding: chunked")
        elif not bodiless and head.content_length is None:
            keep = False  # to HTTP/1.0, the end of the connection is the end of the body
        if not keep:
            parts.append(b"\r\nConnection: close\r\n\r\n")
        elif request.http_version == "1.0":
            parts.append(b"\r\nConnection: keep-alive\r\n\r\n")
        else:
            parts.append(b"\r\n\r\n")
        self._keep_client = keep
        return parts

    def _begin_tunnel(self, connection: UpstreamConnection, head: ResponseHead) -> None:
        """RFC 9110 §7.8: both connections belong to this exchange until either ends; their bytes are its bodies'."""
        client, request = self.client, self.request
        self.status, self.response_headers, self.first_byte_sent = head.status, head.fields, True
        request.responded = True
        added, lines = self.to_client()
        parts = self.passage.response(head, added, lines, client.date)
        client.write([*parts, b"\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % connection.switched], 0)
        self._chunked_out = self._keep_client = False
        pieces, connection.pieces = connection.pieces, []
        self.tunnel = Tunnel(
            client.transport,
            connection.transport,
            passed_in=request.body_bytes,
            counters=self.counters(),
            lost=self.unreadable,
        )
        if self.gate is not None:
            self.gate.stand_in(self.tunnel)
        self.tunnel.open(client.open_tunnel(), pieces)

    def unreadable(self) -> None:
        """Its messages can no longer be counted."""
        self.cut(_PROTOCOL_ERROR, UNREADABLE)

    def cut(self, code: int, reason: str) -> None:
        """End a tunnel that may not go on: its bytes stop here and now."""
        if self.over or self.tunnel is None:
            return
        if self.gate is None and not self.client.gone and self.tunnel.part(code, reason):  # a gate may hold half a frame back
            self.client.part()
        self._let_go()
        self.end("cut", reason)

    def _look_into(self, tunnel: Tunnel) -> None:
        """Its bytes are the bodies' of this exchange."""
        passed_in, passed_out = tunnel.inwards.passed, tunnel.outwards.passed
        if passed_in != self.request.body_bytes or passed_out != self.bytes_out:
            self._moved = True
            self.request.body_bytes, self.bytes_out = passed_in, passed_out

    def _complete(self, connection: UpstreamConnection) -> None:
        whole = self.request.body_ended
        self._connection = None
        if self._paused_by_client and not connection.lost:
            connection.transport.resume_reading()
        connection.release(whole)
        self.client.finish(self._keep_client and whole)
        self.end("complete")

    def upstream_lost(self, clean_end: bool) -> None:
        connection = self._connection
        if connection is None:
            return
        if not connection.status:
            self._connection = None
            if connection.silent and connection.reused and self._replay is not None and not self.retried:
                self.retried = True
                self.client.detach()
                self.relay.again(self)
            else:
                self.end("upstream_reset", "it closed the connection without a response")
        elif clean_end and connection.ends_with_connection:
            connection.complete = True
            self.response_read()
        else:
            self._connection = None
            self.end("upstream_reset", "it closed the connection within its response")

    def upstream_faulty(self, why: str) -> None:
        self._let_go()
        self.end("upstream_reset" if self.first_byte_sent else "bad_response", why)

    def upstream_paused(self) -> None:
        self._paused_by_upstream = True
        self.client.pause_body()

    def upstream_resumed(self) -> None:
        self._moved = True
        self._paused_by_upstream = False
        self.client.resume_body()

    # Time

    def check(self, now: float, progress_seconds: float) -> None:
        """Called by the relay's sweep: has it stood still, or lasted, too long?"""
        if self._connection is None:
            return
        if self.tunnel is not None:
            self._look_into(self.tunnel)
        if self._moved or (self._paused_by_client and self._client_reads()):
            self._moved = False
            self._last_moved = now
        elif now - self._last_moved > self._timeouts.idle_s:
            self._stood_still()
        if self._last_moved > self._told and now - self._told >= progress_seconds and not self.over:
            self._told = now
            self.progressed()
        total_s = self._timeouts.total_s
        if total_s is not None and now > self.begun + total_s and not self.over:
            self._let_go()
            self.end("timeout", "the exchange took too long")

    def _client_reads(self) -> bool:
        before, self._unsent = self._unsent, self.client.transport.get_write_buffer_size()
        return self._unsent < before

    def _stood_still(self) -> None:
        connection = self._connection
        if self._paused_by_client:
            self.client.abort()
        elif connection is not None and connection.switched:
            connection.complete = True  # a tunnel in which nothing moves is over; nobody is to blame
            (self.gate or self).response_read()
        elif not self.request.body_ended and not self._paused_by_upstream and not self.first_byte_sent:
            self.client.refuse(Refusal(408, "body_timeout", "The body did not arrive in time."))
        else:
            self._let_go()
            self.end("timeout", "the upstream was silent for too long")

    # Ending

    def cut_off(self, detail: str) -> None:
        """A limit lets no more bytes pass."""
        self._let_go()
        self.end("cut", detail)

    def cancel(self) -> None:
        """The handler was cancelled."""
        if not self.over:
            self._let_go()
            self.end("client_gone", "the gateway broke it off")
            self.client.abort()

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release(False)

    def end(self, ended: Ended, detail: str = "") -> None:
        if self.over:
            return
        self.over = True
        self.ended = ended
        self.detail = detail
        if self.tunnel is not None:
            self.tunnel.shut()
            self._look_into(self.tunnel)
        if ended != "complete":
            self.client.detach()
            if self.first_byte_sent and not (self.client.gone or self.client.closing):
                if ended == "cut":
                    self.client.cut_off(framed=self._chunked_out)
                else:
                    self.client.abort()  # a cut body must not look whole
        self.relay.over(self)
        self.bytes_in = self.request.body_bytes
        self.ended_at = self.relay.monotonic()
        self.upstream_ms = int((self.ended_at - self.begun) * 1000 + 0.5)
        self.finished()
