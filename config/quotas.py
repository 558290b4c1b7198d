"""A quota as it is written, in a plan, an override or on a route; and what to do while the store is away."""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainValidator, WithJsonSchema

from metering.model.meter import Kind, Meter
from metering.model.quota import CLOSED, OPEN, FailureRule, Mode, Per, Quota, Window

from .document import Table
from .faults import Report
from .shape import Shape
from .units import base_units
from .words import AmountWord, one_of, shown

_RULE_SCHEMA = {
    "anyOf": [
        {"enum": ["open", "closed"]},
        {
            "type": "object",
            "properties": {"grace": {"type": "integer", "minimum": 1}},
            "required": ["grace"],
            "additionalProperties": False,
        },
    ]
}
_SLOWER = "use hard, soft or overage"
_NO_RATES = "use a quota with window: hour"


def failure_rule(value: Any) -> FailureRule:
    """open, closed, or {grace: 200}."""
    if value in ("open", "closed"):
        return OPEN if value == "open" else CLOSED
    if isinstance(value, dict) and set(value) == {"grace"}:
        grace = value["grace"]
        if isinstance(grace, int) and not isinstance(grace, bool) and grace > 0:
            return FailureRule("grace", grace)
        raise ValueError(f"grace is a number of calls above 0, not {shown(grace)}; for none at all write closed")
    raise ValueError(
        "say what happens while the store is away: open (calls pass), closed (calls are refused with 503), or {grace: 200} (so many pass)"
    )


FailureRuleWord = Annotated[FailureRule, PlainValidator(failure_rule), WithJsonSchema(_RULE_SCHEMA)]


class QuotaShape(Shape):
    """A limit on one meter."""

    not_built: ClassVar[dict[str, str]] = {
        "then": _SLOWER,
        "stop_at": "leave it out; an overage quota goes on without an end",
        "shadow": "use mode: soft, which counts and never blocks",
        "rate": _NO_RATES,
        "burst": _NO_RATES,
    }

    meter: str = Field(description="A name from meters.yaml.")
    limit: AmountWord = Field(description="10_000, 5 GB, unlimited. A bare number is in the meter's base unit.")
    window: one_of(("hour", "day", "period", "month")) = Field(  # type: ignore[valid-type]
        "period", description="period: the subscription's usage period. month: the calendar month. UTC throughout."
    )
    mode: one_of(("hard", "soft", "overage"), {"throttle": _SLOWER}) = Field(  # type: ignore[valid-type]
        "hard", description="hard: blocks at the limit. soft: warns and goes on. overage: goes on and charges; only with window: period."
    )
    per: one_of(("org", "route", "key"), {"address": "use org, route or key", "tenant": "use org, route or key"}) = Field(  # type: ignore[valid-type]
        "org", description="Whose use adds up: the organization's, each of its keys', or each route's."
    )
    at_limit: one_of(("finish",), {"cut": "an answer that crosses the limit is finished, the next call is refused"}) = Field(  # type: ignore[valid-type]
        "finish", description="An answer that crosses the limit is finished; the next call is refused."
    )
    on_store_failure: FailureRuleWord | None = Field(None, description="Stands above the route's rule and the defaults'.")

    @classmethod
    def contradictions(cls, table: Table, report: Report) -> None:
        mode, window = table.get("mode"), table.get("window", "period")
        if mode == "overage" and window != "period" and window in list(Window):
            report.fault(
                table, "window" if "window" in table else "mode",
                f"overage is billed by the period, not by the {window}; write window: period, or mode: soft or hard",
            )  # fmt: skip
        if mode == "overage" and table.get("per", "org") in ("key", "route"):
            report.fault(table, "per", "overage is billed to the organization as a whole; leave out `per`")
        if mode == "overage" and table.get("limit") == "unlimited":
            report.fault(table, "limit", "nothing is ever over `unlimited`; write a limit, or leave out mode: overage")
        if unknown := report.unknown_meter(table.get("meter")):
            report.fault(table, "meter", unknown)


def make_quotas(shapes: Iterable[QuotaShape | None], report: Report, *, source: str) -> tuple[Quota, ...]:
    """The quotas; two on the same meter, window and `per` are a fault."""
    found: dict[tuple[str, Window, Per], Quota] = {}
    for shape in shapes:
        meter = report.meter(shape.meter) if shape else None
        if shape is None or meter is None:
            continue
        quota = _quota(shape, meter, report, source)
        slot = (quota.meter, quota.window, quota.per)
        if slot in found:
            report.fault(
                shape.table, None, f"there is already a quota on `{quota.meter}` in this window ({quota.window}, per {quota.per}); keep one"
            )
        found[slot] = quota
    return tuple(found.values())


def _quota(shape: QuotaShape, meter: Meter, report: Report, source: str) -> Quota:
    limit = None
    try:
        limit = base_units(shape.limit, meter)
    except ValueError as error:
        report.fault(shape.table, "limit", str(error))
    if meter.kind is Kind.LEVEL and shape.window != "period":
        report.fault(shape.table, "window", f"`{meter.name}` is a level: its quota holds what is held now; leave out `window`")
    if meter.kind is Kind.LEVEL and shape.per != "org":
        report.fault(shape.table, "per", f"`{meter.name}` is a level of the organization as a whole; leave out `per`")
    return Quota(
        meter=meter.name,
        limit=limit,
        window=Window(shape.window),
        mode=Mode(shape.mode),
        per=Per(shape.per),
        on_store_failure=shape.on_store_failure,
        routed=source == "route",
        source=source,
    )
