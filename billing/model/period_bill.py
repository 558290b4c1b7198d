"""One usage period on the bill: by which terms, which items it makes, and what usage that came later adds to it. Pure.

The terms are those that stood when the period ended, kept beside what was billed: so a period can be rated again, by the same terms,
whenever usage of it arrives. What was billed then is never changed; the difference is an item of its own, of either sign.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.model import plan as plans
from billing.model.invoice_item import InvoiceItem, ItemKind
from billing.model.limits import quota_from_json, quota_to_json
from billing.model.money import EXACT
from billing.model.rating import Line, display_quantity, rate_period
from billing.model.subscription import STANDINGS, Standing, State, Subscription, sold
from metering.model.clock import isoformat, to_datetime
from metering.model.entitlement import Override
from metering.model.ledger import TEST
from metering.model.meter import Meter
from metering.model.quota import Quota, replace_quotas

Bounds = tuple[int, int]  # (start_ms, end_ms), half-open
_HOUR_MS = Decimal(3_600_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What usage costs. `spec` None: nothing (no plan that entitles, a trial). `used`: how much there was of it when the terms were
    kept, where they were; what an organization that left had used until then."""

    spec: plans.PlanSpec | None
    plan_version: int
    overrides: tuple[tuple[Quota, int | None], ...]  # with their ends
    currency: str
    used: Mapping[str, int] | None = None

    @property
    def charges(self) -> bool:
        return self.spec is not None and bool(self.spec.prices)

    def quotas_at(self, at_ms: int) -> tuple[Quota, ...]:
        quotas = self.spec.quotas if self.spec else ()
        for quota, until_ms in self.overrides:
            if until_ms is None or at_ms < until_ms:
                quotas = replace_quotas(quotas, (quota,))
        return quotas


def terms_of(subscription: Subscription | None, spec: plans.PlanSpec | None, overrides: tuple[Override, ...], currency: str) -> Terms:
    """As they stand now. A trial's usage costs nothing, nor that of a state that does not entitle to the plan."""
    charged = subscription is not None and STANDINGS[subscription.state] is Standing.PLAN and subscription.state is not State.TRIALING
    return Terms(
        spec=sold(spec, subscription) if charged and spec is not None and subscription is not None else None,
        plan_version=subscription.plan_version if subscription else 0,
        overrides=tuple((quota, override.until_ms) for override in overrides for quota in override.quotas if quota.source != "cap"),
        currency=subscription.currency if subscription else currency,
    )


def terms_to_json(terms: Terms) -> dict[str, Any]:
    return {
        "spec": plans.to_json(terms.spec) if terms.spec else None,
        "plan_version": terms.plan_version,
        "overrides": [{"quota": quota_to_json(quota), "until_ms": until_ms} for quota, until_ms in terms.overrides],
        "currency": terms.currency,
        "used": dict(terms.used) if terms.used is not None else None,
    }


def terms_from_json(value: Mapping[str, Any]) -> Terms:
    return Terms(
        spec=plans.from_json(value["spec"]) if value["spec"] else None,
        plan_version=value["plan_version"],
        overrides=tuple((quota_from_json(each["quota"]), each["until_ms"]) for each in value["overrides"]),
        currency=value["currency"],
        used=value.get("used"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodBill:
    """The items of a period, and by line all that was ever billed for it."""

    items: tuple[InvoiceItem, ...]
    amounts: Mapping[str, Decimal]


def first_bill(org_id: str, terms: Terms, period: Bounds, used: Mapping[str, int], meters: Mapping[str, Meter]) -> PeriodBill:
    """A line of nothing is left out, unless something was used beyond what is included. Raises what `rate_period` raises."""
    rated = _rated(terms, period, used, meters)
    items = [
        InvoiceItem(
            org_id=org_id, identifier=f"use1:{org_id}:{period[0] // 1000}:{name}", kind=line.kind, description=line.description,
            quantity=line.quantity, unit_price=line.unit_price, amount=line.amount, currency=terms.currency, period_start_ms=period[0],
            period_end_ms=period[1], meter=line.meter, evidence=evidence(terms, period, line),
        )
        for name, line in rated.items() if line.amount or line.report_units
    ]  # fmt: skip
    return PeriodBill(items=tuple(items), amounts={name: line.amount for name, line in rated.items()})


def later_bill(
    org_id: str, terms: Terms, period: Bounds, used: Mapping[str, int], meters: Mapping[str, Meter], *,
    billed: Mapping[str, Decimal], before: Mapping[str, int], revision: int, now_ms: int,
) -> PeriodBill:  # fmt: skip
    """The whole period rated again, less what was `billed` for it: signed items, one for each line that differs."""
    rated = _rated(terms, period, used, meters)
    items = []
    for name in sorted({*rated, *billed}):
        line, had = rated.get(name), billed.get(name, Decimal(0))
        difference = (line.amount if line else Decimal(0)) - had
        if not difference:
            continue
        meter = name.partition(":")[2]
        quantity = _shown(used.get(meter, 0) - before.get(meter, 0), meters.get(meter))
        items.append(
            InvoiceItem(
                org_id=org_id,
                identifier=f"late1:{org_id}:{period[0] // 1000}:{revision}:{name}",
                kind=ItemKind.LATE,
                description=f"{_title(meter, meters)} of {_days(period)}, arrived later",
                quantity=quantity,
                unit_price=None,
                amount=difference,
                currency=terms.currency,
                period_start_ms=period[0],
                period_end_ms=period[1],
                meter=meter,
                evidence={
                    **(evidence(terms, period, line) if line else {}),
                    "written_ms": now_ms,
                    "used_before": before.get(meter, 0),
                    "billed_before": str(had),
                    "line": name,
                },
            )
        )
    kept = {name: line.amount for name, line in rated.items()}
    return PeriodBill(items=tuple(items), amounts={**dict.fromkeys(billed, Decimal(0)), **kept})


def evidence(terms: Terms, period: Bounds, line: Line) -> dict[str, Any]:
    """What an amount comes from, as far as it can be told without the usage rows themselves: they are found by meter and period."""
    return {
        "plan": terms.spec.name if terms.spec else None,
        "plan_version": terms.plan_version,
        "meter": line.meter,
        "unit": line.unit,
        "period_start": isoformat(period[0]),
        "period_end": isoformat(period[1]),
        "used": _plain(line.used),
        "included": str(line.included),
        "overage": _plain(line.overage),
        "report_units": line.report_units,
        "parts": [
            {
                "kind": part.kind.value, "tier": part.tier, "quantity": _plain(part.quantity),
                "unit_price": None if part.unit_price is None else _plain(part.unit_price), "amount": _plain(part.amount),
            }
            for part in line.parts
        ],
    }  # fmt: skip


def _rated(terms: Terms, period: Bounds, used: Mapping[str, int], meters: Mapping[str, Meter]) -> dict[str, Line]:
    """By kind and meter. Calls with test keys are never billed."""
    if terms.spec is None:
        return {}
    counted = {meter: units for meter, units in used.items() if not meter.startswith(TEST)}
    hours = EXACT.divide(Decimal(period[1] - period[0]), _HOUR_MS)
    lines = rate_period(terms.spec, terms.quotas_at(period[1] - 1), counted, meters, terms.currency, hours=hours)
    return {f"{line.kind}:{line.meter}": line for line in lines}


def _plain(number: Decimal) -> str:
    return format(number.normalize(), "f")


def _shown(units: int, meter: Meter | None) -> Decimal:
    return display_quantity(Decimal(units), meter) if meter else Decimal(units)


def _title(name: str, meters: Mapping[str, Meter]) -> str:
    return (meters[name].title if name in meters else "") or name


def _days(period: Bounds) -> str:
    return f"{to_datetime(period[0]):%Y-%m-%d} to {to_datetime(period[1] - 1):%Y-%m-%d}"
