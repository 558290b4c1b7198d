"""`weighbridge flush`: everything charged before it reaches Postgres, its overage is cut and delivered. Beside a running system.

Ship (each gateway process sends all that it has journaled) → flush until nothing is left → cut → deliver until nothing is due.
"""

import asyncio
import json
import secrets
from dataclasses import asdict, dataclass
from typing import Any

import asyncpg
from redis.asyncio import Redis

from aggregator.flush import flush_once
from aggregator.overage import cut_overage
from aggregator.rollup import name_routes
from billing.stripe.client import StripeApi
from billing.stripe.deliver import deliver_due
from config.load import Configuration
from metering.model import keys
from metering.model.clock import Clock

_HEARTBEAT_LIVES_MS = 3_000
_SHIP_SECONDS = 15.0
_FLUSH_SECONDS = 30.0
_DELIVER_SECONDS = 60.0
_POLL_SECONDS = 0.05
_ASK_AGAIN_SECONDS = 1.0
_AGAIN_SECONDS = 0.3


@dataclass(slots=True)
class Flushed:
    """`unshipped` names the gateway processes that did not answer; `left` says in words what is not done."""

    processes: int = 0
    unshipped: tuple[str, ...] = ()
    batches: int = 0
    rows: int = 0
    complete: bool = False
    overage_rows: int = 0
    delivered: int = 0
    pending: int = 0
    dead: int = 0
    unknown: int = 0
    stripe_error: str | None = None

    @property
    def left(self) -> list[str]:
        found = []
        if self.unshipped:
            found.append(f"{', '.join(self.unshipped)} did not ship within {_SHIP_SECONDS:.0f} s")
        if not self.complete:
            found.append("some buckets are not open yet: is an aggregator running?")
        if self.pending:
            found.append(f"{self.pending} rows still wait for Stripe" + (f": {self.stripe_error}" if self.stripe_error else ""))
        if self.dead or self.unknown:
            found.append(f"Stripe refused {self.dead} rows, and {self.unknown} are in doubt: {self.stripe_error or 'see the outbox'}")
        return found

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "left": self.left}


async def ship(client: Redis, report: Flushed, clock: Clock) -> None:
    """Ask every living gateway process to send what it has journaled, and wait until each says that it has. One that has just started,
    or comes back to the store, may miss a message: it is asked again."""
    token = secrets.token_hex(8)
    deadline, ask_at = clock.monotonic() + _SHIP_SECONDS, clock.monotonic()
    while True:
        if clock.monotonic() >= ask_at:
            await client.publish(keys.CHANGED, f"ship {token}")
            ask_at = clock.monotonic() + _ASK_AGAIN_SECONDS
        beats = await living(client)
        report.processes = len(beats)
        report.unshipped = tuple(sorted(name for name, beat in beats.items() if beat.get("shipped") != token))
        if not report.unshipped or clock.monotonic() > deadline:
            return
        await asyncio.sleep(_POLL_SECONDS)


async def living(client: Redis) -> dict[str, dict[str, Any]]:
    """Gateway processes whose heartbeat is younger than three seconds, by the store's clock."""
    seconds, micros = await client.time()
    now_ms = seconds * 1000 + micros // 1000
    beats = {name.decode(): json.loads(beat) for name, beat in (await client.hgetall(keys.WORKERS)).items() if isinstance(name, bytes)}
    return {name: beat for name, beat in beats.items() if now_ms - beat["at_ms"] < _HEARTBEAT_LIVES_MS}


async def flush_all(pool: asyncpg.Pool, client: Redis, report: Flushed, clock: Clock) -> None:
    """From the store to Postgres, until one pass finds all of it there."""
    deadline = clock.monotonic() + _FLUSH_SECONDS
    while not report.complete and clock.monotonic() < deadline:
        once = await flush_once(pool, client)
        report.batches += once.batches
        report.rows += once.rows
        report.complete = once.complete
        if not report.complete:
            await asyncio.sleep(_AGAIN_SECONDS)


async def deliver_all(pool: asyncpg.Pool, stripe: StripeApi, report: Flushed, clock: Clock) -> None:
    """Until nothing is due, here or with another deliverer."""
    deadline = clock.monotonic() + _DELIVER_SECONDS
    while True:
        run = await deliver_due(pool, stripe, clock)
        report.delivered += run.delivered
        report.dead += run.dead
        report.unknown += run.unknown
        report.pending = run.pending
        report.stripe_error = next(iter(run.errors.values()), report.stripe_error)
        if not report.pending or clock.monotonic() > deadline:
            return
        await asyncio.sleep(_AGAIN_SECONDS)


async def flush(
    pool: asyncpg.Pool, client: Redis, config: Configuration, clock: Clock, *, stripe: StripeApi | None, bills: bool
) -> Flushed:
    """All of it. `stripe` None: the overage is cut and waits. `bills` False: nothing is cut."""
    report = Flushed()
    await ship(client, report, clock)
    await flush_all(pool, client, report, clock)
    await name_routes(pool, client)
    if bills:
        report.overage_rows = (await cut_overage(pool, clock, config.meters)).rows
        if stripe is not None:
            await deliver_all(pool, stripe, report, clock)
        else:
            report.pending = await pool.fetchval("SELECT count(*) FROM billing.outbox WHERE state = 'pending'")
    return report
