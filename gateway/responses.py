"""Our own answers: one JSON form for every refusal, and the rate-limit headers. Error → HTTP is decided here alone.

429 as the guide shows it; RateLimit-Policy and RateLimit as draft-ietf-httpapi-ratelimit-headers-11 has them.
"""

import math
from collections.abc import Sequence
from typing import Any

import orjson

from metering.model.clock import isoformat
from metering.model.errors import WeighbridgeError

from .charges import Charge, Limit

Headers = list[tuple[bytes, bytes]]

_EXPOSED = b"Retry-After, RateLimit, RateLimit-Policy, X-Request-Id, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"
_TITLES = {"api": "API request"}


def error_body(code: str, message: str, details: dict[str, Any] | None = None) -> bytes:
    """{"error": {"code", "message", "details"?}}"""
    error: dict[str, Any] = {"code": code, "message": message}
    if details:
        error["details"] = details
    return orjson.dumps({"error": error})


def plain_error(status: int, code: str, message: str) -> bytes:
    """The body for a request that was never understood; the protocol layer answers it."""
    return error_body(code, message, {"status": status})


def error_answer(error: WeighbridgeError) -> tuple[int, Headers, bytes]:
    """Status, headers and body of an error."""
    headers: Headers = [(b"Content-Type", b"application/json")]
    if error.http_status in (429, 503):
        headers.append((b"Retry-After", str(max(1, int(error.details.get("retry_after", 1)))).encode()))
    if error.http_status == 401 or error.challenge:
        headers.append((b"WWW-Authenticate", (error.challenge or 'Bearer realm="api"').encode()))
    details = {name: value for name, value in error.details.items() if name != "retry_after"}
    return error.http_status, headers, error_body(error.code, str(error), details)


def quota_exceeded(limit: Limit, used: int, now_ms: int, upgrade_url: str | None) -> tuple[int, Headers, bytes]:
    """429 for the limit that refused. `used` is the counter as the store had it; it never shows above the limit."""
    quota = limit.quota
    assert quota is not None
    assert quota.limit is not None
    details: dict[str, Any] = {
        "service": limit.meter,
        "quota": quota.limit,
        "used": min(used, quota.limit),
        "window": quota.window.value,
        "reset_at": isoformat(limit.end_ms),
        "upgrade_url": upgrade_url,
    }
    if quota.per.value != "org" or quota.routed:
        details["per"] = quota.per.value if quota.per.value != "org" else "route"
    message = f"{_TITLES.get(limit.meter, limit.meter.replace('_', ' ').capitalize())} quota exceeded"
    headers: Headers = [(b"Content-Type", b"application/json"), (b"Retry-After", str(seconds_until(limit.end_ms, now_ms)).encode())]
    return 429, headers, error_body("quota_exceeded", message, details)


def seconds_until(end_ms: int, now_ms: int) -> int:
    """Whole seconds, rounded up: never 0, never before the reset."""
    return max(1, math.ceil((end_ms - now_ms) / 1000))


def rate_limit_headers(charge: Charge, used: Sequence[int], now_ms: int, *, legacy: bool = False) -> Headers:
    """What is left of each quota of this call; `used` stands beside the charge's limits. X-RateLimit-* if `legacy`."""
    states, tightest = [], None
    for limit, spent in zip(charge.limits, used, strict=False):
        quota = limit.quota
        if quota is None or quota.limit is None:
            continue
        left, reset = max(quota.limit - spent, 0), seconds_until(limit.end_ms, now_ms)
        states.append(f'"{quota.name}";r={left};t={reset}')
        if tightest is None or left < tightest[1]:
            tightest = (quota.limit, left, reset)
    if tightest is None:
        return []
    if charge.policy is None:
        charge.policy = _policy(charge)
    headers = [(b"RateLimit-Policy", charge.policy), (b"RateLimit", ", ".join(states).encode())]
    if legacy:
        names = (b"X-RateLimit-Limit", b"X-RateLimit-Remaining", b"X-RateLimit-Reset")
        headers += [(name, str(value).encode()) for name, value in zip(names, tightest, strict=True)]
    return headers


def _policy(charge: Charge) -> bytes:
    """What the quotas are, whatever is left of them."""
    policies = []
    for limit in charge.limits:
        if limit.quota is not None and limit.quota.limit is not None:
            unit = {"api": "requests", "bandwidth": "content-bytes"}.get(limit.meter, limit.meter)
            seconds = (limit.end_ms - limit.start_ms) // 1000
            policies.append(f'"{limit.quota.name}";q={limit.quota.limit};w={seconds};qu="{unit}"')
    return ", ".join(policies).encode()


def readable_by_browser(origin: bytes | None) -> Headers:
    """CORS for our own refusals: a script may read why it was refused. Nothing where no browser asks."""
    if not origin:
        return []
    return [(b"Access-Control-Allow-Origin", origin), (b"Access-Control-Expose-Headers", _EXPOSED), (b"Vary", b"Origin")]
