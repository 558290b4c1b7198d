"""Which shares of its quotas an organization has reached. Pure.

Told once for each quota, window and share: the identifier is the same however often it is found.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from billing.model.usage import LimitUse, MeterUse, UsageReport, percentage
from metering.model.clock import isoformat

DEFAULT_PERCENTS = (80, 90, 100)

Percents = Callable[[str], Sequence[int]]  # of a meter: the shares that somebody wants to hear of


def default_percents(_meter: str) -> Sequence[int]:
    return DEFAULT_PERCENTS


def reached(report: UsageReport, percents: Percents = default_percents) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(identifier, facts) of every share that is used, of every quota that adds up the organization's use. A quota of nothing has none."""
    for use in report.meters:
        for limit in use.limits:
            for percent in sorted(percents(use.meter.name)):
                if limit.quota.limit and limit.used * 100 >= limit.quota.limit * percent:
                    yield _identifier(report.org.id, limit, percent), _facts(report, use, limit, percent)


def _identifier(org_id: str, limit: LimitUse, percent: int) -> str:
    return f"quota:{org_id}:{limit.quota.name}:{percent}:{limit.start_ms // 1000}"


def _facts(report: UsageReport, use: MeterUse, limit: LimitUse, percent: int) -> Mapping[str, Any]:
    meter, quota = use.meter, limit.quota
    used_percent = percentage(limit.used, quota.limit)
    return {
        "org": {"id": report.org.id, "slug": report.org.slug},
        "quota": {
            "service": meter.name, "name": quota.name, "window": quota.window.value, "mode": quota.mode.value, "threshold": percent,
            "percentage_used": None if used_percent is None else format(used_percent, "f"), "unit": meter.show or meter.unit,
            "used": _figure(limit.used, meter.show_size), "limit": _figure(quota.limit or 0, meter.show_size),
            "base": {"unit": meter.unit, "used": limit.used, "limit": quota.limit}, "resets_at": isoformat(limit.reset_at_ms),
        },
    }  # fmt: skip


def _figure(units: int, size: int) -> str:
    """Exact, in the unit that people read."""
    return format(Decimal(units) / size, "f")
