"""What the store's counters must say, by the ledger: the sums of every window that has not ended.

Read after the epoch was raised, so that nothing more can be committed under the old one.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import asyncpg

from metering.model import keys
from metering.model.clock import to_datetime, to_ms
from metering.model.period import window_at
from metering.model.quota import Window
from metering.store.postgres import Queries

SQL = Queries.load("aggregator", "sql/recovery.sql")

Counters = dict[int, dict[str, tuple[int, int]]]  # bucket -> key -> (value, expires_at_ms)


async def from_ledger(connection: asyncpg.Connection, buckets: Sequence[int], now_ms: int) -> Counters:
    """Every counter of these buckets, for the organization, each route, each key, and each key on each route."""
    found: Counters = {bucket: {} for bucket in buckets}
    starts = [to_datetime(window_at(w, now_ms, now_ms)[0]) for w in (Window.HOUR, Window.DAY, Window.MONTH)]
    for row in await connection.fetch(SQL["window_sums"], list(buckets), *starts):
        window = _WINDOWS[row["kind"]]
        start_ms, end_ms = _bounds(window, row["start"])
        _set(found, row, window, start_ms, end_ms)
    for row in await connection.fetch(SQL["period_sums"], list(buckets), to_datetime(now_ms)):
        _set(found, row, Window.PERIOD, _ms(row["start"]), _ms(row["until"]))
    return found


def _set(found: Counters, row: Any, window: Window, start_ms: int, end_ms: int) -> None:
    org_id, bucket = _organization(row["org_id"])
    scope = keys.scope(route_id=row["route_id"], key_id=row["key_id"])
    key = keys.counter(org_id, row["service"], scope, window, start_ms)
    found[bucket][key] = (row["quantity"], keys.counter_expires_ms(window, end_ms))


# A large house has a million counters and few distinct instants.
_WINDOWS = {window.value: window for window in Window}
_ms = lru_cache(maxsize=4096)(to_ms)


@lru_cache(maxsize=4096)
def _bounds(window: Window, start: datetime) -> tuple[int, int]:
    start_ms = to_ms(start)
    return window_at(window, start_ms, start_ms)


@lru_cache(maxsize=16_384)
def _organization(found: UUID) -> tuple[str, int]:
    org_id = str(found)
    return org_id, keys.bucket_of(org_id)
