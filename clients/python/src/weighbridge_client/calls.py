"""Every request that the clients make, and when one is made again. Pure: sync.py and aio.py send them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from .answers import Batch, Feature, Outcome, Quota, Subscription, batch_of, feature_of, quota_of, subscription_of
from .errors import ClientError, Refused, Unreachable
from .events import MOST_IN_A_BATCH, Event

PREFIX = "/api/v1/billing"
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 30.0
_AGAIN = (429, 502, 503, 504)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request. `repeatable`: made twice, it does what it does once."""

    method: str
    path: str
    read: Callable[[Any], T]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    repeatable: bool = False


def quota(service: str, org: str | None = None) -> Call[Quota]:
    return Call(method="GET", path=f"{PREFIX}/quota/{_word(service)}", query=_about(org), read=quota_of, repeatable=True)


def usage(org: str | None = None) -> Call[dict[str, Any]]:
    return Call(method="GET", path=f"{PREFIX}/usage", query=_about(org), read=dict, repeatable=True)


def feature(key: str, org: str | None = None) -> Call[Feature]:
    path = f"{PREFIX}/features/{_word(key)}"
    return Call(method="GET", path=path, query=_about(org), read=lambda body: feature_of(key, body), repeatable=True)


def subscription(org: str | None = None) -> Call[Subscription]:
    return Call(method="GET", path=f"{PREFIX}/subscription", query=_about(org), read=subscription_of, repeatable=True)


def upgrade(plan: str, org: str | None = None, *, at_end: bool = False, preview: bool = False) -> Call[dict[str, Any]]:
    body = {"plan": plan, "at_end": at_end, "preview": preview}
    return Call(method="POST", path=f"{PREFIX}/subscription/upgrade", query=_about(org), body=body, read=dict, repeatable=preview)


def cancel(org: str | None = None, *, now: bool = False, reason: str | None = None) -> Call[dict[str, Any]]:
    body = {"now": now, **({} if reason is None else {"reason": reason})}
    return Call(method="POST", path=f"{PREFIX}/subscription/cancel", query=_about(org), body=body, read=dict)


def record(events: Sequence[Event], org: str | None = None) -> Call[Batch]:
    """Raises ValueError for none, and for more than a batch takes."""
    if not 0 < len(events) <= MOST_IN_A_BATCH:
        raise ValueError(f"a batch has 1 to {MOST_IN_A_BATCH:,} events, not {len(events):,}")
    body = {"events": [event.body() for event in events]}
    return Call(method="POST", path=f"{PREFIX}/events", query=_about(org), body=body, read=batch_of, repeatable=True)


def only(batch: Batch) -> Outcome:
    """Of a batch of one. Raises Refused where it was rejected."""
    (outcome,) = batch.outcomes
    if outcome.status == "rejected":
        raise Refused(400, "event_rejected", outcome.reason or "the event was rejected")
    return outcome


def answered(call: Call[T], status: int, headers: Mapping[str, str], content: bytes) -> T:
    """Raises Refused, or Unreachable where what answered is not Weighbridge."""
    try:
        body = json.loads(content) if content else {}
    except ValueError:
        body = None
    if status >= 400:
        raise _refusal(status, headers, body)
    try:
        if isinstance(body, dict):
            return call.read(body)
        raise ValueError("no JSON object")
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        raise Unreachable(f"the answer to {call.method} {call.path} is not one of Weighbridge's: {fault!r}") from fault


def wait_before_again(call: Call[Any], fault: ClientError, attempt: int, *, retries: int, jitter: float) -> float | None:
    """Seconds; None: it is not made again. `attempt` counts from 1, `jitter` in [0, 1) spreads who failed together."""
    again = isinstance(fault, Unreachable) or (isinstance(fault, Refused) and fault.status in _AGAIN)
    if not (again and call.repeatable and attempt <= retries):
        return None
    asked = (fault.retry_after or 0.0) if isinstance(fault, Refused) else 0.0
    own = FIRST_WAIT_SECONDS * 2 ** (attempt - 1) * (1 + jitter)
    return None if asked > LONGEST_WAIT_SECONDS else min(max(own, asked), LONGEST_WAIT_SECONDS)


def _refusal(status: int, headers: Mapping[str, str], body: Any) -> Refused:
    said: Mapping[str, Any] = body if isinstance(body, dict) else {}
    after = headers.get("retry-after", "")
    return Refused(
        status, str(said.get("code", "")), str(said.get("detail") or f"Weighbridge answered {status}"), said.get("details"),
        retry_after=float(after) if after.isascii() and after.isdigit() else None,
    )  # fmt: skip


def _about(org: str | None) -> dict[str, str]:
    return {} if org is None else {"org": org}


def _word(text: str) -> str:
    return quote(text, safe="")
