"""Units that a service's answer says: where it says them, what is reserved before, what holds where it does not say."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainValidator, WithJsonSchema

from metering.model.meter import Meter
from metering.model.pointer import Pointer

from .document import Table
from .faults import Report
from .gateway import Settled, Source
from .shape import Shape
from .units import base_units
from .words import Amount, AmountWord, SomeSizeWord, amount, header_name, shown

BODY_KINDS = ("json", "sse", "body")
_FIELDS = ("header", "trailer")
_FORMS = "header:X-Tokens, trailer:X-Tokens, json:/usage/total_tokens, sse:/usage/total_tokens, or body:/usage/total_tokens for either"
_MOST_WITHIN = 16 * 2**20  # reading one holds up its worker for some 60 ms
MOST_UNITS = 10**12  # of one call


def is_source(value: Any) -> bool:
    """Whether it is meant as one."""
    return isinstance(value, str) and value.partition(":")[0] in (*_FIELDS, *BODY_KINDS) and ":" in value


def sources(value: Any) -> tuple[Source, ...]:
    """One source, or a list of them: the first that says anything counts."""
    if not isinstance(value, list):
        return tuple(_one(value))
    if not value:
        raise ValueError(f"there is no source in it; write {_FORMS}")
    return tuple(source for each in value for source in _one(each))


def _one(value: Any) -> Iterator[Source]:
    if not is_source(value):
        raise ValueError(f"{shown(value)} says nowhere to look in an answer; write {_FORMS}")
    kind, _, name = value.partition(":")
    if kind in ("header", "trailer"):
        yield Source(kind, header_name(name))
        return
    pointer = Pointer(name).text
    if kind != "json":
        yield Source("sse", pointer)
    if kind != "sse":
        yield Source("json", pointer)


def _otherwise(value: Any) -> Amount | None:
    return None if value == "reserve" else amount(value)


_AMOUNT = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}
_SOURCE = {"type": "string", "pattern": r"^(header|trailer|json|sse|body):"}
_SourcesWord = Annotated[
    tuple[Source, ...],
    PlainValidator(sources),
    WithJsonSchema({"anyOf": [_SOURCE, {"type": "array", "items": _SOURCE, "minItems": 1}]}),
]
_OtherwiseWord = Annotated[Amount | None, PlainValidator(_otherwise), WithJsonSchema(_AMOUNT)]


class SettleShape(Shape):
    """What a call takes of a meter is reserved when it is admitted, and settled when its answer has said it."""

    misplaced: ClassVar[dict[str, str]] = {
        "default": "what is charged where the answer does not say is written otherwise: 500",
        "estimate": "what is drawn before is written reserve: 2_000",
        "from": "where the answer says it is written settle: json:/usage/total_tokens",
    }

    settle: _SourcesWord = Field(description=f"Where the answer says it: {_FORMS}. Of a list the first that says anything counts.")
    reserve: AmountWord = Field(Amount(None), description="Drawn when the call is admitted, or it is refused. Default 0.")
    otherwise: _OtherwiseWord = Field(None, description="Charged where the answer does not say: reserve (the default), or an amount.")
    within: SomeSizeWord = Field(2**20, description="The largest body, or event, that is looked into. Default 1 MiB, at most 16 MiB.")

    @classmethod
    def contradictions(cls, table: Table, report: Report) -> None:
        for word in ("reserve", "otherwise"):
            if table.get(word) == "unlimited":
                report.fault(table, word, "no call takes an unlimited amount; write a number")


def make_settled(shape: SettleShape, meter: Meter, report: Report) -> Settled:
    """The cost, in the meter's base units."""
    if shape.within > _MOST_WITHIN:
        report.fault(shape.table, "within", f"{shape.within:,} bytes are kept for each call under way; write at most 16 MiB")
    reserve = _units(shape, "reserve", shape.reserve, meter, report)
    otherwise = _units(shape, "otherwise", shape.otherwise, meter, report) if shape.otherwise is not None else None
    return Settled(sources=shape.settle, reserve=reserve, otherwise=otherwise, within=shape.within)


def _units(shape: SettleShape, word: str, written: Amount, meter: Meter, report: Report) -> int:
    try:
        found = base_units(written, meter) or 0
    except ValueError as error:
        report.fault(shape.table, word, str(error))
        return 0
    if found > MOST_UNITS:
        report.fault(shape.table, word, f"{written} is more than one call can take ({MOST_UNITS:,})")
    return found
