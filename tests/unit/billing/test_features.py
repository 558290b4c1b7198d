"""Which plan has which feature."""

from dataclasses import replace
from decimal import Decimal

import pytest

from billing.model.features import FeatureCheck, check, words
from billing.model.plan import Feature, Interval, PlanSpec

SSO, DOMAINS = Feature(key="sso", label="SSO (SAML)"), Feature(key="custom_domains", label="Custom domains")


def members(number: int | None) -> Feature:
    return Feature(key="members", label="Team members", number=number)


def plan(name: str, price: str | None, *features: Feature, interval: Interval = Interval.MONTH) -> PlanSpec:
    return PlanSpec(name=name, price={"usd": Decimal(price)} if price else {}, features=features, interval=interval)


ON_SALE = {
    p.name: p
    for p in (
        plan("free", "0", members(5)),
        plan("starter", "19", members(15), DOMAINS),
        plan("pro", "49", members(50), DOMAINS, SSO),
        plan("pro-annual", "490", members(50), DOMAINS, SSO, interval=Interval.YEAR),
        plan("enterprise", None, members(None), DOMAINS, SSO, Feature(key="on_premise", label="On-premise")),
    )
}


def of(name: str, key: str) -> FeatureCheck:
    return check(key, ON_SALE[name].features, ON_SALE, "usd")


CASES = [
    ("free", "sso", False, "pro-annual"),  # 490 a year is less a month than 49
    ("free", "custom_domains", False, "starter"),
    ("starter", "custom_domains", True, "starter"),
    ("pro", "on_premise", False, "enterprise"),
    ("enterprise", "on_premise", True, "enterprise"),
    ("enterprise", "teleport", False, None),
]


@pytest.mark.parametrize(("name", "key", "allowed", "required"), CASES)
def test_a_check_says_whether_and_which_plan_is_needed(name: str, key: str, allowed: bool, required: str | None) -> None:
    found = of(name, key)
    assert (found.allowed, found.required_plan) == (allowed, required)


@pytest.mark.parametrize(("name", "number"), [("free", 5), ("pro", 50), ("enterprise", None)])
def test_a_check_says_how_many(name: str, number: int | None) -> None:
    assert of(name, "members").number == number


def test_a_feature_of_none_is_not_allowed_and_not_told() -> None:
    held = (members(0), SSO)
    assert not check("members", held, {}, "usd").allowed
    assert words(held) == ("sso",)


def test_services_are_told_the_number_unless_there_is_no_end_to_it() -> None:
    assert words((SSO, members(10), replace(members(None), key="orgs"))) == ("sso", "members=10", "orgs")
