"""The protocol under the same faults, for calls that reserve: whatever breaks, each call is charged what it truly took, or nothing.

Beside what test_counting.py holds, the walks keep their own account: what every call took whose end some journal shows.
"""

import random
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from config.gateway import Route, Settled, Source
from gateway.charges import Charge, make_charge
from gateway.metrics import GatewayMetrics
from gateway.outcome import Outcome
from gateway.reserve import Reserved
from metering.model.apikey import KeyRecord
from metering.model.entitlement import Entitlement
from metering.model.quota import CLOSED, FailureRule, Quota
from metering.store import journal as journals

from .test_counting import ORG, System, Witness, Worker, in_a_hurry, pool

__all__ = ["in_a_hurry", "pool"]

RESERVE, LIMIT = 5, 400
COST = Settled(sources=(Source("header", "X-Units"),), reserve=RESERVE)
RESERVED = {"quotas": (Quota(meter="api", limit=LIMIT),)}


class Said:
    """An answer that says what it took."""

    whole, refused = True, False

    def __init__(self, units: int) -> None:
        self._units = units

    def units(self, cost: Settled) -> int:
        return self._units


class Nobody:
    """Hears of nothing."""

    def units_unsaid(self, *facts: Any) -> None: ...
    def ship_soon(self, bucket: int) -> None: ...


class Reserving(Worker):
    """A worker whose calls reserve, and take up to `most`."""

    def __init__(self, *arguments: Any, most: int, account: dict[tuple[str, int], int], **words: Any) -> None:
        self.most, self.account, self.metrics = most, account, GatewayMetrics()
        super().__init__(*arguments, **words)

    def _charge(self, rule: FailureRule, limits: dict[str, Any]) -> Charge:
        entitlement = Entitlement(org_id=ORG, slug="acme", name="Acme", version=1, plan="free", plan_version=1, anchor_ms=0, **limits)
        route = Route(id=1, path="/*", upstream="app", charge={"api": COST}, on_store_failure=rule, closed_is_said=True)
        return make_charge(entitlement, route, "GET", KeyRecord(key_id=1, org_id=""), self.clock.now_ms())

    def finish(self, rng: random.Random) -> None:
        if self.in_flight:
            decision, units = self.in_flight.pop(rng.randrange(len(self.in_flight))), rng.randrange(self.most + 1)
            said: Any = Said(units)
            exchange = Reserved(decision.xid, self.charge, self.recorder, self.metrics, 0, said, Nobody())
            cause = "5xx" if rng.random() < 0.25 else ""
            self.account[self.name, decision.xid] = 0 if cause else units
            exchange.end(self.charge, Outcome(status=200, first_byte_sent=True), 200, 1, cause)


class ReservingSystem(System):
    def __init__(self, *arguments: Any, most: int, **words: Any) -> None:
        self.most, self.account = most, dict[tuple[str, int], int]()
        super().__init__(*arguments, **words)

    def spawn(self) -> Worker:
        self.names += 1
        name = f"w{self.names}"
        worker = Reserving(self.url, self.directory, name, self.rule, limits=self.limits, most=self.most, account=self.account)
        worker.statuses = self.statuses
        return worker


def ended(witness: Witness) -> set[tuple[str, int]]:
    """The exchanges whose end, by their own worker, a journal shows: all others were given back."""
    found = set()
    for path in witness.kept.glob("*.log"):
        for payload in journals.read(path):
            record = orjson.loads(payload)
            for one in record[1] if record[0] == "M" else [record]:
                if one[0] == "E" and one[4] not in ("killed", "client_left_before"):
                    found.add((path.name.split(".")[0], one[1]))
                elif one[0] == "N":
                    found |= {(path.name.split(".")[0], xid) for xid in one[8]}
    return found


@pytest.mark.parametrize(
    ("seed", "most", "forgets"),
    [(11, RESERVE, True), (12, RESERVE, False), (13, 4 * RESERVE, True), (14, 4 * RESERVE, False)],
)
@pytest.mark.long
async def test_whatever_breaks_each_call_is_charged_what_it_took_or_nothing(
    redis: str, pool: asyncpg.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, most: int, forgets: bool
) -> None:
    witness = Witness(tmp_path / "journal", monkeypatch)
    system = ReservingSystem(redis, pool, tmp_path / "journal", random.Random(seed), CLOSED, limits=RESERVED, forgets=forgets, most=most)
    try:
        for _ in range(250):
            await system.step()
            if most == RESERVE:
                assert await system.counter() <= LIMIT
        await system.rest()
        charged = witness.charged()
        assert charged == sum(system.account[call] for call in ended(witness)) > 0
        assert await system.ledger() == charged
        assert await system.counter() == charged
    finally:
        await system.end()
