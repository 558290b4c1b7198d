"""One exchange's bytes, moved from protocol to protocol without a task of their own.

What the client's connection reads goes to the upstream's, and back; a side that cannot take more stops the reading on the other.
Nothing is collected, so an exchange costs the same memory for a gigabyte as for a kilobyte. Who gets which connection, and the
retry, are in gateway/relay.py.
"""

import asyncio
from collections.abc import Callable, Sequence

from config.gateway import Timeouts
from gateway.chunked import frame, last_chunk
from gateway.headers import Passage, lines_of, names_of, pass_trailers
from gateway.http1 import Refusal
from gateway.outcome import Ended, Outcome
from gateway.reply import ResponseHead
from gateway.request import Request
from gateway.service import UpstreamConnection

_CONTINUE = 100
_WITHOUT_BODY = (204, 304)
_REPLAYED_BYTES = 65_536  # a request up to this size can be sent a second time
_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND", "SEARCH", "REPORT", "QUERY"))


class Transfer:
    """Takes the request's body and the response, and fills in the outcome. `done` is set when it ended, or wants a second try."""

    __slots__ = (
        "_add",
        "_chunked_out",
        "_client",
        "_connection",
        "_date",
        "_idle_seconds",
        "_keep_client",
        "_last_moved",
        "_moved",
        "_passage",
        "_paused_by_client",
        "_paused_by_upstream",
        "_progress",
        "_replay",
        "_request",
        "_told",
        "_total_deadline",
        "_unsent",
        "done",
        "ended",
        "outcome",
    )

    def __init__(
        self,
        request: Request,
        passage: Passage,
        timeouts: Timeouts,
        started: float,
        add: Sequence[tuple[bytes, bytes]],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._request = request
        self._client = request.client
        self._passage = passage
        self._add = add
        self._progress = progress
        self._connection: UpstreamConnection | None = None
        self._chunked_out = False
        self._keep_client = False
        self._moved = False
        self._last_moved = self._told = started
        self._paused_by_client = self._paused_by_upstream = False
        self._replay = b""
        self._unsent = 0
        self._idle_seconds = timeouts.idle_s
        self._total_deadline = None if timeouts.total_s is None else started + timeouts.total_s
        self.ended = False
        self.outcome = Outcome()
        self.done: asyncio.Future[None]

    def connected(self, now: float) -> None:
        """Getting a connection took a while; being idle begins only now."""
        self._last_moved = self._told = now

    def start(self, connection: UpstreamConnection, head: bytes) -> None:
        """Send the head and what has come of the body; from here on things happen by themselves until `done`."""
        self.done = asyncio.get_running_loop().create_future()
        self._connection = connection
        request = self._request
        if self._client.gone or request.responded:  # it left, or broke the rules in its body, while we connected
            connection.release(True)
            self._end("client_gone")
            return
        connection.begin(self, request.method == "HEAD")
        if self._replay:
            self._client.attach(request, self)
            connection.transport.write(self._replay)
            return
        parts = [head, *self._frame(self._client.attach(request, self), request.body_ended)]
        first = b"".join(parts) if len(parts) > 1 else head
        if request.body_ended and request.method in _IDEMPOTENT and len(first) <= _REPLAYED_BYTES:
            self._replay = first
        connection.transport.write(first)
        if not request.body_ended:
            self._client.go_on(request)

    def _frame(self, pieces: list[bytes], ended: bool) -> list[bytes]:
        if not self._request.chunked:
            return pieces
        parts = frame(pieces)
        if ended:
            parts.append(last_chunk(pass_trailers(self._request.trailers)))
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
        self._end("client_gone")

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
        if connection.interim:
            self._pass_interim(connection)
        parts: list[bytes] = []
        if not self.outcome.first_byte_sent:
            head = connection.head
            if head is None:
                return
            if head.fault:
                self.upstream_faulty(head.fault)
                return
            self._begin_response(connection, head, parts)
        size = 0
        if connection.pieces:
            pieces, connection.pieces = connection.pieces, []
            size = sum(map(len, pieces))
            self.outcome.bytes_out += size
            parts += frame(pieces) if self._chunked_out else pieces
        if connection.complete and self._chunked_out:
            parts.append(last_chunk(pass_trailers(connection.trailers)))
        if parts:
            self._client.write(parts, size)
        if connection.complete:
            self._complete(connection)

    def _pass_interim(self, connection: UpstreamConnection) -> None:
        """103 and its like go to clients that know of them; 100 we have told, or will tell, ourselves."""
        interim, connection.interim = connection.interim, ()
        for status, reason, fields in interim:
            if status != _CONTINUE and self._request.http_version == "1.1" and not self.outcome.first_byte_sent:
                self._client.write([self._passage.interim(status, reason, fields)], 0)

    def _begin_response(self, connection: UpstreamConnection, head: ResponseHead, parts: list[bytes]) -> None:
        request, outcome = self._request, self.outcome
        outcome.status, outcome.response_headers, outcome.first_byte_sent = head.status, head.fields, True
        request.responded = True
        keep = self._client.may_keep_alive(request)
        parts += self._passage.response(head, names_of(self._add), lines_of(self._add), self._client.date)
        bodiless = connection.bodiless or head.status in _WITHOUT_BODY
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

    def _complete(self, connection: UpstreamConnection) -> None:
        whole = self._request.body_ended
        self._connection = None
        if self._paused_by_client and not connection.lost:
            connection.transport.resume_reading()
        connection.release(whole)
        self._client.finish(self._keep_client and whole)
        self._end("complete")

    def upstream_lost(self, clean_end: bool) -> None:
        connection, outcome = self._connection, self.outcome
        if connection is None:
            return
        if not connection.status:
            self._connection = None
            if connection.silent and connection.reused and self._replay and not outcome.retried:
                outcome.retried = True
                self._client.detach()
                self.done.set_result(None)
            else:
                self._end("upstream_reset", "it closed the connection without a response")
        elif clean_end and connection.ends_with_connection:
            connection.complete = True
            self.response_read()
        else:
            self._connection = None
            self._end("upstream_reset", "it closed the connection within its response")

    def upstream_faulty(self, why: str) -> None:
        self._let_go()
        self._end("upstream_reset" if self.outcome.first_byte_sent else "bad_response", why)

    def upstream_paused(self) -> None:
        self._paused_by_upstream = True
        self._client.pause_body()

    def upstream_resumed(self) -> None:
        self._moved = True
        self._paused_by_upstream = False
        self._client.resume_body()

    # Time

    def check(self, now: float, progress_seconds: float) -> None:
        """Called by the relay's sweep: has it stood still, or lasted, too long?"""
        if self._connection is None:
            return
        if self._moved or (self._paused_by_client and self._client_reads()):
            self._moved = False
            self._last_moved = now
            if self._progress is not None and now - self._told >= progress_seconds:
                self._told = now
                self._progress(self._request.body_bytes, self.outcome.bytes_out)
        elif now - self._last_moved > self._idle_seconds:
            self._stood_still()
        if self._total_deadline is not None and now > self._total_deadline and not self.ended:
            self._let_go()
            self._end("timeout", "the exchange took too long")

    def _client_reads(self) -> bool:
        before, self._unsent = self._unsent, self._client.transport.get_write_buffer_size()
        return self._unsent < before

    def _stood_still(self) -> None:
        if self._paused_by_client:
            self._client.abort()
        elif not self._request.body_ended and not self._paused_by_upstream and not self.outcome.first_byte_sent:
            self._client.refuse(Refusal(408, "body_timeout", "The body did not arrive in time."))
        else:
            self._let_go()
            self._end("timeout", "the upstream was silent for too long")

    # Ending

    def cancel(self) -> None:
        """The handler was cancelled."""
        if not self.ended:
            self._let_go()
            self._end("client_gone", "the gateway broke it off")
            self._client.abort()

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release(False)

    def _end(self, ended: Ended, detail: str = "") -> None:
        if self.ended:
            return
        self.ended = True
        self.outcome.ended = ended
        self.outcome.detail = detail
        if ended != "complete":
            self._client.detach()
            if self.outcome.first_byte_sent and not self._client.gone:
                self._client.abort()  # a cut body must not look whole
        if not self.done.done():
            self.done.set_result(None)
