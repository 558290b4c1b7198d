"""`prices` of plans.yaml as they are written: one shape for every pricing model, and which words go with which model.

config/prices.py makes prices of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, PlainValidator, WithJsonSchema, WrapValidator

from billing.model.pricing.base import MOST_DECIMALS, decimals

from .document import PlainFloat, Table
from .faults import Report
from .shape import Lenient, Shape
from .words import CURRENCY, AmountWord, Currency, MoneyWord, money, one_of, shown

ANY = ""  # the key of an amount that was written without a currency: it is in the one that is billed


@dataclass(frozen=True, slots=True)
class ModelWords:
    """The words of one pricing model beside those that go with every one."""

    needs: tuple[str, ...]
    may: tuple[str, ...] = field(default=())


MODEL_WORDS: Mapping[str, ModelWords] = MappingProxyType(
    {
        "each": ModelWords(("each",)),
        "graduated": ModelWords(("tiers",)),
        "volume": ModelWords(("tiers",)),
        "package": ModelWords(("size", "each"), ("free",)),
        "percentage": ModelWords(("percentage",), ("fixed", "free_events", "free_amount", "event_minimum", "event_maximum")),
        "graduated_percentage": ModelWords(("tiers",)),
        "dynamic": ModelWords(("multiplier",)),
        "flat": ModelWords(("flat",)),
    }
)
SYNONYMS = MappingProxyType({"per_unit": "each"})
AROUND = ("model", "minimum", "maximum", "commitment", "per")  # go with every model

_LIKE = {
    "each": 'each: "0.0003"',
    "tiers": 'tiers: [{to: 1_000, each: "0.10"}, {each: "0.08"}]',
    "size": "size: 1_000",
    "percentage": 'percentage: "2.9"',
    "multiplier": 'multiplier: "1.2"',
    "flat": 'flat: "20.00"',
}


def _amounts(value: Any, handler: Callable[[Any], Any]) -> Any:
    """One amount, or one for each currency."""
    if isinstance(value, dict):
        if not value:
            raise ValueError('write one amount, or one for each currency: {usd: "0.10", eur: "0.09"}')
        return {currency: _fine(amount) for currency, amount in handler(value).items()}
    return {ANY: _fine(money(value))}


def _fine(amount: Decimal) -> Decimal:
    if decimals(amount) > MOST_DECIMALS:
        raise ValueError(f"a price has at most {MOST_DECIMALS} decimals; {amount} has {decimals(amount)}")
    return amount


def _number(value: Any) -> Decimal:
    """A factor: exact however it is written, as a number with a point keeps its text."""
    if isinstance(value, PlainFloat | str | int) and not isinstance(value, bool):
        try:
            return _fine(money(shown(value).removesuffix("%").rstrip()))
        except ValueError as error:
            raise ValueError(f"{shown(value)} is no number that will do; write digits and a point, at most 12 behind it") from error
    raise ValueError(f"{shown(value)} is no number; write it like 2.9")


_AMOUNTS_SCHEMA = {
    "anyOf": [{"type": "string"}, {"type": "object", "patternProperties": {f"^{CURRENCY}$": {"type": "string"}}, "minProperties": 1}]
}
AmountsWord = Annotated[dict[Currency, MoneyWord], WrapValidator(_amounts), WithJsonSchema(_AMOUNTS_SCHEMA)]
NumberWord = Annotated[Decimal, PlainValidator(_number), WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})]


class TierShape(Shape):
    """One tier. It begins where the one before ends."""

    misplaced: ClassVar[dict[str, str]] = dict.fromkeys(
        ("from", "first", "start"), "a tier begins where the one before ends; write only `to`"
    ) | dict.fromkeys(("up_to", "until", "last"), "where a tier ends is written to: 1_000; the last one has no end")

    to: AmountWord | None = Field(None, description="Its last unit: 100_000, 50 GB. The last tier has none.")
    each: AmountsWord | None = Field(None, description="The price of one unit, in the unit that the meter is shown in.")
    flat: AmountsWord | None = Field(None, description="Due once, when the tier is reached; the first tier's always.")
    percentage: NumberWord | None = Field(None, description="With model: graduated_percentage. 2.5 is 2.5 %.")


def _schema_of_models() -> dict[str, Any]:
    """What each model needs, for editors."""
    rules: list[dict[str, Any]] = [{"if": {"not": {"required": ["model"]}}, "then": {"required": ["each"]}}]
    for model, words in MODEL_WORDS.items():
        known = [model, *(synonym for synonym, meant in SYNONYMS.items() if meant == model)]
        rules.append({"if": {"properties": {"model": {"enum": known}}, "required": ["model"]}, "then": {"required": list(words.needs)}})
    return {"allOf": rules}


class PriceShape(Shape):
    """What units beyond the quota cost; from the first unit where there is no quota."""

    model_config = ConfigDict(json_schema_extra=_schema_of_models())

    misplaced: ClassVar[dict[str, str]] = {
        "price": "the price of one unit is written each",
        "rate": "a share is written percentage: 2.9",
        "unit_price": "the price of one unit is written each",
        "included": "units without charge are those of the quota: {meter: api, limit: 1_000, mode: overage}",
        "quota": "units without charge are those of the quota: {meter: api, limit: 1_000, mode: overage}",
    }

    model: one_of((*MODEL_WORDS, *SYNONYMS)) = Field("each", description="How a quantity becomes an amount. Default each.")  # type: ignore[valid-type]
    each: AmountsWord | None = Field(
        None,
        description='In quotes: "0.0003", or by currency: {usd: "0.0003", eur: "0.0003"}. The price of one unit, in the unit that the '
        "meter is shown in (GB for bandwidth); of a package with model: package.",
    )
    tiers: list[Lenient[TierShape]] | None = Field(None, description="With graduated, volume, graduated_percentage.")
    size: AmountWord | None = Field(None, description="With package: how many units it holds. A begun one is charged in full.")
    free: AmountWord | None = Field(None, description="With package: units before the first one.")
    percentage: NumberWord | None = Field(None, description="With percentage: 2.9 is 2.9 % of what the meter counts, which is money.")
    fixed: AmountsWord | None = Field(None, description="With percentage: a fee for each event.")
    free_events: Annotated[int, Field(ge=0)] | None = Field(None, description="With percentage: so many events are free.")
    free_amount: AmountsWord | None = Field(None, description="With percentage: events are free until they come to so much.")
    event_minimum: AmountsWord | None = Field(None, description="With percentage: what one event costs at least.")
    event_maximum: AmountsWord | None = Field(None, description="With percentage: what one event costs at most.")
    multiplier: NumberWord | None = Field(
        None, description="With dynamic: the meter counts what was spent, this many times of which is due."
    )
    flat: AmountsWord | None = Field(None, description="With flat: due each period, whatever was used.")
    minimum: AmountsWord | None = Field(None, description="What the line comes to at least, each period.")
    maximum: AmountsWord | None = Field(None, description="What the line comes to at most, each period.")
    commitment: AmountsWord | None = Field(None, description="What is lacking of it is due as a line of its own, each period.")
    per: one_of(("hour",)) | None = Field(None, description="hour: of a level, the price is for a unit held an hour (GB-hours).")  # type: ignore[valid-type]

    @property
    def chosen(self) -> str:
        """The model, by its own name."""
        return SYNONYMS.get(self.model, self.model)

    @classmethod
    def contradictions(cls, table: Table, report: Report) -> None:
        if "tiers" in table and "model" not in table:
            report.fault(
                table, "tiers",
                "say how tiers are charged: model: graduated (each unit at its own tier) or model: volume (all at the tier reached)",
            )  # fmt: skip
            return
        written = table.get("model", "each")
        model = SYNONYMS.get(written, written) if isinstance(written, str) else ""
        if model not in MODEL_WORDS:
            return
        words = MODEL_WORDS[model]
        for word in words.needs:
            if word not in table:
                report.fault(table, None, f"`{word}` is missing; write {_LIKE[word]}")
        for word in table:
            if word in cls.words() and word not in (*AROUND, *words.needs, *words.may):
                report.fault(table, word, f"`{word}` says nothing with model: {model}{_meant(word)}")
        if table.get("tiers") == []:
            report.fault(table, "tiers", f"there is no tier; write {_LIKE['tiers']}")


def _meant(word: str) -> str:
    models = [model for model, words in MODEL_WORDS.items() if word in (*words.needs, *words.may)]
    return f"; it goes with model: {' or '.join(models)}"
