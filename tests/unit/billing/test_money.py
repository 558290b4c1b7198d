"""Rounding, currencies, prices, lines: arithmetic as tables (sources in the case ids)."""

from decimal import Decimal as D

import pytest

from billing.model import plan as plans
from billing.model.money import AmountNotWhole, from_minor, minor_digits, round_amount, to_minor
from billing.model.pricing import PerUnit, UnknownPricingModel, price_from_json, price_to_json
from billing.model.rating import estimate, included_units, overage_report_units, rate
from metering.model.errors import BadInput
from metering.model.meter import Meter
from metering.model.quota import Mode, Per, Quota, Window

API = Meter(name="api", unit="request")
BANDWIDTH = Meter(name="bandwidth", unit="byte", show="GB", show_size=10**9, report="MB", report_size=10**6)
STORAGE = Meter(name="storage", unit="byte", show="GB", show_size=10**9, report="MB", report_size=10**6)
METERS = {m.name: m for m in (API, BANDWIDTH, STORAGE)}
GB = 10**9


@pytest.mark.parametrize(("currency", "digits"), [("jpy", 0), ("JPY", 0), ("usd", 2), ("eur", 2), ("bhd", 3), ("krw", 0), ("kwd", 3)])
def test_a_currency_has_its_minor_unit(currency: str, digits: int) -> None:
    assert minor_digits(currency) == digits


@pytest.mark.parametrize(
    ("amount", "currency", "rounded"),
    [
        (D("4.4556") * D("10.625"), "usd", "47.34"),  # Chargebee
        (D("4.4556") * D("10.625"), "jpy", "47"),  # Chargebee
        (D("13.3333"), "usd", "13.33"),  # OpenMeter, dynamic x1.33333 on 10
        (D("0.005"), "usd", "0.01"),
        (D("-0.005"), "usd", "-0.01"),
        (D("0.0004999999999999999999999"), "bhd", "0.000"),
        (D("2.5"), "jpy", "3"),
        (D("-2.5"), "jpy", "-3"),
        (D("123456789012345678901234567890.125"), "usd", "123456789012345678901234567890.13"),
    ],
)
def test_an_amount_is_rounded_half_away_from_zero(amount: D, currency: str, rounded: str) -> None:
    assert round_amount(amount, currency) == D(rounded)


@pytest.mark.parametrize(
    ("amount", "currency", "minor"), [("49.00", "usd", 4900), ("500", "jpy", 500), ("1.234", "bhd", 1234), ("-5", "usd", -500)]
)
def test_minor_units_are_exact_both_ways(amount: str, currency: str, minor: int) -> None:
    assert to_minor(D(amount), currency) == minor
    assert from_minor(minor, currency) == D(amount)


def test_an_unrounded_amount_never_becomes_minor_units() -> None:
    with pytest.raises(AmountNotWhole):
        to_minor(D("0.001"), "usd")


@pytest.mark.parametrize(
    ("price", "meter", "cumulative", "included", "units", "amount"),
    [
        (PerUnit(each=D("0.0003")), API, 250_000, 200_000, 50_000, "15.00"),  # the guide, hybrid
        (PerUnit(each=D("0.10"), per_unit_size=GB), STORAGE, 60 * GB, 50 * GB, 10_000, "1.00"),  # the guide
        (PerUnit(each=D("0.05"), per_unit_size=GB), BANDWIDTH, 120 * GB, 100 * GB, 20_000, "1.00"),  # the guide
        (PerUnit(each=D("0.0003")), API, 205_000, 200_000, 5_000, "1.50"),  # the guide, invoice
        (PerUnit(each=D("0.0003")), API, 199_999, 200_000, 0, "0.00"),
        (PerUnit(each=D("0.0003")), API, 200_001, 200_000, 1, "0.00"),
        (PerUnit(each=D("0.0003")), API, 200_017, 200_000, 17, "0.01"),
        (PerUnit(each=D("0.05"), per_unit_size=GB), BANDWIDTH, 5 * GB + 1_999_999, 5 * GB, 1, "0.00"),  # a remainder stays ours
    ],
)
def test_a_line_charges_whole_report_units_beyond_the_included(
    price: PerUnit, meter: Meter, cumulative: int, included: int, units: int, amount: str
) -> None:
    line = rate(price, meter, cumulative=cumulative, included=included, currency="usd")
    assert (line.report_units, str(line.amount)) == (units, amount)


def test_the_guides_hybrid_bill_is_66_dollars() -> None:
    prices = {"api": PerUnit(each=D("0.0003")), "storage": PerUnit(each=D("0.10"), per_unit_size=GB)}
    prices["bandwidth"] = PerUnit(each=D("0.05"), per_unit_size=GB)
    quotas = [
        Quota(meter="api", limit=200_000, mode=Mode.OVERAGE),
        Quota(meter="storage", limit=50 * GB, mode=Mode.OVERAGE),
        Quota(meter="bandwidth", limit=100 * GB, mode=Mode.OVERAGE),
    ]
    bill = estimate(D("49.00"), prices, quotas, {"api": 250_000, "storage": 60 * GB, "bandwidth": 120 * GB}, METERS, "usd")
    assert (bill.overage, bill.total) == (D("17.00"), D("66.00"))


def test_each_line_is_rounded_once_and_the_total_never() -> None:
    prices = {"api": PerUnit(each=D("0.005")), "storage": PerUnit(each=D("0.005"), per_unit_size=10**6)}
    bill = estimate(D("0"), prices, [], {"api": 1, "storage": 10**6}, METERS, "usd")
    assert bill.total == D("0.02")


def test_only_an_overage_quota_or_none_makes_a_meter_chargeable() -> None:
    price = PerUnit(each=D("1"))
    quotas = [
        Quota(meter="over", limit=5, mode=Mode.OVERAGE),
        Quota(meter="hard", limit=5, mode=Mode.HARD),
        Quota(meter="soft", limit=5, mode=Mode.SOFT),
        Quota(meter="unlimited", limit=None, mode=Mode.OVERAGE),
        Quota(meter="hourly", limit=5, window=Window.HOUR, mode=Mode.HARD),
        Quota(meter="by_key", limit=5, per=Per.KEY, mode=Mode.HARD),
    ]
    meters = ("over", "hard", "soft", "unlimited", "hourly", "by_key", "free_of_quota")
    included = included_units(quotas, dict.fromkeys(meters, price))
    assert included == {"over": 5, "hourly": 0, "by_key": 0, "free_of_quota": 0}


def test_a_raised_quota_lowers_what_is_over() -> None:
    assert overage_report_units(250, 100, 1) == 150
    assert overage_report_units(250, 200, 1) == 50
    assert overage_report_units(250, 300, 1) == 0


@pytest.mark.parametrize("each", ["-1", "NaN", "Infinity", "0.0000000000001"])
def test_a_price_that_makes_no_sense_is_refused(each: str) -> None:
    with pytest.raises(BadInput):
        PerUnit(each=D(each))


def test_a_plan_survives_its_stored_form() -> None:
    spec = plans.PlanSpec(
        name="pro",
        title="Pro",
        price={"usd": D("49.00"), "eur": D("45.00")},
        trial_days=14,
        quotas=(Quota(meter="api", limit=200_000, mode=Mode.OVERAGE), Quota(meter="api", limit=None, window=Window.HOUR, mode=Mode.SOFT)),
        prices={"api": PerUnit(each=D("0.0003"))},
        features=(plans.Feature(key="sso", label="SSO"), plans.Feature(key="members", label="50 team members", number=50)),
        rollout=plans.Rollout.NOW,
    )
    again = plans.from_json(plans.to_json(spec))
    assert again == spec or plans.to_json(again) == plans.to_json(spec)
    assert again.price["usd"] == D("49")


def test_terms_do_not_depend_on_order_spelling_or_rollout() -> None:
    hour, period = Quota(meter="api", limit=1, window=Window.HOUR), Quota(meter="api", limit=9)
    one = plans.PlanSpec(name="p", price={"usd": D("49.0")}, quotas=(hour, period), rollout=plans.Rollout.NOW)
    other = plans.PlanSpec(name="p", price={"usd": D("49")}, quotas=(period, hour), rollout=plans.Rollout.NEW)
    assert plans.same_terms(one, other)
    assert not plans.same_terms(one, plans.PlanSpec(name="p", price={"usd": D("50")}, quotas=(hour, period)))


def test_a_price_names_its_model_and_an_unknown_one_is_refused() -> None:
    price = PerUnit(each=D("0.100"), per_unit_size=GB)
    assert price_to_json(price) == {"model": "each", "each": "0.1", "per_unit_size": GB}
    assert price_from_json(price_to_json(price)) == price
    with pytest.raises(UnknownPricingModel, match="known: by_currency, commitment"):
        price_from_json({"model": "barter"})
