"""How much of its quotas an organization has used: figures, status, and their JSON form. Pure.

Every door (REST, CLI, alerts) takes its status from `status_of`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Any

from billing.model.organization import Organization
from billing.model.rating import Bill
from metering.model.clock import isoformat
from metering.model.errors import BadInput, NotFound
from metering.model.meter import Meter
from metering.model.quota import Per, Quota, Window

WARN_PERCENT = 80


class NoSuchService(NotFound):
    """There is no such service."""

    code = "no_such_service"


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    EXCEEDED = "exceeded"


class Source(StrEnum):
    """Where a figure came from."""

    LIVE = "live"  # the counter that decides
    STORED = "stored"  # the ledger, as of its last flush


def percentage(used: int, limit: int | None) -> Decimal | None:
    """Hundredths of a percent, half up; None where nothing limits. A limit of nothing is used up from the start."""
    if limit is None:
        return None
    if limit == 0:
        return Decimal("100.00")
    return (Decimal(used) * 100 / limit).quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)


def status_of(used: int, limit: int | None, warn_percent: int = WARN_PERCENT) -> Status:
    """EXCEEDED from 100 % on, WARNING from the lowest alert threshold on. Decided on the counts, not on a rounded figure."""
    if limit is None:
        return Status.OK
    if used >= limit:
        return Status.EXCEEDED
    return Status.WARNING if used * 100 >= limit * warn_percent else Status.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitUse:
    """One quota and how far it is used, in base units."""

    quota: Quota
    used: int
    source: Source
    start_ms: int
    reset_at_ms: int
    warn_percent: int = WARN_PERCENT

    @property
    def remaining(self) -> int | None:
        return None if self.quota.limit is None else max(0, self.quota.limit - self.used)

    @property
    def status(self) -> Status:
        return status_of(self.used, self.quota.limit, self.warn_percent)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterUse:
    """One meter in the current period. `main` is the organization's widest quota on it, None where it is unlimited;
    `limits` holds every quota of the organization as a whole, `main` among them."""

    meter: Meter
    used: int
    source: Source
    limits: tuple[LimitUse, ...] = ()

    @property
    def main(self) -> LimitUse | None:
        order = [Window.PERIOD, Window.MONTH, Window.DAY, Window.HOUR]
        return min(self.limits, key=lambda use: order.index(use.quota.window), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """An organization's current period. `bill` is None where nothing is billed."""

    org: Organization
    plan: str
    plan_title: str
    plan_version: int
    start_ms: int
    end_ms: int
    now_ms: int
    meters: tuple[MeterUse, ...]
    bill: Bill | None = None
    prices: Mapping[str, Decimal] = field(default_factory=dict)  # of one display unit beyond the quota, where there is one price
    currency: str = "usd"


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantUse:
    """What one of an organization's own customers used in the period, as of the last flush. `tenant` is empty for calls that
    named none, "other" for those beyond the first thousand of a day. `used` is in base units, by meter."""

    tenant: str
    used: Mapping[str, int]


def tenant_json(use: TenantUse, meters: Sequence[Meter]) -> dict[str, Any]:
    """In display units, and the exact base units under "base"; meters that it used."""
    return {
        "tenant": use.tenant,
        "usage": [
            {
                "service": meter.name,
                "unit": meter.show or meter.unit,
                "current_usage": _figure(use.used[meter.name], meter),
                "base": {"unit": meter.unit, "current_usage": use.used[meter.name]},
            }
            for meter in meters
            if meter.name in use.used
        ],
    }


def shown_quotas(quotas: tuple[Quota, ...], meter: str) -> tuple[Quota, ...]:
    """The quotas on `meter` that add up the whole organization's use."""
    return tuple(q for q in quotas if q.meter == meter and q.per is Per.ORG and not q.routed)


def _figure(units: int | None, meter: Meter) -> int | float | None:
    """In the meter's display unit (12.3 GB); whole numbers stay whole."""
    if units is None:
        return None
    if units % meter.show_size == 0:
        return units // meter.show_size
    return float(Decimal(units) / meter.show_size)


def units_of(figure: Decimal, meter: Meter) -> int:
    """A figure in the display unit, in base units. Raises BadInput."""
    units = figure * meter.show_size
    if units < 0 or units != units.to_integral_value() or units >= 2**63:
        unit = meter.show or meter.unit
        raise BadInput(f"{figure} {unit} is no limit for {meter.name}: write 0 or more, in whole {meter.unit}s")
    return int(units)


def _limit_json(use: LimitUse | None, meter: Meter, used: int) -> dict[str, Any]:
    quota = use.quota if use else None
    limit = quota.limit if quota else None
    percent = percentage(used, limit)
    return {
        "quota": _figure(limit, meter),
        "remaining": _figure(use.remaining if use else None, meter),
        "percentage_used": None if percent is None else float(percent),
        "status": (use.status if use else Status.OK).value,
        "mode": quota.mode.value if quota else None,
        "window": quota.window.value if quota else Window.PERIOD.value,
    }


def meter_json(use: MeterUse, period_end_ms: int) -> dict[str, Any]:
    """One meter as REST and `--format json` show it: display units, and the exact base units under "base"."""
    main, meter = use.main, use.meter
    used = main.used if main else use.used
    return {
        "service": meter.name,
        "title": meter.title or meter.name,
        "unit": meter.show or meter.unit,
        "current_usage": _figure(used, meter),
        **_limit_json(main, meter, used),
        "reset_at": isoformat(main.reset_at_ms if main else period_end_ms),
        "source": (main.source if main else use.source).value,
        "base": {"unit": meter.unit, "current_usage": used, "quota": main.quota.limit if main else None},
        "limits": [
            {
                "name": limit.quota.name,
                "current_usage": _figure(limit.used, meter),
                **_limit_json(limit, meter, limit.used),
                "reset_at": isoformat(limit.reset_at_ms),
            }
            for limit in use.limits
        ],
    }


def _bill_json(bill: Bill) -> dict[str, Any]:
    return {
        "currency": bill.currency,
        "base": None if bill.base is None else str(bill.base),
        "overage": str(bill.overage),
        "total": str(bill.total),
        "lines": [{"service": x.meter, "report_units": x.report_units, "amount": str(x.amount)} for x in bill.lines],
        **({"unrated": list(bill.unrated)} if bill.unrated else {}),
    }


def head_json(report: UsageReport) -> dict[str, Any]:
    """Whose report, on what plan, for which period."""
    return {
        "org": {"id": report.org.id, "slug": report.org.slug, "name": report.org.name},
        "plan": {"name": report.plan, "title": report.plan_title, "version": report.plan_version},
        "period": {"start": isoformat(report.start_ms), "end": isoformat(report.end_ms)},
        "updated_at": isoformat(report.now_ms),
    }


def report_json(report: UsageReport) -> dict[str, Any]:
    """The whole report. Money is a string, as everywhere."""
    body = {**head_json(report), "usage": [meter_json(use, report.end_ms) for use in report.meters]}
    return {**body, "estimated_cost": _bill_json(report.bill) if report.bill else None}
