"""The words for prices in plans.yaml, and what is made of them."""

from decimal import Decimal as D

import pytest

from billing.model.pricing import (
    ByCurrency,
    Commitment,
    Dynamic,
    Flat,
    Graduated,
    GraduatedPercentage,
    Package,
    Percentage,
    PerHour,
    PerUnit,
    Price,
    Spend,
    Tier,
    Volume,
)
from config.load import contradictions, load_good

from .samples import METERS, files, plan_with

GB = 10**9
MORE_METERS = METERS + "  compute: {unit: cpu_ms, show: CPU-hours}\n  payments: {unit: cent, show: dollars}\n"


def price_of(meter: str, words: str) -> Price:
    return load_good(files(plans=plan_with(f"prices: {{{meter}: {{{words}}}}}"), meters=MORE_METERS)).plans.plans["pro"].prices[meter]


@pytest.mark.parametrize(
    ("meter", "words", "price"),
    [
        ("api", "each: '0.0003'", PerUnit(each=D("0.0003"))),
        ("api", "model: per_unit, each: '0.0003'", PerUnit(each=D("0.0003"))),
        ("compute", "each: '0.05'", PerUnit(each=D("0.05"), per_unit_size=3_600_000)),
        ("api", "model: graduated, tiers: [{to: 100_000, each: '0.001'}, {each: '0.0005'}]",
         Graduated(tiers=(Tier(to=100_000, each=D("0.001")), Tier(each=D("0.0005"))))),
        ("bandwidth", "model: graduated, tiers: [{to: 50 GB, each: '0.10', flat: '5.00'}, {flat: '1'}]",
         Graduated(tiers=(Tier(to=50 * GB, each=D("0.10"), flat=D(5)), Tier(flat=D(1))), per_unit_size=GB)),
        ("pages", "model: volume, tiers: [{to: 5, each: '7.00'}, {to: 10, each: '6.50'}, {each: '6.00'}]",
         Volume(tiers=(Tier(to=5, each=D(7)), Tier(to=10, each=D("6.5")), Tier(each=D(6))))),
        ("pages", "model: package, size: 1_000_000, each: '5.00', free: 1_000_000", Package(size=10**6, each=D(5), free=10**6)),
        ("bandwidth", "model: package, size: 10 GB, each: '1'", Package(size=10 * GB, each=D(1), per_unit_size=GB)),
        ("payments", "model: percentage, percentage: 2.9, fixed: '0.30'",
         Percentage(percentage=D("2.9"), fixed=D("0.30"), per_unit_size=100)),
        ("payments", "model: percentage, percentage: 1.2%, free_events: 3, free_amount: '500', event_minimum: '1', event_maximum: '9'",
         Percentage(percentage=D("1.2"), free_events=3, free_amount=50_000, event_minimum=D(1), event_maximum=D(9), per_unit_size=100)),
        ("payments", "model: graduated_percentage, tiers: [{to: 1000 dollars, percentage: 2.5}, {percentage: '1'}]",
         GraduatedPercentage(tiers=(Tier(to=100_000, each=D("0.025")), Tier(each=D("0.01"))), per_unit_size=100)),
        ("payments", "model: dynamic, multiplier: 1.33333", Dynamic(multiplier=D("1.33333"), per_unit_size=100)),
        ("api", "model: flat, flat: '20.00'", Flat(flat=D(20))),
        ("api", "each: '1', minimum: '5', maximum: '50'", Spend(price=PerUnit(each=D(1)), minimum=D(5), maximum=D(50))),
        ("api", "each: '1', commitment: '100'", Commitment(price=PerUnit(each=D(1)), commitment=D(100))),
        ("storage", "each: '0.0001', per: hour", PerHour(price=PerUnit(each=D("0.0001"), per_unit_size=GB))),
        ("api", "each: {usd: '1', eur: '2'}", ByCurrency(prices={"usd": PerUnit(each=D(1)), "eur": PerUnit(each=D(2))})),
        ("api", "model: volume, tiers: [{flat: {usd: '1', jpy: '150'}}], minimum: {usd: '2', jpy: '300'}",
         ByCurrency(prices={"usd": Spend(price=Volume(tiers=(Tier(flat=D(1)),)), minimum=D(2)),
                            "jpy": Spend(price=Volume(tiers=(Tier(flat=D(150)),)), minimum=D(300))})),
    ],
)  # fmt: skip
def test_a_price_is_what_its_words_say(meter: str, words: str, price: Price) -> None:
    assert price_of(meter, words) == price


@pytest.mark.parametrize(
    ("more", "faults"), [("fixed: '0.30'", 1), ("free_events: 3", 1), ("event_maximum: '3'", 1), ("free_amount: '9'", 0)]
)
def test_a_price_by_the_event_is_for_estimates(more: str, faults: int) -> None:
    words = f"prices: {{payments: {{model: percentage, percentage: 1, {more}}}}}"
    config = load_good(files(plans=plan_with(words), meters=MORE_METERS))
    found = contradictions(config, default_plan="pro", currency="usd")
    assert ["for estimates" in fault.message for fault in found] == [True] * faults


def test_a_price_without_the_billing_currency_is_told() -> None:
    config = load_good(files(plans=plan_with("prices: {api: {each: {eur: '1'}}}")))
    (fault,) = contradictions(config, default_plan="pro", currency="usd")
    assert (fault.path, "there is no price in usd, only in eur" in fault.message) == ("plans.pro.prices.api", True)
