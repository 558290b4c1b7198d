"""The store's clock, carried on by the monotonic one between two looks at it."""

from typing import Any, cast

from gateway.server_clock import ServerClock
from metering.store.redis.errors import LinkLost
from metering.store.redis.link import Link

NOW_MS = 1_740_000_000_123


class Machine:
    """A machine whose wall clock may be set, while its monotonic one goes on."""

    def __init__(self) -> None:
        self.wall_ms, self.up_seconds = NOW_MS, 4_711.25

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic(self) -> float:
        return self.up_seconds

    def go_on(self, seconds: float) -> None:
        self.up_seconds += seconds
        self.wall_ms += round(seconds * 1000)


class Store:
    """Says its time, or is away."""

    def __init__(self) -> None:
        self.at_ms: int | None = None

    async def execute(self, *command: str) -> Any:
        assert command == ("TIME",)
        if self.at_ms is None:
            raise LinkLost("away")
        return [b"%d" % (self.at_ms // 1000), b"%d" % (self.at_ms % 1000 * 1000)]


def clock_of(machine: Machine, store: Store) -> ServerClock:
    return ServerClock(machine, cast(Link, store))


def test_before_the_store_was_asked_it_is_the_local_clock() -> None:
    machine = Machine()
    clock = clock_of(machine, Store())
    machine.go_on(1.5)
    assert clock.now_ms() == NOW_MS + 1500


async def test_what_the_store_says_stands_and_goes_on() -> None:
    machine, store = Machine(), Store()
    clock = clock_of(machine, store)
    store.at_ms = NOW_MS + 90_000
    await clock.synchronize()
    machine.go_on(0.75)
    assert clock.now_ms() == NOW_MS + 90_750


async def test_a_local_clock_that_is_set_turns_no_window_while_the_store_answers() -> None:
    machine, store = Machine(), Store()
    store.at_ms = NOW_MS
    clock = clock_of(machine, store)
    machine.wall_ms += 3_600_000
    assert clock.now_ms() == NOW_MS
    await clock.synchronize()
    assert clock.now_ms() == NOW_MS


async def test_while_the_store_is_away_it_stays_as_far_ahead_as_it_was() -> None:
    machine, store = Machine(), Store()
    clock = clock_of(machine, store)
    store.at_ms = NOW_MS + 90_000
    await clock.synchronize()
    store.at_ms = None
    machine.go_on(10)
    machine.wall_ms += 5_000  # a machine that slept
    await clock.synchronize()
    assert clock.now_ms() == NOW_MS + 105_000


def test_one_reading_of_the_monotonic_clock_tells_both() -> None:
    machine = Machine()
    clock = clock_of(machine, Store())
    reading = clock.monotonic()
    machine.go_on(2)
    assert (clock.at(reading), clock.now_ms()) == (NOW_MS, NOW_MS + 2_000)
