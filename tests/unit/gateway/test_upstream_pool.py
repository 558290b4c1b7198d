"""Whose turn it is, who waits, and who is passed over: decided without a socket."""

import asyncio
from dataclasses import dataclass

import pytest

from gateway.service import UpstreamConnection
from gateway.upstream import ConnectTimedOut, Target, Unreachable, UpstreamPool
from metering.model.clock import FrozenClock


@dataclass
class App:
    targets: tuple[str, ...]


class Wire:
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        self.closed = False

    def set_write_buffer_limits(self, high: int) -> None:
        """It takes everything."""

    def abort(self) -> None:
        self.closed = True


def lend(target: Target) -> UpstreamConnection:
    """An open connection that is at work."""
    connection = UpstreamConnection(target)
    connection.connection_made(Wire())  # type: ignore[arg-type]
    target.open += 1
    return connection


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(1_000_000)


def pool(clock: FrozenClock, *targets: str) -> UpstreamPool:
    return UpstreamPool({"app": App(targets)}, clock, max_connections=2)


def first(pool: UpstreamPool) -> str:
    return pool.order("app")[0].url


def test_targets_take_turns(clock):
    three = pool(clock, "http://a", "http://b", "http://c")
    assert [first(three) for _ in range(6)] == ["http://a", "http://b", "http://c"] * 2


def test_a_target_that_failed_comes_last_until_its_pause_is_over(clock):
    two = pool(clock, "http://a", "http://b")
    two.targets("app")[0].down_until = clock.monotonic() + 1
    assert {first(two) for _ in range(4)} == {"http://b"}
    clock.advance(1.1)
    assert {first(two) for _ in range(4)} == {"http://a", "http://b"}


def test_a_full_target_comes_behind_one_with_room(clock):
    two = pool(clock, "http://a", "http://b")
    for _ in range(2):
        lend(two.targets("app")[0])
    assert {first(two) for _ in range(4)} == {"http://b"}


def test_all_down_are_tried_all_the_same(clock):
    two = pool(clock, "http://a", "http://b")
    for target in two.targets("app"):
        target.down_until = clock.monotonic() + 1
    assert len(two.order("app")) == 2


def test_the_connection_used_last_is_used_next(clock):
    target = pool(clock, "http://a").targets("app")[0]
    old, new = lend(target), lend(target)
    old.release(True)
    new.release(True)
    assert target.take_idle() is new


def test_a_connection_that_ended_badly_is_not_kept(clock):
    target = pool(clock, "http://a").targets("app")[0]
    connection = lend(target)
    connection.release(False)
    assert connection.transport.closed
    assert target.take_idle() is None


async def test_who_waits_gets_the_next_connection_that_comes_back(clock):
    target = pool(clock, "http://a").targets("app")[0]
    busy, _ = lend(target), lend(target)
    waiting = asyncio.ensure_future(target.take(5))
    await asyncio.sleep(0)
    busy.release(True)
    assert await waiting is busy


async def test_the_wait_is_bounded_and_leaves_nothing_behind(clock):
    target = pool(clock, "http://a").targets("app")[0]
    busy, _ = lend(target), lend(target)
    with pytest.raises(ConnectTimedOut):
        await target.take(0.01)
    busy.release(True)
    assert target.take_idle() is busy
    assert not target.waiters


async def test_one_who_waited_and_left_does_not_swallow_a_connection(clock):
    target = pool(clock, "http://a").targets("app")[0]
    busy, _ = lend(target), lend(target)
    waiting = asyncio.ensure_future(target.take(5))
    await asyncio.sleep(0)
    waiting.cancel()
    busy.release(True)  # before the cancelled one has run
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert target.take_idle() is busy


async def test_a_connection_given_to_one_who_just_left_is_passed_on(clock):
    target = pool(clock, "http://a").targets("app")[0]
    busy, _ = lend(target), lend(target)
    waiting = asyncio.ensure_future(target.take(5))
    await asyncio.sleep(0)
    busy.release(True)
    waiting.cancel()  # after it was given one, before it has run
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert target.take_idle() is busy


async def test_too_many_who_wait_are_refused_at_once(clock, monkeypatch):
    monkeypatch.setattr("gateway.upstream._MAX_WAITERS", 1)
    target = pool(clock, "http://a").targets("app")[0]
    lend(target), lend(target)
    waiting = asyncio.ensure_future(target.take(5))
    await asyncio.sleep(0)
    with pytest.raises(Unreachable):
        await target.take(5)
    waiting.cancel()


def test_a_new_configuration_keeps_the_connections_of_targets_that_stay(clock):
    one = pool(clock, "http://a", "http://b")
    stays, goes = one.targets("app")
    kept, closed = lend(stays), lend(goes)
    kept.release(True)
    closed.release(True)
    one.update({"app": App(("http://a", "http://c"))})
    assert one.targets("app")[0].take_idle() is kept
    assert closed.transport.closed


def test_a_faulty_address_changes_nothing(clock):
    one = pool(clock, "http://a")
    with pytest.raises(ValueError, match="ftp"):
        one.update({"app": App(("ftp://b",))})
    assert first(one) == "http://a"


def test_an_upstream_that_is_not_configured_has_no_targets(clock):
    assert list(pool(clock, "http://a").order("other")) == []


@pytest.mark.parametrize(
    ("url", "authority", "port", "base"),
    [
        ("http://a.example", b"a.example", 80, b""),
        ("https://a.example/", b"a.example", 443, b""),
        ("http://a.example:8000/base/", b"a.example:8000", 8000, b"/base"),
        ("http://[::1]:8000", b"[::1]:8000", 8000, b""),
    ],
)
def test_an_address_is_read(url, authority, port, base, clock):
    target = Target(url, 1, clock, None)
    assert (target.authority, target.port, target.base_path) == (authority, port, base)
