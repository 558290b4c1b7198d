"""The aggregator's faults: killed within a flush, hanging, several at once. What was settled waits in the store."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL

from tests.chaos.world import World

from .postgres import PostgresFault, flush_held


class Killed(PostgresFault):
    """kill -9, three times, each while a flush stands in the middle of its transaction."""

    name = "aggregator `kill -9` within a flush, three times"

    async def inject(self, world: World) -> None:
        for _ in range(3):
            async with flush_held(world):
                (dead,) = world.bench.house.pids("aggregator")
                os.kill(dead, signal.SIGKILL)
            await world.until(lambda dead=dead: _replaced(world, dead), "the aggregator was started again")


class Hanging(PostgresFault):
    """Stopped in the middle of a flush, its locks held, and going on late."""

    name = "aggregator hangs within a flush for 6 s (`SIGSTOP`)"
    lasts_seconds = 6.0

    async def inject(self, world: World) -> None:
        async with flush_held(world):
            (self._pid,) = world.bench.house.pids("aggregator")
            os.kill(self._pid, signal.SIGSTOP)

    async def undo(self, world: World) -> None:
        os.kill(self._pid, signal.SIGCONT)


class Several(PostgresFault):
    """Two more of them, each flushing every second."""

    name = "three aggregators at once for 8 s, one of them killed"
    lasts_seconds = 8.0

    async def inject(self, world: World) -> None:
        environ = {**world.bench.house.environ, "DATABASE_URL": world.between.url, "WEIGHBRIDGE_FLUSH_INTERVAL": "1"}
        environ |= {"STRIPE_API_KEY": "sk_test_chaos", "STRIPE_API_BASE": world.bench.house.ready["stripe"]}
        self._more = [
            await asyncio.create_subprocess_exec(sys.executable, "-m", "aggregator", env=environ, stdout=DEVNULL, stderr=DEVNULL)
            for _ in range(2)
        ]
        await asyncio.sleep(3)
        self._more[0].kill()

    async def undo(self, world: World) -> None:
        for process in self._more:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _replaced(world: World, dead: int) -> bool:
    (pid,) = world.bench.house.pids("aggregator")
    return pid != dead


FAULTS = (Killed, Hanging, Several)
