"""The store's faults: away, hanging, full, read-only, forgetful.

While it cannot be asked each quota says what happens, at once: `open` lets every call pass, `closed` none, `grace` as many as it has,
over all workers. What passed is in the ledger afterwards, and in the counters.
"""

import asyncio
import os
import shutil
import signal

from tests.chaos.fault import DEADLINE_MS, Fault
from tests.chaos.faults.gateway import WorkerKilled
from tests.chaos.load import Load
from tests.chaos.world import GRACE, World
from weighbridge.stores import start

_AFTER_SECONDS = 5 * DEADLINE_MS / 1000  # by then every worker has noticed, and what was under way is decided
_BROKEN, _UNAVAILABLE = 0, 503


class StoreFault(Fault):
    """`decides`: whether the store decides at times while the fault lasts. Where it does not, only what a rule lets pass may.
    `knows`: whether every worker knows the customers, so that open quotas let all of their calls pass."""

    refused = frozenset({_UNAVAILABLE})
    decides = False
    knows = True

    def holds(self, world: World, load: Load) -> list[str]:
        refused = sum(a.status == _UNAVAILABLE for a in load.of_plan("open"))
        broken = [f"{refused} calls under an open quota were refused"] if refused and self.knows else []
        if self.decides:
            return broken
        closed, grace = (load.whilst_broken(plan, _AFTER_SECONDS) for plan in ("closed", "grace"))
        passed = sum(a.status == 200 for a in closed)
        broken += [f"{passed} of {len(closed)} calls passed under a closed quota"] if passed else []
        for customer in load.customers["grace"]:
            passed = sum(a.status == 200 for a in grace if a.ask.whose == customer.id)
            broken += [f"{passed} calls passed by a grace of {GRACE}"] if passed > GRACE else []
        return broken if closed and grace else [*broken, "nobody called while it was broken"]


class Away(StoreFault):
    """Killed, and started again over its append-only file."""

    name = "store killed, 3 s later started over its append-only file"
    lasts_seconds = 3.0

    async def inject(self, world: World) -> None:
        kill(world)

    async def undo(self, world: World) -> None:
        await start(world.valkey)


class Hanging(StoreFault):
    """Stopped as a machine that swaps or a frozen disk stops it: connections stand, nothing answers. What it got meanwhile it runs late."""

    name = "store hangs for 10 s (`SIGSTOP`), then runs what it got late"
    lasts_seconds = 10.0

    async def inject(self, world: World) -> None:
        os.kill(world.valkey.pid, signal.SIGSTOP)

    async def undo(self, world: World) -> None:
        os.kill(world.valkey.pid, signal.SIGCONT)


class Stutters(StoreFault):
    """Hangs for a moment, again and again, while calls are under way in it."""

    name = "store hangs for 0.3 s, ten times"
    decides = True

    async def inject(self, world: World) -> None:
        for _ in range(10):
            os.kill(world.valkey.pid, signal.SIGSTOP)
            await asyncio.sleep(0.3)
            os.kill(world.valkey.pid, signal.SIGCONT)
            await asyncio.sleep(world.rng.random() * 0.5)

    async def undo(self, world: World) -> None:
        os.kill(world.valkey.pid, signal.SIGCONT)


class Paused(StoreFault):
    """It takes commands and answers none."""

    name = "`CLIENT PAUSE` for 2 s"
    lasts_seconds = 2.0

    async def inject(self, world: World) -> None:
        await world.bench.store.client_pause(int(self.lasts_seconds * 1000))


class Full(StoreFault):
    """Out of memory, and it may evict nothing: reads are answered, writes refused."""

    name = "store out of memory (`maxmemory`, `noeviction`) for 3 s"
    lasts_seconds = 3.0

    async def inject(self, world: World) -> None:
        await world.bench.store.config_set("maxmemory", "1mb")

    async def undo(self, world: World) -> None:
        await world.bench.store.config_set("maxmemory", "0")


class ReadOnly(StoreFault):
    """The primary was made a replica: it answers and refuses every write."""

    name = "store read-only (made a replica) for 3 s"
    lasts_seconds = 3.0

    async def inject(self, world: World) -> None:
        await world.bench.store.replicaof("127.0.0.1", 1)

    async def undo(self, world: World) -> None:
        await world.bench.store.replicaof("NO", "ONE")


class Flushed(StoreFault):
    """Everything in it is gone; the process is the same."""

    name = "`FLUSHALL`"
    decides = True
    quick = True

    async def inject(self, world: World) -> None:
        await world.bench.store.flushall()


class Emptied(StoreFault):
    """Started again, and nothing is left of its data."""

    name = "store killed, 1 s later started empty"
    lasts_seconds = 1.0

    async def inject(self, world: World) -> None:
        kill(world)
        shutil.rmtree(world.valkey.directory / "appendonlydir")

    async def undo(self, world: World) -> None:
        await start(world.valkey)


class Stale(StoreFault):
    """In its place a replica that lags behind, or a snapshot: what was written in the last seconds is not in it."""

    name = "store failed over to a replica that is 3 s behind"
    lasts_seconds = 0.5
    behind_seconds = 3.0

    async def inject(self, world: World) -> None:
        data, copy = world.valkey.directory / "appendonlydir", world.folder / "stale"
        shutil.copytree(data, copy)
        await asyncio.sleep(self.behind_seconds)
        kill(world)
        shutil.rmtree(data)
        copy.rename(data)

    async def undo(self, world: World) -> None:
        await start(world.valkey)


class KilledWhileAway(Away):
    """A worker dies while there is no store to tell: what it had let pass is shipped by who adopts its journal, when the store is back."""

    name = "store killed, and a worker while it is away"
    refused = frozenset({_UNAVAILABLE, _BROKEN})
    loses = WorkerKilled.loses
    quick = knows = False

    async def inject(self, world: World) -> None:
        await super().inject(world)
        await asyncio.sleep(1)
        os.kill(world.rng.choice(world.workers()), signal.SIGKILL)


class KilledAndEmptied(KilledWhileAway):
    """A worker dies, and with it all that the store has."""

    name = "a worker killed and the store emptied (`FLUSHALL`) in the same moment"
    lasts_seconds = 0.0
    decides = True

    async def inject(self, world: World) -> None:
        os.kill(world.rng.choice(world.workers()), signal.SIGKILL)
        await world.bench.store.flushall()

    async def undo(self, world: World) -> None:
        """Nothing."""


def kill(world: World) -> None:
    world.valkey.process.kill()
    world.valkey.process.wait()


FAULTS = (Away, Hanging, Stutters, Paused, Full, ReadOnly, Flushed, Emptied, Stale, KilledWhileAway, KilledAndEmptied)
