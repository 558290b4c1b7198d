"""The store's clock, as this process knows it: windows turn when the store says so."""

import hiredis

from metering.model.clock import Clock
from metering.store.redis.errors import LinkLost
from metering.store.redis.link import Link


class ServerClock:
    """The local clock, corrected by the last answer to TIME; between two looks at it (`synchronize`) the monotonic one carries it on.

    So one reading of the monotonic clock tells a call both how long it takes (`monotonic`) and which window it is in (`at`).
    """

    def __init__(self, clock: Clock, link: Link) -> None:
        self._clock, self._link = clock, link
        self.monotonic = clock.monotonic
        self._ahead_ms = 0
        self._zero_ms = 0  # server time when the monotonic clock stood at zero
        self._carry_on()

    def now_ms(self) -> int:
        """Milliseconds since the epoch, by the store's clock."""
        return self._zero_ms + int(self.monotonic() * 1000 + 0.5)

    def at(self, monotonic: float) -> int:
        """The same at a reading of `monotonic`."""
        return self._zero_ms + int(monotonic * 1000 + 0.5)

    async def synchronize(self) -> None:
        """Ask the store for its time. Where the store is away, it stays as far ahead of the local clock as it was."""
        try:
            seconds, micros = await self._link.execute("TIME")
        except (LinkLost, hiredis.ReplyError):
            pass
        else:
            self._ahead_ms = int(seconds) * 1000 + int(micros) // 1000 - self._clock.now_ms()
        self._carry_on()

    def _carry_on(self) -> None:
        self._zero_ms = self._clock.now_ms() + self._ahead_ms - int(self.monotonic() * 1000 + 0.5)
