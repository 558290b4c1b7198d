"""What can happen to a stream whose bytes are drawn: limits change, windows turn, its client leaves, its worker dies, the store goes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from config.gateway import Fixed, Weighed
from gateway import adoption
from gateway.admission import Decision
from gateway.adoption import Adopter
from gateway.charges import Charge
from gateway.drawing import drawing_of
from gateway.draws import Draw
from metering.model.clock import SystemClock
from metering.model.quota import OPEN, FailureRule, Mode, Per, Quota, Then, Window

from .rig import ORG, Client, Door, House, records, request, until

pytestmark = pytest.mark.timeout(60)


def bandwidth(limit: int, **facts: Any) -> Quota:
    return Quota(meter="bandwidth", limit=limit, **{"at_limit": "cut", **facts})


class Source:
    """A service that streams what the test says, chunk by chunk; `ended` when its connection is gone."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[int] = asyncio.Queue()
        self.sent = 0
        self.ended = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        sending = asyncio.ensure_future(self._send(writer))
        with contextlib.suppress(ConnectionError):
            await reader.read()
        sending.cancel()
        self.ended.set()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while size := await self.said.get():
                writer.write(b"%x\r\n%b\r\n" % (size, b"x" * size))
                await writer.drain()
                self.sent += size
            writer.write(b"0\r\n\r\n")

    def say(self, *sizes: int) -> None:
        for size in sizes:
            self.said.put_nowait(size)


class Reading:
    """A client's answer, read as it comes."""

    def __init__(self, client: Client) -> None:
        self.client, self.received, self.whole = client, 0, False
        self.done = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        await self.client.head()
        reader = self.client.reader
        try:
            while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
                while size:
                    data = await reader.read(size)
                    if not data:
                        return
                    self.received += len(data)
                    size -= len(data)
                await reader.readexactly(2)
            self.whole = True
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass


@pytest.fixture
async def stream(house: House, serve: Any, client: Any) -> AsyncIterator[Callable[..., Any]]:
    """`source, reading = await stream(door)`: one stream under way."""
    readings: list[Reading] = []
    await serve(lambda reader, writer: house.script(reader, writer))

    async def start(door: Door | None = None, **route: Any) -> tuple[Source, Reading]:
        house.script = source = Source()
        one = await client(door or await house.open(**route))
        one.writer.write(request())
        readings.append(Reading(one))
        return source, readings[-1]

    yield start
    for reading in readings:
        reading.done.cancel()


async def agreed(house: House) -> int:
    await house.settled()
    assert house.in_hand() == 0
    used = await house.counter()
    assert await house.ledger() == used
    return used


async def by_scope(house: House) -> dict[bytes, int]:
    """What the counters of the bandwidth quotas say."""
    return {name.split(b":")[5]: int(await house.store.get(name)) async for name in house.store.scan_iter("wb:{*}:q:*:bandwidth:*")}


# --- limits that change ---------------------------------------------------------------------------------------------------


async def test_a_limit_that_is_raised_under_a_stream_acts_on_its_next_block(house: House, stream: Any) -> None:
    await house.limits(bandwidth(60_000))
    source, reading = await stream()
    source.say(40_000)
    await until(lambda: reading.received == 40_000)
    await house.limits(bandwidth(100_000))
    source.say(*[10_000] * 10)
    await asyncio.wait_for(reading.done, 20)
    assert (reading.received, reading.whole) == (100_000, False)
    assert await agreed(house) == 100_000


async def test_a_limit_that_is_lowered_under_a_stream_ends_it_with_the_blocks_in_hand(house: House, stream: Any) -> None:
    await house.limits(bandwidth(10_000_000))
    source, reading = await stream()
    source.say(40_000)
    await until(lambda: reading.received == 40_000)
    await house.limits(bandwidth(30_000))
    in_hand = house.in_hand()
    source.say(*[10_000] * 50)
    await asyncio.wait_for(reading.done, 20)
    assert not reading.whole
    assert reading.received <= 40_000 + in_hand
    assert await agreed(house) == reading.received


async def test_a_quota_that_is_lifted_under_a_stream_lets_it_end_and_counts_on(house: House, stream: Any) -> None:
    await house.limits(bandwidth(50_000))
    source, reading = await stream()
    source.say(30_000)
    await until(lambda: reading.received == 30_000)
    await house.limits()
    source.say(*[10_000] * 10, 0)
    await asyncio.wait_for(reading.done, 20)
    assert (reading.received, reading.whole) == (130_000, True)
    assert await agreed(house) == 130_000


async def test_a_stream_over_the_end_of_a_window_draws_from_each_window_what_passes_in_it(house: House, stream: Any) -> None:
    turns_ms = SystemClock().now_ms() + 1_500
    await house.limits(bandwidth(50_000), anchor_ms=turns_ms)
    source, reading = await stream()
    source.say(*[1000] * 30)
    await until(lambda: reading.received == 30_000)
    while SystemClock().now_ms() < turns_ms + 50:
        await asyncio.sleep(0.02)
    source.say(*[1000] * 90)
    await asyncio.wait_for(reading.done, 20)
    assert not reading.whole
    assert await agreed(house) == reading.received
    names = sorted([name async for name in house.store.scan_iter(f"wb:{{*}}:q:{ORG}:bandwidth:o:p*")])
    old, new = (int(value) for value in await house.store.mget(names))
    assert 30_000 <= old <= 50_000  # with what was in hand as the window turned
    assert new == 50_000


# --- endings --------------------------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_pays_for_what_passed_and_its_service_hears_of_it(house: House, stream: Any) -> None:
    await house.limits(bandwidth(1_000_000))
    source, reading = await stream()
    source.say(100_000)
    await until(lambda: reading.received == 100_000)
    reading.client.writer.transport.abort()
    await asyncio.wait_for(source.ended.wait(), 20)
    assert await agreed(house) == 100_000


async def test_the_service_of_a_stream_that_is_cut_is_broken_off(house: House, stream: Any) -> None:
    await house.limits(bandwidth(50_000))
    source, reading = await stream()
    source.say(*[10_000] * 7)
    await asyncio.wait_for(reading.done, 20)
    source.say(*[10_000] * 50)
    await asyncio.wait_for(source.ended.wait(), 20)
    assert reading.received == 50_000


async def test_a_slow_reader_holds_no_more_than_its_blocks_and_stops_the_service(house: House, stream: Any, client: Any) -> None:
    await house.limits(bandwidth(100_000_000))
    door = await house.open()
    source, reading = await stream(door)
    source.say(1000)
    await until(lambda: reading.received == 1000)
    reading.done.cancel()
    reading.client.reader._transport.pause_reading()
    source.say(*[100_000] * 500)
    sent = -1
    while sent != source.sent:
        sent = source.sent
        await asyncio.sleep(0.3)
    assert sent < 20_000_000
    assert house.in_hand() <= 2 * 524_288
    reading.client.writer.transport.abort()
    assert await agreed(house) <= sent + 100_000


async def test_after_a_killed_worker_the_unused_rest_of_its_blocks_is_there_for_others(
    house: House, stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "_SCAN_SECONDS", 0.05)
    await house.limits(bandwidth(200_000))
    door = await house.open()
    source, reading = await stream(door)
    source.say(*[10_000] * 9)
    await until(lambda: reading.received == 90_000)
    assert house.in_hand() > 0
    await door.kill()
    await asyncio.wait_for(reading.done, 20)
    assert not reading.whole
    used = sum(record[4] for record in records(house.folder, door.name) if record[0] == "U")
    assert used == 90_000
    adopter = Adopter(house.url, house.folder, SystemClock(), "supervisor")
    running = asyncio.ensure_future(adopter.run())
    try:
        async with asyncio.timeout(20):
            while (await house.counter(), await house.ledger()) != (90_000, 90_000):
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.wait({running})
    source, reading = await stream()
    source.say(*[10_000] * 30)
    await asyncio.wait_for(reading.done, 20)
    assert reading.received == 110_000
    await house.settled()
    assert await house.counter() == 200_000


# --- while the store is away ----------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(("rule", "whole"), [(None, False), (OPEN, True), (FailureRule("grace", 100), True)])
async def test_while_the_store_is_away_the_failure_rule_says_whether_a_stream_goes_on(
    house: House, stream: Any, rule: FailureRule | None, whole: bool
) -> None:
    await house.limits(bandwidth(10_000_000, on_store_failure=rule))
    door = await house.open()
    source, reading = await stream(door)
    source.say(50_000)
    await until(lambda: reading.received == 50_000)
    await house.store.client_pause(3_000)
    source.say(*[50_000] * 20, 0)
    await asyncio.wait_for(reading.done, 30)
    assert reading.whole is whole
    assert (reading.received == 1_050_000) is whole
    await until(lambda: door.admission.epochs.all_open)
    await until(lambda: not any(state.held for state in door.admission.buckets))
    assert await agreed(house) == reading.received


# --- several limits at once -----------------------------------------------------------------------------------------------


async def test_of_several_limits_each_holds_and_a_lenient_one_beside_counts_all(house: House, stream: Any) -> None:
    await house.limits(
        Quota(meter="api", limit=3),
        bandwidth(10_000_000),
        bandwidth(70_000, per=Per.KEY, window=Window.MONTH),
        bandwidth(20_000, per=Per.ROUTE, at_limit="finish", window=Window.DAY),
    )
    source, reading = await stream()
    source.say(*[10_000] * 9)
    await asyncio.wait_for(reading.done, 20)
    assert (reading.received, reading.whole) == (70_000, False)
    assert await agreed(house) == 70_000
    assert await by_scope(house) == {b"o": 70_000, b"k1": 70_000, b"r1": 70_000}


async def test_an_upload_beyond_a_throttle_is_charged_to_its_slower_quota_too(house: House, serve: Any, client: Any) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(1000)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    await serve(script)
    throttled = Quota(meter="bandwidth", limit=2500, mode=Mode.THROTTLE, then=Then(limit=1500, window=Window.DAY), per=Per.KEY)
    await house.limits(bandwidth(1_000_000), throttled)
    one = await client(await house.open())
    statuses = []
    for _ in range(7):
        one.writer.write(request("POST", "/", "Content-Length: 1000") + b"x" * 1000)
        head = await one.head()
        await one.body(head)
        statuses.append(int(head.split()[1]))
    assert statuses == [200] * 5 + [429] * 2  # three begin within the limit; beyond it two, as the second begins with 500 left
    assert await agreed(house) == 5000
    assert await by_scope(house) == {b"o": 5000, b"k1": 5000, b"k1+p": 2000}


async def test_an_upload_that_the_service_fails_goes_back_whole(house: House, serve: Any, client: Any) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(1000)
            writer.write(b"nonsense\r\n\r\n")
            return

    await serve(script)
    await house.limits(bandwidth(1500))
    door = await house.open(return_on=frozenset({"5xx"}), charge={"api": Fixed(1), "bandwidth": Weighed("bytes")})
    for _ in range(3):
        one = await client(door)
        one.writer.write(request("POST", "/", "Content-Length: 1000") + b"x" * 1000)
        assert (await one.head()).startswith(b"HTTP/1.1 502")
        assert await agreed(house) == 0
    assert await house.ledger("api") == 0


# --- unanswered draws -----------------------------------------------------------------------------------------------------


async def test_what_is_granted_to_a_stream_that_ended_meanwhile_goes_back(house: House, stream: Any) -> None:
    await house.limits(bandwidth(100_000))
    door = await house.open()
    source, reading = await stream(door)
    source.say(10_000)
    await until(lambda: reading.received == 10_000)
    (xid,) = door.recorder.tally.open
    drawing = drawing_of(charge_of(door), ("bandwidth",), 0)
    decided: list[Decision] = []
    draw = Draw(xid, drawing, 5000, lambda _, decision: decided.append(decision))
    door.admission.ask(drawing, draw)
    await asyncio.sleep(0)
    assert door.admission.buckets[drawing.bucket].under_way is not None
    draw.gone = True
    await until(lambda: door.admission.buckets[drawing.bucket].under_way is None)
    source.say(0)
    await asyncio.wait_for(reading.done, 20)
    assert decided == []
    assert draw.granted == 0
    assert await agreed(house) == 10_000


def charge_of(door: Door) -> Charge:
    """The ready-made charge of this worker's calls."""
    (caller,) = door.directory._callers.values()
    (found,) = caller.org.charges.values()
    return found


# --- headers --------------------------------------------------------------------------------------------------------------


async def test_a_call_whose_limits_became_more_before_its_answer_is_told_of_those_it_was_admitted_by(
    house: House, serve: Any, client: Any
) -> None:
    asked = asyncio.Event()
    answer = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await answer.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n" + b"x" * 600)

    await serve(script)
    await house.limits(bandwidth(1000))
    one = await client(await house.open())
    one.writer.write(request())
    await asked.wait()
    await house.limits(bandwidth(1000), Quota(meter="api", limit=10, per=Per.KEY), Quota(meter="api", limit=10, window=Window.DAY))
    answer.set()
    head = await one.head()
    assert head.startswith(b"HTTP/1.1 200")
    assert b'RateLimit: "bandwidth-period";r=1000' in head
    assert await one.body(head) == (b"x" * 600, True)
    one.writer.write(request())
    head = await one.head()
    assert head.startswith(b"HTTP/1.1 429")
    assert b'"bandwidth-period";r=400' in head  # as it stood when the answer did not fit
    assert await agreed(house) == 600
