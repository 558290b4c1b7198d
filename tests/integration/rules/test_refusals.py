"""RFC 9112 §11.2: what two servers could read differently is answered 400 and the connection is closed. Never passed on, never charged."""

import contextlib
import json

import pytest

from .cases import BODIES, CHUNKED, HEADS, MENDED_BODIES, SMUGGLED, UNENDED_BODIES, Bad
from .parties import Origin, Way, code_of, get, post, request, until
from .rig import Payer, Rig

AFTER = get(b"/after", b"Connection: close")
ids = [f"{name} [RFC {case.section}]" for name, case in HEADS.items()]
SPLIT = ["obs-fold", "two Hosts", "bare CR in a value", "Content-Length and Transfer-Encoding", "a Content-Length of 23 digits"]


@pytest.mark.parametrize("case", HEADS.values(), ids=ids)
async def test_a_faulty_head_is_refused_and_the_connection_closed(case: Bad, direct: Way, origin: Origin) -> None:
    client = await direct.connect()
    client.send(case.raw)
    answer = await client.rest()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % case.status), answer
    assert b"\r\nConnection: close" in head
    assert b"\r\nContent-Length: %d\r\n" % len(body) in head + b"\r\n"
    assert json.loads(body)["error"]["message"]
    assert origin.connections == 0


@pytest.mark.parametrize("case", HEADS.values(), ids=ids)
async def test_a_faulty_head_never_reaches_the_service_through_nginx(case: Bad, behind_nginx: Way, origin: Origin) -> None:
    client = await behind_nginx.connect()
    client.send(case.raw)
    if case.behind == "bare":
        assert code_of(await client.rest()) == "unauthorized"
        return
    answered = await client.answer()
    client.send(AFTER)
    with contextlib.suppress(ConnectionResetError):  # closed, and our question came too late
        await client.rest()
    seen = [call for call in origin.calls if call.target != b"/after"]
    if case.behind == "refused":
        assert (answered.status >= 400, seen) == (True, []), (answered, seen)
    else:
        assert answered.status == 200, answered
        assert [call.line.partition(b" ")[2] for call in seen] == [b"/ HTTP/1.1"]
        assert all(byte == 9 or 32 <= byte != 127 for line in seen[0].lines for byte in line)


@pytest.mark.parametrize("size", [1, 7, 1_000])
@pytest.mark.parametrize(
    "raw",
    [
        b"HEAD / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"\r\nHEAD / HTTP/1.1\r\nX: a\x00\r\n\r\n",
        b"HEAD / HTTP/4.0\r\nHost: a\r\n\r\n",
    ],
    ids=["a space before a colon", "two Hosts", "a control byte", "another version"],
)
async def test_9110_9_3_2_a_faulty_head_request_is_refused_without_a_body(raw: bytes, size: int, direct: Way, origin: Origin) -> None:
    client = await direct.connect()
    for at in range(0, len(raw), size):
        client.send(raw[at : at + size])
        await client.writer.drain()
    head, end, body = (await client.rest()).partition(b"\r\n\r\n")
    assert (head[:10], end, body) == (b"HTTP/1.1 5" if b"/4.0" in raw else b"HTTP/1.1 4", b"\r\n\r\n", b"")
    assert b"\r\nConnection: close" in head


@pytest.mark.parametrize("name", SPLIT)
async def test_a_faulty_head_is_refused_however_it_is_cut_up(name: str, direct: Way, origin: Origin) -> None:
    client = await direct.connect()
    raw = HEADS[name].raw.removesuffix(SMUGGLED)
    for at in range(0, len(raw), 7):
        client.send(raw[at : at + 7])
        await client.writer.drain()
    assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
    assert origin.connections == 0


@pytest.mark.parametrize("body", BODIES.values(), ids=[f"{name} [RFC 9112 7.1]" for name in BODIES])
async def test_a_faulty_chunk_is_refused_and_its_body_never_ends_at_the_service(body: bytes, direct: Way, origin: Origin) -> None:
    client = await direct.connect()
    client.send(request(CHUNKED, start=b"POST / HTTP/1.1", body=body) + SMUGGLED)
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert code_of(answer) == "bad_chunk"
    assert b"\r\nConnection: close\r\n" in answer
    await until(lambda: origin.closed == origin.connections)
    assert b"/smuggled" not in origin.targets
    assert not any(b"\r\n200 " in call.raw for call in origin.calls)


@pytest.mark.parametrize("name", [*BODIES])
async def test_a_faulty_chunk_never_becomes_a_request_through_nginx(name: str, behind_nginx: Way, origin: Origin) -> None:
    client = await behind_nginx.connect()
    client.send(request(CHUNKED, start=b"POST / HTTP/1.1", body=BODIES[name]))
    if name in UNENDED_BODIES:
        await until(lambda: origin.calls)
        client.leave()
        await until(lambda: origin.closed)
    else:
        assert (await client.answer()).status == (200 if name in MENDED_BODIES else 400)
    assert origin.targets in ([], [b"/"])


async def test_a_faulty_request_behind_a_good_one_is_refused_after_the_good_ones_answer(direct: Way, origin: Origin, rig: Rig) -> None:
    """RFC 9112 §9.3.2: answers come in the order of the requests; the last of them says that the connection closes."""
    client = await direct.connect()
    client.send(get(b"/first") + post(b"hello", target=b"/second") + HEADS["two Hosts"].raw + get(b"/never"))
    first, second, refused = [await client.answer() for _ in range(3)]
    assert (first.status, second.status, refused.status) == (200, 200, 400)
    assert refused.says_close
    assert await client.closed()
    assert origin.targets == [b"/first", b"/second"]


async def test_what_is_refused_is_not_charged(direct: Way, origin: Origin, rig: Rig) -> None:
    await direct.ask(get())
    before = rig.counter()
    for name in SPLIT:
        await (await direct.connect()).ask(HEADS[name].raw)
    await direct.ask(get())
    assert rig.counter() == before + 1


async def test_faults_in_a_row_harm_nobody_else(direct: Way, origin: Origin) -> None:
    """Another client's kept connection goes on while ours are refused."""
    other = await direct.connect()
    for name in HEADS:
        client = await direct.connect()
        client.send(HEADS[name].raw)
        assert (await other.ask(get(b"/other"))).status == 200
    assert set(origin.targets) == {b"/other"}


async def test_a_call_that_is_refused_before_it_was_passed_on_is_not_charged(direct: Way, origin: Origin, payer: Payer) -> None:
    """Its body breaks the rules while it waits to be admitted."""
    for _ in range(5):
        head = request(CHUNKED, start=b"POST / HTTP/1.1", key=payer.key)
        assert (await direct.ask(head + b"zz\r\n")).status == 400
    assert (await direct.ask(get(key=payer.key))).status == 200
    await until(lambda: payer.rig.ledger("api", payer.org))
    await payer.pays(api=1 + sum(call.target == b"/" and call.has(b"transfer-encoding") for call in origin.calls))
