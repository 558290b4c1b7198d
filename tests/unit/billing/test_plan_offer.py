"""A plan asked for in a few words: what is made of it, what stays, what contradicts itself."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from billing.model.plan import Feature, Interval, PerUnit, PlanSpec
from billing.model.plan_offer import Offer, PlanFaulty, check_discount, feature_of, planned
from metering.model.errors import BadInput
from metering.model.meter import Kind, Meter
from metering.model.quota import Mode, Per, Quota, Window

METERS = {
    "api": Meter(name="api", unit="request", title="API Requests"),
    "storage": Meter(name="storage", unit="byte", kind=Kind.LEVEL, title="Storage", show="GB", show_size=10**9),
}
USD = Decimal
PRO = PlanSpec(
    name="pro", title="Pro", price={"usd": Decimal(49)}, trial_days=14, prices={"api": PerUnit(each=Decimal("0.0003"))},
    quotas=(Quota(meter="api", limit=200_000, mode=Mode.OVERAGE), Quota(meter="api", limit=9, window=Window.DAY, per=Per.KEY)),
    features=(Feature(key="sso", label="SSO"),),
)  # fmt: skip


def offer(**words: Any) -> Offer:
    return Offer(**{"name": "pro", **words})


def dollars(amount: str) -> dict[str, Decimal]:
    return {"usd": Decimal(amount)}


def modes(spec: PlanSpec) -> dict[str, tuple[int | None, Mode]]:
    return {quota.meter: (quota.limit, quota.mode) for quota in spec.quotas if quota.window is Window.PERIOD}


MODES = [  # price, overage, mode said -> mode of the quota
    ("0", None, None, Mode.HARD),
    ("49", None, None, Mode.SOFT),
    ("49", "0.10", None, Mode.OVERAGE),
    ("0", "0.10", None, Mode.OVERAGE),
    ("49", None, "hard", Mode.HARD),
    ("0", None, "soft", Mode.SOFT),
]


@pytest.mark.parametrize(("price", "overage", "said", "mode"), MODES)
def test_the_mode_of_a_quota_follows_from_what_is_charged_beyond_it(price: str, overage: str | None, said: str | None, mode: Mode) -> None:
    beyond = {} if overage is None else {"storage": Decimal(overage)}
    spec = planned(offer(price=dollars(price), quotas={"storage": Decimal("2.5")}, overage=beyond, mode=said), None, METERS)
    assert modes(spec) == {"storage": (2_500_000_000, mode)}
    assert spec.prices == ({} if overage is None else {"storage": PerUnit(each=Decimal(overage), per_unit_size=10**9)})


def test_what_is_not_said_stays_as_it_was() -> None:
    spec = planned(offer(quotas={"api": Decimal(100_000)}), PRO, METERS)
    assert spec == replace(PRO, quotas=(PRO.quotas[1], replace(PRO.quotas[0], limit=100_000)))
    assert planned(offer(), PRO, METERS) == PRO


def test_an_overage_price_alone_goes_with_the_quota_that_stands() -> None:
    free = PlanSpec(name="free", price=dollars("0"), quotas=(Quota(meter="storage", limit=10**9),))
    assert modes(planned(offer(name="free", overage={"storage": Decimal("0.1")}), free, METERS)) == {"storage": (10**9, Mode.OVERAGE)}


def test_prices_in_several_currencies_join_those_that_stand_until_the_interval_is_another() -> None:
    both = planned(offer(price={"eur": Decimal(45)}), PRO, METERS)
    assert both.price == {"usd": Decimal(49), "eur": Decimal(45)}
    assert planned(offer(price=dollars("490"), interval=Interval.YEAR), both, METERS).price == dollars("490")
    with pytest.raises(PlanFaulty, match="say what pro costs a year"):
        planned(offer(interval=Interval.YEAR), both, METERS)


def test_a_copy_is_another_plan_with_the_same_terms() -> None:
    spec = planned(offer(name="pro-annual", price=dollars("490"), interval=Interval.YEAR, copy_from="pro"), PRO, METERS)
    assert (spec.title, spec.copy_from, spec.quotas, spec.features, spec.trial_days) == ("Pro annual", "pro", PRO.quotas, PRO.features, 14)


def test_a_metered_plan_includes_nothing_and_charges_everything() -> None:
    zero = {"api": Decimal(0), "storage": Decimal(0)}
    each = {"api": Decimal("0.001"), "storage": Decimal("0.15")}
    spec = planned(offer(price=dollars("0"), quotas=zero, overage=each, mode="metered"), None, METERS)
    assert (spec.quotas, sorted(spec.prices)) == ((), ["api", "storage"])
    assert planned(offer(price=dollars("0"), mode="metered"), PRO, METERS).quotas == PRO.quotas[1:]


DISCOUNTS = [
    ("490", "17", True),
    ("490", "16.7", True),
    ("490", "16", False),
    ("490", "20", False),
    ("600", "5", False),
]


@pytest.mark.parametrize(("price", "percent", "right"), DISCOUNTS)
def test_a_discount_is_that_of_the_price(price: str, percent: str, right: bool) -> None:
    asked = offer(name="pro-annual", price=dollars(price), interval=Interval.YEAR, discount=Decimal(percent))
    spec = planned(asked, None, METERS)
    if not right:
        with pytest.raises(PlanFaulty, match=r"discount|below"):
            check_discount(asked, spec, PRO, "usd")
        return
    found = check_discount(asked, spec, PRO, "usd")
    assert found is not None
    assert (found.instead, found.saved, spec.discount_label) == (Decimal(588), Decimal(98), f"{percent}% off")


def test_a_discount_off_nothing_is_refused() -> None:
    asked = offer(price=dollars("490"), interval=Interval.YEAR, discount=Decimal(17))
    with pytest.raises(PlanFaulty, match="copy_from"):
        check_discount(asked, planned(asked, None, METERS), None, "usd")


FAULTY: list[tuple[dict[str, Any], str]] = [
    ({"name": "Pro Plan", "price": dollars("1")}, "no plan name"),
    ({}, "say what pro costs"),
    ({"price": dollars("-1")}, "is no price"),
    ({"price": dollars("1.001")}, "is no price"),
    ({"price": {"dollar": Decimal(1)}}, "no currency"),
    ({"price": dollars("1E+999999")}, "is no price"),
    ({"price": dollars("1"), "overage": {"api": Decimal("1E+999999")}}, "is no price"),
    ({"price": dollars("1"), "overage": {"api": Decimal("1E-999999")}}, "decimals"),
    ({"price": dollars("1"), "quotas": {"storage": Decimal("1E+999999")}}, "is no quota"),
    ({"price": dollars("1"), "quotas": {"storage": Decimal("1E-999999")}}, "is no quota"),
    ({"price": dollars("1"), "discount": Decimal("1E-999")}, "no discount"),
    ({"price": dollars("1"), "discount": Decimal("100")}, "no discount"),
    ({"price": dollars("1"), "on_request": True}, "by agreement"),
    ({"price": dollars("1"), "quotas": {"apis": Decimal(1)}}, "no service 'apis'"),
    ({"price": dollars("1"), "quotas": {"api": Decimal("1.5")}}, "is no quota"),
    ({"price": dollars("1"), "quotas": {"api": Decimal(10) ** 30}}, "is no quota"),
    ({"price": dollars("1"), "quotas": {"api": None}, "overage": {"api": Decimal(1)}}, "ever over an unlimited"),
    ({"price": dollars("1"), "overage": {"api": Decimal(-1)}}, "zero or more"),
    ({"price": dollars("1"), "quotas": {"api": Decimal(1)}, "mode": "overage"}, "say what a unit costs"),
    ({"price": dollars("1"), "quotas": {"api": Decimal(1)}, "overage": {"api": Decimal(1)}, "mode": "hard"}, "leave out the overage price"),
    ({"price": dollars("1"), "mode": "metered"}, "say what one costs"),
    ({"price": dollars("1"), "quotas": {"api": Decimal(5)}, "overage": {"api": Decimal(1)}, "mode": "metered"}, "includes nothing"),
    ({"price": dollars("1"), "quotas": {"api": Decimal(0)}, "mode": "metered"}, "charges every unit"),
    ({"price": dollars("1"), "interval_count": 99}, "three years"),
    ({"price": dollars("1"), "features": (feature_of("SSO"), feature_of("sso"))}, "stands there twice"),
]


@pytest.mark.parametrize(("words", "why"), FAULTY)
def test_what_no_plan_can_be_is_said_in_a_sentence(words: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        planned(offer(**words), None, METERS)


FEATURES = [
    ("Priority Support", Feature(key="priority_support", label="Priority Support")),
    ("SSO", Feature(key="sso", label="SSO")),
    ("organizations=10", Feature(key="organizations", label="10 organizations", number=10)),
    ("seats = unlimited", Feature(key="seats", label="Unlimited seats")),
]


@pytest.mark.parametrize(("text", "feature"), FEATURES)
def test_a_feature_is_read_from_what_people_read(text: str, feature: Feature) -> None:
    assert feature_of(text) == feature


@pytest.mark.parametrize("text", ["", "4 eyes", "seats=many", "=3"])
def test_what_is_no_feature_is_refused(text: str) -> None:
    with pytest.raises(PlanFaulty):
        feature_of(text)
