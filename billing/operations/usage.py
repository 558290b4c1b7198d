"""What an organization has used of its quotas now."""

import datetime as dt
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import Field

from billing.model.usage import MeterUse as Use
from billing.model.usage import NoSuchService, Source, Status, UsageReport, head_json, meter_json, report_json, tenant_json
from billing.model.usage_span import PeriodWord, Span, shares, span_of
from billing.operations.operation import Amount, Call, Model, Nothing, operation
from billing.services.usage_history import one_of
from metering.model.meter import Kind
from metering.model.quota import Mode, Window

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
    """One meter: its widest quota, in display units; `base` has the exact figures, `limits` every quota. `overage_price` is that of one
    unit beyond the quota, in the currency of the answer; null where nothing is charged, or not by the unit."""

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
    kind: Kind = Kind.COUNT
    overage_price: Amount | None = None


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
    currency: str = "usd"


class UsageAnswer(UsageHead):
    """`quotas_apply` false: the time is longer than that of a quota, so that none stands beside it."""

    quotas_apply: bool = True
    usage: tuple[MeterUse, ...]
    estimated_cost: Cost | None


class QuotaAnswer(UsageHead):
    quotas: tuple[MeterUse, ...]


class ServiceQuota(UsageHead, MeterUse):
    """One service's quota, with whose it is."""


class EndpointRow(Model):
    """`usage` is in the meter's display unit; `endpoint` is null for what was recorded without a call. `error_rate`: percent of the calls
    that were answered with 400 or above."""

    endpoint: str | None
    usage: Figure
    percent: int
    calls: int
    average_ms: int | None
    error_rate: float | None


class PartRow(Model):
    """`part` is empty for what belongs to none."""

    part: str
    usage: Figure
    percent: int


class ServiceUsage(UsageHead, MeterUse):
    """`endpoints` and `parts` are the ledger's, as of its last flush: who used most first, shares in whole percent."""

    quotas_apply: bool
    endpoints: tuple[EndpointRow, ...]
    parts: tuple[PartRow, ...]


class BaseUse(Model):
    unit: str
    current_usage: int


class TenantFigure(Model):
    service: str
    unit: str
    current_usage: Figure
    base: BaseUse


class TenantRow(Model):
    """`tenant` is empty for calls that named none, "other" for those beyond the first thousand of a day."""

    tenant: str
    usage: tuple[TenantFigure, ...]


class TenantList(Model):
    tenants: tuple[TenantRow, ...]


class AskPeriod(Model):
    period: PeriodWord | None = Field(None, description="default: the period under way; with start or end, custom")
    start: dt.date | None = Field(None, description="the first day, UTC")
    end: dt.date | None = Field(None, description="the last day, UTC")


class AskQuotas(Model):
    service: str | None = Field(None, description="one meter")


class AskUsage(AskQuotas, AskPeriod):
    """Of one meter or all, now or in a time gone by."""


class AskServiceUsage(AskPeriod):
    service: str


class AskService(Model):
    service: str


@operation("GET", "/usage", name="usage.show", errors=(NoSuchService,))
async def usage(call: Call, ask: AskUsage) -> UsageAnswer:
    """Usage, quotas and the estimated cost of the period under way, or the usage of another time."""
    report, span = await _report(call, ask)
    body = report_json(report)
    found = report.meters if ask.service is None else (one_of(report, ask.service),)
    return UsageAnswer.model_validate(
        {**body, "currency": report.currency, "usage": [_said(use, report) for use in found], "quotas_apply": span.holds_a_quota}
    )


@operation("GET", "/usage/services/{service}", name="usage.service", errors=(NoSuchService,))
async def service_usage(call: Call, ask: AskServiceUsage) -> ServiceUsage:
    """One service: who used it, by endpoint and by part."""
    report, span = await _report(call, ask)
    use = one_of(report, ask.service)
    endpoints = await call.billing.history.endpoints(report, ask.service, span)
    parts = await call.billing.history.parts(report, use.meter, span)
    return ServiceUsage(
        **_head(report), **_said(use, report), quotas_apply=span.holds_a_quota,
        endpoints=tuple(
            EndpointRow(
                endpoint=each.endpoint, usage=_shown(each.units, use), percent=percent, calls=each.calls, average_ms=each.average_ms,
                error_rate=round(each.errors * 100 / each.calls, 1) if each.calls else None,
            )
            for each, percent in zip(endpoints, shares([max(0, each.units) for each in endpoints]), strict=True)
        ),
        parts=tuple(
            PartRow(part=part, usage=_shown(units, use), percent=percent)
            for (part, units), percent in zip(parts, shares([max(0, units) for _, units in parts]), strict=True)
        ),
    )  # fmt: skip


@operation("GET", "/tenants", name="usage.tenants")
async def tenants(call: Call, ask: Nothing) -> TenantList:
    """What each of the organization's own customers used in the period under way, as of the last flush."""
    uses = await call.billing.usage.tenants(call.org)
    meters = call.billing.usage.meters(use.used for use in uses)
    return TenantList.model_validate({"tenants": [tenant_json(use, meters) for use in uses]})


@operation("GET", "/quota", name="quota.list", errors=(NoSuchService,))
async def quotas(call: Call, ask: AskQuotas) -> QuotaAnswer:
    """Every quota and what is left of it."""
    report = await call.billing.usage.report(call.org)
    found = report.meters if ask.service is None else (one_of(report, ask.service),)
    return QuotaAnswer.model_validate({**_head(report), "quotas": [_said(use, report) for use in found]})


@operation("GET", "/quota/{service}", name="quota.show", errors=(NoSuchService,))
async def quota(call: Call, ask: AskService) -> ServiceQuota:
    """One service's quota: what is used, what remains, when it begins anew."""
    report = await call.billing.usage.report(call.org)
    return ServiceQuota.model_validate({**_head(report), **_said(one_of(report, ask.service), report)})


async def _report(call: Call, ask: AskPeriod) -> tuple[UsageReport, Span]:
    span = span_of(ask.period, ask.start, ask.end, call.now_ms)
    if span is not None:
        return await call.billing.history.over(call.org, span), span
    report = await call.billing.usage.report(call.org)
    return report, Span(start_ms=report.start_ms, end_ms=report.end_ms, is_period=True)


def _head(report: UsageReport) -> dict[str, Any]:
    return {**head_json(report), "currency": report.currency}


def _said(use: Use, report: UsageReport) -> dict[str, Any]:
    return {**meter_json(use, report.end_ms), "kind": use.meter.kind, "overage_price": report.prices.get(use.meter.name)}


def _shown(units: int, use: Use) -> Figure:
    figure = Decimal(units) / use.meter.show_size
    return int(figure) if figure == figure.to_integral_value() else float(figure)


OPERATIONS = (usage, tenants, service_usage, quotas, quota)
