"""Cut overages into outbox rows: immutable deltas in whole report units, each written with the sum that it reports.

`usage_period` remembers what was handed over, so that cutting again changes nothing, and a quota that was raised gives
back. While a period runs the plan and overrides in force decide what is included; once it has ended, what the last cut
found stands, and usage that arrives late is cut by it. Delivery is billing/stripe/deliver.py.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from billing.model.native import plan_at_stripe
from billing.model.plan import PlanSpec
from billing.model.plan import from_json as plan_from_json
from billing.model.pricing import NoPriceInCurrency
from billing.model.rating import included_units, overage_report_units
from billing.model.subscription import STANDINGS, Standing, State
from metering.model.clock import Clock, isoformat, to_datetime, to_ms
from metering.model.meter import Kind, Meter
from metering.model.quota import Mode, Quota, Window, replace_quotas
from metering.store.postgres import Queries, out_of_reach

SQL = Queries.load("aggregator", "sql/overage.sql")
log = logging.getLogger("weighbridge.overage")

STRIPE_HEARS_MS = 35 * 86_400_000  # Stripe takes no event that is older
_PAGE = 500
# A trial is free of charge, whatever is used in it.
_STATES = [state.value for state, standing in STANDINGS.items() if standing is Standing.PLAN and state is not State.TRIALING]
_FAR_MS = 253_402_300_799_000
_NOWHERE = (UUID(int=0), "", to_datetime(0))


@dataclass(frozen=True, slots=True)
class Terms:
    """What a period's units cost nothing up to; `included` None: no unit of it costs anything. Not `native`: what they cost is
    rated here and put on the invoice, and Stripe hears of none (billing/model/native.py)."""

    included: int | None
    native: bool = True

    def report_units(self, cumulative: int, report_size: int) -> int:
        if self.included is None or not self.native:
            return 0
        return overage_report_units(cumulative, self.included, report_size)


@dataclass(slots=True)
class CutReport:
    """How many periods were looked at, and the outbox rows written."""

    periods: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class _Override:
    quota: Quota
    until_ms: int | None


async def cut_overage(
    pool: asyncpg.Pool,
    clock: Clock,
    meters: Mapping[str, Meter],
    *,
    ending: tuple[int, int] | None = None,
    org_ids: Sequence[str] | None = None,
) -> CutReport:
    """Write what has not been handed over yet, for running periods and those that ended within 35 days.

    `ending` (after, until; ms) leaves out periods that end at another time: so the last cut before an end costs little.
    Call it for an organization before its plan changes or ends. Raises what the driver raises.
    """
    now_ms, report, after = clock.now_ms(), CutReport(), _NOWHERE
    bounds = [to_datetime(ms) for ms in (ending or (now_ms - STRIPE_HEARS_MS, _FAR_MS))]
    orgs = [UUID(org_id) for org_id in org_ids] if org_ids is not None else None
    while True:
        page = await pool.fetch(SQL["candidates"], _STATES, *bounds, orgs, *after, _PAGE)
        if page:
            report.periods += len(page)
            report.rows += await _cut_page(pool, [r for r in page if _counted(r["service"], meters)], meters, now_ms)
        if len(page) < _PAGE:
            break
        after = (page[-1]["org_id"], page[-1]["service"], page[-1]["period_start"])
    if ending is None and orgs is None:
        await pool.execute(SQL["remember_unpriced"], _STATES, to_datetime(now_ms))
    return report


def cutter(pool: asyncpg.Pool, clock: Clock, meters: Mapping[str, Meter], *, bills: bool) -> Callable[[Sequence[str]], Awaitable[None]]:
    """For the use cases that change what organizations pay for: cut what these owe by the terms that still stand. `bills`
    False cuts nothing. Raises DatabaseUnreachable."""

    async def cut(org_ids: Sequence[str]) -> None:
        if bills:
            with out_of_reach():
                await cut_overage(pool, clock, meters, org_ids=org_ids)

    return cut


def _counted(service: str, meters: Mapping[str, Meter]) -> bool:
    meter = meters.get(service)
    if meter is None:
        log.warning("a plan prices the meter %s, which meters.yaml does not name: its overage is not reported", service)
    return meter is not None and meter.kind is Kind.COUNT


async def rated_units(connection: asyncpg.Connection, meters: Mapping[str, Meter], now_ms: int) -> dict[tuple[UUID, str, datetime], int]:
    """Whole report units that each period owes by now, cut or not: (org, service, period start) -> units. Changes nothing."""
    found, after = {}, _NOWHERE
    while True:
        page = await connection.fetch(
            SQL["candidates"], _STATES, to_datetime(now_ms - STRIPE_HEARS_MS), to_datetime(_FAR_MS), None, *after, _PAGE
        )
        counted = [row for row in page if _counted(row["service"], meters)]
        terms = await terms_of(connection, counted, meters, now_ms)
        for row in counted:
            found[_key(row)] = terms[_key(row)].report_units(row["cumulative"], meters[row["service"]].report_size)
        if len(page) < _PAGE:
            return found
        after = _key(page[-1])


async def _cut_page(pool: asyncpg.Pool, page: Sequence[Any], meters: Mapping[str, Meter], now_ms: int) -> int:
    async with pool.acquire() as connection:
        terms = await terms_of(connection, page, meters, now_ms)
        due = [row for row in page if _is_due(row, terms[_key(row)], meters[row["service"]])]
        if not due:
            return 0
        async with connection.transaction():
            locked = await connection.fetch(SQL["lock_periods"], *_columns([_key(row) for row in due]))
            cuts = [_cut(row, terms[_key(row)], meters[row["service"]], now_ms) for row in locked]
            rows = [outbox for _, outbox in cuts if outbox is not None]
            if rows:
                await connection.execute(SQL["insert_outbox"], *_columns(rows), to_datetime(now_ms))
            await connection.execute(SQL["remember_cut"], *_columns([state for state, _ in cuts]))
        return len(rows)


def _is_due(row: Any, terms: Terms, meter: Meter) -> bool:
    units = terms.report_units(row["cumulative"], meter.report_size)
    remembered = (row["priced"], row["included"], row["native"])
    return units != row["reported"] or remembered != (terms.included is not None, terms.included, terms.native)


def _cut(row: Any, terms: Terms, meter: Meter, now_ms: int) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
    """The new state of a locked period, and the outbox row, if there is a difference to report."""
    units = terms.report_units(row["cumulative"], meter.report_size)
    delta, seq, outbox = units - row["reported"], row["seq"], None
    if delta:
        seq += 1
        org_id, start_ms = str(row["org_id"]), to_ms(row["period_start"])
        payload = {
            "meter": meter.name,
            "value": str(delta),
            "timestamp": event_timestamp(start_ms, to_ms(row["period_end"]), now_ms),
            "org_id": org_id,
            "period_start": isoformat(start_ms),
            "cumulative_after": units,
        }
        identifier = f"ov1:{short_id(row['org_id'])}:{meter.name}:{start_ms // 1000}:{seq}"
        outbox = (row["org_id"], f"{org_id}:{meter.name}", identifier, json.dumps(payload))
    return (*_key(row), units, seq, terms.included is not None, terms.included, terms.native), outbox


def event_timestamp(start_ms: int, end_ms: int, now_ms: int) -> int:
    """Unix seconds inside [start, end): now, or the period's last second once it is over."""
    return max(start_ms // 1000, min(now_ms // 1000, (end_ms - 1) // 1000))


def short_id(org_id: UUID) -> str:
    """All 128 bits in 25 characters: identifiers may have 100, and two organizations must never share one."""
    digits, number = "", org_id.int
    for _ in range(25):
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits


# --- what is included ----------------------------------------------------------------------------------------------


def terms_at(spec: PlanSpec, overrides: Iterable[_Override], meter: str, instant_ms: int, *, native: bool = True) -> Terms:
    """Pure: what the plan and the overrides in force then say."""
    quotas = spec.quotas
    for override in overrides:
        if override.until_ms is None or instant_ms < override.until_ms:
            quotas = replace_quotas(quotas, (override.quota,))
    return Terms(included_units(quotas, spec.prices).get(meter), native)


async def terms_of(
    connection: asyncpg.Connection, page: Sequence[Any], meters: Mapping[str, Meter], now_ms: int
) -> dict[tuple[Any, ...], Terms]:
    """What stands for each of these candidates, by organization, service and start of the period."""
    specs = await _specs(connection, {(row["plan"], row["plan_version"]) for row in page})
    overrides = await _overrides(connection, {row["org_id"] for row in page})
    sold = {(row["plan"], row["plan_version"], row["currency"]) for row in page}
    native = {what: _native(specs[what[:2]], meters, what[2]) for what in sold}
    found: dict[tuple[Any, ...], Terms] = {}
    for row in page:
        end_ms = to_ms(row["period_end"])
        if end_ms <= now_ms and row["priced"] is not None:
            found[_key(row)] = Terms(row["included"] if row["priced"] else None, row["native"] is not False)
        else:
            spec, at_ms = specs[row["plan"], row["plan_version"]], min(now_ms, end_ms - 1)
            told = row["service"] in native[row["plan"], row["plan_version"], row["currency"]]
            found[_key(row)] = terms_at(spec, overrides.get(row["org_id"], ()), row["service"], at_ms, native=told)
    return found


def _native(spec: PlanSpec, meters: Mapping[str, Meter], currency: str) -> set[str]:
    """The meters that Stripe charges for itself. None in a currency that the plan has no price in, which was refused when it was sold."""
    try:
        return {name for name, at in plan_at_stripe(spec, meters, currency).items() if at.native}
    except NoPriceInCurrency:
        log.warning("plan %s has a price that is not in %s: its overage is not reported", spec.name, currency)
        return set()


async def _specs(connection: asyncpg.Connection, wanted: set[tuple[str, int]]) -> dict[tuple[str, int], PlanSpec]:
    rows = await connection.fetch(SQL["plan_versions"], [plan for plan, _ in wanted], [version for _, version in wanted])
    return {(r["plan"], r["version"]): plan_from_json(json.loads(r["spec"])) for r in rows}


async def _overrides(connection: asyncpg.Connection, orgs: set[UUID]) -> dict[UUID, list[_Override]]:
    found: dict[UUID, list[_Override]] = {}
    for r in await connection.fetch(SQL["overrides"], list(orgs)):
        quota = Quota(meter=r["meter"], limit=r["limit_units"], window=Window.PERIOD, mode=Mode(r["mode"]), source="override")
        found.setdefault(r["org_id"], []).append(_Override(quota, to_ms(r["until"]) if r["until"] else None))
    return found


def _key(row: Any) -> tuple[UUID, str, datetime]:
    return row["org_id"], row["service"], row["period_start"]


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
