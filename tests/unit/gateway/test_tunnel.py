"""A tunnel between two transports that record what happens to them."""

import asyncio
from typing import Any

import pytest

from gateway.frames import Frames
from gateway.tunnel import Tunnel


class Wire(asyncio.Transport):
    """What is written to it, and whose protocol reads from it."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol, self.written, self.closed = protocol, b"", False

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True


class Before(asyncio.Protocol):
    """The protocol object that a connection had: what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def data_received(self, data: bytes) -> None:
        self.told.append("data")

    def eof_received(self) -> None:
        self.told.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


@pytest.fixture
def client() -> Wire:
    return Wire(Before())


@pytest.fixture
def service() -> Wire:
    return Wire(Before())


def test_what_either_end_says_reaches_the_other_and_is_added_up(client: Wire, service: Wire) -> None:
    tunnel = Tunnel(client, service, passed_in=5)
    tunnel.open(b"early", [b"hel", b"lo"])
    client.protocol.data_received(b"ping")
    service.protocol.data_received(b"pong!")
    assert (service.written, client.written) == (b"earlyping", b"hellopong!")
    assert (tunnel.inwards.passed, tunnel.outwards.passed) == (5 + 9, 10)


def test_a_shut_tunnel_passes_nothing_on(client: Wire, service: Wire) -> None:
    tunnel = Tunnel(client, service)
    tunnel.open(b"", [])
    tunnel.shut()
    client.protocol.data_received(b"late")
    service.protocol.data_received(b"late")
    assert (service.written, client.written) == (b"", b"")


def test_everything_but_bytes_stays_the_affair_of_the_protocols_that_were_there_before(client: Wire, service: Wire) -> None:
    before = client.protocol
    Tunnel(client, service).open(b"", [])
    client.protocol.data_received(b"x")
    for happens in ("pause_writing", "resume_writing", "eof_received"):
        getattr(client.protocol, happens)()
    client.protocol.connection_lost(None)
    assert before.told == ["pause", "resume", "eof", "lost"]


def test_a_client_is_told_why_between_two_frames_and_its_answer_ends_the_connection(client: Wire, service: Wire) -> None:
    counters = Frames(from_client=True), Frames(from_client=False)
    tunnel = Tunnel(client, service, counters=counters)
    tunnel.open(b"", [b"\x82\x02h"])
    assert not tunnel.part(1008, "quota_exceeded")
    service.protocol.data_received(b"i")
    assert tunnel.part(1008, "quota_exceeded")
    assert client.written == b"\x82\x02hi\x88\x10\x03\xf0quota_exceeded"
    client.protocol.data_received(b"\x81\x80mask")
    service.protocol.data_received(b"\x82\x02ho")
    assert (service.written, len(client.written), client.closed) == (b"", 22, False)
    client.protocol.data_received(b"\x88\x80mask")
    assert client.closed


def test_where_frames_cannot_be_told_apart_nothing_passes_and_it_is_said(client: Wire, service: Wire) -> None:
    lost: list[str] = []
    counters = Frames(from_client=True), Frames(from_client=False)
    Tunnel(client, service, counters=counters, lost=lambda: lost.append("lost")).open(b"", [])
    client.protocol.data_received(b"\x81\x01x")
    client.protocol.data_received(b"\x81\x81maskx")
    assert (service.written, lost) == (b"", ["lost"])
