"""Pricing models: the golden cases as tables (sources beside them), and laws that hold for any usage."""

from decimal import Decimal as D
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.model.aggregation import Event, aggregate, hours_between, usage_from
from billing.model.money import round_amount
from billing.model.pricing import (
    MODELS,
    ByCurrency,
    Commitment,
    Dynamic,
    EventsNeeded,
    Flat,
    Graduated,
    GraduatedPercentage,
    NoPriceInCurrency,
    Package,
    PartKind,
    Percentage,
    PerHour,
    PerUnit,
    Price,
    Spend,
    Tier,
    TiersNotContiguous,
    Usage,
    Volume,
    price_from_json,
    price_to_json,
)
from billing.model.pricing.base import total
from metering.model.errors import BadInput

GB, CPU_HOUR, DAY = 10**9, 3_600_000, 86_400_000


def tiers(*rows: tuple[int | None, str]) -> tuple[Tier, ...]:
    return tuple(Tier(to=to, each=D(each)) for to, each in rows)


STRIPES = tiers((5, "7"), (10, "6.50"), (None, "6"))
REQUESTS = Graduated(tiers=tiers((100_000, "0.001"), (500_000, "0.0008"), (None, "0.0005")))
STORED = Graduated(tiers=tiers((50 * GB, "0.10"), (500 * GB, "0.08"), (1000 * GB, "0.06"), (None, "0.04")), per_unit_size=GB)
PAYMENTS = Percentage(percentage=D("1.2"), fixed=D("0.10"), free_events=3, free_amount=500)


def payments(*values: int | str) -> Usage:
    found = tuple(map(D, values))
    return Usage(sum(found, D(0)), found)


@pytest.mark.parametrize(
    ("price", "quantity", "amount"),
    [
        *((Volume(tiers=STRIPES), q, a) for q, a in ((1, "7"), (5, "35"), (6, "39"), (20, "120"), (25, "150"))),  # Stripe, tiered pricing
        *((Graduated(tiers=STRIPES), q, a) for q, a in ((5, "35"), (6, "41.50"), (20, "127.50"), (25, "157.50"))),  # Stripe
        (Package(size=100, each=D(5), free=100), 201, "10"),  # Lago
        (Package(size=10, each=D(100)), 121, "1300"),  # Lago
        (Package(size=10, each=D(100), free=10), 121, "1200"),  # Lago
        (Dynamic(multiplier=D("1.33333")), 10, "13.33"),  # OpenMeter
        (REQUESTS, 550_000, "445"),  # the guide
        (STORED, 600 * GB, "47"),  # the guide
        (PerUnit(each=D("0.05"), per_unit_size=CPU_HOUR), 100 * CPU_HOUR, "5"),  # the guide
        (PerUnit(each=D("2.50"), per_unit_size=CPU_HOUR), CPU_HOUR // 3, "0.83"),
        (PerUnit(each=D("0.06"), per_unit_size=CPU_HOUR), CPU_HOUR // 12, "0.01"),  # 0.005, exactly
        (Package(size=1_000_000, each=D(5), free=1_000_000), 2_000_001, "10"),
        (Package(size=100, each=D(5)), 0, "0"),
        (Package(size=100, each=D(5)), 100, "5"),
        (Flat(flat=D(20)), 0, "20"),
        (Flat(flat=D(20)), 10**9, "20"),
        (GraduatedPercentage(tiers=tiers((1000, "0.02"), (None, "0.01"))), 1500, "25"),
        (Percentage(percentage=D("2.9")), 100, "2.90"),
        (Percentage(percentage=D("2.9"), free_amount=100, per_unit_size=100), 1_100, "0.29"),  # counted in cents
        (Percentage(percentage=D(0)), 100, "0"),
    ],
)  # fmt: skip
def test_a_quantity_costs_what_the_model_says(price: Price, quantity: int, amount: str) -> None:
    assert round_amount(price.amount(quantity), "usd") == D(amount)


FLATS = (Tier(to=10, flat=D(10)), Tier(to=20, each=D(2), flat=D(5)), Tier(each=D(1)))


@pytest.mark.parametrize(
    ("model", "quantity", "amount"),
    [
        (Graduated, 0, "10"), (Graduated, 1, "10"), (Graduated, 10, "10"), (Graduated, 11, "17"), (Graduated, 20, "35"),
        (Graduated, 21, "36"), (Volume, 0, "10"), (Volume, 10, "10"), (Volume, 11, "27"), (Volume, 21, "21"),
    ],
)  # fmt: skip
def test_a_tiers_flat_fee_is_due_once_it_is_reached_and_the_first_always(model: Any, quantity: int, amount: str) -> None:
    assert model(tiers=FLATS).amount(quantity) == D(amount)


@pytest.mark.parametrize(
    ("price", "usage", "amount"),
    [
        (PAYMENTS, payments(200, 100, 100), "0.00"),
        (PAYMENTS, payments(200, 100, 100, 50), "0.70"),  # Lago
        (PAYMENTS, payments(400, 200), "1.30"),  # of the second, 100 lie beyond what is free
        (PAYMENTS, payments(), "0.00"),
        (Percentage(percentage=D("1.2"), fixed=D("0.10")), payments(50, 0), "0.80"),  # a payment of nothing has its fee
        (Percentage(percentage=D(1), event_minimum=D(1), event_maximum=D(5)), payments(50, 200, 900), "8.00"),
        (Percentage(percentage=D(1), free_events=1), payments(1000, 100), "1.00"),
        (Percentage(percentage=D("2.9"), fixed=D("0.30"), per_unit_size=100), payments(1_000, 2_000), "1.47"),  # counted in cents
    ],
)
def test_a_percentage_is_decided_event_by_event(price: Percentage, usage: Usage, amount: str) -> None:
    assert round_amount(price.amount(usage), "usd") == D(amount)


def test_a_fee_for_each_event_has_no_price_for_their_sum() -> None:
    with pytest.raises(EventsNeeded):
        PAYMENTS.amount(450)
    assert not Percentage(percentage=D(1), free_amount=5).needs_events


@pytest.mark.parametrize(
    ("price", "quantity", "amount"),
    [
        (Spend(price=PerUnit(each=D("0.1")), minimum=D(5)), 10, "5"),
        (Spend(price=PerUnit(each=D("0.1")), minimum=D(5)), 0, "5"),
        (Spend(price=PerUnit(each=D("0.1")), minimum=D(5)), 60, "6"),
        (Spend(price=PerUnit(each=D("0.1")), maximum=D(5)), 60, "5"),
        (Spend(price=PerUnit(each=D("0.1")), minimum=D(1), maximum=D(5)), 30, "3"),
        (Spend(price=REQUESTS, maximum=D(100)), 550_000, "100"),
        (Commitment(price=PerUnit(each=D("0.1")), commitment=D(100)), 10, "1"),  # the rest is a line of its own
        (ByCurrency(prices={"usd": PerUnit(each=D(2)), "eur": PerUnit(each=D(3))}).in_currency("eur"), 5, "15"),
    ],
)
def test_what_stands_around_a_price_bounds_it(price: Price, quantity: int, amount: str) -> None:
    assert price.amount(quantity) == D(amount)


def test_a_price_by_the_hour_multiplies_the_mean_by_the_hours_of_the_period() -> None:
    price = PerHour(price=PerUnit(each=D("0.01"), per_unit_size=GB))
    assert price.amount(Usage(D(GB), hours=D(500))) == D(5)  # the guide: 500 GB-hours
    with pytest.raises(BadInput, match="how long the period is"):
        price.amount(GB)


def test_a_price_by_currency_has_none_in_another() -> None:
    price = ByCurrency(prices={"usd": PerUnit(each=D(2))})
    with pytest.raises(NoPriceInCurrency, match="in eur, only in usd"):
        price.in_currency("eur")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((), "at least one"),
        (((5, "1"),), "leave out its `to`"),
        (((None, "1"), (None, "2")), "tier 1 has no `to`"),
        (((5, "1"), (5, "2"), (None, "3")), "tier 2 ends at 5, which is not beyond 5"),
        (((0, "1"), (None, "2")), "tier 1 ends at 0"),
    ],
)
@pytest.mark.parametrize("model", [Graduated, Volume, GraduatedPercentage])
def test_tiers_leave_no_gap_and_no_end(model: Any, rows: tuple[tuple[int | None, str], ...], said: str) -> None:
    with pytest.raises(TiersNotContiguous, match=said):
        model(tiers=tiers(*rows))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Tier(each=D("-1")),
        lambda: Tier(flat=D("NaN")),
        lambda: Package(size=0, each=D(1)),
        lambda: Package(size=1, each=D(1), free=-1),
        lambda: Percentage(percentage=D(1), event_minimum=D(2), event_maximum=D(1)),
        lambda: Percentage(percentage=D(1), free_events=-1),
        lambda: Spend(price=REQUESTS, minimum=D(2), maximum=D(1)),
        lambda: Dynamic(multiplier=D("0.0000000000001")),
        lambda: Graduated(tiers=STRIPES, per_unit_size=0),
        lambda: REQUESTS.amount(-1),
    ],
)
def test_a_price_that_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(BadInput):
        wrong()


ONE_OF_EACH: list[Price] = [
    PerUnit(each=D("0.0003")),
    REQUESTS,
    Volume(tiers=FLATS, per_unit_size=7),
    Package(size=10, each=D("1.5"), free=3),
    PAYMENTS,
    Percentage(percentage=D(1), event_minimum=D(1), event_maximum=D(5)),
    GraduatedPercentage(tiers=tiers((1000, "0.025"), (None, "0.01")), per_unit_size=100),
    Dynamic(multiplier=D("1.33333")),
    Flat(flat=D(20)),
    Spend(price=REQUESTS, minimum=D(1), maximum=D(2)),
    Commitment(price=Spend(price=REQUESTS, minimum=D(1)), commitment=D(9)),
    PerHour(price=STORED),
    ByCurrency(prices={"usd": REQUESTS, "eur": PerUnit(each=D(1))}),
]


def test_every_model_survives_its_stored_form() -> None:
    assert [price_from_json(price_to_json(price)) for price in ONE_OF_EACH] == ONE_OF_EACH
    assert {price.kind for price in ONE_OF_EACH} == set(MODELS)


# --- laws ----------------------------------------------------------------------------------------------------------

money = st.decimals(min_value=0, max_value=1000, places=6)
quantities = st.integers(min_value=0, max_value=10**12)


@st.composite
def some_tiers(draw: st.DrawFn) -> tuple[Tier, ...]:
    bounds = sorted(draw(st.sets(st.integers(min_value=1, max_value=10**6), max_size=4)))
    return tuple(Tier(to=to, each=draw(money), flat=draw(money)) for to in [*bounds, None])


@given(some_tiers(), quantities, quantities, st.sampled_from([1, 7, 1000, CPU_HOUR]))
def test_graduated_is_monotone(found: tuple[Tier, ...], one: int, other: int, size: int) -> None:
    price = Graduated(tiers=found, per_unit_size=size)
    assert price.amount(min(one, other)) <= price.amount(max(one, other))


@given(some_tiers(), quantities, st.integers(min_value=1, max_value=10**6))
def test_the_parts_are_the_amount_and_every_unit_is_in_one_of_them(found: tuple[Tier, ...], quantity: int, size: int) -> None:
    for price in (Graduated(tiers=found), Volume(tiers=found), Package(size=size, each=D("0.07"))):
        parts = price.parts(quantity)
        assert total(parts) == price.amount(quantity)
        assert all(part.unit_price is None or part.quantity * part.unit_price == part.amount for part in parts)
        if not isinstance(price, Package):
            assert sum(part.quantity for part in parts if part.kind is PartKind.TIER) == quantity


@given(st.lists(st.integers(min_value=0, max_value=10**9), max_size=20), some_tiers(), st.randoms(use_true_random=False))
def test_any_split_of_usage_over_events_bills_the_same(values: list[int], found: tuple[Tier, ...], random: Any) -> None:
    whole = sum(values)
    events = [Event(at_ms=random.randrange(DAY), value=D(value)) for value in values]
    prices: list[Price] = [Graduated(tiers=found), Volume(tiers=found), Package(size=9, each=D(1), free=5), PerUnit(each=D("0.3"))]
    prices += [Dynamic(multiplier=D("1.3")), GraduatedPercentage(tiers=found), Percentage(percentage=D(2), free_amount=50)]
    for price in prices:
        assert price.amount(usage_from("sum", events, 0, DAY)) == price.amount(whole)


@given(st.integers(min_value=0, max_value=10**13), st.integers(min_value=1, max_value=10**7), money)
def test_what_does_not_end_is_rounded_as_the_true_value_is(quantity: int, size: int, each: D) -> None:
    """Against integer arithmetic, on whole fractions."""
    amount = round_amount(PerUnit(each=each, per_unit_size=size).amount(quantity), "usd")
    numerator, denominator = int(each * 10**6) * quantity * 100, 10**6 * size
    assert amount == D((2 * numerator + denominator) // (2 * denominator)) / 100


# --- aggregations --------------------------------------------------------------------------------------------------


def events(*rows: tuple[int, int | str]) -> list[Event]:
    return [Event(at_ms=day * DAY, value=D(value)) for day, value in rows]


@pytest.mark.parametrize(
    ("name", "found", "result"),
    [
        ("sum", events((0, 3), (1, 4), (30, 5), (31, 100)), "12"),
        ("count", events((0, 3), (1, 4), (31, 1)), "2"),
        ("max", events((3, 7), (1, 9), (2, 8)), "9"),
        ("max", [], "0"),
        ("last", events((3, 7), (1, 9), (2, 8)), "7"),
        ("last", [], "0"),
        ("unique", events((0, 3), (1, 3), (2, 4)), "2"),
        ("weighted_sum", events((15, 20), (16, 30)), "15.1612903226"),  # Lago: 20 GB for a day, then 30 GB for 15 of 31 days
        ("weighted_sum", events((16, 30), (15, 20)), "15.1612903226"),
        ("weighted_sum", events((-5, 31)), "31.0000000000"),  # held since before
        ("weighted_sum", events((0, 62), (15, 0), (16, 62)), "60.0000000000"),
        ("weighted_sum", [], "0"),
        ("sum", [], "0"),
    ],
)
def test_events_come_to_one_number(name: str, found: list[Event], result: str) -> None:
    number = aggregate(name, found, 0, 31 * DAY)
    assert (round(number, 10) if name == "weighted_sum" else number) == D(result)


def test_unique_tells_keys_apart() -> None:
    found = [Event(at_ms=n, key=key) for n, key in enumerate(["anna", "ben", "anna"])]
    assert aggregate("unique", found, 0, DAY) == 2


def test_an_unknown_aggregation_and_a_period_without_time_are_refused() -> None:
    with pytest.raises(BadInput, match="known: sum"):
        aggregate("median", [], 0, 1)
    with pytest.raises(BadInput, match="ends after it starts"):
        aggregate("sum", [], 1, 1)


@given(st.lists(st.tuples(st.integers(-10, 40), st.integers(0, 10**12)), max_size=12))
def test_a_mean_lies_between_the_levels_and_hours_tile_it(rows: list[tuple[int, int]]) -> None:
    found = events(*rows)
    mean = aggregate("weighted_sum", found, 0, 31 * DAY)
    assert 0 <= mean <= max((D(value) for _, value in rows), default=D(0))
    by_day = [aggregate("weighted_sum", found, day * DAY, (day + 1) * DAY) for day in range(31)]
    assert abs(sum(by_day) - mean * 31) < D("1e-20")
    assert hours_between(0, 31 * DAY) == 744
