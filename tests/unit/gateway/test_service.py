"""A response is the same whether llhttp read all of it, its head alone, or nothing, because the head was remembered."""

from contextlib import suppress
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import reply
from gateway.service import UpstreamConnection

HEAD = b"HTTP/1.1 200 OK\r\nServer: x\r\nDate: now\r\nContent-Type: a/b\r\nContent-Length: 5\r\nSet-Cookie: a\r\nset-cookie: b\r\n"
OK = HEAD + b"\r\nhello"


class Taker:
    """Takes what came, as an exchange does."""

    def __init__(self) -> None:
        self.body = b""
        self.fault = ""
        self.looks = 0

    def response_read(self) -> None:
        self.looks += 1

    def upstream_lost(self, clean_end: bool) -> None: ...
    def upstream_faulty(self, why: str) -> None:
        self.fault = why

    def upstream_paused(self) -> None: ...
    def upstream_resumed(self) -> None: ...


def connection() -> UpstreamConnection:
    kept: list[UpstreamConnection] = []
    owner = SimpleNamespace(put_back=kept.append, forget_idle=lambda _: None, closed=lambda _: None)
    made = UpstreamConnection(cast(Any, owner))
    made.transport = cast(Any, SimpleNamespace(abort=lambda: None))
    return made


def read(to: UpstreamConnection, *pieces: bytes, head_only: bool = False) -> tuple[object, ...]:
    """All that is known of a response."""
    taker = Taker()
    to.begin(taker, head_only)
    for piece in pieces:
        if not taker.fault:
            to.data_received(piece)
        taker.body += b"".join(to.pieces)
        to.pieces = []
    head = to.head
    if taker.fault or (head and head.fault):
        return ("faulty",)
    if head is None:
        return to.interim, to.silent
    return (
        head.status, head.reason, head.fields, head.names, head.content_length, to.keep_alive, taker.body, to.complete, to.spoiled,
        to.bodiless, to.silent, to.ends_with_connection, to.interim, list(to.trailers),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_remembered():
    reply._heads.clear()


def remembered(raw: bytes, times: int = 3) -> list[tuple[object, ...]]:
    """What connections say of a response that comes again, whole, and cut in two behind its head."""
    cut = raw.find(b"\r\n\r\n") + 4
    told = [read(connection(), raw) for _ in range(times)]
    told += [read(connection(), raw[:cut], *([raw[cut:]] if raw[cut:] else [])) for _ in range(2)]
    return told


RESPONSES = {
    "common": OK,
    "closed": HEAD + b"Connection: close\r\n\r\nhello",
    "kept": HEAD + b"Connection: Keep-Alive\r\nKeep-Alive: timeout=5\r\n\r\nhello",
    "options": HEAD + b"Connection: x, close\r\n\r\nhello",
    "two Connections": HEAD + b"Connection: keep-alive\r\nConnection: close\r\n\r\nhello",
    "Proxy-Connection": HEAD + b"Proxy-Connection: close\r\n\r\nhello",
    "HTTP/1.0": OK.replace(b"1.1", b"1.0"),
    "HTTP/1.0 kept": HEAD.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n\r\nhello",
    "HTTP/2.0": OK.replace(b"1.1", b"2.0"),
    "no body": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a body too long": OK + b"more",
    "a second response": OK + OK,
    "an empty body too long": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore",
    "a body cut short": OK[:-2],
    "no reason": OK.replace(b" OK", b""),
    "an empty reason": OK.replace(b"OK", b""),
    "another reason": OK.replace(b"OK", b"Sure thing: yes"),
    "a reason beyond ASCII": OK.replace(b"OK", b"\xc3\xa9"),
    "a control byte in the reason": OK.replace(b"OK", b"O\x01K"),
    "a tab in the reason": OK.replace(b"OK", b"O\tK"),
    "spaces": HEAD + b"A:  b \t\r\nB:\r\nC: \r\n\r\nhello",
    "two lengths": HEAD + b"Content-Length: 5\r\n\r\nhello",
    "two other lengths": HEAD + b"content-length: 6\r\n\r\nhello",
    "zeros before the length": OK.replace(b"h: 5", b"h: 005"),
    "a list of lengths": OK.replace(b"h: 5", b"h: 5, 5"),
    "a signed length": OK.replace(b"h: 5", b"h: +5"),
    "an empty length": OK.replace(b"h: 5", b"h:"),
    "a huge length": OK.replace(b"h: 5", b"h: 99999999999999999999"),
    "length and chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
    "chunks and a second response": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + OK,
    "no length": b"HTTP/1.1 200 OK\r\n\r\nhello",
    "Upgrade": HEAD + b"Upgrade: h2\r\nConnection: upgrade\r\n\r\nhello",
    "Upgrade alone": HEAD + b"Upgrade: h2\r\n\r\nhello",
    "a fold": HEAD + b"A: b\r\n c\r\n\r\nhello",
    "bare LF": OK.replace(b"x\r\n", b"x\n"),
    "bare CR": OK.replace(b"x\r\n", b"x\r"),
    "a control byte": OK.replace(b": x", b": \x01"),
    "DEL": OK.replace(b": x", b": \x7f"),
    "bytes beyond ASCII": OK.replace(b": x", b": \xc3\xa9"),
    "a space before the colon": HEAD + b"A : b\r\n\r\nhello",
    "no colon": HEAD + b"A\r\n\r\nhello",
    "no name": HEAD + b": b\r\n\r\nhello",
    "an odd name": HEAD + b"A(b: c\r\n\r\nhello",
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
    "early hints alone": b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n",
    "early hints whose reason is no text": b"HTTP/1.1 103 \xc3\xa9\r\n" + b"Link: x\r\n" * 6 + b"\r\n" + OK,  # as many fields as behind it
    "100": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    "101": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\nhello",
    "no HTTP": b"SSH-2.0\r\n\r\n",
    "a head without end": HEAD,
    "blank lines first": b"\r\n\r\n" + OK,
    **{
        f"status {status}": OK.replace(b"200", b"%d" % status)
        for status in (99, 199, 204, 205, 206, 299, 304, 404, 500, 599, 600, 999, 1000)
    },
}


@pytest.mark.parametrize("raw", RESPONSES.values(), ids=RESPONSES.keys())
@pytest.mark.parametrize("before", ["common", "no body", "another reason"])
def test_a_response_says_the_same_whatever_came_before_it_on_its_connection(raw: bytes, before: str) -> None:
    alone = read(connection(), raw)
    for _ in range(3):
        to = connection()
        for _ in range(3):
            assert read(to, RESPONSES[before])[0] == 200
            to.release(True)
        assert not to.lost
        assert read(to, raw) == alone


@pytest.mark.parametrize("raw", RESPONSES.values(), ids=RESPONSES.keys())
def test_what_is_remembered_of_a_head_changes_nothing(raw):
    whole = read(connection(), raw)
    reply._heads.clear()
    assert remembered(raw) == [whole] * 5
    reply._heads.clear()
    assert read(connection(), *(raw[at : at + 1] for at in range(len(raw)))) == whole


@pytest.mark.parametrize("raw", RESPONSES.values(), ids=RESPONSES.keys())
def test_what_is_remembered_of_a_head_says_nothing_about_an_answer_to_head(raw):
    fresh = read(connection(), raw, head_only=True)
    remembered(raw)
    assert read(connection(), raw, head_only=True) == fresh


@pytest.mark.parametrize("before", ["common", "chunks", "no body", "early hints", "HTTP/1.0 kept"])
@pytest.mark.parametrize("raw", RESPONSES.values(), ids=RESPONSES.keys())
def test_a_kept_connection_reads_one_answer_after_the_other(before, raw):
    fresh = read(connection(), raw)
    for _ in range(3):
        kept = connection()
        read(kept, RESPONSES[before])
        kept.release(True)
        assert read(kept, raw) == fresh
        read(kept := connection(), RESPONSES[before][:-1], RESPONSES[before][-1:])
        kept.release(True)
        assert read(kept, raw) == fresh


@given(st.lists(st.integers(min_value=1, max_value=200), max_size=6), st.sampled_from(list(RESPONSES.values())))
@settings(deadline=None)
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(places, raw):
    remembered(OK)
    bounds = sorted({0, len(raw), *(place % len(raw) for place in places)})
    pieces = [raw[start:end] for start, end in pairwise(bounds)]
    reply._heads.clear()
    unknown = read(connection(), *pieces)
    remembered(raw)
    assert read(connection(), *pieces) == unknown


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_no_bytes_whatever_bring_a_connection_down(noise):
    for raw in (noise, b"HTTP/1.1 200 OK\r\n" + noise, HEAD + noise + b"\r\n\r\nhello", HEAD + b"A: " + noise + b"\r\n\r\nhello"):
        told = remembered(raw)
        assert all(each == told[0] for each in told[:3])


def test_a_head_is_shared_from_the_third_answer_on_and_what_is_left_over_is_not():
    heads = []
    for _ in range(4):
        made = connection()
        read(made, OK)
        heads.append(made.head)
    assert heads[1] is heads[2] is heads[3]
    assert heads[3] is not None
    assert heads[3].kept


def test_a_body_counted_after_its_head_ends_where_it_should():
    made = connection()
    for _ in range(3):
        assert read(made, HEAD.replace(b"h: 5", b"h: 100000") + b"\r\n" + b"x" * 60_000, b"x" * 39_999, b"y")[6:8] == (
            b"x" * 99_999 + b"y", True,
        )  # fmt: skip
        made.release(True)
        assert not made.lost


def test_more_than_was_announced_spoils_the_connection_and_never_reaches_the_client():
    for _ in range(3):
        made = connection()
        told = read(made, OK[:-1], b"o!!!", b"and more")
        assert told[6:9] == (b"hello", True, True)
        made.release(True)
        assert made.lost


def test_a_second_answer_adds_neither_to_the_body_nor_to_the_trailers_of_the_first():
    for first in (OK, RESPONSES["chunks"]):
        told = read(connection(), first + OK)
        assert told[6:9] == (b"hello", True, True)
        assert told[13] == ([] if first is OK else [(b"A", b"b")])


def test_a_service_whose_heads_are_all_their_own_is_read_right():
    made = connection()
    for number in range(200):
        told = read(made, OK.replace(b"Date: now", b"Date: %d" % number))
        assert (told[2][1], told[6], told[7]) == ((b"Date", b"%d" % number), b"hello", True)  # type: ignore[index]
        made.release(True)
    assert not reply._heads.known


def test_what_is_kept_of_heads_is_bounded():
    for number in range(reply._MOST_HEADS + 200):
        with suppress(StopIteration):
            for _ in range(2):
                read(connection(), OK.replace(b"Date: now", b"Date: %d" % number))
    read(connection(), OK.replace(b"now", b"x" * 2_000))
    read(connection(), OK.replace(b"now", b"x" * 2_000))
    assert 0 < len(reply._heads.known) <= reply._MOST_HEADS
    assert max(map(len, reply._heads.known)) <= reply._LONGEST_HEAD
