"""Inject one fault into a house under load, wait until all is well and at rest again, and say what came of it."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from .books import Verdict, close
from .fault import Fault
from .load import SEATED, SEATS, Load
from .streams import Streams
from .world import World

_REFUSALS = frozenset({401, 429, 503})


@dataclass
class Outcome:
    """What came of one injection; or of several, added up."""

    times: int = 0
    under_way: int = 0
    lost: int = 0
    doubled: int = 0
    given_back: int = 0
    longest_wait_ms: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        for name in ("times", "under_way", "lost", "doubled", "given_back"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.longest_wait_ms = max(self.longest_wait_ms, other.longest_wait_ms)
        self.statuses += other.statuses
        self.broken += other.broken

    def __str__(self) -> str:
        seen = ", ".join(f"{status or 'broken'} {count}" for status, count in sorted(self.statuses.items()))
        return (
            f"{self.under_way} under way ({seen}); {self.given_back} given back, {self.lost} lost, {self.doubled} doubled; "
            f"longest wait {self.longest_wait_ms:.0f} ms"
        )


async def injected(world: World, fault: Fault, *, timed: bool = True) -> Outcome:
    """Once. `timed`: a wait that is too long does not hold; a machine of many other tests is no judge of that.

    What does not hold stands in `broken`; the house is as well afterwards as it could be made."""
    load, named = await world.load(), Counter(world.bench.service.named)
    streams = await world.streams() if fault.streams else None
    load.start()
    if streams is not None:
        streams.start()
    try:
        await _break(world, fault, load, streams)
    finally:
        await load.stop()
        if streams is not None:
            await streams.stop()
    accounts = await world.accounts(load, _REFUSALS - fault.takes_back)
    load.named = Counter(world.bench.service.named) - named
    outcome = _outcome(world, fault, load, close(accounts, load.named, fault.may_lose), timed=timed)
    if streams is not None:
        outcome.broken += await streams.faults(killed=fault.kills)
    outcome.broken += await world.reconciled()
    return outcome


async def _break(world: World, fault: Fault, load: Load, streams: Streams | None) -> None:
    """From all being served to all being served again."""
    await load.until_served()
    if streams is not None:
        await streams.until_moving()
    load.begun = time.monotonic()
    try:
        await fault.inject(world)
        load.broken = time.monotonic()
        await asyncio.sleep(fault.lasts_seconds)
        load.undone = time.monotonic()
    finally:
        await fault.undo(world)
    await world.until_well()
    await load.until_served()
    load.ended = time.monotonic()
    if streams is not None:
        await streams.until_moving()


def _outcome(world: World, fault: Fault, load: Load, verdict: Verdict, *, timed: bool) -> Outcome:
    meanwhile, broken = [a for a in load.meanwhile() if a.status or load.named[a.ask.name]], verdict.broken
    statuses = Counter((a.status, a.ask.whose) for a in load.crowd.answers)
    seated = {customer.id for customer in load.customers[SEATED]}
    strange = {key: n for key, n in statuses.items() if key[0] not in fault.refused | {200} | ({429} if key[1] in seated else set())}
    if strange:
        broken.append(f"clients got {strange}")
    longest = load.longest_wait_ms()
    if timed and longest > fault.waits_ms:
        broken.append(f"a call waited {longest:.0f} ms, and {fault.waits_ms:.0f} at most may one")
    if load.most_seated() > SEATS:
        broken.append(f"{load.most_seated()} calls were in flight at once where {SEATS} may be")
    broken += fault.holds(world, load)
    return Outcome(
        1, len(meanwhile), verdict.lost, verdict.doubled, verdict.given_back, longest, Counter(a.status for a in meanwhile), broken
    )
