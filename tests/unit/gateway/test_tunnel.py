"""A tunnel between two transports that record what happens to them."""

import asyncio
from typing import Any

import pytest

from gateway.tunnel import Tunnel


class Wire(asyncio.Transport):
    """What is written to it, and whose protocol reads from it."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol, self.written = protocol, b""

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: Any) -> None:
        self.written += data


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
