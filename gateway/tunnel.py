"""Two connections that changed protocols (RFC 9110 §7.8): what either end says goes straight to the other's transport.

While it is open each transport hands what it reads to a Side, and nothing of HTTP stands between. A Side adds up what it passed and
writes it on, no more: a message then costs little beside its two system calls. Who weighs the tunnel looks at the sums about once a
second and at its end (gateway/transfer.py). Everything but bytes, such as an end or a full buffer, stays the affair of the
protocol object that the connection had before.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from gateway.frames import Frames

_CLOSE = 0x88  # the last frame of its kind (RFC 6455 §5.2)
Counters = tuple[Frames, Frames]  # from the client, from the service


class Side:
    """What one end says, on its way to the other. `passed`: bytes so far. `write`: where to.

    An asyncio.Protocol by its methods, not by its base.
    """

    __slots__ = ("_before", "_transport", "passed", "write")

    def __init__(self, transport: asyncio.Transport, write: Callable[[bytes], object], passed: int) -> None:
        """`transport`: from where; `write`: to where."""
        self._transport, self._before = transport, cast(asyncio.Protocol, transport.get_protocol())
        self.write, self.passed = write, passed

    def open(self) -> None:
        self._transport.set_protocol(cast(asyncio.BaseProtocol, self))

    def shut(self) -> None:
        """Nothing passes any more."""
        self.write = _nowhere

    def data_received(self, data: bytes) -> None:
        self.passed += len(data)
        self.write(data)

    def eof_received(self) -> bool | None:
        return self._before.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._before.connection_lost(exc)

    def pause_writing(self) -> None:
        self._before.pause_writing()

    def resume_writing(self) -> None:
        self._before.resume_writing()


class CountedSide(Side):
    """One whose messages are counted. Where they no longer can be, nothing more passes, and `lost` is called."""

    __slots__ = ("_frames", "_lost")

    def __init__(
        self, transport: asyncio.Transport, write: Callable[[bytes], object], passed: int, frames: Frames, lost: Callable[[], None]
    ) -> None:
        super().__init__(transport, write, passed)
        self._frames, self._lost = frames, lost

    def data_received(self, data: bytes) -> None:
        if self.write is _nowhere:
            return
        if not self._frames.feed(data):
            self.shut()
            self._lost()
            return
        self.passed += len(data)
        self.write(data)

    def await_close(self) -> None:
        """From now on only the Close frame is waited for with which a client answers ours (RFC 6455 §5.5.1)."""
        self.write = lambda _: self._transport.close() if self._frames.closed else None


class Tunnel:
    """`inwards`: from the client to the service. `outwards`: back."""

    __slots__ = ("_client", "_counters", "_parted", "inwards", "outwards")

    def __init__(
        self,
        client: asyncio.Transport,
        service: asyncio.Transport,
        *,
        passed_in: int = 0,
        counters: Counters | None = None,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        """`passed_in`: bytes that the client had sent before, as its request's body."""
        self._client, self._counters, self._parted = client, counters, False
        self.inwards: Side
        self.outwards: Side
        if counters is None:
            self.inwards = Side(client, service.write, passed_in)
            self.outwards = Side(service, client.write, 0)
        else:
            self.inwards = CountedSide(client, service.write, passed_in, counters[0], lost)
            self.outwards = CountedSide(service, client.write, 0, counters[1], lost)

    def open(self, first_in: bytes, first_out: list[bytes]) -> None:
        """From now on; the first bytes came with the heads."""
        self.outwards.open()
        self.inwards.open()
        for piece in first_out:
            self.outwards.data_received(piece)
        if first_in:
            self.inwards.data_received(first_in)

    def shut(self) -> None:
        """Nothing passes any more, whatever the transports still read."""
        if not self._parted:
            self.inwards.shut()
        self.outwards.shut()

    def part(self, code: int, reason: str) -> bool:
        """Shut it, and tell the client why a WebSocket ends (RFC 6455 §7.4): whether that can be said, between two frames."""
        if self._counters is None or not self._counters[1].between:
            return False
        payload = code.to_bytes(2, "big") + reason.encode()[:123]
        self._client.write(bytes((_CLOSE, len(payload))) + payload)
        if isinstance(self.inwards, CountedSide):
            self.inwards.await_close()
        self._parted = True
        self.shut()
        return True


def _nowhere(data: bytes) -> None:
    """Where a shut tunnel leads."""
