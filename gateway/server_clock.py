"""The store's clock, as this process knows it: windows turn when the store says so."""

import hiredis

from metering.model.clock import Clock
from metering.store.redis.errors import LinkLost
from metering.store.redis.link import Link


class ServerClock:
    """The local clock, corrected by the last answer to TIME."""

    def __init__(self, clock: Clock, link: Link) -> None:
        self._clock, self._link = clock, link
        self._ahead_ms = 0
        self.monotonic = clock.monotonic

    def now_ms(self) -> int:
        """Milliseconds since the epoch, by the store's clock."""
        return self._clock.now_ms() + self._ahead_ms

    async def synchronize(self) -> None:
        """Ask the store for its time. Keeps what it knows where the store is away."""
        try:
            seconds, micros = await self._link.execute("TIME")
        except (LinkLost, hiredis.ReplyError):
            return
        self._ahead_ms = int(seconds) * 1000 + int(micros) // 1000 - self._clock.now_ms()
