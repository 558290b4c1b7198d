"""A request that comes round: an upstream that is this gateway itself, or leads back to it.

Every gateway writes itself into Via (RFC 9110 §7.6.3), so a request that has passed this installation, or too many gateways of its
kind, is in a circle. It is answered 508 before anybody is asked, counted or charged. Pure.
"""

from typing import Final

from gateway.fields import Fields
from gateway.headers import VIA
from gateway.http1 import RequestHead

MOST_HOPS: Final = 3
"""Weighbridges one behind the other that a request may pass before it reaches this one."""

_KIND: Final = VIA.split(b" ")[1]


def loops(head: RequestHead, own: bytes = VIA) -> bool:
    """Whether this request has been here. `own`: what this installation writes into Via; one that names no installation is counted.

    Worked out once for equal fields that come again.
    """
    fields = head.fields
    if not fields.has_via:
        return False
    key = (loops, own)
    known: bool | None = fields.memo.get(key)
    if known is None:
        known = _has_been_here(fields, own)
        fields.remember(key, known)
    return known


def _has_been_here(fields: Fields, own: bytes) -> bool:
    values = [value for (_, value), name in zip(fields.headers, fields.names, strict=True) if name == b"via"]
    passed = [_pseudonym(hop) for hop in b",".join(values).split(b",")]
    me = _pseudonym(own)
    if me != _KIND and me in passed:
        return True
    return sum(1 for each in passed if each == _KIND or each.startswith(_KIND + b"-")) > MOST_HOPS


def _pseudonym(hop: bytes) -> bytes:
    """The received-by of `protocol received-by [comment]`."""
    words = hop.split(None, 2)
    return words[1].lower() if len(words) > 1 else b""
