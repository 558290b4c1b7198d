"""Events as they come: the same whatever the chunks, with any end of line, within a bound."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.events import EventScanner

MOST = 64


def scanned(*chunks: bytes, most: int = MOST) -> list[bytes | None]:
    found: list[bytes | None] = []
    scanner = EventScanner(most, found.append)
    for chunk in chunks:
        scanner.feed(chunk)
    scanner.end()
    return found


def by_the_book(stream: bytes, most: int = MOST) -> list[bytes | None]:
    """The same from the whole of it, as the specification tells it."""
    found: list[bytes | None] = []
    data: list[bytes] = []
    for line in [*re.split(b"\r\n|\r|\n", stream.removeprefix(b"\xef\xbb\xbf")), b""]:
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif not line and data:
            whole = b"\n".join(data)
            found.append(whole if len(whole) <= most else None)
            data = []
    return found


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: 1\n\ndata: 2\n\n", [b"1", b"2"]),
        (b"data: 1\r\rdata: 2\r\r", [b"1", b"2"]),
        (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [b"1", b"2"]),
        (b"data:1\n\n", [b"1"]),
        (b"data:  1\n\n", [b" 1"]),
        (b"data: {\ndata: }\n\n", [b"{\n}"]),
        (b"data: {\r\ndata: }\r\n\r\n", [b"{\n}"]),
        (b"data\n\n", [b""]),
        (b"data:\ndata\n\n", [b"\n"]),
        (b": comment\n\nevent: x\nid: 1\nretry: 5\n\n", []),
        (b"event: x\ndata: 1\nid: 7\n\n", [b"1"]),
        (b"\xef\xbb\xbfdata: 1\n\n", [b"1"]),
        (b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n", [b"1"]),
        (b"dataset: 1\n\n", []),
        (b" data: 1\n\n", []),
        (b"data: 1\n\n\n\n\n", [b"1"]),
        (b"data: 1\n\ndata: 2", [b"1", b"2"]),
        (b"", []),
    ],
)
def test_events_are_read_as_the_specification_says(stream: bytes, events: list[bytes]) -> None:
    assert scanned(stream) == events
    assert scanned(*(stream[i : i + 1] for i in range(len(stream)))) == events
    assert by_the_book(stream) == events


_LINES = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"data: " + b"y" * 30,
        b"data:" + b"y" * 70,
        b"data",
        b"da",
        b"ta: x",
        b"event: x",
        b": ",
        b"",
        b"x" * 30,
        b"x" * 70,
        b"{}",
        b"\xef\xbb\xbf",
    ]
)
_ENDS = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r", b""])
_STREAMS = st.lists(st.tuples(_LINES, _ENDS) | st.tuples(st.binary(max_size=6), _ENDS), max_size=20).map(
    lambda parts: b"".join(a + b for a, b in parts)
)


@given(_STREAMS, st.lists(st.integers(0, 400), max_size=12))
def test_any_chunks_give_what_the_whole_gives(stream: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[a:b] for a, b in itertools.pairwise(places)]
    assert scanned(*chunks) == by_the_book(stream)


@given(_STREAMS, st.lists(st.integers(0, 400), max_size=12), st.integers(0, 40))
def test_what_is_passed_over_is_whole_events_within_the_bound(stream: bytes, cuts: list[int], most: int) -> None:
    """Fed or passed over, the scanner goes on from the same state; and what was passed over had no event beyond the bound."""
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    found: list[bytes | None] = []
    scanner = EventScanner(most, found.append)
    for a, b in itertools.pairwise(places):
        if scanner.pass_over(stream[a:b]):
            found += by_the_book(b"\n" + stream[a:b] if a else stream[a:b], most)  # a mark of byte order stands at the beginning alone
            assert None not in scanned(stream[a:b], most=most)
        else:
            scanner.feed(stream[a:b])
    scanner.end()
    assert found == by_the_book(stream, most)


def test_an_event_beyond_the_bound_is_told_as_such_and_the_next_is_read() -> None:
    at_most, beyond = b"x" * MOST, b"x" * (MOST + 1)
    assert scanned(b"data: " + at_most + b"\n\n") == [at_most]
    assert scanned(b"data: " + beyond + b"\n\ndata: 1\n\n") == [None, b"1"]
    assert scanned(b"data: " + at_most[:40] + b"\ndata: " + at_most[:40] + b"\n\n") == [None]


def test_nothing_without_end_is_kept() -> None:
    for line in (b"data: ", b": ", b"event: ", b"x"):
        scanner = EventScanner(MOST, [].append)
        scanner.feed(line)
        for _ in range(1_000):
            scanner.feed(b"x" * 100)
        assert sum(map(len, scanner._line)) < MOST + 200
