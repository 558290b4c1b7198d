"""What credentials that nobody here knows may cost: held down by the address they come from, and over all.

Two allowances an address (an IPv6 address stands for its /64): one for asking the store and for checking signatures, one for being
refused at all. A call that is known never comes here, so who shares an address with a flood is not hurt by it once a worker has
seen its key; and a key that is good costs no allowance at its first sight, only a turn.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from metering.model.errors import Unauthorized, WeighbridgeError
from metering.model.keys import address_block

MISSES_PER_SECOND, MISS_BURST = 10.0, 20.0  # an address
ALL_MISSES_PER_SECOND, ALL_MISS_BURST = 500.0, 1000.0  # a worker
LOOKS_AT_ONCE, ALL_LOOKS_AT_ONCE, WAITING_AT_MOST = 20, 1000, 1000
SOURCES_REMEMBERED = 10_000


class TooManyUnknownKeys(WeighbridgeError):
    """Too many unknown credentials from this address; try again in a moment."""

    code, http_status, retryable = "too_many_unknown_keys", 429, True


class _Allowance:
    """So many at once, so many a second. It may be overdrawn by as much as its burst."""

    __slots__ = ("_burst", "_left", "_rate", "_since")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst, self._left, self._since = rate, burst, burst, now

    def check(self, now: float) -> None:
        """Raises TooManyUnknownKeys where it is used up."""
        left = min(self._burst, self._left + (now - self._since) * self._rate)
        if left < 1:
            raise TooManyUnknownKeys(retry_after=math.ceil((1 - left) / self._rate))

    def spend(self, now: float) -> None:
        left = min(self._burst, self._left + (now - self._since) * self._rate)
        self._left, self._since = max(left - 1, -self._burst), now


class _Source:
    """One address."""

    __slots__ = ("misses", "refusals", "turns", "waiting")

    def __init__(self, now: float) -> None:
        self.misses = _Allowance(MISSES_PER_SECOND, MISS_BURST, now)
        self.refusals = _Allowance(MISSES_PER_SECOND, MISS_BURST, now)
        self.turns = asyncio.Semaphore(LOOKS_AT_ONCE)
        self.waiting = 0


class Strangers:
    """The allowances of one worker."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._misses = _Allowance(ALL_MISSES_PER_SECOND, ALL_MISS_BURST, monotonic())
        self._turns = asyncio.Semaphore(ALL_LOOKS_AT_ONCE)

    def refused(self, address: str) -> None:
        """A credential of this address is refused unseen (malformed, or known to be unknown). Raises TooManyUnknownKeys in its place
        where there were too many of them."""
        source, now = self._source(address), self._monotonic()
        source.refusals.check(now)
        source.refusals.spend(now)

    def check(self, address: str) -> None:
        """Before something costs the store or the processor anything. Raises TooManyUnknownKeys."""
        source, now = self._source(address), self._monotonic()
        source.misses.check(now)
        self._misses.check(now)
        if source.waiting >= WAITING_AT_MOST:
            raise TooManyUnknownKeys

    def missed(self, address: str) -> None:
        """Something was asked for nothing."""
        source, now = self._source(address), self._monotonic()
        for allowance in (source.misses, source.refusals, self._misses):
            allowance.spend(now)

    @asynccontextmanager
    async def look(self, address: str) -> AsyncIterator[None]:
        """A turn to ask the store. What turns out Unauthorized is counted. Raises TooManyUnknownKeys."""
        self.check(address)
        source = self._source(address)
        source.waiting += 1
        try:
            async with source.turns, self._turns:
                self.check(address)  # those before it may have used up what there was
                yield
        except Unauthorized:
            self.missed(address)
            raise
        finally:
            source.waiting -= 1

    def _source(self, address: str) -> _Source:
        name = address_block(address)
        source = self._sources.get(name)
        if source is None:
            source = self._sources[name] = _Source(self._monotonic())
            if len(self._sources) > SOURCES_REMEMBERED:
                self._sources.popitem(last=False)
        self._sources.move_to_end(name)
        return source
