"""Epochs and recovery of a gateway alone: what the aggregator does in a full house, over this host's checkpoint.

Counters decide; the live hash keeps the last hours for whoever looks; nothing is billed.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from aggregator.recovery import Recovery
from metering.model import keys
from metering.model.clock import Clock
from metering.model.errors import DependencyUnavailable
from metering.model.ledger import parse

from .checkpoint import Checkpoint

log = logging.getLogger("weighbridge.standalone")

_LOOK_SECONDS, _FOLD_SECONDS = 1.0, 20.0
_LEASE_MS = 15_000
_BUCKETS_A_FOLD, _ROWS_A_STEP = 8, 500  # every bucket about every ten minutes
KEPT_MINUTES = 6 * 60  # of usage in the live hash


class AnotherAlone(DependencyUnavailable):
    """Another gateway without Postgres counts in this Redis (or did until seconds ago, with a data folder that is gone).
    Give this one a Redis of its own, or both a DATABASE_URL and an aggregator."""

    code = "another_alone"


class Standalone:
    """`await run()` for ever. `republish` writes every entitlement and key; `dropped(rows)` counts what left the live hash."""

    def __init__(
        self, client: Redis, journal_dir: Path, clock: Clock, republish: Callable[[], Awaitable[object]], dropped: Callable[[int], None]
    ) -> None:
        self._client, self._clock, self._dropped = client, clock, dropped
        self._checkpoint = Checkpoint(journal_dir)
        self._next_bucket = 0  # to look for old rows in
        self._recovery = Recovery(self._checkpoint, client, clock, republish)

    async def begin(self) -> None:
        """Before anything is written to the store. Raises AnotherAlone; a store that is away is looked at again in `run`."""
        with contextlib.suppress(RedisError, OSError):
            await self._hold_lease()

    async def run(self) -> None:
        """Look each second, fold and trim every few. Raises AnotherAlone."""
        next_fold = 0.0
        while True:
            try:
                await self._hold_lease()
                if self._clock.monotonic() >= next_fold:
                    await self.fold()
                    next_fold = self._clock.monotonic() + _FOLD_SECONDS
                await self._recovery.check()
            except (RedisError, OSError) as exc:
                log.warning("the store is away, recovery waits: %s", exc)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _hold_lease(self) -> None:
        """Two checkpoints would each restore what the other never saw; so one host, until its lease has run out."""
        mine = self._checkpoint.host.encode()
        if await self._client.set(keys.ALONE, mine, nx=True, px=_LEASE_MS):
            return
        if await self._client.get(keys.ALONE) != mine:
            raise AnotherAlone
        await self._client.pexpire(keys.ALONE, _LEASE_MS)

    async def fold(self) -> None:
        """Journals into the checkpoint; then the workers may trim theirs, and old rows of the live hash go."""
        await asyncio.to_thread(self._checkpoint.fold, self._clock.now_ms())
        pipe = self._client.pipeline(transaction=False)
        for worker, marks in self._checkpoint.folded.items():
            for bucket, seq in marks.items():
                pipe.hset(keys.committed(bucket), worker, str(seq))
        await pipe.execute()
        await self._trim()

    async def _trim(self) -> None:
        """Nobody drains a gateway alone, so what is older than a few hours is dropped, and counted.

        Some buckets at a time and each in small steps: a store that lists millions of rows at once answers nobody meanwhile.
        """
        oldest = self._clock.now_ms() // 60_000 - KEPT_MINUTES
        dropped = 0
        for bucket in range(self._next_bucket, self._next_bucket + _BUCKETS_A_FOLD):
            name = keys.live(bucket % keys.BUCKETS)
            cursor = -1
            while cursor:
                cursor, fields = await self._client.hscan(name, max(cursor, 0), count=_ROWS_A_STEP)
                old = [each for each in map(_text, fields) if each != "!" and parse(each).minute < oldest]
                if old:
                    dropped += await self._client.hdel(name, *old)
        self._next_bucket = (self._next_bucket + _BUCKETS_A_FOLD) % keys.BUCKETS
        if dropped:
            self._dropped(dropped)
            log.info("%d rows of usage older than %d hours left the store; a gateway alone bills nobody", dropped, KEPT_MINUTES // 60)


def _text(field: bytes | str) -> str:
    return field.decode() if isinstance(field, bytes) else field
