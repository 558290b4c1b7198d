"""One connection to a service: what it answers is parsed, and handed to the exchange that asked.

llhttp holds the grammar; what it lets pass and we cannot pass on is found by `_fault`. Where the answer is of the common kind, its body
counted by Content-Length, llhttp is needed no longer than for its head: the body is counted here; and not even for the head, if that is
remembered (gateway/reply.py). Whose connection it is, and whether it is kept, is decided in gateway/target.py; what becomes of the
bytes in gateway/transfer.py.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import httptools

from gateway.chunked import ChunkedDecoder
from gateway.reply import ResponseHead, known_heads, remember_head

if TYPE_CHECKING:
    from gateway.gate import Gate
    from gateway.target import Target
    from gateway.transfer import Transfer

    ResponseTaker: TypeAlias = Transfer | Gate

_MISSES: Final = 16  # after so many heads in a row that were their own, a service's are looked for only so often
_MAX_HEAD_BYTES: Final = 262_144
_SWITCHING: Final = 101
_MAX_CHUNK_LINE: Final = 8_192
_WRITE_HIGH_WATER_BYTES: Final = 65_536


class UpstreamConnection:
    """One connection to a target. After each read the taker looks at what was parsed, and takes `pieces` away.

    An asyncio.Protocol by its methods, not by its base.
    """

    __slots__ = (
        "_begun",
        "_block",
        "_counted",
        "_decoder",
        "_head_bytes",
        "_headers",
        "_interim",
        "_known",
        "_left",
        "_misses",
        "_offered",
        "_owner",
        "_parser",
        "_reason",
        "bodiless",
        "complete",
        "head",
        "interim",
        "keep_alive",
        "lost",
        "pieces",
        "reused",
        "spoiled",
        "sweeps_idle",
        "switched",
        "taker",
        "trailers",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, owner: "Target") -> None:
        self._owner: Target | None = owner  # who keeps it; none for what its opener has given up
        self._parser: httptools.HttpResponseParser | None = None
        self.taker: ResponseTaker | None = None  # what hears of the response
        self.lost = False
        self.reused = False
        self.sweeps_idle = 0
        self._misses = 0
        self._block = b""
        self._known: ResponseHead | None = None  # what `_block`, which came last, says
        self._decoder: ChunkedDecoder | None = None
        self.spoiled = self.bodiless = False
        self.keep_alive = True
        self.pieces: list[bytes] = []

    def begin(self, taker: "ResponseTaker", head_only: bool, offered: bytes = b"") -> None:
        """The next response goes to `taker`; `head_only` if the request is HEAD. `offered`: the protocols it may change to."""
        self.taker = taker
        self._offered = offered
        self.switched = b""  # the protocol that it changed to
        self.bodiless = head_only
        self.head: ResponseHead | None = None
        self.complete = self.keep_alive = self._begun = self._counted = False
        self.interim: Sequence[tuple[int, bytes, list[tuple[bytes, bytes]]]] = ()
        self.trailers: Sequence[tuple[bytes, bytes]] = ()

    @property
    def status(self) -> int:
        """The response's; 0 until its head was read."""
        return self.head.status if self.head is not None else 0

    @property
    def silent(self) -> bool:
        """Whether not a byte of a response came."""
        return not self._begun

    @property
    def ends_with_connection(self) -> bool:
        """Whether the response's body goes on until the connection ends."""
        if self.head is None or self.bodiless or self.complete:
            return False
        return self.head.content_length is None and b"transfer-encoding" not in self.head.names

    # The common answer

    def _find_head(self, data: bytes) -> bytes:
        """Look for a remembered head, from now on the last one; returns what would be remembered, empty where that is not worth it."""
        self._misses += 1
        if self._misses >= _MISSES and self._misses % _MISSES:
            return b""
        block = data[: data.find(b"\r\n\r\n") + 4]
        head = known_heads.get(block)
        if head is not None:
            self._misses = 0
            self._block, self._known = block, head
        return block

    def _begin_counting(self, head: ResponseHead, end: int, data: bytes) -> None:
        """A remembered head was `data[:end]`."""
        self._counted = True
        self.head = head
        self.keep_alive = head.keep_alive
        self._left = head.content_length or 0
        self._count(data[end:])

    def _count(self, data: bytes) -> None:
        """What came of the body; what came behind it spoils the connection."""
        left = self._left - len(data)
        if left < 0:
            self.spoiled = True
            data = data[: self._left]
            left = 0
        if data:
            self.pieces.append(data)
        self._left = left
        self.complete = not left

    # llhttp, and its callbacks

    def _begin_parsing(self, data: bytes, block: bytes, taker: "ResponseTaker") -> bool:
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
            self._parser.set_dangerous_leniencies(None, True, None, None, True)  # lengths beside codings, versions: `_fault` judges them
        self._interim = False
        self._head_bytes = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._decoder = None
        if not self._parse(data, taker):
            return False
        head = self.head
        if head is not None and (block or not self.complete) and not (self.bodiless or self.interim) and head.is_counted:
            if block:
                remember_head(block, head)
            if not self.complete:
                self._take_over(head)
        return True

    def _take_over(self, head: ResponseHead) -> None:
        """The rest of the body needs no parser."""
        self._parser = None
        self._counted = True
        self._left = (head.content_length or 0) - sum(map(len, self.pieces))

    def _parse(self, data: bytes, taker: "ResponseTaker") -> bool:
        """Whether the taker is to look at what came; if not, it was told what is wrong."""
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as switch:
            return self._switch(data[switch.args[0] :], taker)
        except httptools.HttpParserError as error:
            self.spoiled = True
            if not self.complete:
                taker.upstream_faulty(str(error))
                return False
        if self.head is None:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                taker.upstream_faulty("its header fields are too large")
                return False
        return True

    def _switch(self, rest: bytes, taker: "ResponseTaker") -> bool:
        """101 (RFC 9110 §15.2.2): from here on the bytes are the new protocol's, which must be one that was offered."""
        status, reason, fields = self.interim[-1] if self.interim else (0, b"", [])
        chosen = b",".join([value for name, value in fields if name.lower() == b"upgrade"])
        names = {name.strip(b" \t").lower() for name in chosen.split(b",")}
        if status != _SWITCHING or not names <= {name.strip(b" \t").lower() for name in self._offered.split(b",") if name}:
            taker.upstream_faulty("it changed protocols unasked")
            return False
        self.interim = self.interim[:-1]
        self.head = ResponseHead(status, reason, fields, keep_alive=False)
        self.switched, self.keep_alive, self.bodiless = chosen, False, False
        if rest:
            self.pieces.append(rest)
        return True

    def _fault(self, head: ResponseHead, version: str) -> str:
        """What llhttp lets pass and we cannot pass on."""
        if b"transfer-encoding" in head.names:
            values = [value for (_, value), name in zip(head.fields, head.names, strict=True) if name == b"transfer-encoding"]
            if len(values) > 1 or values[0].strip(b" \t").lower() != b"chunked":
                return "its transfer coding is not chunked alone"
            if version == "1.0":
                return "it sent Transfer-Encoding in HTTP/1.0"
            if b"content-length" in head.names:
                return "it sent Content-Length beside Transfer-Encoding"
            if b"\t" in values[0]:  # whitespace that is no part of it (RFC 9110 §5.5), but llhttp takes it for another coding
                self._decoder = ChunkedDecoder(_MAX_CHUNK_LINE)
        if not version.startswith("1."):  # RFC 9110 §2.5: a later 1.x is read as the latest known
            return "its version is none"
        if not 200 <= head.status <= 999:
            return "its status is none"
        if head.reason == b"OK":
            return ""
        return "" if _speakable(head.reason) else "its reason phrase has control bytes"

    def on_message_begin(self) -> None:
        if self.complete:
            self.spoiled = True  # more than was asked for; its fields are no trailers
            self._headers = []

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
            if _speakable(self._reason):
                self.interim = [*self.interim, (status, self._reason, self._headers)]
            self._interim = True
            self._headers = []
        else:
            self._take_head(parser, status)
        self._reason = b""

    def _take_head(self, parser: httptools.HttpResponseParser, status: int) -> None:
        fields, self._headers = self._headers, []
        self.trailers = self._headers
        self.keep_alive = parser.should_keep_alive()
        self.head = head = ResponseHead(status, self._reason, fields, keep_alive=self.keep_alive)
        head.fault = self._fault(head, parser.get_http_version())
        self.complete = self.bodiless

    def on_body(self, piece: bytes) -> None:
        if self.complete:  # of an answer to HEAD, or of a second answer: neither was asked for
            self.spoiled = True
        elif self._decoder is not None:
            self._decode(self._decoder, piece)
        else:
            self.pieces.append(piece)

    def _decode(self, decoder: ChunkedDecoder, piece: bytes) -> None:
        """Raises BadChunk, which the parser tells of."""
        pieces, end = decoder.feed(piece)
        self.pieces += pieces
        if end is not None:
            self.complete, self.trailers = True, decoder.trailers
            self.spoiled = self.spoiled or end < len(piece)

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
        taker = self.taker
        if taker is None:
            self._drop()  # nobody asked for anything
            return
        if self._counted:
            if self.complete:
                self.spoiled = True
                return
            self._count(data)
        elif self._begun:
            if not self._parse(data, taker):
                return
        else:
            block = b""
            if not self.bodiless and (self._known is None or not data.startswith(self._block)):
                self._known = None
                block = self._find_head(data)
            head = self._known
            if head is not None and not self.bodiless:
                self._begin_counting(head, len(self._block), data)
            elif not self._begin_parsing(data, block, taker):
                return
        self._begun = True
        taker.response_read()

    def eof_received(self) -> None:
        self.lost = True
        if self.taker is None and self._owner is not None:
            self._owner.forget_idle(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        taker, self.taker = self.taker, None
        if taker is not None:
            taker.upstream_lost(exc is None)
        if self._owner is not None:
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
        owner = self._owner
        if owner is None or not reusable or self.spoiled or self.lost or not self.keep_alive:
            self._drop()
            return
        if self.bodiless:
            self._parser = None  # it still waits for the body that HEAD never brings
        self.reused = True
        owner.put_back(self)

    def abandon(self) -> None:
        """Its opening was given up, so it is nobody's, even if it comes to stand for a moment."""
        self._owner = None

    def _drop(self) -> None:
        self.lost = True
        if self._owner is not None:
            self._owner.forget_idle(self)
        self.transport.abort()


def _speakable(reason: bytes) -> bool:
    """Whether a reason phrase is text (RFC 9112 §4); an interim response whose reason is none is not passed on."""
    return reason.isascii() and reason.decode().isprintable()
