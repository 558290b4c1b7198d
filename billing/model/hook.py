"""Events for others: which there are, who wants them, how one is written and signed. Pure.

The form is that of Standard Webhooks (standardwebhooks.com, version 1): an id that stays the same at every attempt, a timestamp, and a
signature over both and the body, by each secret that is good. Events are noted by the database (0021_hooks.sql).
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from metering.model.clock import isoformat
from metering.model.errors import BadInput
from metering.model.outward import Reach, check, is_address

TYPES: Mapping[str, str] = {
    "subscription.created": "an organization was subscribed to a plan",
    "subscription.changed": "plan, price, state, cancellation, pause or trial of a subscription; `previous` has what differed",
    "subscription.renewed": "a period began, and nothing else changed",
    "subscription.ended": "a subscription is over",
    "invoice.finalized": "an invoice has its number and can be paid",
    "invoice.paid": "nothing is owed any more",
    "invoice.payment_failed": "an attempt to charge an invoice failed: `attempt`, `reason`",
    "invoice.voided": "an invoice is not due any more",
    "invoice.uncollectible": "an invoice was given up",
    "payment_method.added": "a customer can be charged by it from now on",
    "payment_method.changed": "the same method with other facts, such as a card's new end",
    "payment_method.removed": "it cannot be charged any more",
    "quota.threshold_reached": "so many percent of a quota are used: once in each window",
    "hook.test": "somebody asked for it (hook test); sent to that endpoint alone, whatever it wants",
}
EVERYTHING = "*"
THRESHOLD = "quota.threshold_reached"
TEST = "hook.test"
PREFIX = "whsec_"
MOST_ENDPOINTS = 20  # of one organization, and of the installation
_SECRET_BYTES = 32
_LONGEST_URL, _LONGEST_DESCRIPTION = 2000, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where events go. `org_id` None: those of every organization. `failing_since_ms`: the first attempt that failed since one
    succeeded."""

    id: str
    url: str
    types: tuple[str, ...]
    created_by: str
    created_at_ms: int
    org_id: str | None = None
    description: str = ""
    failing_since_ms: int | None = None
    disabled_at_ms: int | None = None
    disabled_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, to `org_id` (None: a test of the installation's own endpoint). `message` names it to receivers, at every
    attempt."""

    message: str
    type: str
    happened_at_ms: int
    data: Mapping[str, Any] = field(default_factory=dict)
    org_id: str | None = None
    slug: str | None = None
    id: int = 0  # given by the database; in the order they were noted


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """A request to a receiver."""

    url: str
    headers: Mapping[str, str]
    body: bytes


def body_of(event: Event) -> bytes:
    """The same bytes at every attempt."""
    said = {"type": event.type, "timestamp": isoformat(event.happened_at_ms), "data": event.data}
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()


def signed(event: Event, url: str, secrets: Sequence[bytes], now_ms: int) -> Post:
    """`secrets` are all that are good now, the newest first."""
    body, seconds = body_of(event), now_ms // 1000
    signatures = " ".join(signature(secret, event.message, seconds, body) for secret in secrets)
    headers = {
        "Content-Type": "application/json", "User-Agent": "Weighbridge", "webhook-id": event.message, "webhook-timestamp": str(seconds),
        "webhook-signature": signatures,
    }  # fmt: skip
    return Post(url=url, headers=headers, body=body)


def signature(secret: bytes, message: str, seconds: int, body: bytes) -> str:
    """Standard Webhooks, "Signature scheme": HMAC-SHA256 over id.timestamp.body."""
    digest = hmac.new(secret, f"{message}.{seconds}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def secret_from(entropy: bytes) -> bytes:
    """Raises ValueError where there is too little."""
    if len(entropy) < _SECRET_BYTES:
        raise ValueError(f"a secret takes {_SECRET_BYTES} random bytes")
    return entropy[:_SECRET_BYTES]


def written(secret: bytes) -> str:
    """As receivers' libraries read it."""
    return PREFIX + base64.b64encode(secret).decode()


def read_types(words: Sequence[str]) -> tuple[str, ...]:
    """Each once, in order: a type, a noun with all of its types (invoice.*), or * for everything. Raises BadInput."""
    nouns = {kind.partition(".")[0] + ".*" for kind in TYPES}
    for word in words:
        if word != EVERYTHING and word not in nouns and word not in TYPES:
            raise BadInput(f"there are no events {word!r}; there are: {EVERYTHING}, {', '.join(TYPES)}, and {', '.join(sorted(nouns))}")
    if not words:
        raise BadInput("say which events: invoice.paid, invoice.*, or *")
    return tuple(dict.fromkeys(words))


def read_url(text: str, reach: Reach) -> str:
    """An address that events may go to. Names are looked at when they are resolved, at each attempt. Raises BadInput, Forbidden."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadInput(f"{text!r} is no URL") from None
    if len(text) > _LONGEST_URL or not text.isprintable() or " " in text or not host or port == 0:
        raise BadInput("a URL is written as https://example.com/path, in at most 2,000 characters")
    if parts.scheme != "https" and (parts.scheme != "http" or reach is Reach.PUBLIC):
        raise BadInput("events are sent to https:// only (WEIGHBRIDGE_HOOKS_INSIDE=true lets them go to http:// and private addresses)")
    if parts.username is not None or parts.password is not None:
        raise BadInput("a URL carries no login: receivers know events by their signature")
    if parts.fragment:
        raise BadInput("a URL for events has no #fragment: it would not be sent")
    if is_address(host):
        check(host, reach)
    return text


def read_description(text: str) -> str:
    """Raises BadInput."""
    if len(text) > _LONGEST_DESCRIPTION or not (text.isprintable() or not text):
        raise BadInput(f"a description is at most {_LONGEST_DESCRIPTION} printable characters")
    return text
