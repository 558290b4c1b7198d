"""Proration by the second: golden cases, and parts that sum to the whole."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.cycle import Cycle, calendar_month, period_of
from billing.model.money import minor_digits
from billing.model.plan import Interval
from billing.model.proration import change, part, split, worth
from metering.model.clock import to_ms

MONTH = Cycle(to_ms(datetime(2026, 4, 1, tzinfo=UTC)), Interval.MONTH)  # April has 30 days
AMOUNTS = st.decimals(0, 100_000, places=2)
CURRENCIES = st.sampled_from(["usd", "jpy", "bhd"])


def ms(text: str) -> int:
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("old", "new", "at", "credit", "charge"),
    [
        ("10", "20", "2026-04-16", "-5.00", "10.00"),  # Stripe, prorations
        ("20", "10", "2026-04-16", "-10.00", "5.00"),
        ("49", "299", "2026-04-21T09:38:00", "-15.68", "95.67"),
        ("0", "49", "2026-04-01", "0.00", "49.00"),
        ("49", "0", "2026-04-30T23:59:59", "0.00", "0.00"),
    ],
)
def test_a_change_gives_back_the_unused_part_and_charges_the_rest(old: str, new: str, at: str, credit: str, charge: str) -> None:
    found = change(Decimal(old), Decimal(new), MONTH, (ms(at), ms("2026-05-01")), "usd")
    assert (found.credit, found.charge) == (Decimal(credit), Decimal(charge))
    assert found.net == Decimal(credit) + Decimal(charge)


def test_the_part_of_a_calendar_month_from_its_10th() -> None:
    start = ms("2026-08-10")
    cycle = calendar_month(start)
    assert worth(Decimal(50), cycle, (start, period_of(cycle, start)[1]), "usd") == Decimal("35.48")  # Lago


def test_a_stretch_over_several_periods_costs_each_of_them() -> None:
    assert worth(Decimal(30), MONTH, (ms("2026-04-16"), ms("2026-06-01")), "usd") == Decimal("45.00")


def test_fractions_of_a_second_are_left_out() -> None:
    half = (ms("2026-04-16") + 999, ms("2026-05-01"))
    assert part(Decimal(10), period_of(MONTH, half[0]), half, "usd") == Decimal("5.00")


def test_a_stretch_beyond_the_period_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not lie"):
        part(Decimal(10), period_of(MONTH, ms("2026-04-01")), (ms("2026-04-01"), ms("2026-05-02")), "usd")


@given(AMOUNTS, CURRENCIES, st.lists(st.integers(0, 30 * 86_400), max_size=8))
@settings(max_examples=150, deadline=None)
def test_the_parts_of_any_split_sum_to_the_price(amount: Decimal, currency: str, cuts: list[int]) -> None:
    amount = amount.quantize(Decimal(1).scaleb(-min(2, minor_digits(currency))))
    period = period_of(MONTH, ms("2026-04-01"))
    edges = sorted([period[0], *(period[0] + cut * 1000 for cut in cuts), period[1]])
    parts = [part(amount, period, stretch, currency) for stretch in pairwise(edges)]
    assert sum(parts, Decimal(0)) == amount
    assert all(each >= 0 for each in parts)


@given(AMOUNTS, AMOUNTS, st.integers(0, 30 * 86_400))
@settings(max_examples=50, deadline=None)
def test_a_change_and_its_opposite_at_once_cost_nothing(old: Decimal, new: Decimal, at: int) -> None:
    left = (ms("2026-04-01") + at * 1000, ms("2026-05-01"))
    assert change(old, new, MONTH, left, "usd").net + change(new, old, MONTH, left, "usd").net == 0


@pytest.mark.parametrize(
    ("amount", "weights", "expected"),
    [
        ("10.00", [1, 1, 1], ["3.34", "3.33", "3.33"]),
        ("-10.00", [1, 1, 1], ["-3.34", "-3.33", "-3.33"]),
        ("0.01", [1, 2], ["0.00", "0.01"]),
        ("100.00", [0, 5], ["0.00", "100.00"]),
    ],
)
def test_an_amount_is_split_by_largest_remainder(amount: str, weights: list[int], expected: list[str]) -> None:
    assert split(Decimal(amount), weights, "usd") == tuple(Decimal(each) for each in expected)


@given(AMOUNTS, st.lists(st.integers(0, 10**9), min_size=1, max_size=9).filter(any))
@settings(max_examples=50, deadline=None)
def test_what_is_split_sums_to_the_whole(amount: Decimal, weights: list[int]) -> None:
    assert sum(split(amount, weights, "usd"), Decimal(0)) == amount
