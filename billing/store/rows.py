"""Rows of Postgres as the nouns of the model, and back. Instants become milliseconds, jsonb is text."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import asyncpg

from billing.model import subscription_terms
from billing.model.limits import (
    concurrency_from_json,
    concurrency_to_json,
    quota_from_json,
    quota_to_json,
    rate_from_json,
    rate_to_json,
    terms_from_json,
    terms_to_json,
)
from billing.model.organization import ApiKey, Grants, Organization
from billing.model.plan import Interval
from billing.model.subscription import PlanVersion, State, Subscription, Trial
from billing.services.ports import CAP, LimitRow, QuotaRow
from metering.model.apikey import Kind
from metering.model.clock import to_datetime, to_ms
from metering.model.entitlement import Override, rule_from_json, rule_to_json
from metering.model.quota import Concurrency, Mode, Per, Quota, Rate, Window

T = TypeVar("T")


def jsonb(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def from_jsonb(text: str) -> Any:
    return json.loads(text)


def ms(instant: datetime | None) -> int | None:
    return None if instant is None else to_ms(instant)


def instant(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else to_datetime(at_ms)


def grouped(rows: Iterable[asyncpg.Record], make: Callable[[asyncpg.Record], T]) -> dict[str, list[T]]:
    """Rows by their org_id, in order."""
    groups: dict[str, list[T]] = {}
    for row in rows:
        groups.setdefault(str(row["org_id"]), []).append(make(row))
    return groups


def organization(row: asyncpg.Record, created: str = "created_at") -> Organization:
    return Organization(
        id=str(row["id"]), slug=row["slug"], name=row["name"], version=row["ent_version"], created_at_ms=to_ms(row[created])
    )


def subscription(row: asyncpg.Record, named: str = "id") -> Subscription | None:
    """None where an outer join found none."""
    if row["org_id"] is None:
        return None
    period = (to_ms(row["period_start"]), to_ms(row["period_end"])) if row["period_end"] else None
    return Subscription(
        org_id=str(row["org_id"]),
        plan=row["plan"],
        plan_version=row["plan_version"],
        state=State(row["status"]),
        anchor_ms=to_ms(row["anchor"]),
        interval=Interval(row["billing_interval"]),
        currency=row["currency"],
        amount=row["amount"],
        trial_days=row["trial_days"],
        id=str(row[named]),
        interval_count=row["interval_count"],
        zone=row["zone"],
        period=period,
        paid=row["paid"],
        next_anchor_ms=ms(row["next_anchor"]),
        awaited=_version(row["next_plan"], row["next_plan_version"]),
        trial=_trial(row),
        cancel_at_ms=ms(row["cancel_at"]),
        cancel_reason=row["cancel_reason"],
        canceled_at_ms=ms(row["canceled_at"]),
        paused_at_ms=ms(row["paused_at"]),
        ended_at_ms=ms(row["ended_at"]),
        anchored_ms=ms(row["anchored_at"]),
        auto_renew=row["auto_renew"],
        terms=subscription_terms.from_json(from_jsonb(row["terms"])) if row["terms"] else None,
        revision=row["revision"],
    )


def _version(plan: str | None, version: int | None) -> PlanVersion | None:
    return PlanVersion(plan=plan, version=version) if plan is not None and version is not None else None


def _trial(row: asyncpg.Record) -> Trial | None:
    if row["trial_end"] is None:
        return None
    former = _version(row["former_plan"], row["former_plan_version"])
    return Trial(start_ms=to_ms(row["trial_start"]), end_ms=to_ms(row["trial_end"]), former=former)


def api_key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        id=row["id"],
        org_id=str(row["org_id"]),
        sha256=row["sha256"],
        hint=row["hint"],
        label=row["label"],
        test=row["test"],
        imported=row["imported"],
        created_at_ms=to_ms(row["created_at"]),
        expires_at_ms=ms(row["expires_at"]),
        revoked_at_ms=ms(row["revoked_at"]),
        kind=Kind(row["kind"]),
        grants=grants(row),
        replaced_by=row["replaced_by"],
    )


def grants(row: asyncpg.Record) -> Grants:
    limits = from_jsonb(row["limits"])
    return Grants(
        scopes=tuple(row["scopes"]),
        quotas=tuple(replace(quota_from_json(each), source="key") for each in limits.get("quotas", ())),
        rates=tuple(rate_from_json(each, source="key") for each in limits.get("rates", ())),
    )


def limits_of(grants: Grants) -> str:
    """The column `limits`."""
    limits = {"quotas": [quota_to_json(quota) for quota in grants.quotas], "rates": [rate_to_json(rate) for rate in grants.rates]}
    return jsonb({name: value for name, value in limits.items() if value})


def quota_row(row: asyncpg.Record) -> QuotaRow:
    quota = Quota(
        meter=row["meter"],
        limit=row["limit_units"],
        window=Window(row["time_window"]),
        mode=Mode(row["mode"]),
        per=Per(row["per"]),
        on_store_failure=rule_from_json(from_jsonb(row["on_store_failure"])) if row["on_store_failure"] else None,
        source="override",
        **terms_from_json(from_jsonb(row["terms"])),
    )
    return QuotaRow(org_id=str(row["org_id"]), quota=quota, reason=row["reason"], until_ms=ms(row["until"]), managed_by=row["managed_by"])


def override(row: asyncpg.Record) -> Override:
    """One row as the gateway sees it; each carries its own end."""
    found = quota_row(row)
    source = "cap" if found.managed_by == CAP else found.quota.source  # a cap ends use, and changes no price (billing/model/period_bill.py)
    return Override(quotas=(replace(found.quota, source=source),), until_ms=found.until_ms, reason=found.reason)


def quota_values(row: QuotaRow) -> tuple[Any, ...]:
    """The columns of billing.quotas, org_id to managed_by, in the order of quotas.sql."""
    quota = row.quota
    rule = None if quota.on_store_failure is None else jsonb(rule_to_json(quota.on_store_failure))
    return (
        row.org_id, quota.meter, quota.limit, quota.window.value, quota.mode.value, quota.per.value, rule, jsonb(terms_to_json(quota)),
        row.reason, instant(row.until_ms), row.managed_by,
    )  # fmt: skip


def limit_row(row: asyncpg.Record) -> LimitRow:
    read = rate_from_json if row["kind"] == "rate" else concurrency_from_json
    limit: Rate | Concurrency = read(from_jsonb(row["terms"]), source="override")
    return LimitRow(org_id=str(row["org_id"]), limit=limit, reason=row["reason"], until_ms=ms(row["until"]), managed_by=row["managed_by"])


def limit_override(row: asyncpg.Record) -> Override:
    """As `override`."""
    found = limit_row(row)
    rates, concurrency = ((found.limit,), ()) if isinstance(found.limit, Rate) else ((), (found.limit,))
    return Override(rates=rates, concurrency=concurrency, until_ms=found.until_ms, reason=found.reason)


def limit_values(row: LimitRow) -> tuple[Any, ...]:
    """The columns of billing.override_limits, org_id to managed_by, in the order of quotas.sql."""
    limit = row.limit
    kind, terms = ("rate", rate_to_json(limit)) if isinstance(limit, Rate) else ("concurrency", concurrency_to_json(limit))
    return (row.org_id, kind, limit.name, jsonb(terms), row.reason, instant(row.until_ms), row.managed_by)
