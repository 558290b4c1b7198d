"""Limits in their stored form: in plan versions, and in overrides.

It is the billing schema's own: plan versions outlive whatever Redis holds. What is left out of an older row has its default.
"""

from collections.abc import Mapping
from typing import Any

from metering.model.entitlement import rule_from_json, rule_to_json
from metering.model.quota import Concurrency, Mode, Per, Quota, Rate, Then, Window


def quota_to_json(q: Quota) -> dict[str, Any]:
    return {
        "meter": q.meter,
        "limit": q.limit,
        "window": q.window.value,
        "mode": q.mode.value,
        "per": q.per.value,
        "on_store_failure": rule_to_json(q.on_store_failure),
        **terms_to_json(q),
    }


def quota_from_json(value: Mapping[str, Any]) -> Quota:
    return Quota(
        meter=value["meter"],
        limit=value["limit"],
        window=Window(value["window"]),
        mode=Mode(value["mode"]),
        per=Per(value["per"]),
        on_store_failure=rule_from_json(value["on_store_failure"]),
        **terms_from_json(value),
    )


def terms_to_json(q: Quota) -> dict[str, Any]:
    """What a quota says beside the columns of billing.quotas; only what it says."""
    terms: dict[str, Any] = {"shadow": True} if q.shadow else {}
    if q.then is not None:
        terms["then"] = {"limit": q.then.limit, "window": q.then.window.value}
    if q.stop_at is not None:
        terms["stop_at"] = q.stop_at
    if q.at_limit != "finish":
        terms["at_limit"] = q.at_limit
    return terms


def terms_from_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Quota that `terms_to_json` wrote."""
    then = value.get("then")
    return {
        "shadow": value.get("shadow", False),
        "then": Then(limit=then["limit"], window=Window(then["window"])) if then else None,
        "stop_at": value.get("stop_at"),
        "at_limit": value.get("at_limit", "finish"),
    }


def rate_to_json(r: Rate) -> dict[str, Any]:
    return {"meter": r.meter, "limit": r.limit, "per": r.per, "burst": r.burst, "by": r.by.value, "shadow": r.shadow}


def rate_from_json(value: Mapping[str, Any], *, source: str = "plan") -> Rate:
    return Rate(
        meter=value["meter"], limit=value["limit"], per=value["per"], burst=value["burst"], by=Per(value["by"]), shadow=value["shadow"],
        source=source,
    )  # fmt: skip


def concurrency_to_json(c: Concurrency) -> dict[str, Any]:
    return {"limit": c.limit, "by": c.by.value, "shadow": c.shadow}


def concurrency_from_json(value: Mapping[str, Any], *, source: str = "plan") -> Concurrency:
    return Concurrency(limit=value["limit"], by=Per(value["by"]), shadow=value["shadow"], source=source)
