"""Stop a running system so that nothing is lost: drain, ship, flush until the journals are empty, then stop the rest."""

import asyncio
import contextlib
import logging
import os
import re

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from aggregator.flush import flush_once
from gateway.adoption import Adopter
from metering.model.clock import Clock
from metering.model.errors import WeighbridgeError
from metering.store.postgres import SERVICE, open_pool

from . import first_minute
from .database import requests_counted
from .house import House
from .probes import text_of

log = logging.getLogger("weighbridge.up")

_FLUSH_SECONDS = 15.0
_AGAIN_SECONDS = 0.2
_GAUGE_SECONDS = 1.1
_IN_FLIGHT = re.compile(r"^weighbridge_in_flight\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)


class Closing:
    """Made when all is up, so that the last line can say how many requests this run brought into Postgres."""

    def __init__(self, house: House, clock: Clock) -> None:
        self._house, self._clock = house, clock
        self._journal = house.settings.data_dir / "journal"
        self._before = house.requests_at_start

    async def run(self) -> str:
        """Returns the last line."""
        in_flight = await self._in_flight()
        await self._house.stop_gateway()
        flushed = await self._flush()
        await self._house.stop()
        return first_minute.farewell(in_flight=in_flight, flushed=flushed, left_in_journal=self._left())

    async def _in_flight(self) -> int:
        """Exchanges under way. Workers write the gauge each second: what is gone by the next one was over already."""
        count = await self._gauge()
        if count:
            await asyncio.sleep(_GAUGE_SECONDS)
            count = await self._gauge()
        return count

    async def _gauge(self) -> int:
        return int(sum(float(n) for n in _IN_FLIGHT.findall(await text_of(self._house.metrics_url))))

    async def _flush(self) -> int | None:
        """Requests that reached Postgres since the start; None if the servers are out of reach."""
        stores = self._house.stores
        try:
            pool = await open_pool(stores.database_url or "", application="weighbridge-up", max_size=2, role=SERVICE)
            try:
                async with Redis.from_url(stores.redis_url or "") as client:
                    await self._until_empty(pool, client)
                return await requests_counted(pool) - self._before
            finally:
                await pool.close()
        except (WeighbridgeError, RedisError, asyncpg.PostgresError, OSError) as exc:
            log.error("the last flush failed, the journals keep what it did not take: %s", exc)
            return None

    async def _until_empty(self, pool: asyncpg.Pool, client: "Redis") -> None:
        """Flush, and let go of the journals that Postgres has whole."""
        adopter = Adopter(self._house.stores.redis_url or "", self._journal, self._clock, f"up-{os.getpid()}")
        adopting = asyncio.create_task(adopter.run())
        deadline = self._clock.monotonic() + _FLUSH_SECONDS
        try:
            while self._clock.monotonic() < deadline:
                report = await flush_once(pool, client)
                if report.complete and not adopter.waiting:
                    return
                await asyncio.sleep(_AGAIN_SECONDS)
            log.warning("journals of %s are not wholly in Postgres yet", ", ".join(adopter.waiting) or "nobody")
        finally:
            adopting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await adopting

    def _left(self) -> int:
        return sum(path.stat().st_size for path in self._journal.glob("*.log"))
