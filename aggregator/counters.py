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
from metering.model.moves import level_periods
from metering.model.period import window_at
from metering.model.quota import Window
from metering.store.postgres import Queries

SQL = Queries.load("aggregator", "sql/recovery.sql")

Counters = dict[int, dict[str, tuple[int, int]]]  # bucket -> key -> (value, expires_at_ms)


async def from_ledger(connection: asyncpg.Connection, buckets: Sequence[int], now_ms: int) -> Counters:
    """Every counter of these buckets: the organization's, each route's, each key's, each tenant's, and each key's and tenant's on
    each route. Tenants beyond those that have a name in the ledger begin at nothing; addresses are not in it at all."""
    found: Counters = {bucket: {} for bucket in buckets}
    starts = [to_datetime(window_at(w, now_ms, now_ms)[0]) for w in (Window.HOUR, Window.DAY, Window.MONTH)]
    for row in await connection.fetch(SQL["window_sums"], list(buckets), *starts):
        window = _WINDOWS[row["kind"]]
        start_ms, end_ms = _bounds(window, row["start"])
        _set(found, row, _scope(row), window, start_ms, end_ms)
    for row in await connection.fetch(SQL["period_sums"], list(buckets), to_datetime(now_ms)):
        _set(found, row, _scope(row), Window.PERIOD, _ms(row["start"]), _ms(row["until"]))
    for row in await connection.fetch(SQL["tenant_window_sums"], list(buckets), *starts):
        window = _WINDOWS[row["kind"]]
        _set(found, row, _tenant_scope(row), window, *_bounds(window, row["start"]))
    for row in await connection.fetch(SQL["tenant_period_sums"], list(buckets), to_datetime(now_ms)):
        _set(found, row, _tenant_scope(row), Window.PERIOD, _ms(row["start"]), _ms(row["until"]))
    for row in await connection.fetch(SQL["levels"], list(buckets)):  # no hour holds them: they stand in this period and in the next
        for bounds in level_periods(_ms(row["anchor"]), now_ms):
            _set(found, row, keys.ORGANIZATION, Window.PERIOD, *bounds)
    return found


def _scope(row: Any) -> str:
    return keys.scope(route_id=row["route_id"], key_id=row["key_id"])


def _tenant_scope(row: Any) -> str:
    return keys.scope(route_id=row["route_id"], key_id=None, tenant=row["tenant"])


def _set(found: Counters, row: Any, scope: str, window: Window, start_ms: int, end_ms: int) -> None:
    org_id, bucket = _organization(row["org_id"])
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
