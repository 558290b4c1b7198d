"""What an invoice of the sandbox adds up to; golden figures from Stripe's documentation, or worked out by hand."""

from decimal import Decimal
from typing import Any

import pytest

from billing.stripe.sandbox.invoice_math import Charged, Discount, Rate, parts, prorated, rounded, settled, spread, sums, total_of


def tiered(mode: str, *tiers: tuple[int | None, str | None, str | None]) -> dict[str, Any]:
    found = [{"up_to": up_to, "unit_amount_decimal": each, "flat_amount_decimal": flat} for up_to, each, flat in tiers]
    return {"billing_scheme": "tiered", "tiers_mode": mode, "_tiers": found}


def unit(each: str, divide_by: int | None = None, way: str = "up") -> dict[str, Any]:
    transform = {"divide_by": divide_by, "round": way} if divide_by else None
    return {"billing_scheme": "per_unit", "unit_amount_decimal": each, "transform_quantity": transform}


STRIPES = ((5, "700", None), (10, "650", None), (None, "600", None))
REQUESTS = ((100_000, "0.1", None), (500_000, "0.08", None), (None, "0.05", None))
STORAGE = ((50, "10", None), (500, "8", None), (1000, "6", None), (None, "4", None))
FLAT = ((10, "0", "1000"), (None, "50", "300"))


@pytest.mark.parametrize(
    ("price", "quantity", "amount"),
    [
        *((tiered("volume", *STRIPES), q, a) for q, a in ((1, 700), (5, 3500), (6, 3900), (20, 12_000), (25, 15_000))),
        *((tiered("graduated", *STRIPES), q, a) for q, a in ((5, 3500), (6, 4150), (20, 12_750), (25, 15_750))),
        (tiered("graduated", *REQUESTS), 550_000, 44_500),
        (tiered("graduated", *STORAGE), 600, 4700),
        *((tiered("graduated", *FLAT), q, a) for q, a in ((0, 1000), (10, 1000), (11, 1350), (12, 1400))),
        *((tiered("volume", *FLAT), q, a) for q, a in ((0, 1000), (10, 1000), (11, 850))),
        (unit("0.03"), 50_000, 1500),
        (unit("4.5"), 1, 5),  # half away from zero
        (unit("4.5"), 3, 14),
        (unit("500", 100), 201, 1500),
        (unit("500", 100, "down"), 201, 1000),
        (unit("10000", 10), 121, 130_000),
        (unit("0.0000000001"), 10**12, 100),
    ],
)
def test_a_price_costs_what_stripe_charges(price, quantity, amount) -> None:
    assert total_of(price, quantity) == amount


def test_graduated_tiers_are_a_line_each_and_flat_fees_too() -> None:
    found = parts(tiered("graduated", *FLAT), 12)
    assert [(part.quantity, part.amount, part.note) for part in found] == [
        (10, 0, "tier 1"), (0, 1000, "tier 1, flat fee"), (2, 100, "tier 2"), (0, 300, "tier 2, flat fee"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("amount", "at", "start", "end", "due"),
    [(1000, 50, 0, 100, 500), (2000, 50, 0, 100, 1000), (5000, 9, 0, 31, 3548), (1000, 0, 0, 7, 1000), (999, 1, 0, 2, 500)],
)
def test_a_proration_is_by_the_second(amount, at, start, end, due) -> None:
    assert prorated(amount, at, start, end) == due


def test_ten_to_twenty_dollars_at_half_time_is_five_more() -> None:
    assert -prorated(1000, 50, 0, 100) + prorated(2000, 50, 0, 100) == 500


@pytest.mark.parametrize(("exact", "whole"), [("0.5", 1), ("-0.5", -1), ("1.4999", 1), ("-1.5", -2), ("4733.95", 4734)])
def test_half_a_unit_is_rounded_away_from_zero(exact, whole) -> None:
    assert rounded(Decimal(exact)) == whole


@pytest.mark.parametrize(
    ("total", "exact", "shares"),
    [(10, ["3.33", "3.33", "3.34"], [3, 3, 4]), (-10, ["-3.33", "-3.33", "-3.34"], [-3, -3, -4]), (1, ["0.5", "0.5"], [1, 0])],
)
def test_parts_of_a_rounded_whole_add_up_to_it(total, exact, shares) -> None:
    assert spread(total, [Decimal(each) for each in exact]) == shares


TEN, FIVE_DOLLARS = Discount("ten", Decimal(10), None), Discount("five", None, 500)


@pytest.mark.parametrize(
    ("amounts", "discounts", "total"),
    [
        ([1000, 333], [TEN], 1200),  # 133.3 off, as one sum
        ([1000], [TEN, FIVE_DOLLARS], 400),  # one after the other
        ([1000], [FIVE_DOLLARS, TEN], 450),
        ([300], [FIVE_DOLLARS], 0),  # never below nothing
        ([1000, -400], [TEN], 500),  # a credit is not discounted
    ],
)
def test_discounts_follow_one_another(amounts, discounts, total) -> None:
    found = sums([Charged(amount) for amount in amounts], discounts)
    assert (found.subtotal, found.total) == (sum(amounts), total)
    assert found.subtotal - sum(off for line in found.discounts for off in line.values()) == total


def test_a_coupon_for_one_product_leaves_the_others_alone() -> None:
    only = Discount("d", Decimal(50), None, frozenset({"a"}))
    assert sums([Charged(1000, product="a"), Charged(1000, product="b")], [only]).total == 1500


def test_what_is_not_discountable_is_not_discounted() -> None:
    assert sums([Charged(1000), Charged(1000, discountable=False)], [TEN]).total == 1900


@pytest.mark.parametrize(
    ("amounts", "percent", "inclusive", "total", "tax"),
    [
        ([5075], "8.5", False, 5506, 431),  # the guide's
        ([11900], "19", True, 11900, 1900),
        ([33, 33, 33], "10", False, 109, 10),  # rounded once, over the invoice
        ([1000, -1000], "19", False, 0, 0),
    ],
)
def test_a_tax_is_rounded_once_and_its_shares_add_up(amounts, percent, inclusive, total, tax) -> None:
    rate = Rate("r", Decimal(percent), inclusive)
    found = sums([Charged(amount, rates=(rate,)) for amount in amounts])
    assert (found.total, found.inclusive_tax + found.exclusive_tax) == (total, tax)


def test_taxes_come_after_discounts() -> None:
    found = sums([Charged(1000, rates=(Rate("r", Decimal(20), inclusive=False),))], [TEN])
    assert (found.total, found.taxes[0][0].taxable) == (1080, 900)


@pytest.mark.parametrize(
    ("total", "balance", "due", "left"),
    [(1000, 0, 1000, 0), (1000, -300, 700, 0), (1000, -1500, 0, -500), (-400, 0, 0, -400), (1000, 200, 1200, 0), (0, -5, 0, -5)],
)
def test_a_balance_is_used_up_by_the_invoice(total, balance, due, left) -> None:
    assert settled(total, balance) == (due, left)
