"""Read a chunked request body strictly, and frame one.

Pure. RFC 9112 §7.1. llhttp could decode chunks too, but does not say where a body ends in what was read, and a pipelined request
may follow; and here nothing passes that two servers could read differently: hexadecimal digits only, CRLF only.
"""

import re
from typing import Final

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_MAX_TRAILERS_BYTES: Final = 16_384
LAST_CHUNK: Final = b"0\r\n\r\n"


class BadChunk(Exception):
    """The chunked body is malformed."""


class ChunkedDecoder:
    """Takes what was read, gives the body's bytes; `trailers` are complete when `feed` says the body ended."""

    __slots__ = ("_left", "_line", "_max_line", "_state", "_trailers_bytes", "trailers")

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
        self._line = b""
        self._left = 0
        self._state = self._size
        self._trailers_bytes = 0
        self.trailers: list[tuple[bytes, bytes]] = []

    def feed(self, data: bytes) -> tuple[list[bytes], int | None]:
        """Returns body pieces, and where in `data` the body ended (None if it goes on).

        Raises BadChunk.
        """
        pieces: list[bytes] = []
        at, length = 0, len(data)
        while at < length:
            if self._left:
                piece = data[at : at + self._left]
                self._left -= len(piece)
                at += len(piece)
                pieces.append(piece)
                continue
            line, at = self._take_line(data, at)
            if line is not None and self._state(line):
                return pieces, at
        return pieces, None

    def _take_line(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        newline = data.find(b"\n", at)
        end = len(data) if newline < 0 else newline + 1
        line = self._line + data[at:end]
        if len(line) > self._max_line:
            raise BadChunk("A chunk's line is too long.")
        if newline < 0:
            self._line = line
            return None, end
        self._line = b""
        if not line.endswith(b"\r\n"):
            raise BadChunk("A line of the chunked body does not end with CRLF.")
        return line[:-2], end

    def _size(self, line: bytes) -> bool:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise BadChunk("A chunk size is not a hexadecimal number.")
        self._left = int(match[1], 16)
        self._state = self._after_data if self._left else self._trailer
        return False

    def _after_data(self, line: bytes) -> bool:
        if line:
            raise BadChunk("A chunk is longer than its size says.")
        self._state = self._size
        return False

    def _trailer(self, line: bytes) -> bool:
        if not line:
            return True
        match = _TRAILER.fullmatch(line)
        self._trailers_bytes += len(line)
        if match is None or self._trailers_bytes > _MAX_TRAILERS_BYTES:
            raise BadChunk("A trailer field is malformed or too long.")
        self.trailers.append((match[1], match[2].rstrip(b" \t")))
        return False


def frame(pieces: list[bytes]) -> list[bytes]:
    """The pieces as one chunk; nothing for no bytes, since an empty chunk would end the body."""
    size = sum(map(len, pieces))
    return [b"%x\r\n" % size, *pieces, b"\r\n"] if size else []


def last_chunk(trailers: list[tuple[bytes, bytes]]) -> bytes:
    """The end of a chunked body with its trailer fields."""
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n" + b"".join(b"%b: %b\r\n" % field for field in trailers) + b"\r\n"
