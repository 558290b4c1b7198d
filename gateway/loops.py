"""A request that comes round: an upstream that is this gateway itself, or leads back to it.

Every gateway writes itself into Via (RFC 9110 §7.6.3), so a request that has passed this installation, or too many gateways of its
kind, is in a circle. It is answered 508 before anybody is asked, counted or charged. Pure.
"""

from collections.abc import Sequence
from typing import Protocol

from gateway.headers import VIA
from metering.model.errors import WeighbridgeError

MOST_HOPS = 3
"""Weighbridges one behind the other that a request may pass before it reaches this one."""

_KIND = VIA.split(b" ")[1]


class LoopDetected(WeighbridgeError):
    """This request has passed this gateway before: an upstream's target is the gateway itself, or leads back to it."""

    code, http_status = "loop_detected", 508


class Head(Protocol):
    """A request's head; gateway.http1.RequestHead."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]: ...
    @property
    def names(self) -> Sequence[bytes]: ...


def loops(head: Head, own: bytes = VIA) -> bool:
    """Whether this request has been here. `own`: what this installation writes into Via; one that names no installation is counted."""
    return b"via" in head.names and _has_been_here(head, own)


def _has_been_here(head: Head, own: bytes) -> bool:
    values = [value for (_, value), name in zip(head.headers, head.names, strict=True) if name == b"via"]
    passed = [_pseudonym(hop) for hop in b",".join(values).split(b",")]
    me = _pseudonym(own)
    if me != _KIND and me in passed:
        return True
    return sum(1 for each in passed if each == _KIND or each.startswith(_KIND + b"-")) > MOST_HOPS


def _pseudonym(hop: bytes) -> bytes:
    """The received-by of `protocol received-by [comment]`."""
    words = hop.split(None, 2)
    return words[1].lower() if len(words) > 1 else b""
