"""One client's connection: its requests parsed and served in the order they came, its answers' bytes carried.

No task serves a connection: a request is begun by a call of the handler, and ended by a call of `end`; what has to wait runs as a task
of its own (`run`). Bodies are not collected: what arrives goes to the exchange that asked for it (gateway/transfer.py); reading stops
while nobody can take more. The server around it is gateway/downstream.py.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from gateway.chunked import BadChunk, ChunkedDecoder
from gateway.headers import own_response
from gateway.http1 import Refusal, RequestParser
from gateway.request import Request
from gateway.sockets import break_off, peer_address, unsent_bytes

if TYPE_CHECKING:
    from gateway.downstream import DownstreamServer

_log = logging.getLogger(__name__)

_BUFFERED_BODY_BYTES: Final = 65_536  # of a body nobody has asked for yet
_DRAINED_BODY_BYTES: Final = 65_536  # an unread body up to this size is read and dropped, so that the connection can be kept
_HELD_BYTES: Final = 65_536  # of requests behind the one being served
_FIRST_REQUEST_SECONDS: Final = 1.0  # when the server is going down
_LINGER_SECONDS: Final = 2.0  # how long a closing connection reads on, so that our answer is not lost to a reset
_UNSENT_SECONDS: Final = 0.01  # between two looks at whether all is sent
_JOINED_BYTES: Final = 16_384  # below it, one copy costs less than several writes
_FOR_BODY: Final = 1  # why reading is paused
_FOR_ORDER: Final = 2
_FAILED: Final = "The handler failed; the client gets a 500, or a broken connection if its answer had begun"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_JSON: Final = ((b"Content-Type", b"application/json"),)


class Exchange(Protocol):
    """What takes a request's body and hears of its client; gateway.transfer.Transfer."""

    def take_body(self, pieces: list[bytes], ended: bool) -> None: ...
    def client_gone(self) -> None: ...
    def client_paused(self) -> None: ...
    def client_resumed(self) -> None: ...


class _Parser(RequestParser[Request]):
    """Reads requests."""

    __slots__ = ()

    def _begin(self) -> Request:
        return Request()


class ClientConnection:
    """The protocol object of one client's connection: an asyncio.Protocol by its methods, not by its base."""

    __slots__ = (
        "_attached",
        "_body_left",
        "_decoder",
        "_exchange",
        "_head_begun",
        "_parser",
        "_paused",
        "_peer",
        "_pending",
        "_request",
        "_scheme",
        "_served",
        "_server",
        "_serving",
        "_unsent",
        "_used",
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
        self._parser = _Parser(server.limits, Request, upgrades=True)
        self._request: Request | None = None
        self._served = False  # the request was answered and its handler is done, but its body is still coming
        self._pending = b""  # read, but behind the request being served
        self._body_left = 0
        self._decoder: ChunkedDecoder | None = None
        self._head_begun = False
        self._exchange: Exchange | None = None
        self._attached = False  # the exchange takes the body; until then it is held
        self._serving = False
        self._used = False
        self._paused = 0
        self._unsent = 0
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
            self._serve(data)
            return
        whole = request.body_ended
        if not whole:
            data = self._take_body(request, data)
            whole = request.body_ended
            if self._served and whole:
                self._next(data)
                return
        if data:
            self._hold(data)

    def eof_received(self) -> None:
        self._lose()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose()
        self._server.forget(self)

    def pause_writing(self) -> None:
        self.writing_paused = True
        if self._exchange is not None:
            self._exchange.client_paused()

    def resume_writing(self) -> None:
        self.writing_paused = False
        if self._exchange is not None:
            self._exchange.client_resumed()

    # Reading

    def _serve(self, data: bytes) -> None:
        """Begin the requests in what was read, one after the other, until one is under way or nothing is left."""
        self._serving = True
        try:
            under_way = self._request
            while data and under_way is None and not self.closing:
                request, taken = self._parser.feed(data)
                if request is None:
                    self._wait_for_head()
                    return
                self._begin(request)
                self._take_rest(request, data, taken)
                if not self.closing:
                    self._handle(request)
                under_way = self._request
                if under_way is not None:
                    return
                data, self._pending = self._pending, b""
            if self._server.draining and self._request is None:
                self._close()
        except Refusal as refusal:
            self.refuse(refusal, data)
        finally:
            self._serving = False

    def _take_rest(self, request: Request, data: bytes, taken: int) -> None:
        """What came with the head: its body, or requests behind it."""
        if taken < len(data):
            rest = data[taken:]
            if not request.body_ended:
                rest = self._take_body(request, rest)
            if rest:
                self._hold(rest)

    def _hold(self, data: bytes) -> None:
        self._pending += data
        if len(self._pending) > _HELD_BYTES:
            self._pause(_FOR_ORDER)

    def _wait_for_head(self) -> None:
        if not self._head_begun and self._parser.started:
            self._head_begun = True
            self.deadline = self._server.deadline(self._server.limits.header_timeout_s)

    def _begin(self, request: Request) -> None:
        self._request = request
        self._served = self._head_begun = self._attached = False
        self._used = True
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
        if self._attached and self._exchange is not None:
            self._exchange.take_body(pieces, request.body_ended)
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

    def _handle(self, request: Request) -> None:
        try:
            self._server.handler(request)
        except Exception:  # noqa: BLE001 - a request's first frame: the fault is told, its client is answered, others go on
            _log.exception(_FAILED)
            self.failed(request)

    def run(self, slow: Coroutine[Any, Any, None]) -> None:
        """Do what has to wait as a task; the request under way ends with it, or after it."""
        self.task = asyncio.get_running_loop().create_task(self._run(self._request, slow))

    async def _run(self, request: Request | None, slow: Coroutine[Any, Any, None]) -> None:
        me = asyncio.current_task()
        try:
            await slow
        except Exception:  # noqa: BLE001 - a task's first frame: as above
            _log.exception(_FAILED)
            if request is not None:
                self.failed(request)
        finally:
            if self.task is me:
                self.task = None

    def failed(self, request: Request) -> None:
        """A fault of ours ended the request: a 500, or a broken connection if its answer had begun."""
        if self._request is request and not self._served:
            self._fail(request)
            self.end(request)

    def _fail(self, request: Request) -> None:
        if request.responded:
            self.abort()
        else:
            self.refuse(Refusal(500, "internal", "The gateway failed."))

    def end(self, request: Request) -> None:
        """The handler is done with the request; saying so again changes nothing."""
        if self._request is not request or self._served:
            return
        self._server.in_flight -= 1
        if not request.responded and not self.gone:
            self._fail(request)
        self._exchange = None
        self._attached = False
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
        if data or self._paused:
            self._pending += data
            self._resume(_FOR_ORDER)
        if self._serving:
            return  # the loop there goes on
        if self._pending:
            data, self._pending = self._pending, b""
            self._serve(data)
        elif self._server.draining:
            self._close()

    # What an exchange calls (gateway/exchange.py), and Request.respond

    def watch(self, exchange: Exchange) -> None:
        """`exchange` hears from now on what becomes of this client."""
        self._exchange = exchange

    def attach(self, request: Request) -> list[bytes]:
        """From now on the body goes to the exchange; returns what came before."""
        self._attached = True
        buffered = request.buffered
        if buffered:
            request.buffered = []
        if self._paused:
            self._resume(_FOR_BODY)
        return buffered

    def detach(self) -> None:
        """The exchange takes no more of the body."""
        self._attached = False
        if self._paused:
            self._resume(_FOR_BODY)

    def open_tunnel(self) -> bytes:
        """All that comes from now on is the new protocol's, and goes past here (gateway/tunnel.py); returns what came before."""
        early, self._pending = self._pending, b""
        self._resume(_FOR_ORDER)
        return early

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
        self._attached = False
        if not keep_alive:
            self._close()
        elif self._paused:
            self._resume(_FOR_BODY)

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

    def refuse(self, refusal: Refusal, data: bytes = b"") -> None:
        """Answer what cannot be served, whether or not its head was understood, and close. `data`: where it was not, its last bytes."""
        if self.gone or self.closing:
            return
        self._server.on_reject(refusal.reason)
        request, exchange = self._request, self._exchange
        if request is not None:
            if request.responded:
                self.abort()
                return
            request.responded = True
            request.buffered.clear()
        body = self._server.error_body(refusal.status, refusal.reason, refusal.message)
        if request is None and self._parser.asks_for_head_alone(data):
            body = b""
        self.transport.write(own_response(refusal.status, _JSON, body, self._server.date, False, request))
        self._attached = False
        self._close(linger=True)
        if exchange is not None:
            exchange.client_gone()

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

    def part(self) -> None:
        """A tunnel's last word is written. The client may answer, for a moment; then the connection ends."""
        self.closing = True
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self._server.deadline(_LINGER_SECONDS)

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
        if not self._used:
            self.deadline = min(self.deadline, self._server.deadline(_FIRST_REQUEST_SECONDS))
        else:
            self._close()

    def cut_off(self, *, framed: bool) -> None:
        """End with what was sent so far, and so that it does not look complete: a `framed` body lacks its end, else by a reset."""
        if framed or self.gone:
            self._close()
        elif not self.closing:
            self.closing = True
            self._unsent = self.transport.get_write_buffer_size()
            self.deadline = self._server.deadline(_LINGER_SECONDS)
            self._abort_when_sent()

    def _abort_when_sent(self) -> None:
        """A reset takes with it what the other side has not received."""
        if self.gone:
            return
        if self.transport.get_write_buffer_size() or unsent_bytes(self.transport):
            asyncio.get_running_loop().call_later(_UNSENT_SECONDS, self._abort_when_sent)
        else:
            self.abort()

    def abort(self) -> None:
        """Break the connection off, so that nothing sent so far looks complete."""
        break_off(self.transport)
        self._lose()

    def _lose(self) -> None:
        if self.gone:
            return
        self.gone = True
        self._pending = b""
        self._attached = False
        if self._exchange is not None:
            self._exchange.client_gone()
