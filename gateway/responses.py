"""Our own answers: one JSON form for every refusal, and the rate-limit headers. Error → HTTP is decided here alone.

429 as the guide shows it; RateLimit-Policy and RateLimit as draft-ietf-httpapi-ratelimit-headers-11 has them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from config.gateway import Settled
from metering.model.clock import isoformat
from metering.model.errors import WeighbridgeError
from metering.model.quota import Concurrency, Mode, Per

from .charges import Charge, Said
from .decisions import Decision
from .limits import Policy, RateLimit, Told

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


@dataclass(frozen=True, slots=True)
class Refusal:
    """A 429. `meter`, `mode` and `reason` label the metric, `limit` names what refused in the log."""

    code: str
    headers: Headers
    body: bytes
    meter: str
    mode: str
    reason: str
    limit: str
    status: int = 429


def refused(charge: Charge, decision: Decision, now_ms: int, upgrade_url: str | None) -> Refusal:
    """What a caller is told whom a limit refused."""
    index = decision.refusing
    if index < len(charge.limits):
        return _quota_exceeded(charge, index, decision.used[index], now_ms, upgrade_url)
    index -= len(charge.limits)
    if index < len(charge.rates):
        return _rate_limited(charge.rates[index], decision.used[decision.refusing], upgrade_url)
    return _concurrency_exceeded(charge.slots[index - len(charge.rates)].concurrency, upgrade_url)


def _quota_exceeded(charge: Charge, index: int, used: int, now_ms: int, upgrade_url: str | None) -> Refusal:
    """`used` is the counter as the store had it; it never shows above the limit."""
    limit = charge.limits[index]
    quota, bound = limit.quota, limit.enforced
    assert quota is not None
    assert bound is not None
    details: dict[str, Any] = {
        "service": limit.meter, "quota": bound, "used": min(used, bound), "window": quota.window.value,
        "reset_at": isoformat(limit.end_ms), "upgrade_url": upgrade_url,
    }  # fmt: skip
    _say_whose(details, quota.per, quota.routed)
    if limit.cost and isinstance(charge.route.charge.get(limit.meter), Settled):
        details["needed"] = limit.cost  # what it reserves may be more than is left
    if limit.main is not None:
        details["throttled_beyond"] = limit.after
    message = f"{_TITLES.get(limit.meter, limit.meter.replace('_', ' ').capitalize())} quota exceeded"
    mode = quota.mode.value if limit.main is None else Mode.THROTTLE.value
    retry_seconds = seconds_until(limit.end_ms, now_ms)
    return _refusal("quota_exceeded", message, details, retry_seconds, (limit.meter, mode, quota.window.value, limit.name))


def _rate_limited(limit: RateLimit, debt: int, upgrade_url: str | None) -> Refusal:
    """Who comes back after Retry-After finds room for one call, unless another takes it."""
    rate = limit.rate
    seconds = max(1, -(-(debt + limit.cost * limit.unit - limit.most) // (limit.slope * 1_000_000)))
    details: dict[str, Any] = {"service": rate.meter or "calls", "limit": rate.limit, "per": rate.per, "burst": rate.depth}
    _say_whose(details, rate.by, rate.routed, word="by")
    details["upgrade_url"] = upgrade_url
    much = "Too many calls" if rate.meter in (None, "api") else f"Too much {rate.meter}"
    told = (rate.meter or "calls", Mode.HARD.value, "rate", rate.name)
    return _refusal("rate_limited", f"{much}: {rate.limit:,} a {rate.per}", details, seconds, told)


def _concurrency_exceeded(limit: Concurrency, upgrade_url: str | None) -> Refusal:
    details: dict[str, Any] = {"limit": limit.limit}
    _say_whose(details, limit.by, limit.routed, word="by")
    details["upgrade_url"] = upgrade_url
    calls = "1 call" if limit.limit == 1 else f"{limit.limit:,} calls"
    told = ("calls", Mode.HARD.value, "concurrency", limit.name)
    return _refusal("concurrency_exceeded", f"At most {calls} at a time", details, 1, told)


def _say_whose(details: dict[str, Any], per: Per, routed: bool, *, word: str = "per") -> None:
    if per is not Per.ORG or routed:
        details[word] = per.value if per is not Per.ORG else "route"


def _refusal(code: str, message: str, details: dict[str, Any], retry_seconds: int, told: tuple[str, str, str, str]) -> Refusal:
    """`told`: meter, mode, reason, and what the limit is called."""
    headers: Headers = [(b"Content-Type", b"application/json"), (b"Retry-After", b"%d" % retry_seconds)]
    return Refusal(code, headers, error_body(code, message, details), *told)


def seconds_until(end_ms: int, now_ms: int) -> int:
    """Whole seconds, rounded up: never 0, never before the reset. The same all through a second."""
    return max(1, -(-end_ms // 1000) - now_ms // 1000)


def limit_lines(charge: Charge, used: tuple[int, ...], now_ms: int, *, legacy: bool = False) -> bytes:
    """The same as `rate_limit_headers`, as ready-made lines that each begin with CRLF.

    Calls that one script decided stand at one and the same `used`: they are told the same, written once a second.
    """
    if legacy:
        return b"".join([b"\r\n%b: %b" % header for header in rate_limit_headers(charge, used, now_ms, legacy=True)])
    second, said = now_ms // 1000, charge.said
    if said is not None and said.used is used and said.second == second:
        return said.lines
    policy = charge.policy or policy_of(charge)
    lines = _lines(policy, used, now_ms) if used and policy.text else b""
    charge.said = Said(used, second, lines)
    return lines


def rate_limit_headers(charge: Charge, used: Sequence[int], now_ms: int, *, legacy: bool = False) -> Headers:
    """What is left of each quota and rate of this call; `used` is Decision.used. X-RateLimit-* if `legacy`: the tightest quota."""
    policy = charge.policy or policy_of(charge)
    if not used or not policy.text:
        return []
    states = _lines(policy, tuple(used), now_ms)[len(policy.lines) :]
    headers = [(b"RateLimit-Policy", policy.text), (b"RateLimit", states)]
    return headers + _legacy(policy, used, now_ms) if legacy else headers


def _lines(policy: Policy, used: tuple[int, ...], now_ms: int) -> bytes:
    """Only what is left is written out for each call; the words around it once a second."""
    if policy.second != now_ms // 1000:
        _turn(policy, now_ms)
    around, parts = policy.around, [policy.around[0]]
    for at, quota in enumerate(policy.quotas):
        left = quota.limit - used[quota.place]
        parts.append(str(left).encode() if left > 0 else b"0")
        parts.append(around[at + 1])
    for i, name, rate in policy.rates:
        debt, lead = used[i], ", " if len(parts) > 1 else ""
        left, seconds = max((rate.most - debt) // rate.unit, 0), max(1, -(-debt // (rate.slope * 1_000_000)))
        parts.append(f"{lead}{name};r={left};t={seconds}".encode())
    return b"".join(parts)


def _turn(policy: Policy, now_ms: int) -> None:
    """Another second: what stands around what is left of the quotas."""
    around, before = [], policy.lines
    for quota in policy.quotas:
        around.append(before + f"{quota.name};r=".encode())
        before = f";t={seconds_until(quota.end_ms, now_ms)}, ".encode()
    policy.around = [*around, before.removesuffix(b", ")]
    policy.second = now_ms // 1000


def _legacy(policy: Policy, used: Sequence[int], now_ms: int) -> Headers:
    left = [(max(quota.limit - used[quota.place], 0), quota.limit, quota.end_ms) for quota in policy.quotas]
    if not left:
        return []
    least, limit, end_ms = min(left, key=lambda row: row[0])
    values = (limit, least, seconds_until(end_ms, now_ms))
    names = (b"X-RateLimit-Limit", b"X-RateLimit-Remaining", b"X-RateLimit-Reset")
    return [(name, b"%d" % value) for name, value in zip(names, values, strict=True)]


def policy_of(charge: Charge) -> Policy:
    """What the limits of a charge are, whatever is left of them; worked out once. Shadows are nobody's business."""
    quotas, rates, texts = [], [], []
    for i, limit in enumerate(charge.limits):
        quota = limit.quota
        if quota is not None and quota.limit is not None and not quota.shadow:
            name = f'"{limit.name}"'
            quotas.append((i, name, quota.limit, limit.end_ms))
            texts.append(f'{name};q={quota.limit};w={(limit.end_ms - limit.start_ms) // 1000};qu="{_unit(limit.meter)}"')
    for i, rate in enumerate(charge.rates, len(charge.limits)):
        if not rate.rate.shadow:
            name, seconds = f'"{rate.rate.name}"', 1 if rate.rate.per == "second" else 60
            burst = f";burst={rate.rate.depth}" if rate.rate.depth != rate.rate.limit else ""
            rates.append((i, name, rate))
            texts.append(f'{name};q={rate.rate.limit};w={seconds};qu="{_unit(rate.rate.meter or "api")}"{burst}')
    text = ", ".join(texts).encode()
    charge.policy = _policy(text, tuple(quotas), tuple(rates))
    return charge.policy


@lru_cache(maxsize=1_024)
def _policy(text: bytes, quotas: tuple[tuple[int, str, int, int], ...], rates: tuple[tuple[int, str, RateLimit], ...]) -> Policy:
    """Organizations of one plan, in equal periods, are told the same; it is held once."""
    return Policy(text, b"\r\nRateLimit-Policy: %b\r\nRateLimit: " % text, [Told(*quota) for quota in quotas], rates)


def _unit(meter: str) -> str:
    return {"api": "requests", "bandwidth": "content-bytes"}.get(meter, meter)


def readable_by_browser(origin: bytes | None) -> Headers:
    """CORS for our own refusals: a script may read why it was refused. Nothing where no browser asks."""
    if not origin:
        return []
    return [(b"Access-Control-Allow-Origin", origin), (b"Access-Control-Expose-Headers", _EXPOSED), (b"Vary", b"Origin")]
