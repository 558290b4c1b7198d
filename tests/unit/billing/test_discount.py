"""What coupons take off invoices: cases as tables, laws as properties."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.model.discount import Coupon, CouponFaulty, CouponNotRedeemable, Discount, Duration, discounts
from billing.model.invoice_item import ItemKind
from billing.model.money import round_amount
from metering.model.clock import to_ms

NOW = to_ms(datetime(2026, 1, 31, 12, tzinfo=UTC))
_DAY = 86_400_000


@dataclass(frozen=True)
class Charge:
    amount: Decimal
    kind: ItemKind = ItemKind.BASE


def off(number: int, *, percent: str | None = None, usd: str | None = None, **terms: object) -> Discount:
    coupon = Coupon(
        code=f"C{number}",
        percent_off=Decimal(percent) if percent else None,
        amount_off={"usd": Decimal(usd)} if usd else {},
        duration=Duration.FOREVER,
    )
    return replace(Discount(id=number, coupon=coupon, start_ms=NOW - _DAY), **terms)


TWENTY_PERCENT, FIVE_DOLLARS = off(1, percent="20"), off(2, usd="5.00")

CASES = [
    ("half", ["49.00"], [off(1, percent="50")], ["24.50"]),
    ("a percentage and then an amount", ["10.00"], [TWENTY_PERCENT, FIVE_DOLLARS], ["2.00", "5.00"]),
    ("an amount and then a percentage of what it left", ["10.00"], [FIVE_DOLLARS, TWENTY_PERCENT], ["5.00", "1.00"]),
    ("two tenths are 19 %", ["100.00"], [off(1, percent="10"), off(2, percent="10")], ["10.00", "9.00"]),
    ("more than there is", ["3.00"], [FIVE_DOLLARS], ["3.00"]),
    ("nothing left for the second", ["3.00"], [FIVE_DOLLARS, TWENTY_PERCENT], ["3.00"]),
    ("rounded once, half away from zero", ["0.05"], [off(1, percent="50")], ["0.03"]),
    ("over several lines, rounded once and not a line", ["0.05", "0.05"], [off(1, percent="50")], ["0.05"]),
    ("33.33 %", ["49.00", "15.00"], [off(1, percent="33.33")], ["21.33"]),
    ("nothing is charged", ["0.00"], [TWENTY_PERCENT, FIVE_DOLLARS], []),
]


@pytest.mark.parametrize(("amounts", "redeemed", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_discounts_are_taken_in_order_each_off_what_is_left(amounts: list[str], redeemed: list[Discount], expected: list[str]) -> None:
    found = discounts([Charge(Decimal(a)) for a in amounts], redeemed, "usd", NOW)
    assert [line.amount for line in found] == [Decimal(e) for e in expected]


def test_prorations_and_what_is_given_back_are_not_discounted() -> None:
    lines = [Charge(Decimal("20.00")), Charge(Decimal("-5.00")), Charge(Decimal("10.00"), ItemKind.PRORATION)]
    (line,) = discounts(lines, [off(1, percent="50")], "usd", NOW)
    assert line.parts == (Decimal("10.00"), Decimal("0.00"), Decimal("0.00"))


def test_a_discount_leaves_an_invoice_at_zero_and_not_below() -> None:
    lines = [Charge(Decimal("20.00")), Charge(Decimal("-15.00"), ItemKind.PRORATION)]
    (line,) = discounts(lines, [off(1, percent="50")], "usd", NOW)
    assert line.amount == Decimal("5.00")


def test_an_amount_in_another_currency_takes_nothing() -> None:
    assert discounts([Charge(Decimal(500))], [FIVE_DOLLARS], "jpy", NOW) == ()


def test_a_percentage_of_yen_is_whole_yen() -> None:
    (line,) = discounts([Charge(Decimal(333))], [off(1, percent="50")], "jpy", NOW)
    assert line.amount == Decimal(167)


def test_the_largest_remainder_gets_the_last_cent() -> None:
    (line,) = discounts([Charge(Decimal("10.00")), Charge(Decimal("10.00")), Charge(Decimal("10.00"))], [off(1, usd="10.00")], "usd", NOW)
    assert line.parts == (Decimal("3.34"), Decimal("3.33"), Decimal("3.33"))


ONCE = Coupon(code="ONCE", percent_off=Decimal(10))
STANDING = [
    ("not before it was redeemed", off(1, percent="10", start_ms=NOW + 1), False),
    ("from that instant on", off(1, percent="10", start_ms=NOW), True),
    ("until the instant before it ends", off(1, percent="10", end_ms=NOW + 1), True),
    ("not at its end", off(1, percent="10", end_ms=NOW), False),
    ("once, and this is the time", Discount(id=1, coupon=ONCE, start_ms=NOW), True),
    ("once, and that is over", Discount(id=1, coupon=ONCE, start_ms=NOW, used=True), False),
]


@pytest.mark.parametrize(("discount", "stands"), [case[1:] for case in STANDING], ids=[case[0] for case in STANDING])
def test_a_discount_stands_for_its_time(discount: Discount, stands: bool) -> None:
    assert discount.stands(NOW) is stands
    assert bool(discounts([Charge(Decimal(100))], [discount], "usd", NOW)) is stands


def test_three_months_from_30_november_end_on_28_february() -> None:
    coupon = Coupon(code="LAUNCH2026", percent_off=Decimal(50), duration=Duration.REPEATING, months=3)
    start = to_ms(datetime(2025, 11, 30, tzinfo=UTC))
    assert coupon.ends_ms(start) == to_ms(datetime(2026, 2, 28, tzinfo=UTC))


FAULTY = [
    Coupon(code="", percent_off=Decimal(10)),
    Coupon(code="WITH SPACE", percent_off=Decimal(10)),
    Coupon(code="NOTHING"),
    Coupon(code="BOTH", percent_off=Decimal(10), amount_off={"usd": Decimal(1)}),
    Coupon(code="ZERO", percent_off=Decimal(0)),
    Coupon(code="MUCH", percent_off=Decimal("100.01")),
    Coupon(code="FREE", amount_off={"usd": Decimal(0)}),
    Coupon(code="REPEATS", percent_off=Decimal(10), duration=Duration.REPEATING),
    Coupon(code="FOREVER", percent_off=Decimal(10), duration=Duration.FOREVER, months=3),
    Coupon(code="NEVER", percent_off=Decimal(10), max_redemptions=0),
]


@pytest.mark.parametrize("coupon", FAULTY, ids=lambda coupon: coupon.code or "no code")
def test_a_coupon_that_makes_no_sense_is_refused(coupon: Coupon) -> None:
    with pytest.raises(CouponFaulty):
        coupon.checked()


REFUSED = [
    replace(ONCE, withdrawn=True),
    replace(ONCE, redeem_by_ms=NOW),
    replace(ONCE, max_redemptions=2, redeemed=2),
    Coupon(code="EURO", amount_off={"eur": Decimal(5)}),
]


@pytest.mark.parametrize("coupon", REFUSED, ids=["withdrawn", "past its day", "spent", "another currency"])
def test_a_coupon_that_is_over_cannot_be_redeemed(coupon: Coupon) -> None:
    with pytest.raises(CouponNotRedeemable):
        coupon.check_redeemable("usd", NOW)


cents = st.integers(-500_00, 2_000_00).map(lambda n: Decimal(n).scaleb(-2))
charges = st.lists(st.builds(Charge, cents, st.sampled_from([ItemKind.BASE, ItemKind.OVERAGE, ItemKind.PRORATION])), max_size=6)
percentages = st.integers(1, 10_000).map(lambda n: Coupon(code="P", percent_off=Decimal(n).scaleb(-2), duration=Duration.FOREVER))
amounts = st.integers(1, 100_000).map(lambda n: Coupon(code="A", amount_off={"usd": Decimal(n).scaleb(-2)}, duration=Duration.FOREVER))
redemptions = st.lists(st.one_of(percentages, amounts), max_size=4).map(
    lambda coupons: [Discount(id=i, coupon=c, start_ms=0) for i, c in enumerate(coupons)]
)


@given(charges, redemptions)
def test_no_line_and_no_invoice_goes_below_zero_and_parts_add_up(lines: list[Charge], redeemed: list[Discount]) -> None:
    found = discounts(lines, redeemed, "usd", NOW)
    total = sum((line.amount for line in lines), Decimal(0))
    for line in found:
        assert line.amount > 0
        assert sum(line.parts) == line.amount == round_amount(line.amount, "usd")
        assert all(part >= 0 for part in line.parts)
    for i, line in enumerate(lines):
        assert sum((d.parts[i] for d in found), Decimal(0)) <= max(Decimal(0), line.amount)
    assert total - sum((d.amount for d in found), Decimal(0)) >= min(Decimal(0), total)
