"""Usage of times gone by, and how a use divides over endpoints and parts: as the ledger has it."""

from dataclasses import replace

from billing.model.usage import WARN_PERCENT, LimitUse, MeterUse, NoSuchService, Source, UsageReport, shown_quotas
from billing.model.usage_span import EndpointUse, Span
from billing.services.ports import Books
from billing.services.usage import Usage
from metering.model.clock import Clock
from metering.model.meter import Kind, Meter
from metering.model.quota import Window


class UsageHistory:
    def __init__(self, books: Books, clock: Clock, usage: Usage) -> None:
        self._books, self._clock, self._usage = books, clock, usage

    async def over(self, org_ref: str, span: Span) -> UsageReport:
        """Beside the quotas that hold now, where the time is no longer than a month. Raises NoSuchOrganization."""
        now = await self._usage.report(org_ref)
        seen = replace(span, end_ms=max(span.start_ms + 1, min(span.end_ms, self._clock.now_ms())))  # a level is not held in the future
        async with self._books.transaction() as unit:
            used = await unit.usage.of_range(now.org.id, seen)
        known = {use.meter.name: use for use in now.meters}
        meters = [meter for meter in self._usage.meters([used]) if meter.name in known or used.get(meter.name)]
        uses = tuple(_use(meter, known.get(meter.name), used.get(meter.name, 0), span) for meter in meters)
        return replace(now, start_ms=span.start_ms, end_ms=span.end_ms, meters=uses, bill=None)

    async def endpoints(self, report: UsageReport, service: str, span: Span) -> list[EndpointUse]:
        """Who used most first."""
        async with self._books.transaction() as unit:
            return await unit.usage.by_endpoint(report.org.id, service, span)

    async def parts(self, report: UsageReport, meter: Meter, span: Span) -> list[tuple[str, int]]:
        """What a level is held in, or the values that a meter is counted by; the largest first."""
        async with self._books.transaction() as unit:
            return await unit.usage.parts(report.org.id, meter.name, span, held=meter.kind is Kind.LEVEL)


def one_of(report: UsageReport, service: str) -> MeterUse:
    """Raises NoSuchService."""
    for use in report.meters:
        if use.meter.name == service:
            return use
    known = ", ".join(use.meter.name for use in report.meters)
    raise NoSuchService(f"there is no service {service!r}; there are: {known}", service=service)


def _use(meter: Meter, now: MeterUse | None, used: int, span: Span) -> MeterUse:
    quotas = shown_quotas(tuple(limit.quota for limit in now.limits), meter.name) if now and span.holds_a_quota else ()
    wide = [quota for quota in quotas if quota.window in (Window.PERIOD, Window.MONTH)]
    warn = now.limits[0].warn_percent if now and now.limits else WARN_PERCENT
    limits = tuple(
        LimitUse(
            quota=quota, used=used, source=Source.STORED, start_ms=span.start_ms, reset_at_ms=span.end_ms, warn_percent=warn
        )
        for quota in wide
    )  # fmt: skip
    return MeterUse(meter=meter, used=used, source=Source.STORED, limits=limits)
