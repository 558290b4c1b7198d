"""What Stripe charges itself, and what is rated here: the table of docs/pricing.md, and the terms that Stripe is told."""

from decimal import Decimal as D
from typing import Any

import pytest

from billing.model.native import native_at_stripe, plan_at_stripe
from billing.model.outbox import plan_payload
from billing.model.plan import PlanSpec
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
from metering.model.meter import Kind, Meter
from metering.model.quota import Mode, Quota

GB, MB = 10**9, 10**6
API = Meter(name="api", unit="request")
BANDWIDTH = Meter(name="bandwidth", unit="byte", show="GB", show_size=GB, report="MB", report_size=MB)
STORAGE = Meter(name="storage", unit="byte", kind=Kind.LEVEL, show="GB", show_size=GB, report="MB", report_size=MB)
COMPUTE = Meter(name="compute", unit="cpu_ms", show="CPU-hours", show_size=3_600_000)
TIERS = (Tier(to=100_000, each=D("0.001")), Tier(each=D("0.0005"), flat=D(5)))


@pytest.mark.parametrize(
    ("price", "meter", "terms"),
    [
        (PerUnit(each=D("0.0003")), API, {"each": "0.0003"}),
        (PerUnit(each=D("0.05"), per_unit_size=GB), BANDWIDTH, {"each": "0.00005"}),
        (Graduated(tiers=TIERS), API, {"tiers_mode": "graduated", "tiers": [
            {"up_to": 100_000, "each": "0.001", "flat": "0"}, {"up_to": None, "each": "0.0005", "flat": "5"}]}),
        (Volume(tiers=(Tier(to=50 * GB, each=D("0.10")), Tier(each=D("0.08"))), per_unit_size=GB), BANDWIDTH, {
            "tiers_mode": "volume",
            "tiers": [{"up_to": 50_000, "each": "0.0001", "flat": "0"}, {"up_to": None, "each": "0.00008", "flat": "0"}]}),
        (Package(size=10 * GB, each=D(5), per_unit_size=GB), BANDWIDTH, {"each": "5", "divide_by": 10_000}),
        (ByCurrency(prices={"usd": PerUnit(each=D(2))}), API, {"each": "2"}),
    ],
)  # fmt: skip
def test_stripe_is_told_the_same_arithmetic_on_report_units(price: Price, meter: Meter, terms: dict[str, Any]) -> None:
    assert native_at_stripe(price, meter).terms == terms


@pytest.mark.parametrize(
    ("price", "meter", "reason"),
    [
        (Percentage(percentage=D(1)), API, "no prices of the model `percentage`"),
        (GraduatedPercentage(tiers=TIERS), API, "no prices of the model"),
        (Dynamic(multiplier=D(2)), API, "no prices of the model"),
        (Flat(flat=D(2)), API, "no prices of the model"),
        (Spend(price=PerUnit(each=D(1)), minimum=D(5)), API, "no minimum or maximum"),
        (Commitment(price=PerUnit(each=D(1)), commitment=D(5)), API, "no commitment"),
        (PerHour(price=PerUnit(each=D(1))), STORAGE, "mean of a level"),
        (PerUnit(each=D("0.10"), per_unit_size=GB), STORAGE, "mean of a level"),
        (PerUnit(each=D("0.05"), per_unit_size=3_600_000), COMPUTE, "more decimals than Stripe holds"),
        (Package(size=100, each=D(5), free=100), API, "no free units"),
        (Package(size=GB + 1, each=D(5)), BANDWIDTH, "within a report unit"),
        (Volume(tiers=(Tier(to=GB + 1, each=D(1)), Tier(each=D(2))), per_unit_size=GB), BANDWIDTH, "ends within a report unit"),
        (Volume(tiers=(Tier(flat=D("0.005")),)), API, "flat fee of 0.005"),
        (Graduated(tiers=(Tier(to=3, each=D("0.001")), Tier(each=D("0.002")))), API, "round each tier by itself"),
    ],
)  # fmt: skip
def test_what_stripe_does_not_compute_as_we_do_is_rated_here(price: Price, meter: Meter, reason: str) -> None:
    at = native_at_stripe(price, meter)
    assert (at.native, reason in at.reason) == (False, True)


def test_tiers_behind_what_is_included_are_rated_here_and_single_units_are_not() -> None:
    assert "would begin with them" in native_at_stripe(Graduated(tiers=TIERS), API, included=5).reason
    assert native_at_stripe(PerUnit(each=D(1)), API, included=5).native


def test_a_plan_tells_stripe_its_native_prices_and_nothing_of_the_others() -> None:
    prices: dict[str, Price] = {"api": Graduated(tiers=TIERS), "bandwidth": Flat(flat=D(5)), "compute": PerUnit(each=D(1))}
    spec = PlanSpec(name="payg", price={"usd": D(0)}, prices=prices)
    payload = plan_payload(spec, 1, "usd", {m.name: m for m in (API, BANDWIDTH, COMPUTE)})
    assert [(m["meter"], sorted(m)) for m in payload["meters"]] == [
        ("api", ["meter", "report", "report_size", "tiers", "tiers_mode", "title"]),
        ("compute", ["each", "meter", "report", "report_size", "title"]),
    ]


def test_a_plan_of_which_stripe_charges_nothing_is_a_subscription_for_nothing() -> None:
    spec = PlanSpec(name="fees", prices={"api": Flat(flat=D(5))})
    payload = plan_payload(spec, 1, "usd", {"api": API})
    assert (payload["amount_minor"], payload["meters"]) == (0, [])


@pytest.mark.parametrize(("mode", "limit", "native"), [(Mode.HARD, 5, False), (Mode.OVERAGE, 5, False), (Mode.OVERAGE, 0, True)])
def test_tiers_go_to_stripe_only_where_all_usage_is_charged(mode: Mode, limit: int, native: bool) -> None:
    spec = PlanSpec(name="p", quotas=(Quota(meter="api", limit=limit, mode=mode),), prices={"api": Graduated(tiers=TIERS)})
    assert plan_at_stripe(spec, {"api": API}, "usd")["api"].native is native
