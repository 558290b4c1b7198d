"""The lines of a period: what is charged for, in which unit, at which price, and why."""

from decimal import Decimal as D
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.model.aggregation import Event, aggregate
from billing.model.invoice_item import ItemKind
from billing.model.plan import PlanSpec
from billing.model.pricing import (
    ByCurrency,
    Commitment,
    EventsNeeded,
    Flat,
    Graduated,
    NoPriceInCurrency,
    Percentage,
    PerHour,
    PerUnit,
    Price,
    Spend,
    Tier,
    Usage,
)
from billing.model.pricing.base import total
from billing.model.rating import Line, estimate, rate, rate_period
from metering.model.meter import Kind, Meter
from metering.model.quota import Mode, Quota

GB, DAY = 10**9, 86_400_000
API = Meter(name="api", unit="request", title="API Requests")
STORAGE = Meter(name="storage", unit="byte", kind=Kind.LEVEL, title="Storage", show="GB", show_size=GB, report="MB", report_size=10**6)
BANDWIDTH = Meter(name="bandwidth", unit="byte", show="GB", show_size=GB, report="MB", report_size=10**6)
COMPUTE = Meter(name="compute", unit="cpu_ms", title="Compute", show="CPU-hours", show_size=3_600_000)
METERS = {meter.name: meter for meter in (API, STORAGE, BANDWIDTH, COMPUTE)}
OVER = {"api": Quota(meter="api", limit=200_000, mode=Mode.OVERAGE), "storage": Quota(meter="storage", limit=50 * GB, mode=Mode.OVERAGE)}
TIERS = (Tier(to=100_000, each=D("0.001")), Tier(to=500_000, each=D("0.0008")), Tier(each=D("0.0005")))


def lines(prices: dict[str, Price], used: dict[str, Any], *meters: str, currency: str = "usd", hours: D | None = None) -> tuple[Line, ...]:
    return rate_period(PlanSpec(name="pro", prices=prices), [OVER[m] for m in meters], used, METERS, currency, hours=hours)


def test_a_line_says_what_is_charged_for_in_the_unit_that_people_see() -> None:
    prices: dict[str, Price] = {"api": PerUnit(each=D("0.0003")), "storage": PerUnit(each=D("0.10"), per_unit_size=GB)}
    api, storage = lines(prices, {"api": 205_000, "storage": 52_500_000_000}, "api", "storage")
    assert (api.kind, api.description, api.quantity, api.unit, api.unit_price, api.amount) == (
        ItemKind.OVERAGE, "API Requests beyond 200,000", D(5_000), "request", D("0.0003"), D("1.50"),
    )  # fmt: skip
    assert (storage.description, storage.quantity, storage.unit, storage.unit_price, storage.amount) == (
        "Storage beyond 50 GB", D("2.5"), "GB", D("0.10"), D("0.25"),
    )  # fmt: skip
    assert (storage.used, storage.included, storage.overage, storage.report_units) == (52_500_000_000, 50 * GB, 2_500_000_000, 2_500)


def test_a_tiered_line_explains_itself_by_its_parts() -> None:
    (line,) = lines({"api": Graduated(tiers=TIERS)}, {"api": 550_000})
    assert [(p.tier, p.quantity, p.unit_price, p.amount) for p in line.parts] == [
        (1, 100_000, D("0.001"), 100), (2, 400_000, D("0.0008"), 320), (3, 50_000, D("0.0005"), 25),
    ]  # fmt: skip
    assert (line.kind, line.description, line.unit_price, line.amount) == (ItemKind.USAGE, "API Requests", None, D("445.00"))


def test_tiers_begin_behind_what_is_included() -> None:
    (line,) = lines({"api": Graduated(tiers=TIERS)}, {"api": 350_000}, "api")
    assert (line.quantity, line.amount) == (150_000, D("140.00"))


@pytest.mark.parametrize(
    ("amount", "currency", "rounded"), [("10.625", "usd", "47.34"), ("10.625", "jpy", "47"), ("10.625", "bhd", "47.341")]
)
def test_a_line_is_rounded_to_its_currencys_minor_unit(amount: str, currency: str, rounded: str) -> None:
    price = ByCurrency(prices={currency: PerUnit(each=D(amount))})
    line = rate(price, API, cumulative=D("4.4556"), included=0, currency=currency)  # Chargebee
    assert str(line.amount) == rounded


def test_cpu_hours_are_charged_exactly_where_no_coarser_unit_is_reported() -> None:
    (line,) = lines({"compute": PerUnit(each=D("0.05"), per_unit_size=3_600_000)}, {"compute": 5_400_000})
    assert (line.quantity, line.unit, line.amount) == (D("1.5"), "CPU-hours", D("0.08"))  # 0.075


def test_a_meter_with_a_report_unit_is_charged_by_whole_ones() -> None:
    (line,) = lines({"bandwidth": PerUnit(each=D("0.05"), per_unit_size=GB)}, {"bandwidth": 1_999_999})
    assert (line.quantity, line.report_units) == (D("0.001"), 1)


def test_a_level_is_charged_on_its_exact_mean() -> None:
    mean = aggregate("weighted_sum", [Event(at_ms=15 * DAY, value=D(20 * GB)), Event(at_ms=16 * DAY, value=D(30 * GB))], 0, 31 * DAY)
    (line,) = lines({"storage": PerUnit(each=D("0.10"), per_unit_size=GB)}, {"storage": mean})
    assert (line.quantity, line.amount) == (D("15.1612903226"), D("1.52"))  # Lago


def test_nothing_used_still_bills_a_flat_fee_and_a_minimum() -> None:
    prices: dict[str, Price] = {"api": Flat(flat=D(20)), "storage": Spend(price=PerUnit(each=D(1), per_unit_size=GB), minimum=D(5))}
    assert [(line.meter, line.amount) for line in lines(prices, {})] == [("api", D("20.00")), ("storage", D("5.00"))]


@pytest.mark.parametrize(("used", "amounts"), [(0, ["0.00", "100.00"]), (333, ["33.30", "66.70"]), (1000, ["100.00"]), (2000, ["200.00"])])
def test_what_a_commitment_lacks_is_a_line_of_its_own(used: int, amounts: list[str]) -> None:
    found = lines({"api": Commitment(price=PerUnit(each=D("0.1")), commitment=D(100))}, {"api": used})
    assert [str(line.amount) for line in found] == amounts
    assert [line.kind for line in found] == [ItemKind.USAGE, ItemKind.MINIMUM][: len(amounts)]


def test_a_commitment_tops_up_the_rounded_line_so_that_both_come_to_it() -> None:
    found = lines({"api": Commitment(price=PerUnit(each=D("0.333")), commitment=D(1))}, {"api": 1})
    assert [str(line.amount) for line in found] == ["0.33", "0.67"]


def test_a_price_by_the_hour_is_told_the_hours() -> None:
    price = PerHour(price=PerUnit(each=D("0.0001"), per_unit_size=GB))
    (line,) = lines({"storage": price}, {"storage": 10 * GB}, hours=D(744))
    assert line.amount == D("0.74")


def test_of_events_the_included_come_off_the_first() -> None:
    usage = Usage(D(200_100), (D(150_000), D(50_050), D(50)))
    price = Percentage(percentage=D(10), fixed=D(1))
    (line,) = lines({"api": price}, {"api": usage}, "api")
    assert line.amount == D("12.00")  # 50 and 50 are left: two fees, and 10 % of 100


def test_a_sum_alone_is_left_out_of_an_estimate_and_refused_for_an_invoice() -> None:
    prices: dict[str, Price] = {"api": Percentage(percentage=D(1), fixed=D(1)), "storage": PerUnit(each=D(1), per_unit_size=GB)}
    bill = estimate(D(9), prices, [], {"api": 5, "storage": GB}, METERS, "usd")
    assert (bill.unrated, [line.meter for line in bill.lines], bill.total) == (("api",), ["storage"], D(10))
    with pytest.raises(EventsNeeded):
        lines(prices, {"api": 5})


def test_a_price_in_another_currency_is_no_price() -> None:
    with pytest.raises(NoPriceInCurrency):
        lines({"api": ByCurrency(prices={"usd": PerUnit(each=D(1))})}, {"api": 5}, currency="eur")


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.sampled_from(["usd", "jpy", "bhd"]))
def test_rating_is_a_function_and_its_parts_are_the_amount(api: int, stored: int, currency: str) -> None:
    prices: dict[str, Price] = {"api": Graduated(tiers=TIERS), "storage": PerUnit(each=D("0.10"), per_unit_size=GB)}
    found = lines(prices, {"api": api, "storage": stored}, "storage", currency=currency)
    assert found == lines(prices, {"storage": stored, "api": api}, "storage", currency=currency)
    for line in found:
        assert abs(total(line.parts) - line.amount) <= D("0.5")
        assert line.overage == max(0, line.used - line.included)
