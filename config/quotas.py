"""A quota as it is written, in a plan, an override or on a route; and what to do while the store is away."""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, PlainValidator, StrictBool, WithJsonSchema

from metering.model.meter import Kind, Meter
from metering.model.quota import CLOSED, OPEN, FailureRule, Mode, Per, Quota, Then, Window

from .document import Table
from .faults import Report
from .shape import Shape
from .units import BYTE, base_units
from .words import Amount, AmountWord, one_of, shown

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
_RATE = "how fast calls may come stands beside the quotas: rates: [{meter: api, limit: 5, per: second, burst: 10}]"


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


class ThenShape(Shape):
    """The slower quota that a throttle falls to."""

    misplaced: ClassVar[dict[str, str]] = {
        "meter": "it is on the same meter; leave it out",
        "mode": "it blocks at its limit; leave it out",
        "per": "it adds up the same calls; leave it out",
    }

    limit: AmountWord = Field(description="100. In each of its windows, once the main limit is used up.")
    window: one_of(("hour", "day", "period", "month")) = Field(description="hour, day, period or month.")  # type: ignore[valid-type]


class QuotaShape(Shape):
    """A limit on one meter."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"mode": {"const": "throttle"}}, "required": ["mode"]},
            "then": {"required": ["then"]},
            "else": {"properties": {"then": False}},
        }
    )
    misplaced: ClassVar[dict[str, str]] = {"rate": _RATE, "burst": _RATE, "by": "write per: key"}

    meter: str = Field(description="A name from meters.yaml.")
    limit: AmountWord = Field(description="10_000, 5 GB, unlimited. A bare number is in the meter's base unit.")
    window: one_of(("hour", "day", "period", "month")) = Field(  # type: ignore[valid-type]
        "period", description="period: the subscription's usage period. month: the calendar month. UTC throughout."
    )
    mode: one_of(("hard", "soft", "overage", "throttle")) = Field(  # type: ignore[valid-type]
        "hard",
        description="hard: blocks at the limit. soft: warns and goes on. overage: goes on and charges; only with window: period. "
        "throttle: falls to the slower quota of `then`.",
    )
    then: ThenShape | None = Field(None, description="With mode: throttle. {limit: 100, window: day}")
    stop_at: AmountWord | None = Field(None, description="With mode: overage. Where it ends: beyond, calls are refused.")
    shadow: StrictBool = Field(False, description="true: decides and counts, and never blocks.")
    per: one_of(("org", "route", "key", "tenant", "address")) = Field(  # type: ignore[valid-type]
        "org",
        description="Whose use adds up: the organization's, each of its keys', routes', tenants'; on an open route, each address's.",
    )
    at_limit: one_of(("finish", "cut")) = Field(  # type: ignore[valid-type]
        "finish",
        description="Of bytes. finish: an answer that crosses the limit is finished, the next call is refused. cut: not a byte passes "
        "beyond the limit; what crosses it is broken off.",
    )
    on_store_failure: FailureRuleWord | None = Field(None, description="Stands above the route's rule and the defaults'.")

    @classmethod
    def contradictions(cls, table: Table, report: Report) -> None:
        _check_overage(table, report)
        _check_throttle(table, report)
        _check_cut(table, report)
        mode = table.get("mode", "hard")
        if table.get("shadow") is True and (mode == "soft" or (mode == "overage" and "stop_at" not in table)):
            report.fault(table, "shadow", f"mode: {mode} never blocks, so there is nothing to shadow; leave it out")
        if table.get("shadow") is True and table.get("limit") == "unlimited":
            report.fault(table, "shadow", "`unlimited` never blocks, so there is nothing to shadow; leave it out")
        if unknown := report.unknown_meter(table.get("meter")):
            report.fault(table, "meter", unknown)


def _check_overage(table: Table, report: Report) -> None:
    mode, window = table.get("mode", "hard"), table.get("window", "period")
    if "stop_at" in table and mode in ("hard", "soft", "throttle"):
        report.fault(
            table,
            "stop_at",
            f"only an overage quota goes on beyond its limit up to a stop; with mode: {mode} leave it out, or write mode: overage",
        )
    if "stop_at" in table and table["stop_at"] == "unlimited":
        report.fault(table, "stop_at", "an overage quota goes on without an end unless told where; leave it out")
    if mode != "overage":
        return
    if window != "period" and window in list(Window):
        report.fault(
            table, "window" if "window" in table else "mode",
            f"overage is billed by the period, not by the {window}; write window: period, or mode: soft or hard",
        )  # fmt: skip
    if table.get("per", "org") in ("key", "route", "tenant", "address"):
        report.fault(table, "per", "overage is billed to the organization as a whole; leave out `per`")
    if table.get("limit") == "unlimited":
        report.fault(table, "limit", "nothing is ever over `unlimited`; write a limit, or leave out mode: overage")


def _check_cut(table: Table, report: Report) -> None:
    mode = table.get("mode", "hard")
    if table.get("at_limit") != "cut":
        return
    if mode in ("soft", "throttle"):
        report.fault(table, "at_limit", f"mode: {mode} does not end at its limit: nothing to cut; leave it out, or write mode: hard")
    if mode == "overage" and "stop_at" not in table:
        report.fault(table, "at_limit", "an overage quota goes on without an end unless told where; write stop_at too, or leave it out")
    if table.get("limit") == "unlimited":
        report.fault(table, "at_limit", "`unlimited` is never reached, so there is nothing to cut; leave it out")


def _check_throttle(table: Table, report: Report) -> None:
    mode, then = table.get("mode", "hard"), table.get("then")
    if "then" in table and mode in ("hard", "soft", "overage"):
        report.fault(table, "then", f"only mode: throttle falls to a slower quota; with mode: {mode} leave it out")
    if mode != "throttle":
        return
    if "then" not in table:
        report.fault(table, "mode", "say what it falls to: then: {limit: 100, window: day}; to block at the limit write mode: hard")
    if table.get("limit") == "unlimited":
        report.fault(table, "limit", "`unlimited` is never used up, so nothing falls to a slower quota; write a limit")
    if isinstance(then, Table) and then.get("window") == table.get("window", "period"):
        report.fault(then, "window", "two limits in one window are one: write mode: hard with their sum, or a shorter window here")
    if isinstance(then, Table) and then.get("limit") == "unlimited":
        report.fault(then, "limit", "then nothing would ever block; write mode: soft")
    if isinstance(then, Table) and then.get("limit") == 0:
        report.fault(then, "limit", "then nothing more would pass; write mode: hard")


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
    limit = _units(shape.table, "limit", shape.limit, meter, report)
    stop_at = _units(shape.table, "stop_at", shape.stop_at, meter, report) if shape.stop_at is not None else None
    if limit is not None and stop_at is not None and stop_at <= limit:
        report.fault(
            shape.table, "stop_at", "a stop lies beyond the limit, from where on it is charged; to block at the limit write mode: hard"
        )
    if shape.at_limit == "cut" and meter.unit and (meter.unit != BYTE or meter.kind is Kind.LEVEL or meter.cost_from):
        report.fault(
            shape.table, "at_limit", f"only bytes that pass can be cut off, and `{meter.name}` does not weigh them; leave it out: "
            "what a call costs in it is charged as a whole",
        )  # fmt: skip
    if meter.kind is Kind.LEVEL and shape.mode == Mode.THROTTLE:
        report.fault(
            shape.table, "mode", f"`{meter.name}` is a level, which no call moves: there is nothing to slow down; write hard or soft"
        )
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
        shadow=shape.shadow,
        then=_then(shape.then, meter, report) if shape.mode == Mode.THROTTLE else None,
        stop_at=stop_at if shape.mode == Mode.OVERAGE else None,
        at_limit=shape.at_limit,
    )


def _then(shape: ThenShape | None, meter: Meter, report: Report) -> Then | None:
    limit = _units(shape.table, "limit", shape.limit, meter, report) if shape is not None else None
    return Then(limit=limit, window=Window(shape.window)) if shape is not None and limit is not None else None


def _units(where: Table, word: str, written: Amount, meter: Meter, report: Report) -> int | None:
    try:
        return base_units(written, meter)
    except ValueError as error:
        report.fault(where, word, str(error))
        return None
