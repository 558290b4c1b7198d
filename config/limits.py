"""Rates and calls in flight as they are written, in a plan, an override or on a route. Quotas are in config/quotas.py."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainValidator, StrictBool, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from metering.model.meter import Kind, Meter
from metering.model.quota import Concurrency, Per, Rate

from .document import Items, Table
from .faults import Report
from .shape import Lenient, Shape
from .units import BYTE, base_units
from .words import Amount, amount, one_of, shown

_BY = one_of(("org", "route", "key", "tenant", "address"))
_LONGER = "a rate is per second or per minute; for an hour or longer write a quota: quotas: [{meter: api, limit: 100, window: hour}]"
_MOST_IN_FLIGHT = 1_000_000
_MOST_A_TIME = 10**12


def _per(value: Any) -> str:
    if value in ("second", "minute"):
        return cast(str, value)
    if value in ("hour", "day", "month", "period"):
        raise ValueError(_LONGER)
    raise ValueError(f"{shown(value)} is none of second or minute: write per: second")


def _units(value: Any) -> Amount:
    """An amount of at least one."""
    found = amount(value)
    if found.number is None:
        raise ValueError("unlimited is no rate; leave the rate out")
    if found.number <= 0:
        raise ValueError("a rate of nothing lets no call pass; write at least 1")
    return found


def _burst(value: Any) -> Amount:
    found = amount(value)
    if found.number is None or found.number < 1:
        raise ValueError("a burst is how many may pass at once, at least 1; left out, it is as much as `limit`")
    return found


_UNITS_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}
_UnitsWord = Annotated[Amount, PlainValidator(_units), WithJsonSchema(_UNITS_SCHEMA)]
_BurstWord = Annotated[Amount, PlainValidator(_burst), WithJsonSchema(_UNITS_SCHEMA)]


class RateShape(Shape):
    """At most so many units a second or a minute."""

    misplaced: ClassVar[dict[str, str]] = {
        "window": _LONGER,
        "mode": "a rate refuses what is too fast; to count and never block write shadow: true",
        "on_store_failure": "a rate holds while the store answers; what passes without it is said by the route's on_store_failure",
    }

    meter: str | None = Field(None, description="A name from meters.yaml. Default: each call is one.")
    limit: _UnitsWord = Field(description="So many units in `per`.")
    per: Annotated[str, PlainValidator(_per), WithJsonSchema({"enum": ["second", "minute"]})] = Field(description="second or minute.")
    burst: _BurstWord | None = Field(None, description="So many may pass at once. Default: limit.")
    by: _BY = Field("org", description="Whose calls add up. On an open route: address.")  # type: ignore[valid-type]
    shadow: StrictBool = Field(False, description="true: decides and counts, and never blocks.")

    @classmethod
    def contradictions(cls, table: Table, report: Report) -> None:
        if unknown := report.unknown_meter(table.get("meter")):
            report.fault(table, "meter", unknown)


def _in_flight(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{shown(value)} is no number of calls; write a whole number, at least 1")
    if value < 1:
        raise ValueError(f"{value} calls in flight would let no call pass; write at least 1")
    if value > _MOST_IN_FLIGHT:
        raise ValueError(f"{value} is more than can be in flight; leave it out")
    return value


class ConcurrencyShape(Shape):
    """At most so many calls in flight at a time."""

    misplaced: ClassVar[dict[str, str]] = {
        "meter": "calls in flight are counted, whatever they weigh; leave it out",
        "per": "write by: key",
    }

    limit: Annotated[int, PlainValidator(_in_flight), WithJsonSchema({"type": "integer", "minimum": 1})]
    by: _BY = Field("org", description="Whose calls add up. On an open route: address.")  # type: ignore[valid-type]
    shadow: StrictBool = Field(False, description="true: decides and counts, and never blocks.")


def _listed(value: Any, handler: Callable[[Any], Any]) -> Any:
    if isinstance(value, list):
        return handler(value)
    if isinstance(value, Table):
        alone = Items(value.path, value.line)
        alone.append(value)
        alone.lines.append(value.line)
        return handler(alone)
    return [ConcurrencyShape(limit=_in_flight(value))]


class _OneOrMany:
    """2, {limit: 2, by: key}, or a list of these."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(_listed, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        many = handler(core)
        return {"anyOf": [{"type": "integer", "minimum": 1}, many["items"], many]}


ConcurrencyWord = Annotated[list[Lenient[ConcurrencyShape]], _OneOrMany()]
RatesWord = list[Lenient[RateShape]]


def make_rates(shapes: Iterable[RateShape | None], report: Report, *, source: str) -> tuple[Rate, ...]:
    """The rates; two on the same meter, unit of time and `by` are a fault."""
    found: dict[tuple[str | None, str, Per], Rate] = {}
    for shape in shapes:
        if shape is None or (shape.meter is not None and report.meter(shape.meter) is None):
            continue
        rate = _rate(shape, report, source)
        slot = (rate.meter, rate.per, rate.by)
        if slot in found:
            what = f"on `{rate.meter}`" if rate.meter else "of calls"
            report.fault(shape.table, None, f"there is already a rate {what} (per {rate.per}, by {rate.by}); keep one")
        found[slot] = rate
    return tuple(found.values())


def _rate(shape: RateShape, report: Report, source: str) -> Rate:
    meter = report.meter(shape.meter) if shape.meter is not None else None
    if meter is not None and meter.kind is Kind.LEVEL:
        report.fault(shape.table, "meter", f"`{meter.name}` is a level, which no call moves; a rate is on what calls weigh")
    elif meter is not None and meter.unit == BYTE:
        report.fault(shape.table, "meter", f"the bytes of `{meter.name}` are not known before a call has moved them; write a quota")
    return Rate(
        meter=shape.meter,
        limit=_whole(shape, "limit", shape.limit, meter, report),
        per=cast(Literal["second", "minute"], shape.per),
        burst=_whole(shape, "burst", shape.burst, meter, report) if shape.burst is not None else None,
        by=Per(shape.by),
        routed=source == "route",
        shadow=shape.shadow,
        source=source,
    )


def _whole(shape: RateShape, word: str, written: Amount, meter: Meter | None, report: Report) -> int:
    """The amount in base units, at least 1 also where it is faulty."""
    try:
        found = base_units(written, meter) if meter is not None else base_units(written, Meter(name="calls", unit="call"))
    except ValueError as error:
        report.fault(shape.table, word, str(error))
        return 1
    if found is not None and found > _MOST_A_TIME:
        report.fault(shape.table, word, f"{written} is more than can be told apart in time; leave the rate out")
    return max(found or 1, 1)


def make_concurrency(
    shapes: Iterable[ConcurrencyShape | None] | None, where: Table, report: Report, *, source: str
) -> tuple[Concurrency, ...]:
    """The limits; two `by` the same are a fault. `where` holds the word `concurrency`."""
    found: dict[Per, Concurrency] = {}
    for shape in shapes or ():
        if shape is None:
            continue
        limit = Concurrency(limit=shape.limit, by=Per(shape.by), routed=source == "route", shadow=shape.shadow, source=source)
        if limit.by in found:
            report.fault(where, "concurrency", f"calls in flight by {limit.by} are limited here already; keep one")
        found[limit.by] = limit
    return tuple(found.values())
