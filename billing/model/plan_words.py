"""Plans in few words: short figures, what a plan offers in a line, and plans side by side. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from billing.model.charges import title_of
from billing.model.plan import Feature, Interval, PlanSpec
from billing.model.plan_offer import Saving, saving
from metering.model.meter import Kind, Meter
from metering.model.quota import Per, Quota, Window

V = TypeVar("V")

UNLIMITED = "Unlimited"
_FIRST = ("api", "storage", "bandwidth", "compute")  # services that a first look at plans shows
_FIRST_FEATURES = ("organizations", "team_members", "support", "sla", "sso", "custom_domains")
_ACRONYMS = frozenset(["api", "sla", "sso", "gpu", "cpu", "id", "ip", "llm"])
_SAID_TWICE = frozenset(["response", "uptime"])
_THOUSANDS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One property over all plans compared. `first`: a short comparison has it."""

    name: str
    cells: tuple[str, ...]
    first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Annual:
    """`title` is sold by the year too, as plan `plan`."""

    title: str
    plan: str
    saving: Saving


def main_quota(spec: PlanSpec, meter: str) -> Quota | None:
    """The quota of the organization as a whole, the widest window first."""
    order = [Window.PERIOD, Window.MONTH, Window.DAY, Window.HOUR]
    found = [quota for quota in spec.quotas if quota.meter == meter and quota.per is Per.ORG and not quota.routed]
    return min(found, key=lambda quota: order.index(quota.window), default=None)


def shown_figure(units: int, meter: Meter) -> Decimal:
    """In the unit that people see, with the digits that it has."""
    return Decimal(units) / meter.show_size


def short_number(number: Decimal) -> str:
    """10K, 1.2M; in full where that would round."""
    for size, letter in _THOUSANDS:
        part = number / size
        if part >= 1 and part == round(part, 1):
            return f"{_plain(part)}{letter}"
    return f"{Decimal(_plain(number)):,f}"


def short_unit(meter: Meter) -> str:
    """GB, hrs; nothing for what is counted one by one."""
    return "hrs" if meter.show.endswith("-hours") else meter.show


def short_name(service: str) -> str:
    """API, Storage, Function time."""
    return " ".join(word.upper() if word in _ACRONYMS else word if n else word.capitalize() for n, word in enumerate(service.split("_")))


def short_quota(spec: PlanSpec, meter: Meter) -> str:
    """50K, 10 GB, Unlimited; - where every unit is charged."""
    quota = main_quota(spec, meter.name)
    if quota is None and meter.name in spec.prices:
        return "-"
    if quota is None or quota.limit is None:
        return UNLIMITED
    unit = short_unit(meter)
    return f"{short_number(shown_figure(quota.limit, meter))}{f' {unit}' if unit else ''}"


def highlights(spec: PlanSpec, meters: Mapping[str, Meter]) -> tuple[str, ...]:
    """What a plan offers, in a few words: 50K API, 10GB storage, Email support."""
    found = []
    for meter in (meters[name] for name in ("api", "storage") if name in meters):
        quota = main_quota(spec, meter.name)
        if quota is not None and quota.limit is not None:
            word = short_name(meter.name) if meter.name in _ACRONYMS else meter.name
            found.append(f"{short_quota(spec, meter).replace(' ', '')} {word}")
    if not found and spec.quotas and all(quota.limit is None for quota in spec.quotas):
        found.append(UNLIMITED)
    features = {feature.key: feature for feature in spec.features}
    if not spec.price and "sla" in features:
        found.append(f"{_cell(features['sla'])} SLA")
    if "support" in features:
        found.append(re.sub(r"\s*\(.*\)", "", features["support"].label))
    return tuple(found) or tuple(feature.label for feature in spec.features[:3])


def cheapest_first(specs: Sequence[PlanSpec]) -> list[PlanSpec]:
    """Those by agreement last."""
    return sorted(specs, key=lambda spec: (not spec.price, min(spec.price.values(), default=Decimal(0)), spec.name))


def annual(specs: Sequence[PlanSpec], currency: str) -> tuple[Annual, ...]:
    """Plans that are sold by the year beside a monthly one of which they are copies, in the order of the monthly ones."""
    by_name = {spec.name: spec for spec in specs}
    found = []
    for yearly in specs:
        monthly = by_name.get(yearly.copy_from or "")
        if yearly.interval is Interval.YEAR and monthly is not None and (saves := saving(yearly, monthly, currency)) is not None:
            found.append(Annual(title=title_of(monthly), plan=yearly.name, saving=saves))
    titles = [title_of(spec) for spec in cheapest_first(specs)]
    return tuple(sorted(found, key=lambda each: titles.index(each.title)))


def side_by_side(specs: Sequence[PlanSpec], meters: Mapping[str, Meter]) -> tuple[Row, ...]:
    """Everything but the price. A property that no plan has is left out."""
    named = {quota.meter for spec in specs for quota in spec.quotas} | {meter for spec in specs for meter in spec.prices}
    found = [
        Row(name=meter.title or short_name(name), cells=tuple(short_quota(spec, meter) for spec in specs), first=name in _FIRST)
        for name, meter in in_order(meters).items()
        if name in named
    ]
    features = {feature.key: feature for spec in reversed(specs) for feature in reversed(spec.features)}
    for key in _ordered(features, _FIRST_FEATURES):
        own = [next((feature for feature in spec.features if feature.key == key), None) for spec in specs]
        cells = tuple("-" if feature is None else _cell(feature) for feature in own)
        found.append(Row(name=_row_name(key), cells=cells, first=key in _FIRST_FEATURES))
    charged = tuple("✓" if spec.prices else "-" if spec.price else "Negotiated" for spec in specs)
    return (*found, Row(name="Overage Billing", cells=charged, first=True))


def in_order(meters: Mapping[str, Meter]) -> dict[str, Meter]:
    """As people look at services: requests, storage, bandwidth, compute, and then as meters.yaml has them."""
    return _ordered(meters, _FIRST)


def per_word(meter: Meter) -> str:
    """What one unit of a price is: request, GB."""
    return meter.show or meter.unit


def window_word(quota: Quota, meter: Meter) -> str:
    """/month, /day; nothing for what is held. Usage periods are months."""
    if meter.kind is Kind.LEVEL:
        return ""
    return "/month" if quota.window is Window.PERIOD else f"/{quota.window}"


def _cell(feature: Feature) -> str:
    """The label without the words that the row's name says already: Email 24h, 99.9%, SAML + OIDC; ✓ where nothing is left."""
    if feature.number is not None:
        return f"{feature.number:,}"
    if feature.label.startswith(f"{UNLIMITED} "):
        return UNLIMITED
    own = {*feature.key.split("_"), *_SAID_TWICE}
    words = [word for word in re.sub(r"[():]", " ", feature.label).split() if word.lower().rstrip(",") not in own]
    text = re.sub(r",\s*", " + ", " ".join(words))
    return text if text and len(text) <= 30 else "✓"


def _row_name(key: str) -> str:
    return " ".join(word.upper() if word in _ACRONYMS else word.capitalize() for word in key.split("_"))


def _ordered(found: Mapping[str, V], first: Sequence[str]) -> dict[str, V]:
    return {**{key: found[key] for key in first if key in found}, **found}


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
