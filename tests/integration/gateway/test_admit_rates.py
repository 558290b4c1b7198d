"""Rates in admit.lua: never more than the burst at once, never more than the limit sustained, and no unit less than that."""

import time
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import charges
from gateway.scripts import ADMIT
from metering.model import quota
from tests.integration.gateway.admitting import START_US, Group, Model, Rate, Scripts, name, told

slow = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def scripts(redis: str) -> Iterator[Scripts]:
    scripts = Scripts(redis)
    scripts.reset()
    yield scripts
    scripts.close()


@st.composite
def rates(draw: st.DrawFn) -> tuple[quota.Rate, int]:
    """A rate as a plan has it, and the cost of a call."""
    limit = draw(st.one_of(st.integers(1, 20), st.integers(1, 10**12)))
    burst = draw(st.none() | st.integers(1, 3 * limit))
    rate = quota.Rate(meter="api", limit=limit, per=draw(st.sampled_from(["second", "minute"])), burst=burst)
    return rate, draw(st.integers(1, max(rate.depth // 3, 1)))


def in_script(rate: quota.Rate, cost: int) -> Rate:
    unit, slope = charges._pace(rate, cost)
    return Rate(key=0, cost=cost, unit=unit, slope=slope, burst=rate.depth)


@slow
@given(rates(), st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(1, 9)), min_size=1, max_size=12))
def test_in_no_stretch_of_time_more_passes_than_the_burst_and_what_the_rate_gives(
    scripts: Scripts, planned: tuple[quota.Rate, int], calls: list[tuple[int, int]]
) -> None:
    scripts.reset()
    rate, cost = planned
    model, passed = Model(), list[tuple[int, int]]()
    for pause_us, count in calls:
        model.now_us += pause_us
        scripts.set_clock(model.now_us)
        group = Group("acme", 1, count, rates=(in_script(rate, cost),))
        found, want = told([group], scripts.admit([group]))[0], model.admit(group)
        assert (found.granted, found.debts) == (want.granted, want.debts)
        passed.append((model.now_us, found.granted * cost))
    micros = 1_000_000 if rate.per == "second" else 60_000_000
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            units = sum(units for _, units in passed[first : last + 1])
            assert units <= rate.depth + Fraction(rate.limit * (passed[last][0] - passed[first][0]), micros)


@pytest.mark.parametrize(("limit", "per", "burst"), [(5, "second", None), (7, "minute", 3), (60, "minute", 1), (10**9, "second", 7)])
def test_who_asks_as_fast_as_the_rate_allows_is_never_refused(scripts: Scripts, limit: int, per: str, burst: int | None) -> None:
    rate = quota.Rate(meter="api", limit=limit, per="second" if per == "second" else "minute", burst=burst)
    group = Group("acme", 1, 1, rates=(in_script(rate, rate.depth),))  # the whole burst a call
    step_us = -(-rate.depth * (1_000_000 if per == "second" else 60_000_000) // limit)
    for i in range(20):
        scripts.set_clock(START_US + i * step_us)
        assert told([group], scripts.admit([group]))[0].granted == 1


def test_a_rate_too_large_to_be_exact_is_a_little_slower_and_never_faster() -> None:
    rate = quota.Rate(meter="bandwidth", limit=999_999_999_989, per="second", burst=3 * 10**12)
    unit, slope = charges._pace(rate, 1)
    assert rate.depth * unit <= 2**52
    assert Fraction(999, 1000) < Fraction(slope, unit) / Fraction(rate.limit, 1_000_000) <= 1


def test_a_clock_that_was_set_back_refuses_nobody_for_longer_than_the_debt_lasts(scripts: Scripts) -> None:
    group = Group("acme", 1, 1, rates=(Rate(0, 1, 1_000_000, 1, 1),))  # one a second
    assert told([group], scripts.admit([group]))[0].granted == 1
    scripts.set_clock(START_US - 3_600_000_000)
    assert told([group], scripts.admit([group]))[0].granted == 0
    scripts.set_clock(START_US - 3_600_000_000 + 1_000_000)
    assert told([group], scripts.admit([group]))[0].granted == 1


def test_a_shadow_rate_refuses_nobody_and_says_how_many_it_would_have(scripts: Scripts) -> None:
    group = Group("acme", 1, 5, rates=(Rate(0, 1, 1, 1, 2, shadow=True),))
    found = told([group], scripts.admit([group]))[0]
    assert (found.granted, found.unfit, found.debts) == (5, [3], [2])


def test_what_is_owed_is_forgotten_when_it_is_paid_and_not_before(scripts: Scripts) -> None:
    """With the script as it is, on the server's own clock."""
    group = Group("acme", 1, 3, rates=(Rate(0, 1, 1_000_000, 5, 3),))  # five a second: 600 ms for three
    scripts.set_clock(time.time_ns() // 1000)
    scripts.redis.script_load(ADMIT.body.decode())
    reply = scripts.send(scripts.command([group]))
    assert told([group], reply)[0].granted == 3
    left_ms = scripts.redis.pttl(name("r", 0))
    since, debt = (int(word) for word in scripts.redis.get(name("r", 0)).split())
    seconds, micros = scripts.redis.time()
    owed_ms = (debt - (seconds * 1_000_000 + micros - since) * 5) / 5 / 1000
    assert owed_ms <= left_ms + 1 <= 605
