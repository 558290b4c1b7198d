"""The small words of the files: amounts with units, durations, money, names, and words from a list.

Each is a function from what stands in the file to a value, and a pydantic type around it with its JSON Schema.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, PlainValidator, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from metering.model.meter import UNIT_SIZES

from .document import PlainFloat
from .faults import did_you_mean, unavailable

_AMOUNT = re.compile(r"(\d[\d_]*(?:\.\d+)?)\s*([A-Za-zµ][A-Za-z_ -]*)?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)")
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "min": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class Amount:
    """A number with the unit it was written with, if any. `number` None is unlimited."""

    number: Decimal | None
    unit: str = ""

    def __str__(self) -> str:
        return "unlimited" if self.number is None else f"{self.number} {self.unit}".strip()


def shown(value: Any) -> str:
    """A value as it stood in the file."""
    if isinstance(value, PlainFloat):
        return value.text
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return str(value)


def amount(value: Any) -> Amount:
    """10_000, "5 GB", "1.5 GB", "200 CPU-hours", unlimited."""
    if value == "unlimited":
        return Amount(None)
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError(f"{value} is below zero; write 0 or more, or `unlimited`")
        return Amount(Decimal(value))
    text = shown(value)
    match = _AMOUNT.fullmatch(text) if isinstance(value, str | PlainFloat) else None
    if match is None:
        raise ValueError(f"{text} is no amount; write a whole number (10_000), one with its unit (5 GB), or `unlimited`")
    return Amount(Decimal(match[1].replace("_", "")), (match[2] or "").strip())


def seconds(value: Any) -> float | None:
    """ "2s", "500ms", "1m", "1h", or a whole number of seconds; `none` for no limit."""
    if value in ("none", "unlimited"):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return float(value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{shown(value)} is no duration; write 2s, 500ms, 1m or 1h")
    found = float(Decimal(match[1]) * _SECONDS[match[2]])
    if found <= 0:
        raise ValueError("a duration is longer than nothing; write `none` for no limit")
    return found


def some_seconds(value: Any) -> float:
    """As `seconds`, without `none`."""
    found = seconds(value)
    if found is None:
        raise ValueError("this one needs an end; write 2s, 500ms, 1m or 1h")
    return found


def size(value: Any) -> int | None:
    """Bytes: 8_000, "8 kB", "10 MB"; `none` for no limit."""
    if value in ("none", "unlimited"):
        return None
    found = amount(value)
    scale = {"": 1, "B": 1, "bytes": 1, **UNIT_SIZES}.get(found.unit)
    if scale is None:
        raise ValueError(f"`{found.unit}` is no unit of bytes" + did_you_mean(found.unit, UNIT_SIZES))
    whole = found.number * scale if found.number is not None else Decimal(0)
    if whole != whole.to_integral_value() or whole < 1:
        raise ValueError(f"{shown(value)} is no whole number of bytes above zero")
    return int(whole)


def some_size(value: Any) -> int:
    """As `size`, without `none`."""
    found = size(value)
    if found is None:
        raise ValueError("this one needs an end; write it like 8 kB")
    return found


def money(value: Any) -> Decimal:
    """Money is a text, so that no digit is lost on the way: "49.00"."""
    if not isinstance(value, str):
        raise ValueError(f'money is written in quotes, so that no digit is lost: "{shown(value)}"')
    if not re.fullmatch(r"\d{1,12}(\.\d{1,30})?", value):
        raise ValueError(f'{value} is no price; write digits and a point, without sign, currency or commas: "49.00"')
    return Decimal(value)


def header_name(value: Any) -> str:
    if not isinstance(value, str) or not _HEADER.fullmatch(value):
        raise ValueError(f"{shown(value)} is no header name")
    return value


def named(pattern: str, kind: str, like: str) -> Callable[[Any], str]:
    """Checks a name: what it may hold is `pattern`; `kind` and `like` are for the sentence."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"{shown(value)} is no {kind}; write it like {like}")
        return value

    return check


def one_of(words: tuple[str, ...], not_built: Mapping[str, str] | None = None) -> Any:
    """An annotated type for a word from a list; `not_built` are words this version does not carry out."""

    def check(value: Any) -> str:
        if isinstance(value, str) and value in words:
            return value
        if isinstance(value, str) and not_built and value in not_built:
            raise ValueError(unavailable(value, not_built[value] or f"use {_either(words)}"))
        near = did_you_mean(value, words) if isinstance(value, str) else ""
        near = near if near.startswith("; did") else ""
        raise ValueError(f"{shown(value)} is none of {_either(words)}{near}")

    return Annotated[str, PlainValidator(check), WithJsonSchema({"type": "string", "enum": list(words)})]


class NoneIs:
    """An annotation: what the word `none` stands for."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            lambda value, inner: self._value if value == "none" else inner(value), handler(source)
        )

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"const": "none"}, handler(core)]}


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _text(pattern: str | None = None) -> dict[str, Any]:
    return {"type": "string", **({"pattern": pattern} if pattern else {})}


SLUG, METER_NAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", r"[a-z][a-z0-9_]{0,62}"
PLAN_NAME, CURRENCY, FEATURE_KEY = r"[a-z][a-z0-9_-]{0,62}", r"[a-z]{3}", r"[a-z][a-z0-9_]{0,62}"

_NUMBER_OR_TEXT = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}

AmountWord = Annotated[Amount, PlainValidator(amount), WithJsonSchema(_NUMBER_OR_TEXT)]
SecondsWord = Annotated[float | None, PlainValidator(seconds), WithJsonSchema(_NUMBER_OR_TEXT)]
SomeSecondsWord = Annotated[float, PlainValidator(some_seconds), WithJsonSchema(_NUMBER_OR_TEXT)]
SizeWord = Annotated[int | None, PlainValidator(size), WithJsonSchema(_NUMBER_OR_TEXT)]
SomeSizeWord = Annotated[int, PlainValidator(some_size), WithJsonSchema(_NUMBER_OR_TEXT)]
MoneyWord = Annotated[Decimal, PlainValidator(money), WithJsonSchema(_text(r"^\d{1,12}(\.\d{1,12})?$"))]
HeaderName = Annotated[str, PlainValidator(header_name), WithJsonSchema(_text())]
Slug = Annotated[str, PlainValidator(named(SLUG, "slug", "acme-corp")), WithJsonSchema(_text(f"^{SLUG}$"))]
MeterName = Annotated[str, PlainValidator(named(METER_NAME, "meter name", "api or gpu_seconds")), WithJsonSchema(_text(f"^{METER_NAME}$"))]
PlanName = Annotated[str, PlainValidator(named(PLAN_NAME, "plan name", "pro or pro-annual")), WithJsonSchema(_text(f"^{PLAN_NAME}$"))]
Currency = Annotated[str, PlainValidator(named(CURRENCY, "currency", "usd")), WithJsonSchema(_text(f"^{CURRENCY}$"))]
FeatureKey = Annotated[str, PlainValidator(named(FEATURE_KEY, "feature key", "custom_domains")), WithJsonSchema(_text(f"^{FEATURE_KEY}$"))]
