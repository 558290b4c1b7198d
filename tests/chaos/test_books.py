"""The judge of the chaos run judges: what was lost, what was doubled, and what may be."""

from collections import Counter
from dataclasses import replace

import pytest

from .books import Account, close
from .fault import Fault
from .faults.gateway import WorkerKilled

GOOD = Account(asked=100, answered=80, refused=15, seen=82, charged=82, returned=3, counter=82)


def nothing(who: str, account: Account) -> int:
    return 0


def test_books_in_order_are_left_alone() -> None:
    verdict = close({"a": GOOD}, Counter({"c1": 1, "c2": 1}), nothing)
    assert (verdict.lost, verdict.doubled, verdict.broken) == (0, 0, [])


@pytest.mark.parametrize(
    ("account", "lost", "doubled"),
    [
        (replace(GOOD, charged=78, counter=78), 2, 0),  # answered and not charged
        (replace(GOOD, seen=86), 1, 0),
        (replace(GOOD, charged=83, counter=83, returned=2), 0, 1),
        (replace(GOOD, returned=4), 0, 1),
    ],
)
def test_what_is_lost_or_doubled_is_counted_and_does_not_hold(account: Account, lost: int, doubled: int) -> None:
    verdict = close({"a": account}, Counter(), nothing)
    assert (verdict.lost, verdict.doubled, len(verdict.broken)) == (lost, doubled, 1)


def test_a_call_that_the_service_saw_twice_is_doubled() -> None:
    verdict = close({"a": GOOD}, Counter({"c1": 2, "c2": 1}), nothing)
    assert (verdict.doubled, verdict.broken) == (1, ["the service saw call c1 2 times"])


def test_a_counter_that_is_not_the_ledger_does_not_hold() -> None:
    assert close({"a": replace(GOOD, counter=81)}, Counter(), nothing).broken


def test_what_was_answered_may_be_lost_as_far_as_the_fault_says() -> None:
    killed = replace(GOOD, answered=82, charged=80, counter=80, returned=5)
    assert not close({"open/a": killed}, Counter(), lambda who, account: account.unbilled if who == "open/a" else 0).broken
    assert close({"open/a": killed}, Counter(), nothing).broken
    assert close({"open/a": killed}, Counter(), lambda who, account: 1).broken


def test_a_killed_worker_may_lose_what_it_gave_back_and_no_more() -> None:
    killed = replace(GOOD, answered=82, charged=80, counter=80, returned=5)
    assert WorkerKilled().may_lose("open/a", killed) == 2
    assert WorkerKilled().may_lose("open/a", replace(killed, returned=1)) == 1
    assert Fault().may_lose("open/a", killed) == 0
