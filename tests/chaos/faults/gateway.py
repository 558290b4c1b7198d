"""The gateway's own faults: workers killed, replaced and stopped, configurations that change, a journal that cannot be written."""

import asyncio
import os
import resource
import signal
from pathlib import Path

from config.files import read_set
from tests.chaos.books import Account
from tests.chaos.fault import Fault
from tests.chaos.load import Load
from tests.chaos.world import DRAIN_SECONDS, World

_BROKEN, _UNAVAILABLE = 0, 503
_START_MS = 15_000
_WAITS = "connections that are made before the first worker serves wait for it, and are not refused: for as long as it takes to start"


class Calm(Fault):
    """What the others are to be compared with."""

    name = "nothing, for comparison: 3 s"
    lasts_seconds = 3.0
    streams = True

    async def inject(self, world: World) -> None:
        """Nothing."""


class WorkerKilled(Fault):
    """kill -9 of one worker, again and again. The others serve on: a connection breaks only if it was the dead one's."""

    name = "gateway worker `kill -9`, two in turn"
    refused = frozenset({_BROKEN})
    loses = (
        "the end of a call is written down with the next call that is admitted, or within a tenth of a second: killed before that, a "
        "worker may have answered it, and it is given back. Nobody is billed twice. Zero would cost a write to the journal before the end "
        "of each answer"
    )
    quick = True
    streams, kills = True, 2

    async def inject(self, world: World) -> None:
        for _ in range(self.kills):
            dead = world.rng.choice(world.workers())
            os.kill(dead, signal.SIGKILL)
            await world.until(lambda dead=dead: self._replaced(world, dead), "a worker took the dead one's place")
            await asyncio.sleep(world.rng.random())

    async def _replaced(self, world: World, dead: int) -> bool:
        state = await world.state()
        return state is not None and state["ready"] and dead not in [w["pid"] for w in state["workers"]] and dead not in world.workers()

    def holds(self, world: World, load: Load) -> list[str]:
        broken = sum(a.status == _BROKEN for a in load.crowd.answers)
        most = self.kills * load.crowd.connections
        return [f"{broken} connections broke, of {most} that could"] if broken > most else []


class Gone(Fault):
    """Something that no call under way may notice: whoever reached the service gets the answer."""

    refused = frozenset({_BROKEN})  # of connections that were closed before the service saw their next call
    streams = True

    def holds(self, world: World, load: Load) -> list[str]:
        failed = load.failed()
        return [f"{len(failed)} calls reached the service and were not answered"] if failed else []


class Reloaded(Gone):
    """gateway.yaml and plans.yaml change again and again."""

    name = "configuration changed ten times"
    refused = frozenset()

    async def inject(self, world: World) -> None:
        folder = world.bench.house.config_dir
        before = (folder / "plans.yaml").read_text().count("price: {usd: '0'}")  # of an earlier round: names do not come twice
        for number in range(before, before + 10):
            for file, line in (("gateway", "  - {path: /more/N, charge: {api: 2}}"), ("plans", "  planN: {price: {usd: '0'}}")):
                path = folder / f"{file}.yaml"
                path.write_text(f"{path.read_text().rstrip()}\n{line.replace('N', str(number))}\n")
            await self._applied(world)

    async def _applied(self, world: World) -> None:
        version = read_set(world.bench.house.config_dir).version

        async def applied() -> bool:
            state = await world.state()
            return state is not None and state["config_version"] == version

        await world.until(applied, "the new configuration is in use")


class Rolled(Gone):
    """Every worker is replaced by a new one: the new one is ready before the old one drains."""

    name = "workers replaced as planned (`SIGHUP`)"

    async def inject(self, world: World) -> None:
        rolls = (await world.state() or {"rolls": 0})["rolls"]
        os.kill(world.bench.house.pids("gateway")[0], signal.SIGHUP)

        async def rolled() -> bool:
            state = await world.state()
            return state is not None and state["rolls"] > rolls

        await world.until(rolled, "every worker is replaced")


class Stopped(Gone):
    """SIGTERM to the whole gateway; `up` starts it again. Calls under way are finished, streams get the drain time."""

    name = f"gateway stopped (`SIGTERM`, {DRAIN_SECONDS} s to drain), started again by `up`"
    waits_ms = _START_MS
    waits = _WAITS

    async def inject(self, world: World) -> None:
        gateway = world.bench.house.pids("gateway")[0]
        os.kill(gateway, signal.SIGTERM)

        async def again() -> bool:
            return world.bench.house.pids("gateway")[0] != gateway

        await world.until(again, "up has started another gateway")


class JournalFull(Fault):
    """No worker can write its journal (the limit on file sizes, in the middle of a record): the rules decide as if the store were away."""

    name = "journal cannot be written (`RLIMIT_FSIZE`) for 3 s"
    refused = takes_back = frozenset({_UNAVAILABLE})
    lasts_seconds = 3.0

    async def inject(self, world: World) -> None:
        for pid in self.processes(world):
            size = max((path.stat().st_size for path in self.journals(world) if _writes(pid, path)), default=0)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + world.rng.randrange(200), resource.RLIM_INFINITY))

    async def undo(self, world: World) -> None:
        for pid in self.processes(world):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def holds(self, world: World, load: Load) -> list[str]:
        """Of open quotas only what the store had granted as it was noticed may be refused: one call a connection and worker."""
        refused = sum(a.status == _UNAVAILABLE for a in load.of_plan("open"))
        return [f"{refused} calls under an open quota were refused"] if refused > load.crowd.connections else []

    def processes(self, world: World) -> list[int]:
        return world.workers()

    def journals(self, world: World) -> list[Path]:
        return sorted((world.bench.house.data_dir / "journal").glob("*.log"))


class JournalFullAndKilled(JournalFull):
    """The same for the supervisor too, which is to adopt the journal of a worker that is killed meanwhile."""

    name = "the same, and a worker killed meanwhile"
    refused = frozenset({_UNAVAILABLE, _BROKEN})
    loses = (
        "what `open` and `grace` let pass while the journal could not be written is in memory only: a worker killed before it can "
        "write takes it along; quotas that are `closed` lose none of it"
    )
    quick = False

    def may_lose(self, who: str, account: Account) -> int:
        return super().may_lose(who, account) if who.startswith("closed/") else account.lost

    def holds(self, world: World, load: Load) -> list[str]:
        """A worker that starts knows nobody: it can serve again once it can write."""
        return []

    async def inject(self, world: World) -> None:
        await super().inject(world)
        await asyncio.sleep(1)
        os.kill(world.rng.choice(world.workers()), signal.SIGKILL)

    def processes(self, world: World) -> list[int]:
        return [*world.bench.house.pids("gateway"), *_children(world.bench.house.pids("gateway")[0])]


class TornTail(WorkerKilled):
    """A worker dies in the middle of a write: its journal ends in a piece of a record. That is dropped, all before it counts once."""

    name = "gateway worker killed, its journal's last record torn"
    kills = 1
    quick = False

    async def inject(self, world: World) -> None:
        supervisor, dead = world.bench.house.pids("gateway")[0], world.rng.choice(world.workers())
        os.kill(supervisor, signal.SIGSTOP)  # or it would have adopted the journal before it is torn
        try:
            os.kill(dead, signal.SIGSTOP)
            [path] = [path for path in sorted((world.bench.house.data_dir / "journal").glob("*.log")) if _writes(dead, path)]
            os.kill(dead, signal.SIGKILL)
            last = path.read_bytes()[-300:]
            with path.open("ab") as file:
                file.write(last[: world.rng.randrange(1, len(last))])
        finally:
            os.kill(supervisor, signal.SIGCONT)
        await world.until(lambda: self._replaced(world, dead), "a worker took the dead one's place")


def _writes(pid: int, path: Path) -> bool:
    return any(os.path.realpath(link) == str(path.resolve()) for link in Path(f"/proc/{pid}/fd").iterdir())


def _children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


FAULTS = (Calm, WorkerKilled, TornTail, Reloaded, Rolled, Stopped, JournalFull, JournalFullAndKilled)
