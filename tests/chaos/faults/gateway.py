"""The gateway's own faults: its workers killed."""

import asyncio
import os
import signal

from tests.chaos.fault import Fault
from tests.chaos.load import Load
from tests.chaos.world import World

_BROKEN = 0


class WorkerKilled(Fault):
    """kill -9 of one worker, again and again. The others serve on: a connection breaks only if it was the dead one's."""

    name = "gateway worker `kill -9`, two in turn"
    refused = frozenset({_BROKEN})
    loses = (
        "a call that ended in its worker's last tenth of a second may have been answered and given back, as its end was not written yet; "
        "the client gains, nobody is billed twice"
    )
    waits_ms = 15_000
    waits = "connections that arrive for the dead worker wait in its socket until another has taken its place"
    quick = True
    kills = 2

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


FAULTS = (WorkerKilled,)
