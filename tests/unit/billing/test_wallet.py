"""Which credits pay an invoice, and what comes back when it is voided."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.model.wallet import Grant, GrantFaulty, GrantKind, balance, burn, give_back
from metering.model.errors import BadInput

NOW = 1_000_000


def grant(number: int, left: str | Decimal, **terms: object) -> Grant:
    made = Grant(id=number, org_id="o", amount=Decimal(left), left=Decimal(left), currency="usd", reason="Referral bonus")
    return replace(made, **terms)


ORDERS = [
    ("what ends soonest first", [grant(1, "5"), grant(2, "5", expires_at_ms=NOW + 9), grant(3, "5", expires_at_ms=NOW + 2)], [3, 2, 1]),
    ("an end before a priority", [grant(1, "5", priority=0), grant(2, "5", priority=100, expires_at_ms=NOW + 9)], [2, 1]),
    ("then the smaller priority", [grant(1, "5", priority=60), grant(2, "5", priority=10)], [2, 1]),
    ("a priority before a kind", [grant(1, "5", priority=60), grant(2, "5", priority=10, kind=GrantKind.PAID)], [2, 1]),
    ("then what was given before what was paid", [grant(1, "5", kind=GrantKind.PAID), grant(2, "5", granted_at_ms=9)], [2, 1]),
    ("then the older", [grant(1, "5", granted_at_ms=7), grant(2, "5", granted_at_ms=3)], [2, 1]),
    ("then the first", [grant(2, "5"), grant(1, "5")], [1, 2]),
    ("none that has ended", [grant(1, "5", expires_at_ms=NOW), grant(2, "5")], [2]),
    ("none that is empty", [grant(1, "0"), grant(2, "5")], [2]),
]


@pytest.mark.parametrize(("grants", "expected"), [case[1:] for case in ORDERS], ids=[case[0] for case in ORDERS])
def test_credits_are_burned_in_one_order(grants: list[Grant], expected: list[int]) -> None:
    assert [number for number, _ in burn(grants, Decimal(100), NOW).used] == expected


def test_the_last_grant_is_burned_in_part_and_the_rest_is_due() -> None:
    grants = [grant(1, "25.00"), grant(2, "10.00")]
    assert burn(grants, Decimal("30.00"), NOW).used == ((1, Decimal("25.00")), (2, Decimal("5.00")))
    assert burn(grants, Decimal("49.00"), NOW).rest == Decimal("14.00")


def test_an_invoice_below_zero_burns_nothing() -> None:
    assert burn([grant(1, "5")], Decimal(-3), NOW).used == ()


def test_what_was_burned_last_comes_back_first() -> None:
    burned = [(grant(1, "0"), Decimal(25)), (grant(2, "5"), Decimal(5))]
    assert give_back(burned, Decimal(7), NOW, why="w").returned == ((2, Decimal(5)), (1, Decimal(2)))


def test_all_of_it_comes_back_where_no_amount_is_said() -> None:
    burned = [(grant(1, "0"), Decimal(25)), (grant(2, "5"), Decimal(5))]
    assert give_back(burned, None, NOW, why="w").returned == ((2, Decimal(5)), (1, Decimal(25)))


def test_paid_credit_that_has_ended_comes_back_without_end() -> None:
    ended = grant(1, "0", kind=GrantKind.PAID, expires_at_ms=NOW)
    found = give_back([(ended, Decimal(25))], None, NOW, why="invoice WB-7 was voided")
    assert found.returned == ()
    ((number, new),) = found.renewed
    assert (number, new.left, new.expires_at_ms, new.reason) == (1, Decimal(25), None, "invoice WB-7 was voided")


def test_promotional_credit_that_has_ended_is_lost() -> None:
    ended = grant(1, "0", expires_at_ms=NOW)
    found = give_back([(ended, Decimal(25))], None, NOW, why="w")
    assert (found.returned, found.renewed, found.lost) == ((), (), Decimal(25))


FAULTY = [
    grant(1, "0"),
    grant(1, "-5"),
    grant(1, "0.005"),
    grant(1, "5", reason=" "),
    grant(1, "5", priority=101),
    grant(1, "5", expires_at_ms=NOW),
]


@pytest.mark.parametrize("faulty", FAULTY, ids=["nothing", "below zero", "half a cent", "no reason", "no such priority", "ended"])
def test_a_grant_that_makes_no_sense_is_refused(faulty: Grant) -> None:
    with pytest.raises(BadInput):
        faulty.checked(NOW)


def test_a_good_grant_is_itself() -> None:
    good = grant(1, "25.00", expires_at_ms=NOW + 1)
    assert good.checked(NOW) is good
    with pytest.raises(GrantFaulty):
        replace(good, reason="").checked(NOW)


cents = st.integers(0, 100_00).map(lambda n: Decimal(n).scaleb(-2))
grants_of = st.lists(
    st.builds(
        lambda left, priority, ends, kind: grant(0, left, priority=priority, expires_at_ms=ends, kind=kind),
        cents, st.integers(0, 100), st.one_of(st.none(), st.integers(NOW - 5, NOW + 5)), st.sampled_from(GrantKind),
    ),
    max_size=6,
).map(lambda found: [replace(g, id=i) for i, g in enumerate(found)])  # fmt: skip


@given(grants_of, cents)
def test_no_grant_is_burned_beyond_what_it_has_and_nothing_is_left_out(grants: list[Grant], amount: Decimal) -> None:
    found = burn(grants, amount, NOW)
    left = {g.id: g.left for g in grants if g.usable(NOW)}
    assert all(0 < taken <= left[number] for number, taken in found.used)
    assert found.amount + found.rest == amount
    assert found.rest == max(Decimal(0), amount - balance(grants, NOW))


@given(grants_of, cents)
def test_what_is_burned_and_given_back_leaves_the_balance_as_it_was(grants: list[Grant], amount: Decimal) -> None:
    found, by_id = burn(grants, amount, NOW), {g.id: g for g in grants}
    back = give_back([(by_id[number], taken) for number, taken in found.used], None, NOW, why="w")
    assert sum((a for _, a in back.returned), Decimal(0)) == found.amount
