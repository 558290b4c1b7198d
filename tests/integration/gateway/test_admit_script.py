"""admit.lua against a plain Python model: call by call, every limit checked, then all charged, or none."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from gateway.scripts import ADMIT, RESOLVE, SETTLE
from metering.model import keys

BUCKET = 7
TAG = "3 runid"
COUNTERS = [f"wb:{{{BUCKET}}}:q:org:{name}" for name in ("a", "b", "c", "d")]
HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Limit:
    counter: int
    cost: int
    enforced: int | None


@dataclass(frozen=True)
class Group:
    org: str
    version: int
    count: int
    limits: tuple[Limit, ...]
    window: str = "now"  # past | now | future


@dataclass
class Model:
    """The meaning of admission, without a store."""

    versions: dict[str, int]
    counters: list[int] = field(default_factory=lambda: [0] * len(COUNTERS))

    def admit(self, group: Group) -> tuple[int, int]:
        if self.versions.get(group.org) != group.version:
            return 2, 0
        if group.window != "now":
            return 1, 0
        return 0, sum(self.admit_one(group) for _ in range(group.count))

    def admit_one(self, group: Group) -> bool:
        for limit in group.limits:
            used = self.counters[limit.counter]
            if limit.enforced is not None and (used + limit.cost > limit.enforced or (limit.cost == 0 and used >= limit.enforced)):
                return False
        for limit in group.limits:
            self.counters[limit.counter] += limit.cost
        return True


limits = st.builds(
    Limit,
    counter=st.integers(0, len(COUNTERS) - 1),
    cost=st.integers(0, 5),
    enforced=st.none() | st.integers(0, 25),
)
groups = st.builds(
    Group,
    org=st.sampled_from(["acme", "globex"]),
    version=st.sampled_from([1, 1, 1, 2]),
    count=st.integers(1, 9),
    limits=st.lists(limits, max_size=4, unique_by=lambda limit: limit.counter).map(tuple),
    window=st.sampled_from(["now", "now", "now", "past", "future"]),
)


@pytest.fixture
def store(redis: str) -> Iterator[Redis]:
    client = Redis.from_url(redis)
    yield client
    client.close()


def arguments(group: Group, ticket: int) -> list[str | int]:
    now = int(time.time() * 1000)
    start = {"now": now - HOUR_MS, "past": now - 3 * HOUR_MS, "future": now + HOUR_MS}[group.window]
    flat: list[str | int] = [ticket, group.org, group.version, group.count, start, start + 2 * HOUR_MS, len(group.limits)]
    for limit in group.limits:
        flat += [limit.counter + 4, limit.cost, "" if limit.enforced is None else limit.enforced, now + 4 * HOUR_MS]
    return flat


def call(store: Redis, n: int, batch: list[Group], worker: str = "w", tag: str = TAG) -> list:
    names = [keys.epoch(BUCKET), keys.versions(BUCKET), keys.marks(BUCKET), *COUNTERS]
    flat = [item for ticket, group in enumerate(batch) for item in arguments(group, ticket)]
    return store.eval(ADMIT.body.decode(), len(names), *names, tag, worker, n, *flat)


def resolve(store: Redis, n: int, worker: str = "w", tag: str = TAG) -> list:
    return store.eval(RESOLVE.body.decode(), 2, keys.epoch(BUCKET), keys.marks(BUCKET), tag, worker, n)


def open_bucket(store: Redis, value: str = TAG) -> None:
    store.flushall()
    store.set(keys.epoch(BUCKET), value)
    store.hset(keys.versions(BUCKET), mapping={"acme": 1, "globex": 1})


def granted(reply: list) -> list[tuple[int, int]]:
    """(status, granted) of each group."""
    found, at = [], 1
    while at < len(reply):
        found.append((reply[at + 1], reply[at + 2]))
        at += 5 + reply[at + 4]
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(groups, min_size=1, max_size=6), min_size=1, max_size=4))
def test_the_script_decides_as_the_model_does(store: Redis, calls: list[list[Group]]) -> None:
    open_bucket(store)
    model = Model({"acme": 1, "globex": 1})
    for n, batch in enumerate(calls, 1):
        assert granted(call(store, n, batch)) == [model.admit(group) for group in batch]
        assert [int(value or 0) for value in store.mget(COUNTERS)] == model.counters


def test_a_refused_call_charges_nothing_and_names_the_limit(store: Redis) -> None:
    open_bucket(store)
    both = (Limit(0, 1, None), Limit(1, 3, 7))
    reply = call(store, 1, [Group("acme", 1, 5, both)])
    assert reply[2:8] == [0, 2, 2, 2, 2, 6]
    assert store.mget(COUNTERS[:2]) == [b"2", b"6"]


def test_a_repeated_call_gives_the_stored_answer_and_charges_once(store: Redis) -> None:
    open_bucket(store)
    batch = [Group("acme", 1, 4, (Limit(0, 1, 3),))]
    assert call(store, 1, batch) == call(store, 1, batch)
    assert store.get(COUNTERS[0]) == b"3"


def test_a_call_given_up_before_it_ran_does_nothing_when_it_arrives(store: Redis) -> None:
    open_bucket(store)
    assert resolve(store, 1) == [b"dead"]
    assert call(store, 1, [Group("acme", 1, 4, (Limit(0, 1, None),))]) == [b"dead"]
    assert store.get(COUNTERS[0]) is None


def test_a_call_that_ran_is_told_to_who_asks_after_it(store: Redis) -> None:
    open_bucket(store)
    reply = call(store, 5, [Group("acme", 1, 4, (Limit(0, 1, 3),))])
    assert resolve(store, 5) == [b"ok 5", *reply[1:]]


def test_a_successor_learns_the_last_call_however_often_it_asks_and_buries_the_rest(store: Redis) -> None:
    open_bucket(store)
    reply = call(store, 5, [Group("acme", 1, 4, (Limit(0, 1, 3),))])
    for _ in range(2):
        assert resolve(store, 2**52) == [b"ok 5", *reply[1:]]
    assert call(store, 6, [Group("acme", 1, 1, ())]) == [b"dead"]


@pytest.mark.parametrize("value", ["4 runid", "3 other", "3 runid wait", ""])
def test_another_epoch_another_server_or_a_bucket_in_recovery_charges_nothing(store: Redis, value: str) -> None:
    open_bucket(store, value)
    assert call(store, 1, [Group("acme", 1, 1, (Limit(0, 1, None),))]) == [b"unready", value.encode()]
    assert store.get(COUNTERS[0]) is None


def test_a_counter_expires_after_its_window(store: Redis) -> None:
    open_bucket(store)
    call(store, 1, [Group("acme", 1, 1, (Limit(0, 1, None),))])
    assert 0 < store.pttl(COUNTERS[0]) <= 4 * HOUR_MS


def settle(store: Redis, seq: int, ledger: dict[str, int], moves: dict[str, int], worker: str = "w", tag: str = TAG) -> list:
    names = [keys.epoch(BUCKET), keys.marks(BUCKET), keys.live(BUCKET), *moves]
    flat: list[str | int] = [tag, worker, seq, len(ledger)]
    for name, quantity in ledger.items():
        flat += [name, quantity]
    for delta in moves.values():
        flat += [delta, int(time.time() * 1000) + HOUR_MS]
    return store.eval(SETTLE.body.decode(), len(names), *names, *flat)


def test_a_batch_is_taken_once_and_in_order(store: Redis) -> None:
    open_bucket(store)
    assert settle(store, 2, {"row": 5}, {}) == [b"mark", 0]
    assert settle(store, 1, {"row": 5}, {COUNTERS[0]: -2}) == [b"mark", 1]
    assert settle(store, 1, {"row": 5}, {COUNTERS[0]: -2}) == [b"mark", 1]
    assert settle(store, 2, {"row": -1}, {}) == [b"mark", 2]
    assert store.hgetall(keys.live(BUCKET)) == {b"!": b"1", b"row": b"4"}
    assert store.get(COUNTERS[0]) == b"-2"


def test_a_bucket_in_recovery_takes_batches_but_another_epoch_does_not(store: Redis) -> None:
    open_bucket(store, TAG + " wait")
    assert settle(store, 1, {"row": 5}, {}) == [b"mark", 1]
    assert settle(store, 2, {"row": 5}, {}, tag="2 runid") == [b"unready", (TAG + " wait").encode()]
