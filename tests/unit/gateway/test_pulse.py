"""The pulse of a gateway process: which routes it names to those who read usage, and when."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from config.gateway import Route
from gateway.pulse import Pulse
from metering.model import keys
from metering.store.redis.link import pack

V1 = (
    Route(id=7, path="/v1/{id}", upstream="app"),
    Route(id=8, path="/h", upstream="app", hosts=("a.b",)),
    Route(id=9, path="/h", upstream="app", hosts=("a.b", "c.d")),
)
V2 = (Route(id=10, path="/*", upstream="app"),)


class Store:
    """Clock, epochs and link of a process that has nothing to do; it remembers what it was told."""

    up = all_open = True

    def __init__(self) -> None:
        self.told: list[bytes] = []
        self.seconds = 0.0

    def call(self, command: bytes, _done: Callable[[Any], None]) -> None:
        self.told.append(command)

    async def synchronize(self) -> None: ...

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds

    def now_ms(self) -> int:
        return 0

    def ask(self, _buckets: range) -> None: ...


def named(*routes: tuple[int, str, str | None]) -> bytes:
    words = [word for n, path, host in routes for word in (str(n), json.dumps({"template": path, "host": host}))]
    return pack(("HSET", keys.ROUTES, *words))


async def beat(pulse: Pulse) -> None:
    life = asyncio.ensure_future(pulse.run())
    await asyncio.sleep(0)
    life.cancel()


async def test_routes_are_named_once_and_again_when_they_change_or_the_store_comes_back() -> None:
    store: Any = Store()
    served = [V1]
    pulse = Pulse(store, "w0", "worker", store, store, list, lambda: served[0])
    store.up = False
    await beat(pulse)
    assert not [command for command in store.told if b"wb:routes" in command]
    store.up = True
    for _ in range(2):
        await beat(pulse)
    served[0] = V2
    await beat(pulse)
    assert [command for command in store.told if b"wb:routes" in command] == [
        named((7, "/v1/{id}", None), (8, "/h", "a.b"), (9, "/h", None)), named((10, "/*", None)),
    ]  # fmt: skip
