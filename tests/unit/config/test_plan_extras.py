"""Caps on spending and units carried over, as plans.yaml says them."""

from decimal import Decimal

import pytest

from billing.model.plan import PlanSpec, from_json, same_terms, to_json
from config.load import load_good

from .samples import faults, files, plan_with

OVERAGE = "quotas: [{meter: api, limit: 100, mode: overage}], prices: {api: {each: '0.01'}}"


def plan_of(words: str, name: str = "pro", more: str = "") -> PlanSpec:
    return load_good(files(plans=plan_with(words) + more)).plans.plans[name]


def test_a_cap_and_what_is_carried_over_are_read_and_stored() -> None:
    plan = plan_of(OVERAGE + ", spend_cap: {usd: '500.00'}, rollover: {api: 50_000}")
    assert (plan.spend_cap, plan.rollover) == ({"usd": Decimal("500.00")}, {"api": 50_000})
    assert from_json(to_json(plan)) == plan
    assert not same_terms(plan, plan_of(OVERAGE))


def test_a_plan_without_them_is_stored_as_before() -> None:
    assert not {"spend_cap", "rollover"} & set(to_json(plan_of(OVERAGE)))


COPIES = [
    ("", {"usd": Decimal(500)}, {"api": 50}),
    (", spend_cap: none, rollover: none", {}, {}),
    (", spend_cap: {usd: '9.50'}, rollover: {api: 7}", {"usd": Decimal("9.50")}, {"api": 7}),
]


@pytest.mark.parametrize(("words", "cap", "rollover"), COPIES)
def test_a_copy_has_them_unless_it_says_otherwise(words: str, cap: dict[str, Decimal], rollover: dict[str, int]) -> None:
    more = "  copy: {copy_from: pro" + words + "}\n"
    plan = plan_of(OVERAGE + ", spend_cap: {usd: '500'}, rollover: {api: 50}", "copy", more)
    assert (plan.spend_cap, plan.rollover) == (cap, rollover)


FAULTY = [
    ("spend_cap: {usd: 500}", "in quotes"),
    ("spend_cap: {usd: '5.005'}", "more than the 2 decimals"),
    ("spend_cap: {eur: '5'}", "the plan is sold in usd too"),
    ("rollover: {api: 5}", "no quota of a period"),
    ("quotas: [{meter: api, limit: 5, window: day}], rollover: {api: 5}", "no quota of a period"),
    ("quotas: [{meter: api, limit: unlimited}], rollover: {api: 5}", "no quota of a period"),
    ("quotas: [{meter: api, limit: 5}], rollover: {api: unlimited}", "how many units at most"),
    ("rollover: {appi: 5}", "appi"),
]


@pytest.mark.parametrize(("words", "said"), FAULTY)
def test_what_cannot_be_meant_is_said(words: str, said: str) -> None:
    assert said in "; ".join(fault.message for fault in faults(plans=plan_with(words)))
