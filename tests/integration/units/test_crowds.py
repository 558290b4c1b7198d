"""Many calls at a time over several workers, workers that are killed, a gateway that goes down: counters are the ledger, to the token."""

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.rules.parties import Call, Origin, Way, get, serving, until
from tests.integration.rules.rig import ORG, Payer, Rig, way_to

from .conftest import start_units

pytestmark = pytest.mark.long

RESERVE = 2_000
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A gateway of this test's own, to be treated badly."""
    running = start_units(tmp_path_factory.mktemp("fresh"), WEIGHBRIDGE_DRAIN_SECONDS="2")
    yield running
    running.stop()


@pytest.fixture
async def service(fresh: Rig) -> AsyncIterator[Origin]:
    async with serving(fresh.service) as found:
        yield found


def usage(tokens: int) -> bytes:
    return json.dumps({"usage": {"total_tokens": tokens}}).encode()


async def answer(call: Call) -> None:
    """As the target asks: /chat?tokens&how."""
    tokens, how = call.target.partition(b"?")[2].split(b"&")
    body = usage(int(tokens))
    if how == b"fail":
        call.send(b"HTTP/1.1 500 Oops\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    elif how == b"json":
        call.ok(body)
    elif how == b"hang":
        call.send(STREAM + b"%x\r\n: \n\n\r\n" % 4)
        await call.gone()
    else:
        event = b"data: %b\n\n" % body
        call.send(STREAM)
        for piece in (event[:9], event[9:], b"data: [DONE]\n\n"):
            call.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            await asyncio.sleep(random.random() / 100)
        call.send(b"0\r\n\r\n")


async def ask(way: Way, payer: Payer, tokens: int, how: bytes) -> int:
    """What the call costs, as far as its client can tell."""
    client = await way.connect()
    client.send(get(b"/chat?%d&%b" % (tokens, how), key=payer.key))
    if how == b"hang":
        await client.head()
        client.leave(reset=True)
        return RESERVE
    answered = await client.answer()
    client.leave()
    return tokens if answered.status == 200 else 0


def stands(payer: Payer) -> tuple[int, int]:
    return payer.counter("tokens"), payer.rig.ledger("tokens", payer.org)


async def test_of_many_calls_each_is_charged_what_it_took(way: Way, origin: Origin, rig: Rig) -> None:
    """Quotas of 10,000 for each of four organizations, which their reserves touch and their truths stay below."""
    origin.answer = answer
    payers, dice = [rig.payer() for _ in range(4)], random.Random(7)
    owed = dict.fromkeys((payer.org for payer in payers), 0)

    async def client(payer: Payer, number: int) -> None:
        for _ in range(number):
            how = dice.choice([b"json", b"sse", b"json", b"sse", b"fail"])
            paid = await ask(way, payer, dice.randrange(0, 60), how)
            owed[payer.org] += paid

    await asyncio.gather(*(client(payer, 15) for payer in payers for _ in range(8)))
    for payer in payers:
        await until(lambda payer=payer: stands(payer) == (owed[payer.org],) * 2, lambda payer=payer: (owed[payer.org], stands(payer)))
        assert 0 < owed[payer.org] <= 10_000


async def test_no_reserve_is_granted_twice_however_many_workers(way: Way, origin: Origin, payer: Payer) -> None:
    """60 calls at once; five reserves fill the quota."""
    go = asyncio.Event()

    async def held(call: Call) -> None:
        await go.wait()
        call.ok(usage(RESERVE))

    origin.answer = held
    asked = [asyncio.ensure_future(way.ask(get(b"/chat", key=payer.key))) for _ in range(60)]
    await until(lambda: sum(each.done() for each in asked) == 55)
    go.set()
    answers = [(await each).status for each in asked]
    assert (answers.count(200), answers.count(429)) == (5, 55)
    await until(lambda: stands(payer) == (10_000, 10_000), lambda: stands(payer))


async def test_a_killed_workers_reserves_go_back_and_what_was_settled_stays(fresh: Rig, service: Origin) -> None:
    service.answer = answer
    payer = fresh.payer()
    async with way_to(fresh, "direct") as way:
        for _ in range(3):
            assert await ask(way, payer, 100, b"json") == 100
        await until(lambda: stands(payer) == (300, 300), lambda: stands(payer))  # else some of the four might not fit
        hanging = [await way.connect() for _ in range(4)]
        for client in hanging:
            client.send(get(b"/chat?5&hang", key=payer.key))
            await client.head()
        for pid in fresh.workers:
            os.kill(pid, signal.SIGKILL)
        for client in hanging:
            with contextlib.suppress(ConnectionError):
                await client.rest()
        await until(lambda: stands(payer) == (300, 300), lambda: (stands(payer), fresh.log[-2_000:]))
        assert fresh.ledger("^tokens", payer.org) == 4 * RESERVE

        async def served() -> bool:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                return await ask(way, payer, 100, b"sse") == 100
            return False

        async with asyncio.timeout(20):
            while not await served():
                await asyncio.sleep(0.1)
        await until(lambda: stands(payer) == (400, 400), lambda: (stands(payer), fresh.log[-2_000:]))


async def test_calls_under_the_knife_are_charged_what_they_took_or_nothing(fresh: Rig, service: Origin) -> None:
    """Workers are killed again and again while calls run: at rest counter and ledger agree, between what clients saw and what was asked."""
    service.answer = answer
    payer, dice, done = fresh.payer(), random.Random(3), asyncio.Event()
    seen, lost = 0, 0
    async with way_to(fresh, "direct") as way:

        async def client() -> None:
            nonlocal seen, lost
            while not done.is_set():
                tokens = dice.randrange(1, 40)
                try:
                    async with asyncio.timeout(5):
                        paid = await ask(way, payer, tokens, dice.choice([b"json", b"sse"]))
                    seen += paid
                except (OSError, asyncio.IncompleteReadError, TimeoutError):
                    lost += tokens
                    await asyncio.sleep(0.05)

        crowd = [asyncio.ensure_future(client()) for _ in range(4)]
        for _ in range(3):
            await asyncio.sleep(0.8)
            if workers := fresh.workers:
                os.kill(dice.choice(workers), signal.SIGKILL)
        done.set()
        await asyncio.gather(*crowd)

    def at_rest() -> bool:
        """What a client saw whole may have been returned, where the frame of its end was not yet written."""
        counter, ledger = stands(payer)
        return counter == ledger and ledger <= seen + lost and fresh.ledger("^tokens", payer.org) % RESERVE == 0

    assert seen > 0
    await asyncio.sleep(2.5)  # what was recorded is shipped each second
    await until(at_rest, lambda: (stands(payer), seen, lost, ORG))


async def test_a_gateway_that_goes_down_settles_what_it_breaks_off(fresh: Rig, service: Origin) -> None:
    service.answer = answer
    payer = fresh.payer()
    async with way_to(fresh, "direct") as way:
        assert await ask(way, payer, 100, b"sse") == 100
        client = await way.connect()
        client.send(get(b"/chat?5&hang", key=payer.key))
        await client.head()
        fresh.process.terminate()
        await asyncio.to_thread(fresh.process.wait, 40)
        with pytest.raises(ConnectionError):
            await client.rest()
    assert stands(payer) == (100 + RESERVE, 100 + RESERVE)
