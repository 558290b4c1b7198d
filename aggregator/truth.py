"""What recovery takes for true: epochs, marks and counters. Postgres in a full house, a checkpoint for a gateway alone
(weighbridge/checkpoint.py)."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

import asyncpg

from aggregator import counters
from aggregator.counters import SQL, Counters

__all__ = ["Counters", "Epochs", "PostgresTruth", "Snapshot", "Standing", "Truth"]

Epochs = dict[int, tuple[int, int]]  # bucket -> (epoch, generation)
_LOCK = (0x77656967, 1)


@dataclass(frozen=True, slots=True)
class Standing:
    """`marks`: bucket -> worker -> the last batch that is counted. `counters`: what every counter whose window has not ended must say.
    `moves`: bucket -> the last move of Postgres's own that they contain (billing.counter_moves)."""

    marks: dict[int, dict[str, int]]
    counters: Counters
    moves: dict[int, int] = field(default_factory=dict)


class Snapshot(Protocol):
    """The truth in the hand of the one who restores."""

    async def raise_epochs(self, shown: Mapping[int, int]) -> Epochs:
        """Fence off what was drained before: beyond what stands, and beyond what the store `shown` for each bucket."""
        ...

    async def standing(self, buckets: Sequence[int], now_ms: int) -> Standing:
        """What these buckets must hold, all of one instant."""
        ...


class Truth(Protocol):
    """Where the counts are safe."""

    async def states(self) -> Sequence[tuple[int, int, int]]:
        """(bucket, epoch, generation) of every bucket, in order; epoch 0: never opened."""
        ...

    def alone(self) -> AbstractAsyncContextManager[Snapshot | None]:
        """None while another process restores."""
        ...

    async def knows_gateways(self) -> bool:
        """Whether any gateway's counts ever arrived."""
        ...


class PostgresTruth:
    """The ledger."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def states(self) -> Sequence[tuple[int, int, int]]:
        return [(r["bucket"], r["epoch"], r["generation"]) for r in await self._pool.fetch(SQL["states"])]

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[Snapshot | None]:
        """The lock keeps two aggregators from undoing each other's work; the claim in the store keeps it correct."""
        async with self._pool.acquire() as connection:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", *_LOCK):
                yield None
                return
            try:
                yield _PostgresSnapshot(connection)
            finally:
                await connection.execute("SELECT pg_advisory_unlock($1, $2)", *_LOCK)

    async def knows_gateways(self) -> bool:
        return bool(await self._pool.fetchval(SQL["any_worker"]))


class _PostgresSnapshot:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def raise_epochs(self, shown: Mapping[int, int]) -> Epochs:
        rows = await self._connection.fetch(SQL["raise_epochs"], list(shown), list(shown.values()))
        return {r["bucket"]: (r["epoch"], r["generation"]) for r in rows}

    async def standing(self, buckets: Sequence[int], now_ms: int) -> Standing:
        """Batches of before are fenced off by the epoch; what is recorded here goes on all the while, and is in the counters up to the
        move that the same snapshot shows."""
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            marks: dict[int, dict[str, int]] = {bucket: {} for bucket in buckets}
            for row in await self._connection.fetch(SQL["marks"], list(buckets)):
                marks[row["bucket"]][row["worker"]] = row["seq"]
            moves = {row["bucket"]: row["moves"] for row in await self._connection.fetch(SQL["moves"], list(buckets))}
            return Standing(marks, await counters.from_ledger(self._connection, buckets, now_ms), moves)
