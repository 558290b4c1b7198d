"""Byte blocks in the walks of the protocol: streams draw, use and give back over real scripts, journals and stores that break.

At every step: never more was passed on than the limit, over all workers that live and that were killed. At rest: what was passed on,
what the journals say, the counter and the ledger are one number, and nothing is in hand.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from config.gateway import Fixed, Route, Weighed
from gateway.admission import Decision, Status
from gateway.charges import Charge, make_charge
from gateway.drawing import drawing_of, whole
from gateway.draws import Draw
from metering.model.apikey import KeyRecord
from metering.model.entitlement import Entitlement
from metering.model.quota import CLOSED, OPEN, FailureRule, Quota

from .test_counting import ORG, System, Witness, Worker, in_a_hurry, pool

__all__ = ["in_a_hurry", "pool"]  # fixtures

LIMIT = 20_000
CUT = (Quota(meter="api", limit=100_000), Quota(meter="bandwidth", limit=LIMIT, at_limit="cut"))


class Stream:
    """One exchange whose bytes are drawn. `hand`: [tid, minute, units] of its blocks."""

    def __init__(self, xid: int, charge: Charge) -> None:
        self.xid, self.charge, self.hand = xid, charge, list[list[int]]()
        self.draw: Draw | None = None


class BlockWorker(Worker):
    streams: list[Stream]
    rng: random.Random
    sent = 0

    def _charge(self, rule: FailureRule, limits: dict[str, Any]) -> Charge:
        self.streams = []
        entitlement = Entitlement(
            org_id=ORG, slug="acme", name="Acme", version=1, plan="free", plan_version=1, anchor_ms=0, quotas=CUT
        )  # fmt: skip
        route = Route(id=1, path="/*", upstream="app", charge={"api": Fixed(1), "bandwidth": Weighed("bytes")}, on_store_failure=rule)
        return make_charge(entitlement, route, "GET", KeyRecord(key_id=1, org_id=""), self.clock.now_ms())

    async def call(self) -> None:
        """A call, which begins a stream; now and then with an upload whose length is known."""
        length = self.rng.choice([0, 0, 700])
        charge = self.charge
        if length and charge.cut is not None:
            charge = charge.cut.sized(length) or charge
        with contextlib.suppress(asyncio.CancelledError):
            decision = await self.admission.decide(charge)
            self.statuses.append(decision.status)
            if decision.xid and not self.killed:
                stream = Stream(decision.xid, self.charge)
                stream.hand = self.recorder.tally.hands.rows(decision.xid)
                self.streams.append(stream)

    def step(self, rng: random.Random) -> None:
        """Each stream does something, or nothing."""
        for stream in list(self.streams):
            what = rng.random()
            if what < 0.3 and stream.draw is None:
                self._ask(stream, rng)
            elif what < 0.7 and stream.hand:
                self._use(stream, rng)
            elif what > 0.92:
                self._end(stream, rng)

    def _ask(self, stream: Stream, rng: random.Random) -> None:
        drawing = drawing_of(stream.charge, ("bandwidth",), 0)
        if rng.random() < 0.2:
            drawing = whole(drawing)

        def told(draw: Draw, decision: Decision) -> None:
            stream.draw = None
            assert not draw.drawing.whole or draw.granted in (0, draw.units)
            if draw.granted and decision.status in (Status.ADMITTED, Status.REFUSED_BY_RULE):
                stream.hand.append([draw.drawing.template.tid, draw.minute, draw.granted])
            self.statuses.append(decision.status)

        stream.draw = Draw(stream.xid, drawing, rng.choice([1, 50, 700, 3000]), told)
        self.admission.ask(drawing, stream.draw)
        if rng.random() < 0.2:  # its client leaves while it waits
            asyncio.get_running_loop().call_later(rng.random() * 0.002, self._end, stream, rng)

    def _use(self, stream: Stream, rng: random.Random) -> None:
        block = stream.hand[0]
        part = rng.randint(1, block[2])
        self.recorder.used(stream.xid, block[0], block[1], part)
        self.recorder.flush()
        self.sent += part
        block[2] -= part
        if not block[2]:
            stream.hand.pop(0)

    def _end(self, stream: Stream, rng: random.Random) -> None:
        if self.killed or stream not in self.streams:
            return
        self.streams.remove(stream)
        if stream.draw is not None:
            stream.draw.gone = True
        self.recorder.give_back(stream.xid)
        self.recorder.ended(stream.xid, self.charge.template, "5xx" if rng.random() < 0.2 else "", 200, 1, 0, 0, {})

    def finish(self, rng: random.Random) -> None:
        self.step(rng)

    async def kill(self) -> None:
        for stream in self.streams:
            if stream.draw is not None:
                stream.draw.gone = True
        await super().kill()


class Streams(System):
    """As System, of workers with streams; `sent` over all that ever lived."""

    dead = 0

    def spawn(self) -> BlockWorker:
        self.names += 1
        worker = BlockWorker(self.url, self.directory, f"w{self.names}", self.rule)
        worker.statuses, worker.rng = self.statuses, self.rng
        return worker

    @property
    def sent(self) -> int:
        return self.dead + sum(worker.sent for worker in self.workers)  # type: ignore[attr-defined]

    async def kill_one(self) -> None:
        index = self.rng.randrange(2)
        await self.workers[index].kill()
        self.dead += self.workers[index].sent  # type: ignore[attr-defined]
        self.workers[index] = self.spawn()

    async def rest(self) -> None:
        while self.calls:
            await asyncio.sleep(0.02)
        for worker in self.workers:
            for stream in list(worker.streams):  # type: ignore[attr-defined]
                worker._end(stream, self.rng)  # type: ignore[attr-defined]
        await super().rest()

    async def bytes_counted(self) -> int:
        counter = next(limit.counter for limit in self.workers[0].charge.limits if limit.meter == "bandwidth")
        return int(await self.redis.get(counter) or 0)

    async def bytes_billed(self) -> int:
        query = "SELECT coalesce(sum(quantity), 0) FROM billing.usage_events WHERE service = 'bandwidth'"
        return int(await self.pool.fetchval(query))


@pytest.fixture
async def system(redis: str, pool: asyncpg.Pool, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Streams]:
    seed, rule, forgets = request.param
    found = Streams(redis, pool, tmp_path / "journal", random.Random(seed), rule, forgets=forgets)
    yield found
    await found.end()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("system", [(11, CLOSED, False), (12, CLOSED, True), (13, CLOSED, True), (14, OPEN, True)], indirect=True, ids=str)
@pytest.mark.long
async def test_whatever_breaks_no_byte_passes_beyond_the_limit_and_all_counts_agree_at_rest(
    system: Streams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = Witness(tmp_path / "journal", monkeypatch)
    for _ in range(250):
        await system.step()
        if system.rule is CLOSED:
            assert system.sent <= LIMIT
            assert await system.bytes_counted() <= LIMIT
    await system.rest()
    assert await system.bytes_billed() == await system.bytes_counted() == system.sent
    assert await system.ledger() == witness.charged() == await system.counter()
    assert not any(worker.recorder.tally.hands.units for worker in system.workers)
    assert system.sent > 0
    if not system.forgets:  # a store that forgets, on a busy machine, is away most of the time
        assert system.sent > LIMIT // 4
        assert Status.REFUSED in system.statuses
