"""Events that Weighbridge sends: known by their signature (Standard Webhooks, version 1)."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .errors import NotSigned

TOLERANCE_SECONDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Something that happened. `id` is the same however often it is told: keep it, and take each event once."""

    id: str
    type: str
    timestamp: datetime
    data: Mapping[str, Any]


def verify(body: bytes, headers: Mapping[str, str], secret: str, *, now: float | None = None) -> Told:
    """The event, as it came: give the body's bytes, not what was parsed of them. `secret` is the endpoint's, whsec_….

    Raises NotSigned; ValueError for a secret that cannot be one.
    """
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as fault:
        raise ValueError("a secret is written as whsec_ and base64") from fault
    if not key:
        raise ValueError("the secret is empty")
    found = {name.lower(): value for name, value in headers.items()}
    message, seconds, signatures = (found.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (message and seconds.isascii() and seconds.isdigit()):
        raise NotSigned
    if abs((time.time() if now is None else now) - int(seconds)) > TOLERANCE_SECONDS:
        raise NotSigned(f"the event was signed more than {TOLERANCE_SECONDS // 60} minutes ago or ahead: is the clock right?")
    expected = base64.b64encode(hmac.new(key, f"{message}.{seconds}.".encode() + body, hashlib.sha256).digest())
    given = [each.removeprefix("v1,").encode() for each in signatures.split() if each.startswith("v1,")]
    if not any(hmac.compare_digest(each, expected) for each in given):
        raise NotSigned
    said = json.loads(body)
    return Told(id=message, type=said["type"], timestamp=datetime.fromisoformat(said["timestamp"]), data=said["data"])
