"""meters.yaml: what is counted."""

from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainValidator, WithJsonSchema

from metering.model.meter import Kind, Meter

from .document import Table
from .faults import Report
from .settle import is_source
from .shape import Lenient, Shape, read_shape
from .units import size_of
from .words import MeterName, header_name, named, one_of, shown

FILE = "meters.yaml"

_UNIT = r"[a-z][a-z0-9_]{0,31}"


def _cost_from(value: Any) -> str:
    if isinstance(value, str) and value.startswith("header:"):
        header_name(value.removeprefix("header:"))
        return value
    if is_source(value):
        raise ValueError("this is looked for only in the answers of routes that ask for it; write it there: charge: {tokens: …}")
    raise ValueError(f"{shown(value)} is no source of a cost; write it like header:X-Pages")


class MeterShape(Shape):
    """One meter."""

    not_built: ClassVar[dict[str, str]] = {"by": "leave it out; a meter is counted as a whole"}

    unit: Annotated[
        str, PlainValidator(named(_UNIT, "unit", "request, byte or token")), WithJsonSchema({"type": "string", "pattern": f"^{_UNIT}$"})
    ] = Field(description="The base unit, in the singular. Every quantity is a whole number of it.")
    kind: one_of(("count", "level")) = Field(  # type: ignore[valid-type]
        "count", description="count: events add up. level: an event states what is held now (storage)."
    )
    title: str = Field("", max_length=60, description="What people read. Default: the name, capitalized.")
    show: str = Field("", description="The unit in which people see it, and in which it is priced: GB, GiB, CPU-hours.")
    report: str = Field("", description="The unit that Stripe hears, in whole numbers: MB.")
    cost_from: Annotated[str, PlainValidator(_cost_from), WithJsonSchema({"type": "string", "pattern": "^header:"})] | None = Field(
        None, description="header:X-Pages: the service's answer says what a call costs. Charged on every route that charges."
    )


class MetersFile(Shape):
    """meters.yaml"""

    meters: dict[MeterName, Lenient[MeterShape]] = Field(description="A name is for ever: Stripe fixes the event name of a meter.")


def read_meters(value: Any, report: Report) -> dict[str, Meter] | None:
    """The meters of the file; None where it cannot be read. A faulty meter has an empty unit, so that its name is known."""
    file = read_shape(MetersFile, value, report)
    written = value.get("meters") if isinstance(value, Table) else None
    if not isinstance(written, Table):
        return None
    if not written:
        report.fault(value, "meters", "there is no meter; write at least api: {unit: request}")
    shapes = file.meters if file else {}
    found = {name: Meter(name=name, unit="") for name in written}
    return found | {name: _meter(name, shape, report) for name, shape in shapes.items() if shape}


def _meter(name: str, shape: MeterShape, report: Report) -> Meter:
    if shape.kind == "level" and shape.cost_from:
        report.fault(shape.table, "cost_from", "a level is stated, not added up by calls; leave out cost_from, or make it kind: count")
    return Meter(
        name=name,
        unit=shape.unit,
        kind=Kind(shape.kind),
        title=shape.title or name.replace("_", " ").capitalize(),
        show=shape.show,
        show_size=_size(shape, "show", report),
        report=shape.report,
        report_size=_size(shape, "report", report),
        cost_from=shape.cost_from,
    )


def _size(shape: MeterShape, word: str, report: Report) -> int:
    unit = getattr(shape, word)
    if not unit:
        return 1
    try:
        return size_of(shape.unit, unit)
    except ValueError as error:
        report.fault(shape.table, word, str(error))
        return 1
