"""The connection to the store against a server that plays it badly: whatever happens as it connects, it ends, or comes up whole."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway import compiled
from metering.store.redis.link import Link, Server

INFO = b"redis_version:7.0.0\r\nrun_id:abc\r\n"


class Store:
    """Answers SCRIPT LOAD and INFO; `info` is what it says to the latter."""

    def __init__(self) -> None:
        self.info, self.connections = INFO, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while data := await reader.read(65_536):
            if b"INFO" in data:
                writer.write(b"$%d\r\n%s\r\n" % (len(self.info), self.info))
            else:
                writer.write(b"$3\r\nsha\r\n")
        writer.close()


class Watched:
    """A link, and what it said of itself."""

    def __init__(self, port: int) -> None:
        self.said: list[str] = []
        self.link = Link(f"redis://127.0.0.1:{port}", deadline_seconds=0.05, scripts=[b"return 1"], on_up=self._up, on_down=self._down)

    def _up(self, _: Server) -> None:
        self.said.append("up" if self.link._wire is not None else "up without a connection")

    def _down(self) -> None:
        self.said.append("down")


@pytest.fixture
async def store() -> AsyncIterator[tuple[Store, int]]:
    store = Store()
    server = await asyncio.start_server(store.serve, "127.0.0.1", 0)
    yield store, server.sockets[0].getsockname()[1]
    server.close()


async def test_closing_ends_at_whatever_moment_of_connecting_it_comes(store: tuple[Store, int]) -> None:
    for turns in range(40):
        watched = Watched(store[1])
        watched.link.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(2):
            await watched.link.close()


@pytest.mark.skipif(compiled.in_use(), reason="a method of a compiled class cannot be replaced")
async def test_a_connection_lost_in_the_moment_it_is_made_is_not_up(store: tuple[Store, int]) -> None:
    watched = Watched(store[1])
    ask = watched.link._ask

    async def lose_after_info(wire: object, *words: str | bytes | int) -> object:
        reply = await ask(wire, *words)  # type: ignore[arg-type]
        if words[0] == "INFO" and store[0].connections == 1:
            watched.link.reset()
        return reply

    watched.link._ask = lose_after_info  # type: ignore[method-assign]
    watched.link.start()
    async with asyncio.timeout(2):
        while not watched.link.up or store[0].connections < 2:
            await asyncio.sleep(0.01)
    assert watched.said == ["up"]
    await watched.link.close()


async def test_a_store_that_does_not_name_its_run_is_tried_again_and_the_reason_is_told(store: tuple[Store, int]) -> None:
    store[0].info = b"redis_version:7.0.0\r\n"
    watched = Watched(store[1])
    watched.link.start()
    async with asyncio.timeout(2):
        while store[0].connections < 3:
            await asyncio.sleep(0.01)
    assert (watched.said, "run id" in watched.link.last_error) == ([], True)
    store[0].info = INFO
    async with asyncio.timeout(2):
        while not watched.link.up:
            await asyncio.sleep(0.01)
    await watched.link.close()
