"""Whose turn it is, who waits, and what a new configuration leaves as it was: decided without a socket."""

import asyncio

import pytest

from config.gateway import Ejection, Health, Queue, Tls, Upstream
from gateway.dial import Address
from gateway.service import UpstreamConnection
from gateway.upstream import Busy, Target, UpstreamPool
from metering.model.clock import FrozenClock


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


def app(*targets: str, **facts) -> Upstream:
    return Upstream(name="app", targets=targets, **{"max_connections": 2, **facts})


def pool(clock: FrozenClock, *targets: str, **facts) -> UpstreamPool:
    return UpstreamPool({"app": app(*targets, **facts)}, clock)


def only(clock: FrozenClock, **facts) -> Target:
    return pool(clock, "http://a", **facts).targets("app")[0]


def first(pool: UpstreamPool) -> str:
    target = pool.choose("app")
    assert target is not None
    return target.url


# --- connections ----------------------------------------------------------------------------------------------------------


def test_the_connection_used_last_is_used_next(clock):
    target = only(clock)
    old, new = lend(target), lend(target)
    old.release(True)
    new.release(True)
    assert target.take_idle() is new


def test_a_connection_that_ended_badly_is_not_kept(clock):
    target = only(clock)
    connection = lend(target)
    connection.release(False)
    assert connection.transport.closed
    assert target.take_idle() is None


async def test_who_waits_gets_the_next_connection_that_comes_back(clock):
    target = only(clock)
    busy, _ = lend(target), lend(target)
    waiting = asyncio.ensure_future(target.take(5))
    await asyncio.sleep(0)
    busy.release(True)
    assert await waiting is busy


async def test_the_wait_is_bounded_and_leaves_nothing_behind(clock):
    target = only(clock)
    busy, _ = lend(target), lend(target)
    with pytest.raises(Busy):
        await target.take(0.01)
    busy.release(True)
    assert target.take_idle() is busy
    assert not target.waiters
    assert target.in_flight == 0


async def test_the_queues_own_time_stands_above_the_time_to_connect(clock):
    target = only(clock, queue=Queue(timeout_s=0.01))
    lend(target), lend(target)
    with pytest.raises(Busy, match=r"busy for 0\.01 s"):
        await target.take(60)


async def test_a_call_that_waited_in_vain_says_nothing_bad_of_the_target(clock):
    target = only(clock)
    lend(target), lend(target)
    with pytest.raises(Busy):
        await target.take(0.01)
    assert target.failures == 0
    assert not target.is_down


async def test_one_who_waited_and_left_does_not_swallow_a_connection(clock):
    target = only(clock)
    busy, _ = lend(target), lend(target)
    waiting = asyncio.ensure_future(target.take(5))
    await asyncio.sleep(0)
    waiting.cancel()
    busy.release(True)  # before the cancelled one has run
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert target.take_idle() is busy


async def test_a_connection_given_to_one_who_just_left_is_passed_on(clock):
    target = only(clock)
    busy, _ = lend(target), lend(target)
    waiting = asyncio.ensure_future(target.take(5))
    await asyncio.sleep(0)
    busy.release(True)
    waiting.cancel()  # after it was given one, before it has run
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert target.take_idle() is busy


async def test_too_many_who_wait_are_refused_at_once(clock):
    target = only(clock, queue=Queue(most=1))
    lend(target), lend(target)
    waiting = asyncio.ensure_future(target.take(5))
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await target.take(5)
    waiting.cancel()


@pytest.mark.parametrize(
    ("url", "authority", "port", "base"),
    [
        ("http://a.example", b"a.example", 80, b""),
        ("https://a.example/", b"a.example", 443, b""),
        ("http://a.example:8000/base/", b"a.example:8000", 8000, b"/base"),
        ("http://[::1]:8000", b"[::1]:8000", 8000, b""),
    ],
)
def test_an_address_is_read(url, authority, port, base):
    address = Address(url)
    assert (address.authority, address.port, address.base_path) == (authority, port, base)


# --- a new configuration --------------------------------------------------------------------------------------------------


def test_targets_that_stay_keep_their_connections_their_health_and_their_counts(clock):
    one = pool(clock, "http://a", "http://b")
    stays = one.targets("app")[0]
    kept = lend(stays)
    kept.release(True)
    stays.begun()
    stays.failures = 3
    stays.standing.pause(clock.monotonic())
    one.update({"app": app("http://a", "http://c")})
    assert one.targets("app")[0] is stays
    assert (stays.take_idle(), stays.in_flight, stays.failures, stays.is_down) == (kept, 1, 3, True)
    assert {first(one) for _ in range(4)} == {"http://c"}


def test_a_target_that_goes_finishes_what_it_is_at_and_keeps_nothing(clock):
    one = pool(clock, "http://a", "http://b")
    goes = one.targets("app")[1]
    idle, busy = lend(goes), lend(goes)
    idle.release(True)
    one.update({"app": app("http://a")})
    assert idle.transport.closed
    assert not busy.transport.closed
    busy.release(True)
    assert busy.transport.closed


async def test_who_waits_at_a_target_that_goes_is_still_served(clock):
    one = pool(clock, "http://a", "http://b")
    goes = one.targets("app")[1]
    busy, _ = lend(goes), lend(goes)
    waiting = asyncio.ensure_future(goes.take(5))
    await asyncio.sleep(0)
    one.update({"app": app("http://a")})
    busy.release(True)
    assert await waiting is busy


def test_calls_routed_to_an_upstream_that_is_gone_are_served_for_a_while_and_then_it_is_forgotten(clock):
    one = pool(clock, "http://a")
    target = one.choose("app")
    one.update({"other": app("http://b")})
    assert one.choose("app") is target
    assert list(one.order("app")) == [target]
    assert list(one.targets("app")) == []
    clock.advance(601)
    one.update({"other": app("http://b")})
    assert one.choose("app") is None


def test_a_call_sent_to_a_target_that_is_gone_tries_the_others(clock):
    one = pool(clock, "http://a", "http://b")
    gone = one.targets("app")[1]
    one.update({"app": app("http://a", "http://c")})
    assert gone not in one.order("app", gone)


async def test_a_raised_bound_lets_in_who_waits(clock):
    one = pool(clock, "http://a")
    target = one.targets("app")[0]
    lend(target), lend(target)
    waiting = asyncio.ensure_future(target._wait(5))
    await asyncio.sleep(0)
    one.update({"app": app("http://a", max_connections=3)})
    assert await waiting is None
    assert target.open == 3


def test_a_lowered_bound_closes_what_is_too_many_as_it_comes_back(clock):
    one = pool(clock, "http://a")
    target = one.targets("app")[0]
    kept, busy = lend(target), lend(target)
    kept.release(True)
    one.update({"app": app("http://a", max_connections=1)})
    assert kept.transport.closed
    kept.connection_lost(None)
    busy.release(True)
    assert not busy.transport.closed
    assert target.open == 1


def test_other_rules_of_tls_end_the_old_connections(clock):
    one = pool(clock, "https://a", "http://b")
    old = {target.url: target for target in one.targets("app")}
    one.update({"app": app("https://a", "http://b", tls=Tls(verify=False))})
    new = {target.url: target for target in one.targets("app")}
    assert (new["https://a"] is old["https://a"], new["http://b"] is old["http://b"]) == (False, True)
    assert old["https://a"].retired


@pytest.mark.parametrize(
    ("facts", "said"), [({"targets": ("ftp://b",)}, "ftp"), ({"targets": ("https://b",), "tls": Tls(ca="/nowhere.pem")}, "nowhere")]
)
def test_a_faulty_address_or_certificate_changes_nothing(clock, facts, said):
    one = pool(clock, "http://a")
    before = one.targets("app")
    with pytest.raises(ValueError, match=said):
        one.update({"app": app("http://a"), "other": Upstream(name="other", **facts)})
    assert one.targets("app") is before
    assert not before[0].retired


def test_who_is_no_longer_probed_takes_its_turns_again(clock):
    health = Health(path="/health")
    one = pool(clock, "http://a", "http://b", health=health)
    one.targets("app")[0].probed(False, False)
    one.update({"app": app("http://a", "http://b", health=health)})
    assert {first(one) for _ in range(4)} == {"http://b"}
    one.update({"app": app("http://a", "http://b")})
    assert {first(one) for _ in range(4)} == {"http://a", "http://b"}


def test_an_upstream_that_is_not_configured_has_no_targets(clock):
    one = pool(clock, "http://a")
    assert one.choose("other") is None
    assert list(one.order("other")) == []


def test_retries_and_ejections_are_told(clock):
    told = []
    one = UpstreamPool(
        {"app": app("http://a", "http://b", ejection=Ejection(failures=1))},
        clock,
        on_retry=lambda upstream: told.append(upstream),
        on_ejection=lambda upstream, target: told.append((upstream, target)),
    )
    target = one.targets("app")[0]
    target.begun()
    target.retried()
    target.ended(False)
    assert told == ["app", ("app", "http://a")]
    assert one.retries == 1
