"""admit.lua against a plain Python model: call by call, every limit checked, then all charged, or none."""

import time
from collections.abc import Iterator

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import ResponseError

from gateway.scripts import RESOLVE, SETTLE
from metering.model import keys
from tests.integration.gateway.admitting import (
    BUCKET,
    HOUR_MS,
    TAG,
    Group,
    Limit,
    Model,
    Rate,
    Scripts,
    Slot,
    Throttle,
    name,
    told,
)

COUNTERS = [name("q", number) for number in range(4)]
slow = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def scripts(redis: str) -> Iterator[Scripts]:
    scripts = Scripts(redis)
    scripts.reset()
    yield scripts
    scripts.close()


@pytest.fixture
def store(scripts: Scripts) -> Redis:
    return scripts.redis


limits = st.builds(Limit, counter=st.integers(0, 3), cost=st.integers(0, 5), enforced=st.none() | st.integers(0, 25))
rates = st.builds(
    Rate, key=st.integers(0, 2), cost=st.integers(1, 3), unit=st.just(3), slope=st.just(2), burst=st.integers(1, 6), shadow=st.booleans()
)
slots = st.builds(Slot, key=st.integers(0, 2), limit=st.integers(0, 5), shadow=st.booleans())


@st.composite
def groups(draw: st.DrawFn) -> Group:
    rows = tuple(draw(st.lists(limits, max_size=4, unique_by=lambda limit: limit.counter)))
    mains = st.integers(0, len(rows) - 1) if rows else st.nothing()
    throttles = st.builds(Throttle, main=mains, after=st.integers(0, 12), sub=st.integers(0, 3), enforced=st.none() | st.integers(0, 6))
    return Group(
        org=draw(st.sampled_from(["acme", "globex"])),
        version=draw(st.sampled_from([1, 1, 1, 1, 2, None])),
        count=draw(st.integers(1, 9)),
        limits=rows,
        window=draw(st.sampled_from(["now", "now", "now", "now", "past", "future"])),
        throttles=tuple(draw(st.lists(throttles, max_size=2, unique_by=lambda t: t.sub))) if rows and draw(st.booleans()) else (),
        rates=tuple(draw(st.lists(rates, max_size=2, unique_by=lambda r: r.key))) if draw(st.booleans()) else (),
        slots=tuple(draw(st.lists(slots, max_size=2, unique_by=lambda s: s.key))) if draw(st.booleans()) else (),
        ticket=draw(st.sampled_from([10, 20, 30])),
        whole=draw(st.booleans()),
    )


def charged(store: Redis, worker: str = "w") -> dict[int, int]:
    """By ticket, what the last admit left for who asks after it."""
    words = [int(word) for word in (store.hget(keys.marks(BUCKET), f"a:{worker}") or b"::").split(b":")[2].split()]
    found: dict[int, int] = {}
    for ticket, calls in zip(words[::2], words[1::2], strict=True):
        found[ticket] = found.get(ticket, 0) + calls
    return found


@slow
@given(st.lists(st.tuples(st.lists(groups(), min_size=1, max_size=6), st.integers(0, 6)), min_size=1, max_size=4))
def test_the_script_decides_as_the_model_does(scripts: Scripts, calls: list[tuple[list[Group], int]]) -> None:
    scripts.reset()
    model = Model()
    for batch, pause_us in calls:
        model.now_us += pause_us
        scripts.set_clock(model.now_us)
        held = {key: count for (key, _), count in model.slots.items()}
        model.charged = {}
        wanted = [model.admit(group) for group in batch]
        found = told(batch, scripts.admit(batch, held=held))
        for group, want, got in zip(batch, wanted, found, strict=True):
            assert (got.status, got.granted) == (want.status, want.granted)
            if not want.status:
                assert (got.used, got.debts, got.held, got.within, got.unfit) == (want.used, want.debts, want.held, want.within, want.unfit)
                assert bool(got.refusing) == (got.granted < group.count)
        assert [int(value or 0) for value in scripts.redis.mget(COUNTERS)] == [model.counters.get(i, 0) for i in range(4)]
        if model.charged:
            assert charged(scripts.redis) == model.charged


def test_a_refused_call_charges_nothing_and_names_the_limit(scripts: Scripts) -> None:
    batch = [Group("acme", 1, 5, (Limit(0, 1, None), Limit(1, 3, 7)))]
    assert scripts.admit(batch) == [2, 2, 2, 6]
    assert scripts.redis.mget(COUNTERS[:2]) == [b"2", b"6"]


@pytest.mark.parametrize("refuses", ["quota", "slower quota", "rate", "slots"])
def test_what_any_limit_refuses_no_other_is_charged_for(scripts: Scripts, refuses: str) -> None:
    group = Group(
        "acme", 1, 1, (Limit(0, 1, None), Limit(1, 1, 0 if refuses == "quota" else 9)),
        throttles=(Throttle(0, 0, 0, 0 if refuses == "slower quota" else 9),),
        rates=(Rate(0, 1, 1, 1, 0 if refuses == "rate" else 9),),
        slots=(Slot(0, 0 if refuses == "slots" else 9),),
    )  # fmt: skip
    found = told([group], scripts.admit([group]))[0]
    assert (found.granted, found.refusing) == (0, {"quota": 2, "slower quota": 3, "rate": 4, "slots": 5}[refuses])
    assert not scripts.redis.keys("wb:{7}:[qsrc]:*")
    assert not scripts.redis.exists(keys.marks(BUCKET), keys.alive(BUCKET))


def test_quantities_are_exact_where_lua_would_write_them_with_an_exponent(scripts: Scripts) -> None:
    large = 2**52 + 1
    assert scripts.admit([Group("acme", 1, 1, (Limit(0, large, None),))]) == [1, 0, large]
    assert scripts.admit([Group("acme", 1, 3, (Limit(0, 10**15, 2**53),))]) == [3, 0, large + 3 * 10**15]
    assert scripts.redis.get(COUNTERS[0]) == b"%d" % (large + 3 * 10**15)


def test_a_call_that_comes_twice_does_nothing_the_second_time(scripts: Scripts) -> None:
    batch = [Group("acme", 1, 4, (Limit(0, 1, 3),))]
    assert scripts.admit(batch, n=1) == [3, 1, 3]
    assert scripts.admit(batch, n=1) == [b"?"]
    assert scripts.redis.get(COUNTERS[0]) == b"3"


def resolve(store: Redis, n: int, worker: str = "w", tag: str = TAG) -> list:
    return store.eval(RESOLVE.body.decode(), 2, keys.epoch(BUCKET), keys.marks(BUCKET), tag, worker, n)


def test_a_call_given_up_before_it_ran_does_nothing_when_it_arrives(scripts: Scripts, store: Redis) -> None:
    assert resolve(store, 1) == [b"dead"]
    assert scripts.admit([Group("acme", 1, 4, (Limit(0, 1, None),))], n=1) == [b"?"]
    assert store.get(COUNTERS[0]) is None


def test_what_a_call_charged_is_told_to_who_asks_after_it(scripts: Scripts, store: Redis) -> None:
    batch = [Group("acme", 1, 4, (Limit(0, 1, 3),), ticket=7), Group("acme", 2, 1, ticket=8), Group("globex", 1, 2, ticket=9)]
    scripts.admit(batch, n=5)
    assert resolve(store, 5) == [b"ok", b"5", b" 7 3 9 2"]


def test_calls_that_nobody_need_know_are_not_told(scripts: Scripts, store: Redis) -> None:
    scripts.admit([Group("@192.0.2.1", None, 2, (Limit(0, 1, None),), ticket=0)], n=5)
    assert store.get(COUNTERS[0]) == b"2"
    assert resolve(store, 5) == [b"dead"]


def test_a_successor_learns_the_last_call_however_often_it_asks_and_buries_the_rest(scripts: Scripts, store: Redis) -> None:
    scripts.admit([Group("acme", 1, 4, (Limit(0, 1, 3),))], n=5)
    for _ in range(2):
        assert resolve(store, 2**52) == [b"ok", b"5", b" 10 3"]
    assert scripts.admit([Group("acme", 1, 1)], n=6) == [b"?"]


@pytest.mark.parametrize("value", ["4 runid", "3 other", "3 runid wait", ""])
def test_another_epoch_another_server_or_a_bucket_in_recovery_charges_nothing(scripts: Scripts, value: str) -> None:
    scripts.reset(value)
    assert scripts.admit([Group("acme", 1, 1, (Limit(0, 1, None),))]) == [b"!" + value.encode()]
    assert scripts.redis.get(COUNTERS[0]) is None


def test_a_counter_expires_after_its_window_and_its_first_call_says_when(scripts: Scripts) -> None:
    for _ in range(2):
        scripts.admit([Group("acme", 1, 1, (Limit(0, 1, None),))])
        assert scripts.redis.pexpiretime(COUNTERS[0]) == 4_000_000_000_000


def test_a_call_beyond_a_throttle_is_charged_to_the_slower_quota_too_and_one_that_straddles_is_beyond(
    scripts: Scripts,
) -> None:
    group = Group("acme", 1, 9, (Limit(0, 3, None),), throttles=(Throttle(main=0, after=10, sub=0, enforced=8),))
    found = told([group], scripts.admit([group]))[0]
    assert (found.granted, found.within, found.used) == (5, [3], [15, 6])  # 3, 6, 9 within; 12 straddles, 15; then the slower one is full
    assert charged(scripts.redis) == {10: 3, 11: 2}


def settle(
    store: Redis, seq: int, ledger: dict[str, int], moves: dict[str, int], worker: str = "w", tag: str = TAG, enough: int | None = None
) -> list:
    names = [keys.epoch(BUCKET), keys.marks(BUCKET), keys.live(BUCKET), *moves]
    flat: list[str | int] = [tag, worker, seq, len(ledger), *ledger, *ledger.values()]
    for delta in moves.values():
        flat += [delta, int(time.time() * 1000) + HOUR_MS]
    flat += [] if enough is None else [enough]
    return store.eval(SETTLE.body.decode(), len(names), *names, *flat)


def test_a_batch_is_taken_once_and_in_order(store: Redis) -> None:
    assert settle(store, 2, {"row": 5}, {}) == [b"mark", 0]
    assert settle(store, 1, {"row": 5}, {COUNTERS[0]: -2}) == [b"mark", 1]
    assert settle(store, 1, {"row": 5}, {COUNTERS[0]: -2}) == [b"mark", 1]
    assert settle(store, 2, {"row": -1}, {}) == [b"mark", 2]
    assert store.hget(keys.live(BUCKET), "row") == b"4"
    assert store.get(COUNTERS[0]) == b"-2"


def test_sums_are_exact_up_to_where_lua_would_round_them_and_beyond(store: Redis) -> None:
    for seq, quantity in enumerate((10**15 - 1, 1, 2**53, 10**17 + 1, -(10**17)), start=1):
        assert settle(store, seq, {"row": quantity}, {COUNTERS[0]: quantity}) == [b"mark", seq]
    assert store.hget(keys.live(BUCKET), "row") == store.get(COUNTERS[0]) == b"%d" % (10**15 + 2**53 + 1)


def test_what_no_number_holds_is_taken_once_and_stops_nothing(store: Redis) -> None:
    """Else every later batch of the bucket would wait behind it, and what came before it in its batch be added with each try."""
    top = 2**63 - 1
    assert settle(store, 1, {"row": top, "other": 1}, {COUNTERS[0]: top, COUNTERS[1]: 1}) == [b"mark", 1]
    assert settle(store, 2, {"other": 2, "row": top}, {COUNTERS[1]: 2, COUNTERS[0]: top}) == [b"mark", 2]
    assert settle(store, 3, {"row": 5, "other": 3}, {COUNTERS[0]: 5, COUNTERS[1]: 3}) == [b"mark", 3]
    row = store.hget(keys.live(BUCKET), "row")
    assert isinstance(row, bytes)
    assert int(float(row)) > top  # the aggregator lays it aside, with what it says (quarantine)
    assert store.mget(COUNTERS[0], COUNTERS[1]) == [b"%d" % top, b"6"]
    assert store.hget(keys.live(BUCKET), "other") == b"6"


def test_a_counter_that_can_count_no_further_refuses_nobody_elses_calls(scripts: Scripts) -> None:
    top = 2**63 - 1
    scripts.redis.set(COUNTERS[0], top)
    full, other = Group("acme", 1, 1, (Limit(0, 5, None),)), Group("globex", 1, 2, (Limit(1, 1, None),), ticket=12)
    assert scripts.admit([full, other]) == [1, 0, b"%d" % top, 2, 0, 2]
    assert charged(scripts.redis) == {10: 1, 12: 2}


def test_a_live_hash_that_nobody_drained_for_long_takes_no_more_rows_than_are_enough(scripts: Scripts, store: Redis) -> None:
    rows = {f"row {number}": 1 for number in range(9)}
    assert settle(store, 1, rows, {COUNTERS[0]: 1}, enough=5) == [b"mark", 1]
    assert settle(store, 2, rows, {COUNTERS[0]: 1}, enough=5) == [b"mark", 2]  # it began just now
    store.hincrby(keys.live(BUCKET), "!", -151)
    assert settle(store, 3, rows, {COUNTERS[0]: 1}, enough=5) == [b"full", 2]
    assert settle(store, 0, {}, {}, enough=5) == [b"full", 2]  # so says the question too
    assert (store.hget(keys.live(BUCKET), "row 1"), store.get(COUNTERS[0])) == (b"2", b"2")
    assert settle(store, 3, rows, {COUNTERS[0]: 1}, enough=11) == [b"mark", 3]
    assert settle(store, 4, rows, {COUNTERS[0]: 1}) == [b"mark", 4]  # nobody drains a gateway alone
    store.set(keys.epoch(BUCKET), f"{TAG} wait")
    assert settle(store, 5, rows, {COUNTERS[0]: 1}, enough=5) == [b"mark", 5]  # and recovery opens when all is taken
    store.set(keys.epoch(BUCKET), TAG)
    store.rename(keys.live(BUCKET), keys.flying(BUCKET))
    assert settle(store, 6, rows, {COUNTERS[0]: 1}, enough=5) == [b"mark", 6]
    assert settle(store, 7, rows, {COUNTERS[0]: 1}, enough=5) == [b"mark", 7]


def test_a_store_that_is_full_refuses_what_would_be_counted_and_takes_no_half_of_a_batch(scripts: Scripts, store: Redis) -> None:
    call = [Group("acme", 1, 1, (Limit(0, 1, None),))]
    scripts.admit(call)
    settle(store, 1, {"row": 2**60}, {COUNTERS[0]: 1})
    store.config_set("maxmemory", "1")
    try:
        with pytest.raises(hiredis.ReplyError, match="OOM"):
            scripts.admit(call)
        with pytest.raises(ResponseError, match="maxmemory"):
            settle(store, 2, {"row": 2**60, "other": 1}, {COUNTERS[0]: 1})
    finally:
        store.config_set("maxmemory", "0")
    assert store.get(COUNTERS[0]) == b"2"
    assert store.hget(keys.live(BUCKET), "row") == b"%d" % 2**60


def test_a_bucket_in_recovery_takes_batches_but_another_epoch_does_not(scripts: Scripts, store: Redis) -> None:
    scripts.reset(TAG + " wait")
    assert settle(store, 1, {"row": 5}, {}) == [b"mark", 1]
    assert settle(store, 2, {"row": 5}, {}, tag="2 runid") == [b"unready", (TAG + " wait").encode()]
