"""What an organization has used of its quotas now."""

from datetime import datetime
from typing import Any

from pydantic import Field

from billing.model.usage import Source, Status, UsageReport, head_json, meter_json, report_json
from billing.operations.operation import Amount, Call, Model, operation
from metering.model.errors import NotFound
from metering.model.quota import Mode, Window


class NoSuchService(NotFound):
    """There is no such service."""

    code = "no_such_service"


Figure = int | float  # in the display unit; whole numbers stay whole


class OrgHead(Model):
    id: str
    slug: str
    name: str


class PlanHead(Model):
    name: str
    title: str
    version: int


class Period(Model):
    """Half-open: `end` belongs to the next one."""

    start: datetime
    end: datetime


class BaseFigures(Model):
    """Exact, in the meter's base unit."""

    unit: str
    current_usage: int
    quota: int | None = None


class LimitUse(Model):
    """One quota, and how far it is used. `quota`, `remaining` and `percentage_used` are null where nothing limits."""

    name: str
    current_usage: Figure
    quota: Figure | None
    remaining: Figure | None
    percentage_used: float | None
    status: Status
    mode: Mode | None
    window: Window
    reset_at: datetime


class MeterUse(Model):
    """One meter: its widest quota, in display units; `base` has the exact figures, `limits` every quota."""

    service: str
    title: str
    unit: str
    current_usage: Figure
    quota: Figure | None
    remaining: Figure | None
    percentage_used: float | None
    status: Status
    mode: Mode | None
    window: Window
    reset_at: datetime
    source: Source
    base: BaseFigures
    limits: tuple[LimitUse, ...]


class CostLine(Model):
    service: str
    report_units: int
    amount: Amount


class Cost(Model):
    """What the period would cost if it ended now. `unrated` are meters that only an invoice rates."""

    currency: str
    base: Amount | None
    overage: Amount
    total: Amount
    lines: tuple[CostLine, ...]
    unrated: tuple[str, ...] = ()


class UsageHead(Model):
    org: OrgHead
    plan: PlanHead
    period: Period
    updated_at: datetime


class UsageAnswer(UsageHead):
    usage: tuple[MeterUse, ...]
    estimated_cost: Cost | None


class QuotaAnswer(UsageHead):
    quotas: tuple[MeterUse, ...]


class ServiceQuota(UsageHead, MeterUse):
    """One service's quota, with whose it is."""


class AskUsage(Model):
    service: str | None = Field(None, description="one meter")


class AskService(Model):
    service: str


@operation("GET", "/usage", name="usage.show", errors=(NoSuchService,))
async def usage(call: Call, ask: AskUsage) -> UsageAnswer:
    """Usage, quotas and the estimated cost of the current period."""
    report = await call.billing.usage.report(call.org)
    body = report_json(report)
    if ask.service is not None:
        body["usage"] = [_one(report, ask.service)]
    return UsageAnswer.model_validate(body)


@operation("GET", "/quota", name="quota.list", errors=(NoSuchService,))
async def quotas(call: Call, ask: AskUsage) -> QuotaAnswer:
    """Every quota and what is left of it."""
    report = await call.billing.usage.report(call.org)
    found = [_one(report, ask.service)] if ask.service is not None else [meter_json(use, report.end_ms) for use in report.meters]
    return QuotaAnswer.model_validate({**head_json(report), "quotas": found})


@operation("GET", "/quota/{service}", name="quota.show", errors=(NoSuchService,))
async def quota(call: Call, ask: AskService) -> ServiceQuota:
    """One service's quota: what is used, what remains, when it begins anew."""
    report = await call.billing.usage.report(call.org)
    return ServiceQuota.model_validate({**head_json(report), **_one(report, ask.service)})


def _one(report: UsageReport, service: str) -> dict[str, Any]:
    for use in report.meters:
        if use.meter.name == service:
            return meter_json(use, report.end_ms)
    known = ", ".join(use.meter.name for use in report.meters)
    raise NoSuchService(f"there is no service {service!r}; there are: {known}", service=service)


OPERATIONS = (usage, quotas, quota)
