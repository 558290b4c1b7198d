"""What is forgotten when control was not heard for a while, over a real store whose two connections come and go apart."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway import channel, scripts
from gateway.admission import Admission
from gateway.channel import Ear, listen
from gateway.directory import Directory
from gateway.failure import Grace
from gateway.recorder import Recorder
from metering.model import apikey, keys
from metering.model.apikey import KeyRecord
from metering.model.clock import SystemClock
from metering.model.entitlement import Entitlement
from metering.store.redis.link import Link
from metering.store.redis.publish import publish_orgs
from tests.integration.test_counting import ORG, Silent

KEY = apikey.mint(b"a" * 18)
SHA = apikey.sha256_hex(KEY)
CLOCK = SystemClock()


async def until(fact: Any) -> None:
    async with asyncio.timeout(5):
        while not fact():
            await asyncio.sleep(0.005)


class Door:
    """The way to the store that can be shut: then connections are refused, and those that stand are broken off."""

    def __init__(self, redis_url: str) -> None:
        self._socket, self.port = redis_url.removeprefix("unix://"), 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._socket)
        self._writers |= {writer, far_writer}
        await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()


class Gateway:
    """As much of a worker as hears of changes and knows callers."""

    def __init__(self, redis_url: str, door: Door, directory: Path) -> None:
        self.gaps = 0
        url = f"redis://127.0.0.1:{door.port}"
        self.link = Link(
            url, deadline_seconds=2, scripts=scripts.BODIES, on_up=lambda server: self.admission.link_up(server), on_down=self.down
        )
        self.recorder = Recorder(directory, "w1", CLOCK.now_ms)
        grace = Grace(1, {}, CLOCK.now_ms)
        self.admission = Admission(self.link, self.recorder, grace, on_epoch=lambda _: self.ear.look(), metrics=Silent())
        self.directory = Directory(self.link, now_ms=CLOCK.now_ms, monotonic=CLOCK.monotonic)
        self.ear = Ear(self.directory, self.admission)
        self.link.start()
        self.listening = asyncio.ensure_future(listen(redis_url, self.ear.heard, self.gap))

    def down(self) -> None:
        self.admission.link_down()

    def gap(self) -> None:
        self.ear.gap()
        self.gaps += 1

    @property
    def knows(self) -> bool:
        return self.directory.known(KEY) is not None

    async def deafen(self, store: Redis) -> None:
        """The channel is lost, and heard again."""
        before = self.gaps
        await store.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: self.gaps > before)

    async def end(self) -> None:
        self.listening.cancel()
        await asyncio.gather(self.listening, return_exceptions=True)
        await self.link.close()
        self.recorder.close()


async def furnish(store: Redis) -> None:
    """The store as recovery leaves it."""
    acme = Entitlement(org_id=ORG, slug="acme", name="Acme", version=1, plan="free", plan_version=1, anchor_ms=0)
    await publish_orgs(store, [(acme, [(SHA, KeyRecord(key_id=9, org_id=ORG))])])
    run_id = (await store.info("server"))["run_id"]
    await store.mset({keys.epoch(bucket): f"1 {run_id}" for bucket in range(keys.BUCKETS)})


@pytest.fixture
async def store(redis: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis) as client:
        await furnish(client)
        yield client


@pytest.fixture
async def door(redis: str) -> AsyncIterator[Door]:
    door = Door(redis)
    await door.open()
    yield door
    await door.shut()


@pytest.fixture
async def gateway(redis: str, store: Redis, door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """One that knows the caller."""
    monkeypatch.setattr(channel, "_AGAIN_SECONDS", 0.01)
    gateway = Gateway(redis, door, tmp_path)
    await until(lambda: gateway.admission.epochs.all_open and gateway.gaps)
    await gateway.directory.caller(KEY, "192.0.2.1")
    yield gateway
    await gateway.end()


async def test_a_known_caller_stays_known_while_only_the_channel_has_come_back(gateway: Gateway, store: Redis, door: Door) -> None:
    await door.shut()
    await until(lambda: not gateway.link.up)
    await gateway.deafen(store)
    assert gateway.knows
    await door.open()
    await until(lambda: not gateway.knows)  # and is read anew as soon as that can be done
    await gateway.directory.caller(KEY, "192.0.2.1")


async def test_a_known_caller_stays_known_while_the_store_has_nothing_to_say_of_anybody(gateway: Gateway, store: Redis) -> None:
    await store.flushall()
    gateway.admission.epochs.ask(range(keys.BUCKETS))  # as the pulse does
    await until(lambda: not gateway.admission.epochs.all_open)
    await gateway.deafen(store)
    assert gateway.knows
    await furnish(store)
    gateway.admission.epochs.ask_unready()
    await until(lambda: not gateway.knows)
    await gateway.directory.caller(KEY, "192.0.2.1")


async def test_what_is_republished_while_the_store_is_brought_back_drops_nobody_before_it_is_whole(gateway: Gateway, store: Redis) -> None:
    await store.flushall()
    gateway.admission.epochs.ask(range(keys.BUCKETS))
    await until(lambda: not gateway.admission.epochs.all_open)
    await store.publish(keys.CHANGED, f"org {ORG}")
    await store.publish(keys.CHANGED, f"key {SHA}")
    await gateway.deafen(store)  # by now both were heard
    assert gateway.knows


async def test_a_key_that_is_withdrawn_goes_at_once_even_where_nothing_can_be_read_anew(gateway: Gateway, store: Redis, door: Door) -> None:
    await door.shut()
    await until(lambda: not gateway.link.up)
    await store.publish(keys.CHANGED, f"nokey {SHA}")
    await until(lambda: not gateway.knows)


async def test_a_change_is_obeyed_at_once_while_the_store_answers(gateway: Gateway, store: Redis) -> None:
    await store.publish(keys.CHANGED, f"org {ORG}")
    await until(lambda: not gateway.knows)
