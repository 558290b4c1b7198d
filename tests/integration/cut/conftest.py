"""A house a test: real Valkey with every bucket open, a scripted service, as many workers as it asks for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from redis.asyncio import Redis

from metering.model import keys

from .rig import Client, Door, House, Script, connect


@pytest.fixture
async def house(redis: str, tmp_path: Path) -> AsyncIterator[House]:
    async with Redis.from_url(redis) as store:
        run_id = (await store.info("server"))["run_id"]
        await store.mset({keys.epoch(bucket): f"1 {run_id}" for bucket in range(keys.BUCKETS)})
        found = House(redis, store, tmp_path / "journal")
        yield found
        for door in found.doors:
            await door.close()


@pytest.fixture
async def serve(house: House) -> AsyncIterator[Callable[[Script], Awaitable[None]]]:
    """`await serve(script)`: the service answers each connection so."""
    servers: list[asyncio.Server] = []
    writers: list[asyncio.StreamWriter] = []

    async def start(script: Script) -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await script(reader, writer)
            writer.close()

        servers.append(await asyncio.start_server(connected, "127.0.0.1", 0))
        house.service = "http://127.0.0.1:{1}".format(*servers[-1].sockets[0].getsockname())

    yield start
    for server in servers:
        server.close()
    for writer in writers:
        writer.transport.abort()


@pytest.fixture
async def client() -> AsyncIterator[Callable[[Door], Awaitable[Client]]]:
    made: list[Client] = []

    async def start(door: Door) -> Client:
        made.append(await connect(door))
        return made[-1]

    yield start
    for each in made:
        each.writer.transport.abort()


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that a gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}
