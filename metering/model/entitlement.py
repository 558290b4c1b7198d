"""What one organization may do now, as the gateway sees it: its plan's limits, its overrides, its state.

Control (or, for a gateway alone, its supervisor) compiles it and writes it to Redis as JSON; the gateway reads it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from sys import intern
from typing import Any

from .quota import Concurrency, FailureRule, Mode, Per, Quota, Rate, Then, Window, replace_concurrency, replace_quotas, replace_rates

_MOST_EQUAL = 4_096
_ORG_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """Limits in place of the plan's, until an instant."""

    quotas: tuple[Quota, ...] = ()
    until_ms: int | None = None
    reason: str = ""
    rates: tuple[Rate, ...] = ()
    concurrency: tuple[Concurrency, ...] = ()

    def stands(self, now_ms: int) -> bool:
        return self.until_ms is None or now_ms < self.until_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """`anchor_ms` is the subscription's anchor, from which every usage period is computed (period.period_at).

    `refused` holds the reason why no call is allowed at all (402), such as an ended subscription without a default plan.
    """

    org_id: str
    slug: str
    name: str
    version: int
    plan: str
    plan_version: int
    anchor_ms: int
    quotas: tuple[Quota, ...] = ()
    overrides: tuple[Override, ...] = ()
    refused: str | None = None
    rates: tuple[Rate, ...] = ()
    concurrency: tuple[Concurrency, ...] = ()
    features: tuple[str, ...] = ()  # sso, organizations=10: what services are told

    def quotas_at(self, now_ms: int) -> tuple[Quota, ...]:
        """The quotas in force, overrides applied in order."""
        if not self.overrides:
            return self.quotas
        return reduce(replace_quotas, (o.quotas for o in self.overrides if o.stands(now_ms)), self.quotas)

    def rates_at(self, now_ms: int) -> tuple[Rate, ...]:
        """The rates in force, overrides applied in order."""
        if not self.overrides:
            return self.rates
        return reduce(replace_rates, (o.rates for o in self.overrides if o.stands(now_ms)), self.rates)

    def concurrency_at(self, now_ms: int) -> tuple[Concurrency, ...]:
        """How many calls may be in flight, overrides applied in order."""
        if not self.overrides:
            return self.concurrency
        return reduce(replace_concurrency, (o.concurrency for o in self.overrides if o.stands(now_ms)), self.concurrency)

    def changes_at(self, now_ms: int) -> int | None:
        """The next instant at which an override ends, or None."""
        if not self.overrides:
            return None
        return min((o.until_ms for o in self.overrides if o.until_ms is not None and o.until_ms > now_ms), default=None)


def is_org_id(text: str) -> bool:
    """True for an organization's id as it is written everywhere."""
    return _ORG_ID.fullmatch(text) is not None


def is_slug(text: str) -> bool:
    """True for what may be an organization's slug."""
    return _SLUG.fullmatch(text) is not None


def rule_to_json(rule: FailureRule | None) -> Any:
    """ "open", "closed", {"grace": n} or None."""
    if rule is None:
        return None
    return {"grace": rule.grace} if rule.kind == "grace" else rule.kind


def rule_from_json(value: Any) -> FailureRule | None:
    if value is None:
        return None
    return FailureRule("grace", int(value["grace"])) if isinstance(value, dict) else FailureRule(value)


def _quota_to_json(q: Quota) -> dict[str, Any]:
    return {
        "meter": q.meter, "limit": q.limit, "window": q.window.value, "mode": q.mode.value, "per": q.per.value,
        "on_store_failure": rule_to_json(q.on_store_failure), "routed": q.routed, "source": q.source, "shadow": q.shadow,
        "then": {"limit": q.then.limit, "window": q.then.window.value} if q.then else None, "stop_at": q.stop_at, "at_limit": q.at_limit,
    }  # fmt: skip


def _quota_from_json(d: dict[str, Any]) -> Quota:
    then = d.get("then")
    return Quota(
        meter=d["meter"], limit=d["limit"], window=Window(d["window"]), mode=Mode(d["mode"]), per=Per(d["per"]),
        on_store_failure=rule_from_json(d.get("on_store_failure")), routed=d.get("routed", False), source=d.get("source", "plan"),
        shadow=d.get("shadow", False), then=Then(limit=then["limit"], window=Window(then["window"])) if then else None,
        stop_at=d.get("stop_at"), at_limit=d.get("at_limit", "finish"),
    )  # fmt: skip


def _rate_to_json(r: Rate) -> dict[str, Any]:
    return {
        "meter": r.meter, "limit": r.limit, "per": r.per, "burst": r.burst,
        "by": r.by.value, "routed": r.routed, "shadow": r.shadow, "source": r.source,
    }  # fmt: skip


def _rate_from_json(d: dict[str, Any]) -> Rate:
    return Rate(**{**d, "by": Per(d["by"])})


def quotas_to_json(quotas: Iterable[Quota]) -> list[Any]:
    return [_quota_to_json(quota) for quota in quotas]


def quotas_from_json(value: Iterable[Any]) -> tuple[Quota, ...]:
    return tuple(_quota_from_json(each) for each in value)


def rates_to_json(rates: Iterable[Rate]) -> list[Any]:
    return [_rate_to_json(rate) for rate in rates]


def rates_from_json(value: Iterable[Any]) -> tuple[Rate, ...]:
    return tuple(_rate_from_json(each) for each in value)


def _concurrency_to_json(c: Concurrency) -> dict[str, Any]:
    return {"limit": c.limit, "by": c.by.value, "routed": c.routed, "shadow": c.shadow, "source": c.source}


def _concurrency_from_json(d: dict[str, Any]) -> Concurrency:
    return Concurrency(**{**d, "by": Per(d["by"])})


def _override_to_json(o: Override) -> dict[str, Any]:
    return {
        "until_ms": o.until_ms, "reason": o.reason, "quotas": [_quota_to_json(q) for q in o.quotas],
        "rates": [_rate_to_json(r) for r in o.rates], "concurrency": [_concurrency_to_json(c) for c in o.concurrency],
    }  # fmt: skip


def _override_from_json(d: dict[str, Any]) -> Override:
    return Override(
        until_ms=d["until_ms"], reason=d["reason"], quotas=tuple(_quota_from_json(q) for q in d["quotas"]),
        rates=tuple(_rate_from_json(r) for r in d.get("rates", ())),
        concurrency=tuple(_concurrency_from_json(c) for c in d.get("concurrency", ())),
    )  # fmt: skip


def to_json(e: Entitlement) -> dict[str, Any]:
    """A JSON object; the inverse of `from_json`."""
    return {
        "org": e.org_id, "slug": e.slug, "name": e.name, "v": e.version, "plan": e.plan, "plan_version": e.plan_version,
        "anchor_ms": e.anchor_ms, "refused": e.refused, "quotas": [_quota_to_json(q) for q in e.quotas],
        "overrides": [_override_to_json(o) for o in e.overrides],
        "rates": [_rate_to_json(r) for r in e.rates], "concurrency": [_concurrency_to_json(c) for c in e.concurrency],
        **({"features": list(e.features)} if e.features else {}),
    }  # fmt: skip


_equal: dict[tuple[Callable[[Any], Any], str], tuple[Any, ...]] = {}


def _shared(read: Callable[[Any], Any], limits: list[Any] | tuple[Any, ...]) -> tuple[Any, ...]:
    """Organizations of one plan have equal limits: they are read and held once."""
    if not limits:
        return ()
    name = (read, repr(limits))
    known = _equal.get(name)
    if known is None:
        if len(_equal) >= _MOST_EQUAL:
            _equal.clear()
        known = _equal[name] = tuple(read(each) for each in limits)
    return known


def from_json(d: dict[str, Any]) -> Entitlement:
    """What was written before there were rates reads as having none."""
    return Entitlement(
        org_id=d["org"], slug=d["slug"], name=d["name"], version=d["v"], plan=intern(d["plan"]), plan_version=d["plan_version"],
        anchor_ms=d["anchor_ms"], refused=d.get("refused"), quotas=_shared(_quota_from_json, d["quotas"]),
        overrides=tuple(_override_from_json(o) for o in d["overrides"]),
        rates=_shared(_rate_from_json, d.get("rates", ())),
        concurrency=_shared(_concurrency_from_json, d.get("concurrency", ())), features=_shared(str, d.get("features", ())),
    )  # fmt: skip
