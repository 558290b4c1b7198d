"""The judge of the chaos run judges: what was lost, what was doubled, and what may be."""

from collections import Counter
from dataclasses import replace

import pytest

from .books import Account, close

GOOD = Account(asked=100, answered=80, refused=15, seen=82, charged=82, returned=3, counter=82)


def test_books_in_order_are_left_alone() -> None:
    verdict = close({"a": GOOD}, Counter({"c1": 1, "c2": 1}), may_lose=False)
    assert (verdict.lost, verdict.doubled, verdict.broken) == (0, 0, [])


@pytest.mark.parametrize(
    ("account", "lost", "doubled"),
    [
        (replace(GOOD, charged=78, counter=78), 2 + 1, 0),  # two answered and not charged, one more seen and in no book
        (replace(GOOD, seen=86), 1, 0),
        (replace(GOOD, charged=83, counter=83, returned=2), 0, 1),
        (replace(GOOD, returned=4), 0, 1),
    ],
)
def test_what_is_lost_or_doubled_is_counted_and_does_not_hold(account: Account, lost: int, doubled: int) -> None:
    verdict = close({"a": account}, Counter(), may_lose=False)
    assert (verdict.lost, verdict.doubled, len(verdict.broken)) == (lost, doubled, 1)


def test_a_call_that_the_service_saw_twice_is_doubled() -> None:
    verdict = close({"a": GOOD}, Counter({"c1": 2, "c2": 1}), may_lose=False)
    assert (verdict.doubled, verdict.broken) == (1, ["the service saw call c1 2 times"])


def test_a_counter_that_is_not_the_ledger_does_not_hold() -> None:
    assert close({"a": replace(GOOD, counter=81)}, Counter(), may_lose=False).broken


def test_what_was_answered_may_be_lost_only_as_far_as_it_was_given_back() -> None:
    killed = replace(GOOD, answered=82, charged=80, counter=80, returned=5)
    assert not close({"a": killed}, Counter(), may_lose=True).broken
    assert close({"a": killed}, Counter(), may_lose=False).broken
    assert close({"a": replace(killed, returned=1)}, Counter(), may_lose=True).broken
