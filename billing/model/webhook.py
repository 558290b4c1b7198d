"""An event that Stripe sends: its signature, and what of it is kept. Pure.

The signature covers the bytes as they came (docs.stripe.com, "Verify webhook signatures"). An event is a hint that an object changed:
what the object is now is asked of Stripe, so neither order nor repetition matters. billing/services/inbox.py keeps events,
billing/stripe/mirror.py works through them.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from metering.model.errors import BadInput

TOLERANCE_SECONDS = 300
MOST_BYTES = 1 << 20  # Stripe's largest are some hundred kilobytes
_MOST_SIGNATURES = 16
_SCHEME = "v1"
_EVENT_ID = re.compile(r"evt_[A-Za-z0-9_]{1,200}")
_DIGITS = re.compile(r"[0-9]{1,12}")


class Status(StrEnum):
    """Of an event in the inbox."""

    RECEIVED = "received"  # waits, or is tried again
    SUCCESS = "success"
    IGNORED = "ignored"  # of a type, or about an object, that concerns nothing of ours
    FAILED = "failed"  # given up, until somebody retries it


class SignatureRefused(BadInput):
    """The signature does not fit what was sent."""

    code = "signature_refused"


class EventFaulty(BadInput):
    """What was sent is signed, and is no event."""

    code = "event_faulty"


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeEvent:
    """`object_id` is what it is about; for an event without one (a thin event's object has another shape) the event itself."""

    id: str
    type: str
    object_id: str
    created_ms: int
    live: bool
    account: str | None  # of a connected account only
    payload: Mapping[str, Any]


def sign(body: bytes, secret: str, at_seconds: int) -> str:
    """The header Stripe-Signature."""
    return f"t={at_seconds},{_SCHEME}={_signature(body, secret, str(at_seconds))}"


def verify(body: bytes, header: str, secrets: Sequence[str], now_ms: int, *, tolerance_seconds: int = TOLERANCE_SECONDS) -> None:
    """Raises SignatureRefused unless one of the signatures is by one of `secrets`, made at most `tolerance_seconds` before or after now.

    Every signature is held against every secret, in a time that tells nothing of them. Stripe's SDK lets timestamps of the future pass.
    """
    stamp, signatures = _parts(header)
    good = False
    for secret in secrets:
        expected = _signature(body, secret, stamp).encode()
        for signature in signatures:
            good |= hmac.compare_digest(expected, signature.encode())
    if not good:
        raise SignatureRefused("no signature in Stripe-Signature fits this body and STRIPE_WEBHOOK_SECRET")
    away = now_ms // 1000 - int(stamp)
    if abs(away) > tolerance_seconds:
        when = "old" if away > 0 else "ahead of this server's clock"
        raise SignatureRefused(f"the timestamp in Stripe-Signature is {abs(away)} s {when}; at most {tolerance_seconds} s are taken")


def read_event(body: bytes) -> StripeEvent:
    """Of a body whose signature was verified. Raises EventFaulty."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise EventFaulty("the body is no JSON") from exc
    if not isinstance(payload, dict):
        raise EventFaulty("the body is no JSON object")
    return event_of(payload)


def event_of(payload: Mapping[str, Any]) -> StripeEvent:
    """Raises EventFaulty."""
    event_id, kind = payload.get("id"), payload.get("type")
    if not isinstance(event_id, str) or not _EVENT_ID.fullmatch(event_id) or not isinstance(kind, str) or not 0 < len(kind) <= 200:
        raise EventFaulty("the body is no event: it lacks an id (evt_…) or a type")
    created, account = payload.get("created"), payload.get("account")
    return StripeEvent(
        id=event_id,
        type=kind,
        object_id=_object_id(payload) or event_id,
        created_ms=created * 1000 if isinstance(created, int) and 0 <= created < 1 << 33 else 0,
        live=payload.get("livemode") is True,
        account=account if isinstance(account, str) else None,
        payload=payload,
    )


def wrong_side(event: StripeEvent, mode: str, account: str | None) -> str | None:
    """Why the event is not for a database that is stamped with this mode (sandbox, test, live) and account, if known; else None."""
    if event.live != (mode == "live"):
        return f"the event is of {'live' if event.live else 'test'} mode, and this installation belongs to {mode}"
    if event.account is not None and account is not None and event.account != account:
        return f"the event is of account {event.account}, and this installation belongs to another"
    return None


def _object_id(payload: Mapping[str, Any]) -> str | None:
    data = payload.get("data")
    about = data.get("object") if isinstance(data, dict) else None
    found = about.get("id") if isinstance(about, dict) else None
    return found if isinstance(found, str) and 0 < len(found) <= 255 else None


def _parts(header: str) -> tuple[str, list[str]]:
    """Timestamp as it was signed, and the signatures of the scheme that is in force. Raises SignatureRefused."""
    stamps: list[str] = []
    signatures: list[str] = []
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            stamps.append(value)
        elif name == _SCHEME and len(signatures) < _MOST_SIGNATURES:
            signatures.append(value)
    if len(stamps) != 1 or not _DIGITS.fullmatch(stamps[0]) or not signatures:
        raise SignatureRefused("Stripe-Signature is missing, or lacks a timestamp or a signature: t=…,v1=…")
    return stamps[0], signatures


def _signature(body: bytes, secret: str, stamp: str) -> str:
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
