"""Tokens that answers say, through running workers and a real store: on every ending the reserve is settled or released."""

import asyncio
import contextlib
import gzip
import json
from collections.abc import Awaitable, Callable

import pytest

from tests.integration.rules.parties import Answer, Call, Client, Origin, Way, chunked, get, until
from tests.integration.rules.rig import Payer

RESERVE = 2_000
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def usage(tokens: object) -> bytes:
    return json.dumps({"id": "x", "choices": [], "usage": {"total_tokens": tokens}}).encode()


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def says(*pieces: bytes) -> Answer:
    """Answers with these bytes, each written alone."""

    async def answer(call: Call) -> None:
        await call.body()
        for piece in pieces:
            call.send(piece)
            await call.writer.drain()
            await asyncio.sleep(0.01)

    return answer


def ok(body: bytes, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *lines, b"", body])


async def settles(payer: Payer, tokens: int, returned: int = 0, meter: str = "tokens") -> None:
    """Wait until counter and ledger agree on it, and on what was given back."""

    def stands() -> tuple[int, int, int]:
        return payer.counter(meter), payer.rig.ledger(meter, payer.org), payer.rig.ledger(f"^{meter}", payer.org)

    await until(lambda: stands() == (tokens, tokens, returned), stands)


# --- it completes -------------------------------------------------------------------------------------------------------


async def test_a_document_says_it_and_passes_unchanged(way: Way, origin: Origin, payer: Payer) -> None:
    origin.answer = says(ok(usage(42), b"Content-Type: application/json"))
    answered = await way.ask(get(b"/chat", key=payer.key))
    assert (answered.status, answered.body) == (200, usage(42))
    assert origin.calls[0][b"accept-encoding"] == b"identity"
    await settles(payer, 42)


async def test_a_client_cannot_ask_for_an_answer_that_hides_it(way: Way, origin: Origin, payer: Payer) -> None:
    origin.answer = says(ok(usage(42)))
    lines = (b"Accept-Encoding: gzip", b"Accept_Encoding: gzip", b"Range: bytes=0-1", b"Connection: Accept-Encoding")
    assert (await way.ask(get(b"/chat", *lines, key=payer.key))).status == 200
    seen = origin.calls[0]
    assert [seen.all(name) for name in (b"accept-encoding", b"accept_encoding", b"range")] == [[b"identity"], [], []]
    await settles(payer, 42)


async def test_the_last_event_that_has_it_says_it_in_whatever_pieces(way: Way, origin: Origin, payer: Payer) -> None:
    stream = event(usage(None)) + event(usage(17)) + event(b'{"choices":[{"delta":"total_tokens"}]}') + event(b"[DONE]")
    origin.answer = says(STREAM, *(chunk(stream[i : i + 7]) for i in range(0, len(stream), 7)), b"0\r\n\r\n")
    answered = await way.ask(get(b"/chat", key=payer.key))
    assert answered.body == stream
    await settles(payer, 17)


async def test_an_event_arrives_before_the_next_is_sent(way: Way, origin: Origin, payer: Payer) -> None:
    """What is looked into is not held back."""
    arrived = asyncio.Event()

    async def answer(call: Call) -> None:
        call.send(STREAM + chunk(event(usage(5))))
        await arrived.wait()
        call.send(chunk(event(usage(6))) + b"0\r\n\r\n")

    origin.answer = answer
    client = await way.connect()
    client.send(get(b"/chat", key=payer.key))
    await client.head()
    assert await client.exactly(len(chunk(event(usage(5))))) == chunk(event(usage(5)))
    arrived.set()
    await client.exactly(len(chunk(event(usage(6)))))
    await settles(payer, 6)


async def test_more_than_was_reserved_is_drawn_and_the_next_call_is_refused(way: Way, origin: Origin, payer: Payer) -> None:
    origin.answer = says(ok(usage(50_000)))
    assert (await way.ask(get(b"/chat", key=payer.key))).status == 200
    await settles(payer, 50_000)
    answered = await way.ask(get(b"/chat", key=payer.key))
    assert answered.status == 429
    assert json.loads(answered.body)["error"]["details"]["service"] == "tokens"
    await settles(payer, 50_000)


async def test_a_header_and_a_trailer_say_it(way: Way, origin: Origin, payer: Payer) -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Tokens: 12\r\nTrailer: X-Pages\r\nTransfer-Encoding: chunked\r\n\r\n"
    origin.answer = says(head, chunked(b"body", trailers=(b"X-Pages: 3",)))
    answered = await way.ask(get(b"/fields", key=payer.key))
    assert (answered.body, answered.trailers) == (b"body", [b"X-Pages: 3"])
    assert (origin.calls[0][b"te"], origin.calls[0][b"connection"]) == (b"trailers", b"TE")
    await settles(payer, 12)
    await settles(payer, 3, meter="pages")


async def test_a_service_that_refuses_takes_nothing(way: Way, origin: Origin, payer: Payer) -> None:
    before = payer.rig.metric("weighbridge_unit_faults_total")
    origin.answer = says(ok(b'{"error": "no such model"}', status=b"400 Bad Request"))
    assert (await way.ask(get(b"/chat", key=payer.key))).status == 400
    await settles(payer, 0)
    assert payer.rig.metric("weighbridge_unit_faults_total") == before


FAULTS = {
    "not JSON": ok(b"<html>"),
    "nothing there": ok(b'{"usage": {}}'),
    "no number": ok(usage("many")),
    "below zero": ok(usage(-5)),
    "a fraction": ok(usage(0.5)),
    "a trillion and one": ok(usage(10**12 + 1)),
    "no body": ok(b""),
    "encoded": ok(gzip.compress(usage(5)), b"Content-Encoding: gzip"),
    "a stream without it": STREAM + chunked(event(b"{}")),
}


@pytest.mark.long
@pytest.mark.parametrize("answer", FAULTS.values(), ids=FAULTS)
async def test_an_answer_that_does_not_say_it_costs_the_reserve_or_what_the_file_says(
    answer: bytes, way: Way, origin: Origin, payer: Payer
) -> None:
    before = payer.rig.metric("weighbridge_unit_faults_total")
    origin.answer = says(answer)
    expected = answer.partition(b"\r\n\r\n")[2]
    for path, cost in ((b"/chat", RESERVE), (b"/lenient", RESERVE + 7), (b"/free", RESERVE + 7)):
        answered = await way.ask(get(path, key=payer.key))
        assert answered.body == expected or b"chunked" in answer
        await settles(payer, cost)
    await until(lambda: payer.rig.metric("weighbridge_unit_faults_total") == before + 3)
    assert '"event":"units_unsaid","meter":"tokens"' in payer.rig.log


async def test_a_body_beyond_the_bound_passes_whole_and_unread(way: Way, origin: Origin, payer: Payer) -> None:
    large = usage(5)[:-1] + b" " * 2_000 + b"}"
    origin.answer = says(ok(large))
    assert (await way.ask(get(b"/small", key=payer.key))).body == large
    await settles(payer, RESERVE)
    assert (await way.ask(get(b"/chat", key=payer.key))).body == large
    await settles(payer, RESERVE + 5)


async def test_an_answer_to_head_has_no_body_to_say_it(way: Way, origin: Origin, payer: Payer) -> None:
    origin.answer = says(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n")
    await way.ask(get(b"/chat", key=payer.key).replace(b"GET", b"HEAD", 1))
    await settles(payer, RESERVE)


# --- it does not --------------------------------------------------------------------------------------------------------

Script = Callable[[Call], Awaitable[None]]


async def leaving(way: Way, path: bytes, payer: Payer, after: bytes) -> Client:
    """A client that has read so much, and is gone."""
    client = await way.connect()
    client.send(get(path, key=payer.key))
    await client.head()
    await client.exactly(len(chunk(after)))
    client.leave(reset=True)
    return client


def streaming(*data: bytes) -> Script:
    """A stream that begins with these events, and does not end."""

    async def answer(call: Call) -> None:
        call.send(STREAM + b"".join(chunk(event(each)) for each in data))
        await call.gone()

    return answer


async def test_a_client_that_leaves_early_pays_the_reserve(way: Way, origin: Origin, payer: Payer) -> None:
    origin.answer = streaming(b'{"choices": []}')
    await leaving(way, b"/chat", payer, event(b'{"choices": []}'))
    await settles(payer, RESERVE)


@pytest.mark.parametrize(("seen", "paid"), [(5, RESERVE), (3_000, 3_000)])
async def test_a_client_that_leaves_pays_the_larger_of_reserve_and_what_was_said(
    seen: int, paid: int, way: Way, origin: Origin, payer: Payer
) -> None:
    origin.answer = streaming(usage(seen))
    await leaving(way, b"/chat", payer, event(usage(seen)))
    await settles(payer, paid)


async def test_a_client_that_leaves_when_all_is_said_pays_what_was_said(way: Way, origin: Origin, payer: Payer) -> None:
    origin.answer = streaming(usage(5), b"[DONE]")
    await leaving(way, b"/chat", payer, event(usage(5)))
    await settles(payer, 5)


async def test_a_client_that_leaves_before_any_answer_pays_the_reserve(way: Way, origin: Origin, payer: Payer) -> None:
    origin.answer = Call.gone
    client = await way.connect()
    client.send(get(b"/chat", key=payer.key))
    await until(lambda: origin.calls)
    client.leave(reset=True)
    await settles(payer, RESERVE)


async def broken(call: Call) -> None:
    call.send(STREAM + chunk(event(usage(3_000))))
    await call.writer.drain()
    await asyncio.sleep(0.05)
    call.reset()


async def silent(call: Call) -> None:
    call.send(STREAM + chunk(event(usage(3_000))))
    await call.gone()


@pytest.mark.parametrize("answer", [broken, silent])
async def test_a_service_that_breaks_off_gives_the_reserve_back(answer: Script, way: Way, origin: Origin, payer: Payer) -> None:
    origin.answer = answer
    client = await way.connect()
    client.send(get(b"/slow", key=payer.key))
    with pytest.raises(ConnectionError):
        await client.rest()
    await settles(payer, 0, RESERVE)


@pytest.mark.parametrize("answer", [broken, silent])
async def test_where_nothing_is_returned_it_costs_the_larger_of_reserve_and_what_was_said(
    answer: Script, way: Way, origin: Origin, payer: Payer
) -> None:
    origin.answer = answer
    client = await way.connect()
    client.send(get(b"/kept", key=payer.key))
    with pytest.raises(ConnectionError):
        await client.rest()
    await settles(payer, 3_000)


async def test_a_service_that_fails_or_is_not_there_gives_the_reserve_back(way: Way, origin: Origin, payer: Payer) -> None:
    origin.answer = says(ok(usage(3_000), status=b"500 Oops"))
    assert (await way.ask(get(b"/chat", key=payer.key))).status == 500
    await settles(payer, 0, RESERVE)
    assert (await way.ask(get(b"/silent-units", key=payer.key))).status == 502
    await settles(payer, 0, 2 * RESERVE)


# --- limits -------------------------------------------------------------------------------------------------------------


async def test_reserves_under_way_fill_a_quota_and_make_room_again_when_they_settle(way: Way, origin: Origin, payer: Payer) -> None:
    go = asyncio.Event()

    async def answer(call: Call) -> None:
        await go.wait()
        call.send(ok(usage(42)))

    origin.answer = answer
    under_way = [await way.connect() for _ in range(5)]
    for client in under_way:
        client.send(get(b"/chat", key=payer.key))
    await until(lambda: len(origin.calls) == 5)
    refused = await way.ask(get(b"/chat", key=payer.key))
    details = json.loads(refused.body)["error"]["details"]
    assert (refused.status, details["quota"], details["used"], details["needed"]) == (429, 10_000, 10_000, RESERVE)
    go.set()
    answered = [await client.answer() for client in under_way]
    assert b"r=0;" in answered[-1][b"ratelimit"] or any(b"r=0;" in (each[b"ratelimit"] or b"") for each in answered)
    await settles(payer, 5 * 42)
    assert (await way.ask(get(b"/chat", key=payer.key))).status == 200
    await settles(payer, 6 * 42)


async def test_a_reserve_that_does_not_fit_is_refused_though_something_is_left(way: Way, origin: Origin, payer: Payer) -> None:
    origin.answer = says(ok(usage(8_500)))
    await way.ask(get(b"/chat", key=payer.key))
    await settles(payer, 8_500)
    refused = await way.ask(get(b"/chat", key=payer.key))
    details = json.loads(refused.body)["error"]["details"]
    assert (refused.status, details["used"], details["needed"]) == (429, 8_500, RESERVE)
    assert (await way.ask(get(b"/free", key=payer.key))).status == 200  # reserves nothing: passes while anything is left
    await settles(payer, 17_000)


async def test_calls_one_after_another_find_room_though_their_reserves_would_not_all_fit(way: Way, origin: Origin, payer: Payer) -> None:
    """Near the limit what goes back is there for the next call, not a tenth of a second later."""
    origin.answer = says(ok(usage(42)))
    for _ in range(40):
        assert (await way.ask(get(b"/chat", key=payer.key))).status == 200
    await settles(payer, 40 * 42)


# --- beside a quota that cuts ---------------------------------------------------------------------------------------------


async def test_an_answer_that_fits_a_byte_quota_is_settled(way: Way, origin: Origin, payer: Payer) -> None:
    stream = event(b"{}") + event(usage(17)) + event(b"[DONE]")
    origin.answer = says(STREAM, *(chunk(stream[i : i + 7]) for i in range(0, len(stream), 7)), b"0\r\n\r\n")
    assert (await way.ask(get(b"/cut", key=payer.key))).body == stream
    await settles(payer, 17)


async def test_an_answer_that_is_cut_off_costs_the_larger_of_reserve_and_what_was_said(way: Way, origin: Origin, payer: Payer) -> None:
    async def answer(call: Call) -> None:
        call.send(STREAM + chunk(event(usage(3_000))) + chunk(b": " + b"x" * 2_000 + b"\n\n"))
        await call.gone()

    origin.answer = answer
    client = await way.connect()
    client.send(get(b"/cut", key=payer.key))
    assert (await client.head()).status == 200
    with contextlib.suppress(ConnectionError):
        assert not (await client.rest()).endswith(b"0\r\n\r\n")
    await settles(payer, 3_000)
    await settles(payer, 1_000, meter="bandwidth")
