"""A plan as somebody asks for it in a few words, made into the plan that is sold.

Pure. What is not said stays as it is in the plan that is copied, or in the version before. config/plans.py does the same for plans.yaml,
whose words are more.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal

from billing.model.charges import title_of
from billing.model.cycle import LONGEST, said
from billing.model.money import minor_digits
from billing.model.plan import Feature, Interval, PerUnit, PlanSpec, Price, Rollout
from billing.model.pricing.per_unit import decimals
from metering.model.errors import BadInput
from metering.model.meter import Meter
from metering.model.quota import Mode, Per, Quota, Window, replace_quotas

_NAME, _CURRENCY, _KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z]{3}"), re.compile(r"[a-z][a-z0-9_]{0,62}")
_MOST_TRIAL_DAYS, _LONGEST_TITLE, _LONGEST_LABEL = 730, 60, 120
_MOST_UNITS = 2**63 - 1
_MOST_MONEY, _MOST_SHARE_DECIMALS = Decimal(10) ** 12, 4
_MONTHS = {Interval.MONTH: 1, Interval.YEAR: 12}
_MODES = {"hard": Mode.HARD, "soft": Mode.SOFT, "overage": Mode.OVERAGE}
METERED = "metered"


class PlanFaulty(BadInput):
    """A plan has a price, and limits and prices that agree with each other."""

    code = "plan_faulty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """`quotas` (None: unlimited) and `overage` are by meter, in the unit that people see: 50 is 50 GB. `mode` is that of the quotas that
    are said: hard, soft, overage, or metered, where every unit is charged and none is included. `discount` is in percent of what the
    monthly plan costs in the same time. `features` replace those that stood."""

    name: str
    title: str | None = None
    price: Mapping[str, Decimal] = field(default_factory=dict)
    on_request: bool = False
    interval: Interval | None = None
    interval_count: int | None = None
    trial_days: int | None = None
    quotas: Mapping[str, Decimal | None] = field(default_factory=dict)
    overage: Mapping[str, Decimal] = field(default_factory=dict)
    mode: str | None = None
    features: tuple[Feature, ...] | None = None
    copy_from: str | None = None
    discount: Decimal | None = None
    rollout: Rollout | None = None

    def checked(self) -> "Offer":
        """Itself. Raises PlanFaulty for words that no plan can have."""
        if not _NAME.fullmatch(self.name):
            raise PlanFaulty(f"{self.name!r} is no plan name; write small letters, digits, dashes: pro-annual")
        for currency, amount in self.price.items():
            if not _CURRENCY.fullmatch(currency):
                raise PlanFaulty(f"{currency!r} is no currency; write usd")
            if not 0 <= amount < _MOST_MONEY or decimals(amount) > minor_digits(currency):
                raise PlanFaulty(f"{amount} {currency.upper()} is no price: zero or more, with at most {minor_digits(currency)} decimals")
        if self.on_request and self.price:
            raise PlanFaulty("a plan that is sold by agreement has no price of its own; say one of the two")
        if self.discount is not None and (not 0 < self.discount < 100 or decimals(self.discount) > _MOST_SHARE_DECIMALS):
            raise PlanFaulty(f"{self.discount} % is no discount: above 0 and below 100, with at most {_MOST_SHARE_DECIMALS} decimals")
        if self.title is not None and not 0 < len(self.title) <= _LONGEST_TITLE:
            raise PlanFaulty(f"a title has 1 to {_LONGEST_TITLE} characters")
        if self.trial_days is not None and not 0 <= self.trial_days <= _MOST_TRIAL_DAYS:
            raise PlanFaulty(f"a trial has at most {_MOST_TRIAL_DAYS} days")
        if self.mode is not None and self.mode not in (*_MODES, METERED):
            raise PlanFaulty(f"{self.mode!r} is no mode of a plan; write metered, or hard, soft, overage for the quotas that you say")
        _check_features(self.features or ())
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What the price is below that of the monthly plan `title` for the same time, which is `instead`."""

    title: str
    instead: Decimal
    saved: Decimal
    percent: Decimal


def feature_of(text: str) -> Feature:
    """From what people read: "Priority Support" is priority_support, "organizations=10" says how many. Raises PlanFaulty."""
    label, equals, number = (part.strip() for part in text.partition("="))
    key = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
    if not _KEY.fullmatch(key) or (equals and not (number.isascii() and number.isdigit()) and number != "unlimited"):
        raise PlanFaulty(f"{text!r} is no feature; write Priority Support, or organizations=10")
    if not equals:
        return Feature(key=key, label=label)
    count = None if number == "unlimited" else int(number)
    return Feature(key=key, label=f"{'Unlimited' if count is None else f'{count:,}'} {label}", number=count)


def planned(offer: Offer, base: PlanSpec | None, meters: Mapping[str, Meter]) -> PlanSpec:
    """The plan. `base` is the plan that is copied, or else this plan as it was. Raises PlanFaulty."""
    offer.checked()
    own = base is not None and base.name == offer.name
    before = base or PlanSpec(name=offer.name)
    interval = offer.interval or before.interval
    prices = {**before.prices, **_prices(offer, meters)}
    price = _price(offer, base, interval, own=own)
    spec = PlanSpec(
        name=offer.name,
        title=offer.title or (before.title if own else "") or offer.name.replace("_", " ").replace("-", " ").capitalize(),
        price=price,
        interval=interval,
        interval_count=_count(offer, before, interval),
        trial_days=before.trial_days if offer.trial_days is None else offer.trial_days,
        quotas=_quotas(offer, before, prices, meters, paid=any(price.values())),
        rates=before.rates,
        concurrency=before.concurrency,
        prices=prices,
        features=before.features if offer.features is None else offer.features,
        copy_from=offer.copy_from or (before.copy_from if own else None),
        rollout=offer.rollout or before.rollout,
        discount_label=f"{offer.discount.normalize():f}% off" if offer.discount is not None else before.discount_label if own else None,
        spend_cap=before.spend_cap,
        rollover={meter: units for meter, units in before.rollover.items() if offer.mode != METERED or meter not in prices},
    )
    return spec


def saving(spec: PlanSpec, monthly: PlanSpec, currency: str) -> Saving | None:
    """Against the monthly plan; None where the two cannot be compared, or nothing is saved."""
    months, price, each = _MONTHS.get(spec.interval, 0) * spec.interval_count, spec.price.get(currency), monthly.price.get(currency)
    if months < 2 or price is None or not each or (monthly.interval, monthly.interval_count) != (Interval.MONTH, 1):
        return None
    instead = each * months
    if price >= instead:
        return None
    return Saving(title=title_of(monthly), instead=instead, saved=instead - price, percent=(instead - price) * 100 / instead)


def check_discount(offer: Offer, spec: PlanSpec, monthly: PlanSpec | None, currency: str) -> Saving | None:
    """The discount that is said is the one that the price has, to the digits that are said. Raises PlanFaulty."""
    found = saving(spec, monthly, currency) if monthly is not None else None
    if offer.discount is None:
        return found
    if found is None:
        against = f"plan {monthly.name}" if monthly is not None else "a monthly plan: say which with copy_from"
        raise PlanFaulty(f"a discount of {offer.discount} % is measured against {against}, and nothing is saved", plan=spec.name)
    if found.percent.quantize(offer.discount, rounding=ROUND_HALF_UP) != offer.discount:
        exact = found.percent.quantize(Decimal("0.1"), rounding=ROUND_HALF_UP)
        raise PlanFaulty(
            f"{spec.price[currency]} is {exact} % below {found.instead}, which {found.title} costs in the same time, "
            f"not {offer.discount} %; say another price, or that discount",
            plan=spec.name,
        )
    return found


# --- parts ----------------------------------------------------------------------------------------------------------------


def _price(offer: Offer, base: PlanSpec | None, interval: Interval, *, own: bool) -> Mapping[str, Decimal]:
    """Of the version before, the currencies that are not said stay, unless the price is now for another time."""
    if offer.on_request:
        return {}
    if not offer.price:
        if base is None:
            raise PlanFaulty(f"say what {offer.name} costs: a price, 0 for nothing, or that it is sold by agreement")
        if interval is not base.interval:
            raise PlanFaulty(
                f"say what {offer.name} costs a {interval}: {base.name} has a price a {said(base.interval, base.interval_count)}"
            )
        return base.price
    stays = base.price if own and base is not None and interval is base.interval else {}
    return {**stays, **offer.price}


def _count(offer: Offer, before: PlanSpec, interval: Interval) -> int:
    if offer.interval_count is None:
        return before.interval_count if interval is before.interval else 1
    if not 1 <= offer.interval_count <= LONGEST[interval]:
        raise PlanFaulty(f"a price is due within three years: every 1 to {LONGEST[interval]} {interval}s")
    return offer.interval_count


def _prices(offer: Offer, meters: Mapping[str, Meter]) -> dict[str, Price]:
    for name, each in offer.overage.items():
        if not 0 <= each < _MOST_MONEY:
            raise PlanFaulty(f"{each} is no price of a unit of {name}: zero or more")
    return {name: PerUnit(each=each, per_unit_size=_meter(name, meters).show_size) for name, each in offer.overage.items()}


def _quotas(
    offer: Offer, before: PlanSpec, prices: Mapping[str, Price], meters: Mapping[str, Meter], *, paid: bool
) -> tuple[Quota, ...]:  # fmt: skip
    standing = {quota.meter: quota for quota in before.quotas if _main(quota)}
    if offer.mode == METERED:
        return _metered(offer, before, prices, meters)
    wanted = {name: _units(limit, _meter(name, meters)) for name, limit in offer.quotas.items()}
    wanted.update({name: standing[name].limit for name in offer.overage if name in standing and name not in wanted})
    made = [_quota(name, limit, _mode(offer, name, limit, prices, paid=paid), standing.get(name)) for name, limit in wanted.items()]
    return replace_quotas(before.quotas, tuple(made))


def _metered(offer: Offer, before: PlanSpec, prices: Mapping[str, Price], meters: Mapping[str, Meter]) -> tuple[Quota, ...]:
    """Nothing is included: what has a price is charged from its first unit."""
    for name, limit in offer.quotas.items():
        _meter(name, meters)
        if limit != 0:
            raise PlanFaulty(f"a metered plan includes nothing: leave out the quota on {name}, or leave out metered")
        if name not in prices:
            raise PlanFaulty(f"a metered plan charges every unit: say what one of {name} costs", service=name)
    if not prices:
        raise PlanFaulty("a metered plan charges every unit: say what one costs, as --overage-api 0.001")
    return tuple(quota for quota in before.quotas if not (_main(quota) and quota.meter in prices))


def _mode(offer: Offer, name: str, limit: int | None, prices: Mapping[str, Price], *, paid: bool) -> Mode:
    """What has a price goes on and is charged; what has none only warns on a paid plan, and ends on a free one."""
    if offer.mode is not None:
        if offer.mode == "overage" and name not in prices:
            raise PlanFaulty(f"beyond its quota {name} is charged, so say what a unit costs", service=name)
        if offer.mode != "overage" and name in offer.overage:
            raise PlanFaulty(f"a {offer.mode} quota charges nothing beyond it: leave out the overage price of {name}", service=name)
        return _MODES[offer.mode]
    if limit is None:
        if name in offer.overage:
            raise PlanFaulty(f"nothing is ever over an unlimited quota: leave out the overage price of {name}", service=name)
        return Mode.HARD
    return Mode.OVERAGE if name in prices else Mode.SOFT if paid else Mode.HARD


def _quota(name: str, limit: int | None, mode: Mode, standing: Quota | None) -> Quota:
    stop_at = standing.stop_at if standing is not None and mode is Mode.OVERAGE else None
    if stop_at is not None and limit is not None and stop_at <= limit:
        raise PlanFaulty(f"the plan ends {name} at {stop_at:,}, which is not beyond {limit:,}; change it in plans.yaml", service=name)
    if standing is None:
        return Quota(meter=name, limit=limit, mode=mode)
    return replace(standing, limit=limit, mode=mode, stop_at=stop_at, then=None, shadow=standing.shadow and mode is Mode.HARD)


def _main(quota: Quota) -> bool:
    return quota.window is Window.PERIOD and quota.per is Per.ORG and not quota.routed


def _units(limit: Decimal | None, meter: Meter) -> int | None:
    if limit is None:
        return None
    units = limit * meter.show_size if 0 <= limit <= _MOST_UNITS else Decimal(-1)
    if units < 0 or units != units.to_integral_value() or units > _MOST_UNITS:
        raise PlanFaulty(f"{limit} {meter.show or meter.unit} is no quota on {meter.name}: zero or more, in whole {meter.unit}s")
    return int(units)


def _meter(name: str, meters: Mapping[str, Meter]) -> Meter:
    if name not in meters:
        raise PlanFaulty(f"there is no service {name!r}; there are: {', '.join(meters)}", service=name)
    return meters[name]


def _check_features(features: tuple[Feature, ...]) -> None:
    keys = [feature.key for feature in features]
    for feature in features:
        if not _KEY.fullmatch(feature.key) or not 0 < len(feature.label) <= _LONGEST_LABEL:
            raise PlanFaulty(
                f"{feature.key!r} is no key of a feature; write custom_domains, and a label of at most {_LONGEST_LABEL} characters"
            )
        if keys.count(feature.key) > 1:
            raise PlanFaulty(f"the feature {feature.key} stands there twice; keep one")
