"""plans.yaml as it is written: the model of the file. config/plans.py resolves it."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainValidator, WithJsonSchema, WrapValidator

from metering.model.clock import to_ms

from .document import Items, Table
from .faults import Report
from .limits import ConcurrencyWord, RatesWord
from .prices_file import PriceShape
from .quotas import QuotaShape
from .shape import Lenient, Shape
from .words import CURRENCY, FEATURE_KEY, AmountWord, Currency, FeatureKey, MoneyWord, NoneIs, PlanName, Slug, one_of, shown

FILE = "plans.yaml"
CONTACT_SALES = "contact sales"

_PRICE_PER_ORG = "leave it out"


def instant_ms(value: Any) -> int:
    """2027-01-01T00:00:00Z, with a time zone."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError(f"{shown(value)} is no instant; write date, time and zone: 2027-01-01T00:00:00Z")
    return to_ms(found)


InstantWord = Annotated[int, PlainValidator(instant_ms), WithJsonSchema({"type": "string", "format": "date-time"})]


def _base_price(value: Any, handler: Callable[[Any], Any]) -> Any:
    if value == CONTACT_SALES:
        return {}
    if isinstance(value, dict):
        return handler(value)
    raise ValueError(f'write the price by currency: {{usd: "49.00"}}, or {CONTACT_SALES}; not {shown(value)}')


def _number(value: Any) -> int | None:
    if value == "unlimited":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(f"{shown(value)} is no number of a feature; write a whole number, or unlimited")


def _discount(value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > 60:
        raise ValueError("this is a short text for people: 17% off")
    return value


_PRICE_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"const": CONTACT_SALES},
            {"type": "object", "patternProperties": {f"^{CURRENCY}$": {"type": "string"}}, "minProperties": 1},
        ]
    }
)


class FeatureShape(Shape):
    """A thing a plan offers beside quotas."""

    key: FeatureKey = Field(description="What a program checks: sso, custom_domains.")
    label: str | None = Field(None, min_length=1, max_length=120, description="What people read.")
    number: Annotated[
        int | None, PlainValidator(_number), WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"const": "unlimited"}]})
    ] = Field(None, description="How many, where the feature is an amount.")


def _feature(value: Any, handler: Callable[[Any], Any]) -> Any:
    if isinstance(value, str):
        if not re.fullmatch(FEATURE_KEY, value):
            raise ValueError(f'{value} is no feature key; write custom_domains, or {{key: custom_domains, label: "Custom domains"}}')
        return FeatureShape(key=value)
    return handler(value)


FeatureWord = Annotated[
    FeatureShape,
    WrapValidator(_feature),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"key": {"type": "string"}, "label": {"type": "string"}, "number": {}},
                    "required": ["key"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class PlanShape(Shape):
    """One plan."""

    not_built: ClassVar[dict[str, str]] = {
        "setup_fee": "leave it out",
    }
    misplaced: ClassVar[dict[str, str]] = {
        "overage": "write the overage prices under `prices`, and mode: overage on the quota",
        "charge": "what a call weighs stands in gateway.yaml",
        "rate": "write a list: rates: [{meter: api, limit: 5, per: second}]",
        "minimum": 'a minimum stands on a price: prices: {api: {each: "0.0003", minimum: "10.00"}}',
        "maximum": 'a maximum stands on a price: prices: {api: {each: "0.0003", maximum: "500.00"}}',
        "commitment": 'a commitment stands on a price: prices: {api: {each: "0.0003", commitment: "100.00"}}',
        "discount": "write discount_label, a text for people; the price itself says what is due",
    }

    title: str | None = Field(None, min_length=1, max_length=60, description="What people read. Default: the name, capitalized.")
    copy_from: str | None = Field(None, description="Another plan; what this one says replaces what that one says.")
    price: Annotated[dict[Currency, MoneyWord], WrapValidator(_base_price), _PRICE_SCHEMA] | None = Field(
        None, description=f'{{usd: "49.00"}}, due every interval; or {CONTACT_SALES}.'
    )
    interval: one_of(("day", "week", "month", "year")) | None = Field(None, description="How often the price is due. Default month.")  # type: ignore[valid-type]
    interval_count: Annotated[int, Field(ge=1, le=1095)] | None = Field(
        None, description="Every so many of them: 3 beside month is a quarter. Three years at most. Default 1."
    )
    trial_days: Annotated[int, Field(ge=0, le=730)] | None = Field(None, description="Default 0.")
    quotas: list[Lenient[QuotaShape]] = Field(default_factory=list, description="One for each meter and window.")
    rates: Annotated[RatesWord, NoneIs([])] | None = Field(
        None, description="How fast: [{meter: api, limit: 5, per: second, burst: 10}]. none: not even those of copy_from."
    )
    concurrency: Annotated[ConcurrencyWord, NoneIs([])] | None = Field(
        None, description="Calls in flight: 2, {limit: 2, by: key}, or a list. none: not even those of copy_from."
    )
    prices: dict[str, Lenient[PriceShape]] = Field(default_factory=dict, description='Meter: {each: "0.0003"}, or another model.')
    features: list[FeatureWord] | None = Field(None, description="Replaces those of copy_from as a whole.")
    rollout: one_of(("new", "renewal", "now")) | None = Field(  # type: ignore[valid-type]
        None, description="Who gets an edit: new subscriptions, all at their renewal (default), or all now."
    )
    spend_cap: Annotated[dict[Currency, MoneyWord] | None, NoneIs({})] = Field(
        None,
        description='{usd: "500.00"}: once a period costs so much beyond the price, its overage ends. Checked each flush; `stop_at` is '
        "exact. none: not even that of copy_from.",
    )
    rollover: Annotated[dict[str, AmountWord] | None, NoneIs({})] = Field(
        None,
        description="{api: 50_000}: the most units of a period quota that go on into the next period when they are not used. none: not "
        "even those of copy_from.",
    )
    discount_label: Annotated[str, PlainValidator(_discount), WithJsonSchema({"type": "string"})] | None = None

    @classmethod
    def contradictions(cls, table: Table, report: Report) -> None:
        prices = table.get("prices")
        if isinstance(prices, Table):
            for meter in prices:
                if unknown := report.unknown_meter(meter):
                    report.fault(prices, meter, unknown)
        if table.get("price") == {}:
            report.fault(table, "price", f'write the price by currency: {{usd: "49.00"}}, or {CONTACT_SALES}')
        rollover = table.get("rollover")
        if isinstance(rollover, Table):
            for meter in rollover:
                if unknown := report.unknown_meter(meter):
                    report.fault(rollover, meter, unknown)
        features = table.get("features")
        if isinstance(features, Items):
            keys = [each.get("key") if isinstance(each, Table) else each for each in features]
            for index, key in enumerate(keys):
                if key in keys[:index]:
                    report.fault(features, index, f"the feature `{key}` stands here twice; keep one")


class OverrideShape(Shape):
    """One organization over its plan, for a reason and until an instant."""

    not_built: ClassVar[dict[str, str]] = dict.fromkeys(("price", "prices", "features", "plan"), _PRICE_PER_ORG)

    reason: str = Field(min_length=1, max_length=200, description="Why; it shows wherever the override does.")
    until: InstantWord = Field(description="2027-01-01T00:00:00Z")
    quotas: list[Lenient[QuotaShape]] = Field(default_factory=list)
    rates: RatesWord = Field(default_factory=list)
    concurrency: ConcurrencyWord = Field(default_factory=list)

    @classmethod
    def contradictions(cls, table: Table, report: Report) -> None:
        if not any(table.get(word) for word in ("quotas", "rates", "concurrency")):
            report.fault(table, None, "it overrides nothing; write quotas, rates or concurrency")


class PlansFile(Shape):
    """plans.yaml: what an organization may do, and what it costs."""

    misplaced: ClassVar[dict[str, str]] = {
        "routes": "routes stand in gateway.yaml",
        "meters": "meters stand in meters.yaml",
        "orgs": "organizations stand in orgs.yaml, or in the database",
    }

    issuer: one_of(("stripe", "weighbridge")) = Field(  # type: ignore[valid-type]
        "stripe",
        description="Who writes the invoices. weighbridge: Stripe at most takes the payment.",
    )
    plans: dict[PlanName, Lenient[PlanShape]]
    overrides: dict[Slug, Lenient[OverrideShape]] = Field(default_factory=dict, description="By the organization's slug.")
