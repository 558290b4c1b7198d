"""Workers are started, told and ended, whatever happens at the same moment. The processes are real; what runs in them is a stub."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from metering.model.clock import SystemClock
from weighbridge import workers as module
from weighbridge.sockets import listen
from weighbridge.workers import Launch, Workers

STUB = """#!{python}
import json, os, signal, socket, sys, time
given = dict(zip(sys.argv[3::2], sys.argv[4::2]))
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
time.sleep(float(open(given["--data-dir"] + "/slow").read()))
control = socket.socket(fileno=int(given["--control-fd"])).makefile("rw")
told = open(given["--data-dir"] + "/told-" + str(os.getpid()), "w")
def tell(**message):
    control.write(json.dumps(message) + "\\n")
    control.flush()
def use(config):
    told.write(config + "\\n")
    told.flush()
use(given["--config"])
tell(op="ready", worker="w" + str(os.getpid()), pid=os.getpid())
for line in control:
    order = json.loads(line)
    if order["op"] == "cover":
        open(given["--data-dir"] + "/covered-" + str(os.getpid()), "a").write(str(order["slots"]) + "\\n")
    else:
        use(order["path"])
        tell(op="config", ok=True)
"""


class House:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, slots: int = 1) -> None:
        stub = folder / "stub"
        stub.write_text(STUB.format(python=sys.executable))
        stub.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(stub))
        monkeypatch.setattr(module, "_BACK_OFF_SECONDS", (0.02,))
        self.folder, self.sockets = folder, listen("127.0.0.1", 0, slots)
        self.starts_within(0)
        launch = Launch(data_dir=folder, environ=dict(os.environ), drain_seconds=0)
        self.workers = Workers(launch, self.sockets, Path("one"), SystemClock(), on_death=self._on_death, on_restart=lambda: None)

    def starts_within(self, seconds: float) -> None:
        (self.folder / "slow").write_text(str(seconds))

    async def _on_death(self, pid: int, journal: str | None) -> None:
        pass

    def config_of(self, pid: int) -> str:
        return (self.folder / f"told-{pid}").read_text().split()[-1]

    async def ready(self) -> int:
        """The pid of the one worker, once it is ready."""
        async with asyncio.timeout(10):
            while not self.workers.all_ready:
                await asyncio.sleep(0.01)
        return self.workers.living()[0].process.pid


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    house = House(tmp_path, monkeypatch)
    await house.workers.start()
    await house.ready()
    yield house
    async with asyncio.timeout(20):
        await house.workers.drain()
    for each in house.sockets:
        each.close()


async def test_a_worker_that_starts_while_a_configuration_is_handed_out_gets_it_too(house: House) -> None:
    house.starts_within(0.4)
    rolling = asyncio.create_task(house.workers.roll())
    await asyncio.sleep(0.2)
    assert await house.workers.push(Path("two")) == []
    await rolling
    assert house.config_of(await house.ready()) == "two"


async def test_a_drain_ends_the_worker_that_a_roll_is_starting(house: House) -> None:
    house.starts_within(0.4)
    rolling = asyncio.create_task(house.workers.roll())
    await asyncio.sleep(0.2)
    async with asyncio.timeout(10):
        await house.workers.drain()
    await asyncio.gather(rolling, return_exceptions=True)
    assert house.workers.living() == []


async def test_who_connects_while_workers_drain_is_refused_at_once(house: House) -> None:
    address = house.sockets[0].getsockname()
    await house.workers.drain()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


async def test_a_dead_worker_is_replaced_although_no_process_can_be_made_for_a_while(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    make, left = asyncio.create_subprocess_exec, [1, 2]

    async def make_later(*given: object, **how: object) -> object:
        if left:
            left.pop()
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return await make(*given, **how)  # type: ignore[arg-type]

    old = await house.ready()
    monkeypatch.setattr(asyncio, "create_subprocess_exec", make_later)
    os.kill(old, signal.SIGKILL)
    await house.workers.living()[0].gone.wait()
    assert await house.ready() != old


async def test_a_living_worker_is_told_which_slots_are_away_and_when_they_are_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path, monkeypatch, slots=2)
    await house.workers.start()
    await house.ready()
    other, dead = house.workers.living()
    told = tmp_path / f"covered-{other.process.pid}"

    def last() -> str:
        return told.read_text().splitlines()[-1] if told.exists() else ""

    async with asyncio.timeout(20):
        while last() != "[]":
            await asyncio.sleep(0.01)
        house.starts_within(0.3)
        os.kill(dead.process.pid, signal.SIGKILL)
        while last() != "[1]":
            await asyncio.sleep(0.01)
        await house.ready()
        while last() != "[]":
            await asyncio.sleep(0.01)
        await house.workers.drain()
