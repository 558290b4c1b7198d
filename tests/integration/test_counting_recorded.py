"""The protocol while usage is recorded beside the traffic: whatever breaks, counter and ledger agree at rest, and each record counts once.

Who records dies between its transaction and the store, brings what another has brought, and does so while recovery is at work.
"""

import random
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from billing.model.event import Event
from billing.services.use_cases import Billing
from billing.wiring import open_billing
from metering.model.clock import SystemClock
from metering.model.meter import Meter
from metering.model.quota import OPEN

from .test_counting import ORG, System, Witness, in_a_hurry, pool  # noqa: F401  fixtures

METERS = {"api": Meter(name="api", unit="request")}


class Recorders:
    """Several, as one may stand in another's way."""

    def __init__(self, system: System, rng: random.Random) -> None:
        self.rng, self.recorded = rng, 0
        self.billing: Billing = open_billing(system.pool, system.redis, SystemClock(), meters=METERS)

    async def step(self) -> None:
        what = self.rng.random()
        if what < 0.3:
            await self.record()
        elif what < 0.5:
            await self.billing.recording.tell([ORG])

    async def record(self) -> None:
        units, service = self.rng.randrange(1, 5), self.billing.recording
        tell: Any = service.tell
        if self.rng.random() < 0.5:  # killed behind its transaction

            async def never(_org_ids: Any) -> bool:
                return False

            service.tell = never  # type: ignore[method-assign]
        try:
            (found,) = await service.record(ORG, [Event(meter="api", units=units, at_ms=SystemClock().now_ms())])
        finally:
            service.tell = tell  # type: ignore[method-assign]
        assert found.status == "accepted"
        self.recorded += units

    async def rest(self) -> None:
        while await self.billing.recording.catch_up():
            pass


async def organization(pool: asyncpg.Pool) -> None:  # noqa: F811
    """Whose periods begin at the epoch, as the walks' entitlement has it."""
    await pool.execute(
        "INSERT INTO billing.organizations (id, slug, name, created_at) VALUES ($1, 'acme', 'Acme', '1970-01-01T00:00:00Z')", ORG
    )


@pytest.mark.parametrize("seed", [11, pytest.param(12, marks=pytest.mark.long), pytest.param(13, marks=pytest.mark.long)])
async def test_whatever_breaks_what_was_recorded_counts_once(
    redis: str, pool: asyncpg.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int  # noqa: F811
) -> None:  # fmt: skip
    await organization(pool)
    witness, rng = Witness(tmp_path / "journal", monkeypatch), random.Random(seed)
    system = System(redis, pool, tmp_path / "journal", rng, OPEN)
    recorders = Recorders(system, rng)
    try:
        for _ in range(120):
            await system.step()
            await recorders.step()
        await system.redis.flushall()
        await recorders.record()
        await system.rest()
        await recorders.rest()
        assert recorders.recorded > 10
        assert await system.ledger() == witness.charged() + recorders.recorded
        assert await system.counter() == await system.ledger()
        assert await pool.fetchval("SELECT count(*) FROM billing.counter_moves") == 0
    finally:
        await system.end()
