"""Parts that add up."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.model.money import AmountNotWhole
from billing.model.split import split

CASES = [
    ("10.00", ["1", "1", "1"], ["3.34", "3.33", "3.33"]),
    ("0.02", ["1", "1", "1"], ["0.01", "0.01", "0.00"]),
    ("10.00", ["3", "0", "1"], ["7.50", "0.00", "2.50"]),
    ("-0.05", ["1", "3"], ["-0.01", "-0.04"]),
    ("0.00", ["0", "0"], ["0.00", "0.00"]),
]


@pytest.mark.parametrize(("amount", "weights", "expected"), CASES)
def test_the_largest_remainders_get_what_is_left(amount: str, weights: list[str], expected: list[str]) -> None:
    assert split(Decimal(amount), [Decimal(w) for w in weights], "usd") == tuple(Decimal(e) for e in expected)


def test_an_amount_that_is_not_rounded_is_not_split() -> None:
    with pytest.raises(AmountNotWhole):
        split(Decimal("0.005"), [Decimal(1)], "usd")


def test_nobody_to_take_it() -> None:
    with pytest.raises(ValueError, match="cannot be split"):
        split(Decimal(1), [Decimal(0)], "usd")


@given(st.integers(-(10**9), 10**9), st.lists(st.integers(1, 10**6), min_size=1, max_size=8), st.sampled_from(["usd", "jpy", "bhd"]))
def test_parts_add_up_and_none_is_off_by_a_whole_minor_unit(minor: int, weights: list[int], currency: str) -> None:
    step = {"usd": Decimal("0.01"), "jpy": Decimal(1), "bhd": Decimal("0.001")}[currency]
    amount, total = minor * step, sum(weights)
    parts = split(amount, [Decimal(w) for w in weights], currency)
    assert sum(parts) == amount
    assert all(abs(part * total - amount * weight) < step * total for part, weight in zip(parts, weights, strict=True))
