"""Two connections that changed protocols (RFC 9110 §7.8): what either end says goes straight to the other's transport.

While it is open each transport hands what it reads to a Side, and nothing of HTTP stands between. A Side adds up what it passed and
writes it on, no more: a message then costs little beside its two system calls. Who weighs the tunnel looks at the sums about once a
second and at its end (gateway/transfer.py). Everything but bytes, such as an end or a full buffer, stays the affair of the
protocol object that the connection had before.
"""

import asyncio
from collections.abc import Callable


class Side(asyncio.Protocol):
    """What one end says, on its way to the other. `passed`: bytes so far. `write`: where to."""

    __slots__ = ("_before", "_transport", "passed", "write")

    def __init__(self, transport: asyncio.Transport, write: Callable[[bytes], object], passed: int) -> None:
        """`transport`: from where; `write`: to where."""
        self._transport, self._before = transport, transport.get_protocol()
        self.write, self.passed = write, passed

    def open(self) -> None:
        self._transport.set_protocol(self)

    def shut(self) -> None:
        """Nothing passes any more."""
        self.write = _nowhere

    def data_received(self, data: bytes) -> None:
        self.passed += len(data)
        self.write(data)

    def eof_received(self) -> bool | None:
        return self._before.eof_received()  # type: ignore[attr-defined,no-any-return] # both are protocols of streams

    def connection_lost(self, exc: Exception | None) -> None:
        self._before.connection_lost(exc)

    def pause_writing(self) -> None:
        self._before.pause_writing()

    def resume_writing(self) -> None:
        self._before.resume_writing()


class Tunnel:
    """`inwards`: from the client to the service. `outwards`: back."""

    __slots__ = ("inwards", "outwards")

    def __init__(self, client: asyncio.Transport, service: asyncio.Transport, *, passed_in: int = 0) -> None:
        """`passed_in`: bytes that the client had sent before, as its request's body."""
        self.inwards = Side(client, service.write, passed_in)
        self.outwards = Side(service, client.write, 0)

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
        self.inwards.shut()
        self.outwards.shut()


def _nowhere(data: bytes) -> None:
    """Where a shut tunnel leads."""
