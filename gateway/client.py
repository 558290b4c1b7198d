"""One client's connection: its requests parsed and served in the order they came, its answers' bytes carried.

At most one Task a connection, begun with its first request. Bodies are not collected: what arrives goes to the exchange that asked
for it (gateway/relay.py); reading stops while nobody can take more. The server around it is gateway/downstream.py.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from gateway.chunked import BadChunk, ChunkedDecoder
from gateway.headers import own_response
from gateway.http1 import Refusal, RequestParser
from gateway.request import Request
from gateway.sockets import break_off, peer_address

if TYPE_CHECKING:
    from gateway.downstream import DownstreamServer

_log = logging.getLogger(__name__)

_BUFFERED_BODY_BYTES = 65_536  # of a body nobody has asked for yet
_DRAINED_BODY_BYTES = 65_536  # an unread body up to this size is read and dropped, so that the connection can be kept
_HELD_BYTES = 65_536  # of requests behind the one being served
_FIRST_REQUEST_SECONDS = 1.0  # when the server is going down
_LINGER_SECONDS = 2.0  # how long a closing connection reads on, so that our answer is not lost to a reset
_JOINED_BYTES = 16_384  # below it, one copy costs less than several writes
_FOR_BODY, _FOR_ORDER = 1, 2  # why reading is paused
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_JSON = ((b"Content-Type", b"application/json"),)


class BodyTaker(Protocol):
    """What takes a request's body and hears of its client; gateway.exchange.Exchange."""

    def take_body(self, pieces: list[bytes], ended: bool) -> None: ...
    def client_gone(self) -> None: ...
    def client_paused(self) -> None: ...
    def client_resumed(self) -> None: ...


class ClientConnection(asyncio.Protocol):
    """The protocol object of one client's connection."""

    __slots__ = (
        "_body_left",
        "_decoder",
        "_head_begun",
        "_parser",
        "_paused",
        "_peer",
        "_pending",
        "_request",
        "_scheme",
        "_served",
        "_server",
        "_taker",
        "_unsent",
        "_waiter",
        "closing",
        "deadline",
        "gone",
        "task",
        "transport",
        "writing_paused",
    )

    transport: asyncio.Transport

    def __init__(self, server: "DownstreamServer") -> None:
        self._server = server
        self._parser = RequestParser(server.limits, Request)
        self._request: Request | None = None
        self._served = False  # the request was answered and its handler is done, but its body is still coming
        self._pending = b""  # read, but behind the request being served
        self._body_left = 0
        self._decoder: ChunkedDecoder | None = None
        self._head_begun = False
        self._taker: BodyTaker | None = None
        self._paused = 0
        self._unsent = 0
        self._waiter: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None
        self.writing_paused = False
        self.closing = False
        self.gone = False
        self.deadline = 0.0

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] # a stream's transport is one
        self._peer = peer_address(transport)
        self._scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self.deadline = self._server.deadline(self._server.limits.header_timeout_s)
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        request = self._request
        if request is None:
            self._read_head(data)
            return
        if not request.body_ended:
            data = self._take_body(request, data)
            if self._served and request.body_ended:
                self._next(data)
                return
        if data:
            self._pending += data
            if len(self._pending) > _HELD_BYTES:
                self._pause(_FOR_ORDER)

    def eof_received(self) -> None:
        self._lose()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose()
        self._server.forget(self)

    def pause_writing(self) -> None:
        self.writing_paused = True
        if self._taker is not None:
            self._taker.client_paused()

    def resume_writing(self) -> None:
        self.writing_paused = False
        if self._taker is not None:
            self._taker.client_resumed()

    # Reading

    def _read_head(self, data: bytes) -> None:
        try:
            request, taken = self._parser.feed(data)
        except Refusal as refusal:
            self.refuse(refusal)
            return
        if request is None:
            if not self._head_begun and self._parser.started:
                self._head_begun = True
                self.deadline = self._server.deadline(self._server.limits.header_timeout_s)
            return
        self._begin(request)
        if taken < len(data):
            self.data_received(data[taken:])
        if not self.closing:
            self._wake()

    def _begin(self, request: Request) -> None:
        self._request = request
        self._served = self._head_begun = False
        self._server.in_flight += 1
        self.deadline = 0.0
        request.client = self
        request.peer = self._peer
        request.scheme = self._scheme
        if request.chunked:
            self._decoder = ChunkedDecoder(self._server.limits.max_line)
        elif request.content_length:
            self._decoder = None
            self._body_left = request.content_length
        else:
            request.body_ended = True

    def _take_body(self, request: Request, data: bytes) -> bytes:
        """Hand on what belongs to the body; returns the rest."""
        rest = b""
        if self._decoder is None:
            if len(data) > self._body_left:
                data, rest = data[: self._body_left], data[self._body_left :]
            self._body_left -= len(data)
            pieces = [data]
            request.body_bytes += len(data)
            request.body_ended = not self._body_left
        else:
            try:
                pieces, end = self._decoder.feed(data)
            except BadChunk as fault:
                self.refuse(Refusal(400, "bad_chunk", str(fault)))
                return rest
            request.body_bytes += sum(map(len, pieces))
            limit = self._server.limits.max_body
            if limit is not None and request.body_bytes > limit:
                self.refuse(Refusal(413, "body_too_large", f"The body is larger than {limit} bytes."))
                return rest
            if end is not None:
                request.body_ended, request.trailers, rest = True, self._decoder.trailers, data[end:]
        if self._taker is not None:
            self._taker.take_body(pieces, request.body_ended)
        elif not request.responded:
            request.buffered += pieces
            if request.body_bytes >= _BUFFERED_BODY_BYTES:
                self._pause(_FOR_BODY)
        return rest

    def _pause(self, reason: int) -> None:
        if not self._paused and not self.transport.is_closing():
            self.transport.pause_reading()
        self._paused |= reason

    def _resume(self, reason: int) -> None:
        if self._paused & reason:
            self._paused &= ~reason
            if not self._paused and not self.transport.is_closing():
                self.transport.resume_reading()

    # Serving

    def _wake(self) -> None:
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._serve())
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _serve(self) -> None:
        while not (self.gone or self.closing):
            request = self._request
            if request is None or self._served:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
                self._waiter = None
                continue
            try:
                await self._server.handler(request)
            except Exception:  # noqa: BLE001 - a request's last frame: the fault is told, its client is answered, others go on
                _log.exception("The handler failed; the client gets a 500, or a broken connection if its answer had begun")
                self._fail(request)
            self._end(request)

    def _fail(self, request: Request) -> None:
        if request.responded:
            self.abort()
        else:
            self.refuse(Refusal(500, "internal", "The gateway failed."))

    def _end(self, request: Request) -> None:
        """The handler is done with the request."""
        self._server.in_flight -= 1
        if not request.responded and not self.gone:
            self._fail(request)
        self._taker = None
        if self.gone or self.closing:
            self._request = None
        elif request.body_ended:
            self._next(b"")
        else:
            self._served = True
            self.deadline = self._server.deadline(_LINGER_SECONDS)

    def _next(self, data: bytes) -> None:
        """Turn to the next request, which may have been read already."""
        self._request = None
        self.deadline = self._server.idle_deadline
        if self._pending:
            data, self._pending = self._pending + data, b""
            self._resume(_FOR_ORDER)
        if self.closing:
            return
        if data:
            self._read_head(data)
        elif self._server.draining:
            self._close()

    # What an exchange calls (gateway/exchange.py), and Request.respond

    def attach(self, request: Request, taker: BodyTaker) -> list[bytes]:
        """From now on the body goes to `taker`; returns what came before."""
        self._taker = taker
        buffered, request.buffered = request.buffered, []
        self._resume(_FOR_BODY)
        return buffered

    def detach(self) -> None:
        """The taker is done without an answer."""
        self._taker = None
        self._resume(_FOR_BODY)

    def pause_body(self) -> None:
        self._pause(_FOR_BODY)

    def resume_body(self) -> None:
        self._resume(_FOR_BODY)

    def go_on(self, request: Request) -> None:
        """Tell a client that waits for it to send its body."""
        if request.expect_continue and not request.body_bytes and not request.responded:
            self.transport.write(_CONTINUE)

    @property
    def date(self) -> bytes:
        """The Date field's value for now."""
        return self._server.date

    def may_keep_alive(self, request: Request) -> bool:
        return request.keep_alive and not self._server.draining

    def write(self, parts: list[bytes], size: int) -> None:
        """`size` says roughly how much it is."""
        if size <= _JOINED_BYTES:
            self.transport.write(b"".join(parts))
        else:
            self.transport.writelines(parts)

    def finish(self, keep_alive: bool) -> None:
        """The answer is written in full."""
        self._taker = None
        if keep_alive:
            self._resume(_FOR_BODY)
        else:
            self._close()

    def respond(self, request: Request, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        if request.responded or self.gone:
            return
        request.responded = True
        request.buffered.clear()
        keep_alive = self.may_keep_alive(request) and (request.body_ended or self._can_drain(request))
        self.transport.write(own_response(status, headers, body, self._server.date, keep_alive, request))
        self.finish(keep_alive)

    def _can_drain(self, request: Request) -> bool:
        return not request.chunked and self._body_left <= _DRAINED_BODY_BYTES and not (request.expect_continue and not request.body_bytes)

    # Ending

    def refuse(self, refusal: Refusal) -> None:
        """Answer what cannot be served, whether or not its head was understood, and close."""
        if self.gone or self.closing:
            return
        self._server.on_reject(refusal.reason)
        request, taker = self._request, self._taker
        if request is not None:
            if request.responded:
                self.abort()
                return
            request.responded = True
            request.buffered.clear()
        body = self._server.error_body(refusal.status, refusal.reason, refusal.message)
        self.transport.write(own_response(refusal.status, _JSON, body, self._server.date, False, request))
        self._taker = None
        self._close(linger=True)
        if taker is not None:
            taker.client_gone()

    def _close(self, linger: bool = False) -> None:
        """Close once everything is sent; while more comes in, read it for a moment, since closing would reset what we sent."""
        if self.closing:
            return
        self.closing = True
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self._server.deadline(_LINGER_SECONDS)
        unread = self._request is not None and not self._request.body_ended
        self._pending = b""
        self._resume(_FOR_BODY | _FOR_ORDER)
        if (linger or unread) and self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()
        self._wake_to_end()

    def _wake_to_end(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def expire(self) -> None:
        """The deadline has passed."""
        if self.closing:
            unsent = self.transport.get_write_buffer_size()
            if 0 < unsent < self._unsent:  # a slow reader, but a reader
                self._unsent = unsent
                self.deadline = self._server.deadline(_LINGER_SECONDS)
            else:
                self.abort()
        elif self._parser.started:
            self.refuse(Refusal(408, "header_timeout", "The header fields did not arrive in time."))
        else:
            self._close()

    def drain(self) -> None:
        """The server is going down: close if idle. Who has only just connected gets a moment for the first request."""
        if self._request is not None or self._parser.started:
            return
        if self.task is None:
            self.deadline = min(self.deadline, self._server.deadline(_FIRST_REQUEST_SECONDS))
        else:
            self._close()

    def abort(self) -> None:
        """Break the connection off, so that nothing sent so far looks complete."""
        break_off(self.transport)
        self._lose()

    def _lose(self) -> None:
        if self.gone:
            return
        self.gone = True
        self._pending = b""
        taker, self._taker = self._taker, None
        if taker is not None:
            taker.client_gone()
        self._wake_to_end()
