"""Count the messages in one direction of a WebSocket (RFC 6455 §5.2) by the headers of its frames. Pure; keeps no payload.

The count depends on the bytes alone, not on how they were cut into pieces, and a message counts with its first byte: none can be
held back by never being finished. What counts as one:

- a frame of text or binary, or with an opcode that the RFC reserves, however many continuation frames follow it
- a continuation frame that continues nothing, a control frame that is fragmented or longer than 125 bytes: whoever accepts what
  the RFC forbids does not get it for nothing

Pings, pongs and closes as the RFC wants them do not count. Extensions do not matter: their bits are passed over, and payloads
are never looked at. Where two readers could disagree on where a frame ends, nothing more can be counted: that is a length beyond 63
bits, and a mask where there must be none, or none where there must be one (§5.1: either end then has to give up the connection).
"""

_CONTINUATION, _CLOSE, _PONG = 0x0, 0x8, 0xA
_LONGEST_CONTROL = 125
_MASK_BYTES = 4


class Frames:
    """One direction. `messages`: begun so far. `closed`: a Close frame was among them."""

    __slots__ = ("_ahead", "_held", "_mask_bit", "_unfinished", "closed", "messages")

    def __init__(self, *, from_client: bool) -> None:
        self.messages = 0
        self.closed = False
        self._mask_bit = 0x80 if from_client else 0
        self._ahead = 0  # bytes until the next frame begins
        self._held = b""  # the beginning of a header that came in pieces
        self._unfinished = False  # a message has more frames to come

    @property
    def between(self) -> bool:
        """Whether what came ends with a whole frame."""
        return not self._ahead and not self._held

    def feed(self, data: bytes) -> bool:
        """Look at the next bytes. False where the boundaries of frames are lost; then nothing more may be fed."""
        known = bool(self._held)  # the frame's first byte was looked at before
        if known:
            data, self._held = self._held + data, b""
        at, size, mask_bit = self._ahead, len(data), self._mask_bit
        while at < size:
            if not known:
                self._begin(data[at])
            known = False
            end = at + 2
            if end > size:
                return self._hold(data, at)
            second = data[at + 1]
            length = second & 0x7F
            if second & 0x80 != mask_bit:
                return False
            if length > _LONGEST_CONTROL:
                end += 2 if length == 126 else 8
                if end > size:
                    return self._hold(data, at)
                length = int.from_bytes(data[at + 2 : end], "big")
                if length >> 63:
                    return False
            if data[at] & 0x8:
                self._control(data[at], length)
            at = end + length + (_MASK_BYTES if mask_bit else 0)
        self._ahead = at - size
        return True

    def _hold(self, data: bytes, at: int) -> bool:
        self._held, self._ahead = data[at:], 0
        return True

    def _begin(self, first: int) -> None:
        opcode = first & 0xF
        if opcode & 0x8:
            self.messages += opcode > _PONG
        else:
            self.messages += opcode != _CONTINUATION or not self._unfinished
            self._unfinished = not first & 0x80

    def _control(self, first: int, length: int) -> None:
        """A control frame, now that its length is known."""
        if first & 0xF <= _PONG and (not first & 0x80 or length > _LONGEST_CONTROL):
            self.messages += 1
        self.closed = self.closed or first & 0xF == _CLOSE
