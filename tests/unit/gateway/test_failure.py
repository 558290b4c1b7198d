"""While the store is away: open passes, closed refuses, grace passes so many a window over all workers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.gateway import Fixed, Route
from gateway.charges import Charge, make_charge
from gateway.failure import Grace, Verdict
from metering.model.apikey import KeyRecord
from metering.model.clock import FrozenClock
from metering.model.entitlement import Entitlement
from metering.model.quota import CLOSED, OPEN, FailureRule, Quota, Window

HOUR_MS = 3_600_000


def grace(calls: int) -> FailureRule:
    return FailureRule("grace", calls)


def charge(*rules: FailureRule, now_ms: int = 0, org: str = "o") -> Charge:
    """A call under one quota a rule, each in a window of its own."""
    windows = (Window.HOUR, Window.DAY, Window.MONTH)
    quotas = tuple(Quota(meter="api", limit=100, window=w, on_store_failure=r) for w, r in zip(windows, rules, strict=False))
    entitlement = Entitlement(org_id=org, slug="a", name="A", version=1, plan="p", plan_version=1, anchor_ms=0, quotas=quotas)
    route = Route(id=1, path="/*", upstream="app", charge={"api": Fixed(3)})
    return make_charge(entitlement, route, "GET", KeyRecord(key_id=1, org_id=""), now_ms)


def ready(workers: int = 1, used: dict[str, int] | None = None) -> Grace:
    return Grace(workers, used or {}, FrozenClock(0).now_ms)


@pytest.mark.parametrize(
    ("rules", "asked", "verdicts"),
    [
        ([OPEN], [5, 5], [("open", 5), ("open", 5)]),
        ([CLOSED], [5], [("closed", 0)]),
        ([grace(7)], [5, 5, 5], [("grace", 5), ("grace", 2), ("grace", 0)]),
        ([grace(7), grace(4)], [3, 3], [("grace", 3), ("grace", 1)]),
        ([OPEN, grace(4)], [3, 3], [("grace", 3), ("grace", 1)]),
        ([grace(4), CLOSED], [3], [("closed", 0)]),
        ([grace(0)], [1], [("grace", 0)]),
        ([], [2], [("open", 2)]),
    ],
)
def test_the_strictest_rule_decides_and_grace_counts_calls(
    rules: list[FailureRule], asked: list[int], verdicts: list[tuple[str, int]]
) -> None:
    decider, of = ready(), charge(*rules)
    assert [decider.decide(of, count) for count in asked] == [Verdict(*v) for v in verdicts]


@pytest.mark.parametrize(("calls", "workers", "share"), [(10, 1, 10), (10, 2, 5), (10, 3, 3), (2, 3, 0)])
def test_each_worker_has_its_share_of_a_grace(calls: int, workers: int, share: int) -> None:
    assert ready(workers).decide(charge(grace(calls)), 100).passed == share


def test_what_a_former_worker_of_this_place_let_pass_is_not_granted_again() -> None:
    of = charge(grace(10))
    hourly = next(limit.counter for limit in of.limits if limit.quota is not None)
    assert ready(used={hourly: 8}).decide(of, 5).passed == 2


def test_the_next_window_has_a_grace_of_its_own() -> None:
    decider = ready()
    assert decider.decide(charge(grace(3)), 5).passed == 3
    assert decider.decide(charge(grace(3), now_ms=HOUR_MS), 5).passed == 3


def test_organizations_do_not_share_a_grace() -> None:
    decider = ready()
    assert [decider.decide(charge(grace(3), org=org), 5).passed for org in "ab"] == [3, 3]


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(0, 30), st.integers(1, 4))
def test_all_workers_together_never_let_more_pass_than_the_grace(asked: list[int], calls: int, workers: int) -> None:
    of = charge(grace(calls))
    passed = sum(decider.decide(of, count).passed for decider in [ready(workers) for _ in range(workers)] for count in asked)
    assert passed <= calls


def test_a_multitude_of_windows_that_ended_is_forgotten_and_the_open_ones_are_not() -> None:
    clock = FrozenClock(0)
    decider = Grace(1, {}, clock.now_ms)
    past = charge(grace(3))
    for number in range(10_000):  # one template, so that the test stays short
        past.limits[-1].counter = f"past{number}"
        decider.decide(past, 1)
    clock.advance(3600)
    present = charge(grace(3), now_ms=HOUR_MS)
    decider.decide(present, 2)
    assert decider.decide(present, 2).passed == 1
    past.limits[-1].counter = "past0"
    assert decider.decide(past, 5).passed == 3
