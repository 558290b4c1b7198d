"""Turns, weights and load; who is left out, for how long, and that never too many are: under a clock that moves when told."""

from collections import Counter

import pytest

from config.gateway import Ejection, Upstream
from gateway.health import Standing, Streak, verdict
from gateway.upstream import Target, UpstreamPool
from metering.model.clock import FrozenClock

RULE = Ejection(failures=3, base_s=10, most_s=60)


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(1_000_000)


def pool(clock: FrozenClock, *weights: int, **facts) -> UpstreamPool:
    """Targets a, b, c, …, with these weights."""
    targets = tuple(f"http://{name}" for name in "abcdefgh"[: len(weights)])
    even = len(set(weights)) == 1
    return UpstreamPool(
        {"app": Upstream(name="app", targets=targets, weights=() if even else weights, **{"ejection": RULE, **facts})}, clock
    )


def turns(pool: UpstreamPool, count: int) -> str:
    return "".join(choose(pool).url[-1] for _ in range(count))


def choose(pool: UpstreamPool) -> Target:
    target = pool.choose("app")
    assert target is not None
    return target


def fail(target: Target, times: int) -> None:
    for _ in range(times):
        target.begun()
        target.ended(False)


# --- turns ----------------------------------------------------------------------------------------------------------------


def test_targets_take_turns(clock):
    assert turns(pool(clock, 1, 1, 1), 7) == "abcabca"


def test_weights_are_kept_exactly_and_smoothly(clock):
    assert turns(pool(clock, 5, 1, 1), 14) == "aabacaa" * 2
    assert Counter(turns(pool(clock, 7, 3, 2), 1200)) == {"a": 700, "b": 300, "c": 200}


def test_the_least_busy_for_its_weight_is_next(clock):
    three = pool(clock, 1, 1, 1, balance="least_connections")
    a, b, _ = three.targets("app")
    a.begun()
    b.begun()
    assert turns(three, 3) == "ccc"


def test_calls_that_last_spread_by_weight(clock):
    two = pool(clock, 3, 1, balance="least_connections")
    for _ in range(400):
        choose(two).begun()
    assert [target.in_flight for target in two.targets("app")] == [300, 100]


def test_among_equally_busy_ones_turns_are_taken(clock):
    assert Counter(turns(pool(clock, 1, 1, 1, balance="least_connections"), 300)) == {"a": 100, "b": 100, "c": 100}


@pytest.mark.parametrize("balance", ["round_robin", "least_connections"])
def test_a_full_target_is_passed_over_while_another_has_room(balance, clock):
    two = pool(clock, 1, 1, max_connections=1, balance=balance)
    two.targets("app")[0].open = 1
    assert turns(two, 4) == "bbbb"
    two.targets("app")[1].open = 1
    assert set(turns(two, 4)) <= {"a", "b"}


def test_the_tries_for_one_call_are_every_target_once_the_chosen_one_leading(clock):
    four = pool(clock, 1, 1, 1, 1)
    a, b, c, d = four.targets("app")
    b.standing.pause(clock.monotonic())
    b._changed()
    assert list(four.order("app", c)) == [c, d, a, b]


# --- left out -------------------------------------------------------------------------------------------------------------


def test_so_many_failures_in_a_row_and_a_target_is_left_out(clock):
    three = pool(clock, 1, 1, 1)
    a = three.targets("app")[0]
    fail(a, 2)
    a.begun()
    a.ended(True)
    fail(a, 2)
    assert "a" in turns(three, 3)
    fail(a, 1)
    assert "a" not in turns(three, 6)


def test_it_comes_back_and_its_first_call_decides(clock):
    three = pool(clock, 1, 1, 1)
    a = three.targets("app")[0]
    fail(a, 3)
    clock.advance(10)
    assert "a" in turns(three, 3)
    fail(a, 1)
    assert "a" not in turns(three, 6)


def test_it_is_out_twice_as_long_each_time_up_to_the_longest(clock):
    a = pool(clock, 1, 1, 1).targets("app")[0]
    lasted = []
    for _ in range(5):
        fail(a, 3)
        lasted.append(a.standing.ejected_until - clock.monotonic())
        clock.advance(lasted[-1])
    assert lasted == [10, 20, 40, 60, 60]


def test_one_that_served_as_long_as_it_was_out_starts_over(clock):
    a = pool(clock, 1, 1, 1).targets("app")[0]
    fail(a, 3)
    clock.advance(20)
    fail(a, 3)
    assert a.standing.ejected_until - clock.monotonic() == 10


@pytest.mark.parametrize(("count", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_at_most_half_are_left_out_at_once(count, most, clock):
    targets = pool(clock, *[1] * count).targets("app")
    for target in targets:
        fail(target, 9)
    assert sum(target.is_down for target in targets) == most


def test_those_that_fail_their_probes_are_of_the_half(clock):
    a, b = pool(clock, 1, 1).targets("app")
    a.probed(False, False)
    fail(b, 9)
    assert not b.is_down


def test_failures_while_it_is_out_do_not_lengthen_it(clock):
    a = pool(clock, 1, 1, 1).targets("app")[0]
    fail(a, 3)
    until = a.standing.ejected_until
    clock.advance(5)
    fail(a, 3)
    assert a.standing.ejected_until == until


def test_without_a_rule_nothing_is_left_out_for_failed_calls(clock):
    two = pool(clock, 1, 1, ejection=None)
    fail(two.targets("app")[0], 99)
    assert turns(two, 4) == "abab"


def test_where_all_are_out_all_are_tried(clock):
    two = pool(clock, 1, 1)
    for target in two.targets("app"):
        target.probed(False, False)
    assert turns(two, 4) == "abab"
    two.targets("app")[1].probed(True, True)
    assert turns(two, 4) == "bbbb"


def test_a_target_whose_connection_failed_is_passed_over_until_its_pause_is_over(clock):
    two = pool(clock, 1, 1)
    a = two.targets("app")[0]
    a._opening_failed()
    assert turns(two, 4) == "bbbb"
    clock.advance(1)
    assert sorted(turns(two, 4)) == list("aabb")


def test_pauses_grow_and_a_connection_ends_them():
    standing = Standing()
    lasted = []
    for _ in range(6):
        standing.pause(100.0)
        lasted.append(standing.paused_until - 100.0)
    assert lasted == [1, 2, 4, 8, 10, 10]
    standing.connects()
    standing.pause(100.0)
    assert standing.paused_until == 101.0


def test_a_good_answer_to_a_probe_ends_a_pause_but_no_ejection(clock):
    a, b, _ = pool(clock, 1, 1, 1).targets("app")
    a._opening_failed()
    a.probed(None, True)
    assert not a.is_down
    fail(b, 3)
    b.probed(None, True)
    assert b.is_down


def test_one_that_passes_its_probes_again_starts_with_a_clean_slate(clock):
    a = pool(clock, 1, 1, 1).targets("app")[0]
    fail(a, 3)
    a.probed(False, False)
    a.probed(True, True)
    assert (a.is_down, a.failures) == (False, 0)


# --- what is heard --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "verdicts"),
    [
        ("+", [True]),
        ("-", [False]),
        ("+--", [True, None, None]),
        ("+---", [True, None, None, False]),
        ("+--+---", [True, None, None, None, None, None, False]),
        ("-+", [False, None]),
        ("-++", [False, None, True]),
        ("-+-++", [False, None, None, None, True]),
    ],
)
def test_answers_to_probes_count_in_a_row_and_the_first_at_once(answers, verdicts):
    streak = Streak(healthy=2, unhealthy=3)
    assert [streak.heard(answer == "+") for answer in answers] == verdicts


@pytest.mark.parametrize(
    ("ended", "status", "plain", "strict"),
    [
        ("complete", 200, True, True), ("complete", 404, True, True), ("complete", 500, True, False), ("complete", 503, True, False),
        ("upstream_reset", None, False, False), ("bad_response", None, False, False), ("timeout", None, False, False),
        ("client_gone", 200, None, None), ("unreachable", None, None, None),
    ],
)  # fmt: skip
def test_how_an_exchange_ended_says_how_its_target_is(ended, status, plain, strict):
    assert (verdict(ended, status, False), verdict(ended, status, True)) == (plain, strict)
