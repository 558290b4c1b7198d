"""Calls in flight in admit.lua and slots.lua: never more than the limit over all workers that live; dead ones count for nothing."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.model import keys
from tests.integration.gateway.admitting import BUCKET, LIVES_MS, START_US, TAG, Group, Model, Scripts, Slot, name, told

slow = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def scripts(redis: str) -> Iterator[Scripts]:
    scripts = Scripts(redis)
    scripts.reset()
    yield scripts
    scripts.close()


def asking(count: int, limit: int, *, key: int = 0, shadow: bool = False) -> Group:
    return Group("acme", 1, count, slots=(Slot(key, limit, shadow),))


def granted(scripts: Scripts, group: Group, worker: str, held: int = 0) -> int:
    return told([group], scripts.admit([group], worker=worker, held={0: held}))[0].granted


steps = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from("uvw"), st.integers(1, 4)),
    st.tuples(st.just("end"), st.sampled_from("uvw"), st.integers(1, 4)),
    st.tuples(st.just("beat"), st.sampled_from("uvw"), st.just(0)),
    st.tuples(st.just("pause"), st.just(""), st.integers(0, LIVES_MS)),
)


@slow
@given(st.lists(steps, max_size=25))
def test_the_slots_of_living_workers_add_up_and_those_of_silent_ones_lapse(scripts: Scripts, schedule: list[tuple[str, str, int]]) -> None:
    scripts.reset()
    model, limit = Model(), 5
    for what, worker, number in schedule:
        held = model.slots.get((0, worker), 0)
        if what == "ask":
            group = asking(number, limit)
            want = model.admit(group, worker)
            found = told([group], scripts.admit([group], worker=worker, held={0: held}))[0]
            assert (found.granted, found.held) == (want.granted, want.held)
            assert found.granted == 0 or found.held[0] <= limit
        elif what == "pause":
            model.now_us += number * 1000
            scripts.set_clock(model.now_us)
        else:
            model.slots[0, worker] = max(held - number, 0)
            model.beats[worker] = model.now_us // 1000
            assert scripts.say(worker, {0: model.slots[0, worker]}) in (0, 1)


def test_a_long_call_of_a_living_worker_never_lapses(scripts: Scripts) -> None:
    assert granted(scripts, asking(1, 1), "u") == 1
    for second in range(1, 100):
        scripts.set_clock(START_US + second * 1_000_000)
        scripts.say("u", {} if second % 5 else {0: 1})
        assert granted(scripts, asking(1, 1), "v") == 0


def test_the_slots_of_a_killed_worker_are_free_after_some_seconds(scripts: Scripts) -> None:
    assert granted(scripts, asking(1, 1), "u") == 1
    scripts.set_clock(START_US + LIVES_MS * 1000)
    assert granted(scripts, asking(1, 1), "v") == 0
    scripts.set_clock(START_US + LIVES_MS * 1000 + 1_000)
    assert granted(scripts, asking(1, 1), "v") == 1


def test_a_worker_that_was_silent_too_long_hears_that_it_had_counted_as_dead(scripts: Scripts) -> None:
    assert scripts.say("u", {0: 1}) == 0
    assert scripts.say("u", {0: 1}) == 1
    scripts.set_clock(START_US + LIVES_MS * 1000 + 1_000)
    assert scripts.say("u", {0: 1}) == 0


def test_a_word_that_comes_late_changes_nothing(scripts: Scripts) -> None:
    scripts.say("u", {0: 1}, number=50)
    assert scripts.say("u", {0: 0}, number=49) == -1
    assert scripts.redis.hget(name("c", 0), "u") == b"1"
    scripts.number = 60
    assert granted(scripts, asking(1, 2), "u", held=1) == 1
    assert scripts.say("u", {0: 0}, number=60) == -1
    assert scripts.redis.hget(name("c", 0), "u") == b"2"


def test_a_word_under_another_epoch_is_not_taken_and_one_in_recovery_is(scripts: Scripts) -> None:
    assert scripts.say("u", {0: 1}, tag="2 runid") == -1
    scripts.redis.set(keys.epoch(BUCKET), TAG + " wait")
    assert scripts.say("u", {0: 1}) == 0


def test_a_shadow_limit_refuses_nobody_and_holds_the_slots(scripts: Scripts) -> None:
    found = told([asking(4, 1, shadow=True)], scripts.admit([asking(4, 1, shadow=True)]))[0]
    assert (found.granted, found.held) == (4, [4])


def test_two_groups_of_one_script_share_their_slots(scripts: Scripts) -> None:
    batch = [asking(2, 3), asking(2, 3)]
    assert [t.granted for t in told(batch, scripts.admit(batch))] == [2, 1]
    assert scripts.redis.hget(name("c", 0), "w") == b"3"


def test_what_nobody_says_again_is_forgotten(scripts: Scripts) -> None:
    granted(scripts, asking(1, 1), "u")
    assert 0 < scripts.redis.pttl(name("c", 0)) <= 30_000
    scripts.say("u", {0: 1})
    assert 0 < scripts.redis.pttl(keys.alive(BUCKET)) <= 60_000
