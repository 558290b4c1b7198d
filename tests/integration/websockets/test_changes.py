"""What happens while a tunnel stands: a raised limit, a key that is withdrawn, the death of its worker."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from metering.model.apikey import sha256_hex
from tests.integration.rules.parties import Way, get, until
from tests.integration.rules.rig import KEYS, Rig

from .conftest import Caller, Talk, start_talk

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    running = start_talk(tmp_path_factory.mktemp("changes"))
    yield running
    running.stop()


def edit(rig: Rig, name: str, old: str, new: str) -> None:
    path: Path = rig.folder / "config" / name
    text = path.read_text()
    assert old in text
    path.with_suffix(".new").write_text(text.replace(old, new))
    path.with_suffix(".new").rename(path)


async def says(socket: aiohttp.ClientWebSocketResponse) -> bool:
    """One message there and back; False where the tunnel has ended."""
    with contextlib.suppress(ConnectionError):
        await socket.send_str("x")
    return (await socket.receive(timeout=20)).type is aiohttp.WSMsgType.TEXT


async def test_a_raised_limit_lets_a_tunnel_go_on_and_a_key_withdrawn_ends_it(rig: Rig, caller: Caller, talk: Talk) -> None:
    socket, payer = await caller.open("/few"), caller.payer
    for _ in range(15):
        assert await says(socket)
    edit(rig, "plans.yaml", "meter: words, limit: 50", "meter: words, limit: 7_654_321")
    way = Way("direct", rig.host, rig.port)
    async with asyncio.timeout(20):
        while b"q=7654321;" not in ((await way.ask(get(b"/few", key=payer.key)))[b"ratelimit-policy"] or b""):
            await asyncio.sleep(0.1)
    async with asyncio.timeout(20):  # until the limit of before is far behind, and was asked about meanwhile
        while payer.counter("words") < 200:
            assert await says(socket)
            await asyncio.sleep(0.02)
    edit(rig, "orgs.yaml", f"keys: [{{sha256: {sha256_hex(KEYS[payer.org])}}}]", "keys: []")
    async with asyncio.timeout(20):
        while await says(socket):
            await asyncio.sleep(0.05)
    assert socket.close_code == 1008


async def test_what_a_killed_worker_had_counted_is_neither_lost_nor_counted_twice(rig: Rig, caller: Caller, talk: Talk) -> None:
    socket, payer = await caller.open("/both"), caller.payer

    def stands() -> tuple[int, int, int]:
        return payer.counter("chatter"), rig.ledger("chatter", payer.org), payer.counter("api")

    for _ in range(10):
        assert await says(socket)
    await until(lambda: stands() == (20, 20, 1), stands)
    before = set(rig.workers)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert not await says(socket)
    await until(lambda: len(set(rig.workers) - before) == 2)
    await until(lambda: stands() == (20, 20, 0), stands)  # the call itself was cut short by us: it goes back
    again = await caller.open("/both")
    assert await says(again)
    await again.close()
    await until(lambda: stands() == (22, 22, 1), stands)
