"""The pulse of a gateway process, worker or supervisor: ship each second, say that it lives, look again at what was away.

Each second ships every bucket, a share of them at each look: all at once, thousands of organizations would hold up the calls
of that moment, here and in the store.

Its heartbeat (`wb:workers`) is what recovery waits for: a bucket opens when every living process has replayed.
"""

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from functools import partial

from config.gateway import Route
from metering.model import keys
from metering.store.redis.link import Link, pack

from .epochs import BucketEpoch, Epochs
from .server_clock import ServerClock
from .shipper import Shipper

SHIP_SECONDS = 1.0
_LOOK_SECONDS = 0.1
_COMMITTED_EVERY = 2  # ships
_NAMES_EVERY = 60  # ships: a store that forgot hears the routes' names again


class Pulse:
    """`shippers()` are those of this process at the moment; all of them beat as `name`. `routes()` are those that it serves: usage
    carries their numbers, and who reads it is told their names."""

    def __init__(
        self, link: Link, name: str, role: str, clock: ServerClock, epochs: Epochs, shippers: Callable[[], Sequence[Shipper]],
        routes: Callable[[], Sequence[Route]] = tuple,
    ) -> None:  # fmt: skip
        self._link, self._name, self._role, self._clock = link, name, role, clock
        self._epochs, self._shippers, self._routes = epochs, shippers, routes
        self._named: Sequence[Route] = ()
        self._reported: dict[tuple[str, int], str] = {}
        self._wanted = self._shipped = ""
        self._looks = 0

    async def run(self) -> None:
        """For ever. Heartbeats go on while somebody waits for a shipment."""
        beats, next_ship, shipping = 0, 0.0, None
        try:
            while True:
                if self._link.up and not self._epochs.all_open:
                    self._epochs.ask_unready()
                now = self._clock.monotonic()
                if now >= next_ship:
                    next_ship, beats = now + SHIP_SECONDS, beats + 1
                    await self._beat(look_at_committed=beats % _COMMITTED_EVERY == 0)
                    self._name_routes(again=beats % _NAMES_EVERY == 0)
                self._ship_share()
                if shipping is not None and shipping.done():
                    shipping = shipping.result()
                if shipping is None and self._wanted != self._shipped:
                    shipping = asyncio.ensure_future(self._ship_asked())
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            if shipping is not None:
                shipping.cancel()

    async def _beat(self, *, look_at_committed: bool) -> None:
        await self._clock.synchronize()
        if self._link.up:
            self._epochs.ask(range(keys.BUCKETS))  # an idle process must notice too that the store forgot
            self._link.call(pack(("EXISTS", keys.ALONE)), self._learn_alone)
        if look_at_committed and self._link.up:
            for shipper in self._shippers():
                shipper.ask_committed()
        self._say_alive()

    def _learn_alone(self, reply: object) -> None:
        """Whether anybody drains this store, which is then bounded."""
        if not isinstance(reply, Exception):
            for shipper in self._shippers():
                shipper.alone = reply == 1

    def _ship_share(self) -> None:
        shares = max(round(SHIP_SECONDS / _LOOK_SECONDS), 1)
        share = range(self._looks % shares, keys.BUCKETS, shares)
        self._looks += 1
        for shipper in self._shippers():
            shipper.cut_and_send(share)

    def _name_routes(self, *, again: bool) -> None:
        routes = self._routes()
        if not self._link.up or not routes or (routes is self._named and not again):
            return
        self._named = routes
        names = [word for route in routes for word in (str(route.id), json.dumps(_called(route)))]
        self._link.call(pack(("HSET", keys.ROUTES, *names)), lambda _: None)

    def _say_alive(self) -> None:
        beat = {"at_ms": self._clock.now_ms(), "role": self._role, "shipped": self._shipped, "host": os.uname().nodename}
        self._link.call(pack(("HSET", keys.WORKERS, self._name, json.dumps(beat))), lambda _: None)

    def ship(self, token: str) -> None:
        """Somebody waits until all that was recorded before now has been taken."""
        self._wanted = token

    async def _ship_asked(self) -> None:
        token = self._wanted
        await self.ship_all()
        self._shipped = token
        self._say_alive()

    async def ship_all(self) -> None:
        """Return when the store has taken everything recorded before the call."""
        wanted = [(shipper, shipper.cut_now()) for shipper in self._shippers()]
        while not all(shipper.taken(seqs) for shipper, seqs in wanted):
            await asyncio.sleep(0.02)
            if self._link.up and not self._epochs.all_open:
                self._epochs.ask_unready()
            for shipper, _ in wanted:
                shipper.cut_and_send()

    def say_goodbye(self) -> None:
        """Nobody need wait for this process any more."""
        self._link.call(pack(("HDEL", keys.WORKERS, self._name)), lambda _: None)

    def synced(self, state: BucketEpoch, replayed: bool, name: str | None = None) -> None:
        """Tell recovery, once an epoch, that `name` (this process) has replayed a bucket that waits to be opened."""
        who = (name or self._name, state.bucket)
        if replayed and state.tag is not None and not state.open and self._reported.get(who) != state.tag:
            self._reported[who] = state.tag
            command = pack(("HSET", keys.marks(state.bucket), f"r:{who[0]}", state.epoch))
            self._link.call(command, partial(self._retry_report, who))

    def _retry_report(self, who: tuple[str, int], reply: object) -> None:
        if isinstance(reply, Exception):
            self._reported.pop(who, None)


def _called(route: Route) -> dict[str, str | None]:
    return {"template": route.path, "host": route.hosts[0] if len(route.hosts) == 1 else None}
