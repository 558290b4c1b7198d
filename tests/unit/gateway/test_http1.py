"""Heads read whole or in pieces come out the same, and what is refused is refused either way."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.gateway import Limits
from gateway import fields
from gateway.http1 import Refusal, RequestHead, RequestParser, read_host

HEAD = (
    b"POST /a%20b/../c?x=1&y HTTP/1.1\r\nHost: Shop.Example:8080\r\nX-Odd:  spaced \t\r\nX-Empty:\r\n"
    b"Content-Length: 5\r\nConnection: keep-alive, X-Odd\r\nExpect: 100-Continue\r\n\r\n"
)


def parser(**limits: int) -> RequestParser[RequestHead]:
    return RequestParser(Limits(**limits), RequestHead)


def feed(read: RequestParser[RequestHead], pieces: list[bytes]) -> tuple[RequestHead, bytes]:
    """The first head, and what was left."""
    for at, piece in enumerate(pieces):
        head, taken = read.feed(piece)
        if head is not None:
            return head, piece[taken:] + b"".join(pieces[at + 1 :])
    raise AssertionError("no head")


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted({place % len(data) for place in places} - {0}), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


@given(st.lists(st.integers(min_value=1, max_value=10_000), max_size=8))
@settings(deadline=None)
def test_a_head_is_read_the_same_in_whatever_pieces_it_comes(places):
    head, rest = feed(parser(), cut(HEAD + b"hello", places))
    assert (head.method, head.target, head.path, head.http_version) == ("POST", b"/a%20b/../c?x=1&y", b"/a%20b/../c", "1.1")
    assert head.headers == (
        (b"Host", b"Shop.Example:8080"), (b"X-Odd", b"spaced"), (b"X-Empty", b""), (b"Content-Length", b"5"),
        (b"Connection", b"keep-alive, X-Odd"), (b"Expect", b"100-Continue"),
    )  # fmt: skip
    assert head.names == [name.lower() for name, _ in head.headers]
    assert (head.host, head.authority, head.content_length, head.chunked) == ("shop.example", b"Shop.Example:8080", 5, False)
    assert (head.expect_continue, head.keep_alive, head.connection) == (True, True, (b"keep-alive", b"x-odd"))
    assert rest == b"hello"


@given(st.binary(max_size=200), st.lists(st.integers(min_value=1, max_value=10_000), max_size=4))
@settings(deadline=None)
def test_no_bytes_whatever_bring_the_parser_down(noise, places):
    data = b"GET / HTTP/1.1\r\nHost: a\r\nA: " + noise + b"\r\n\r\n"
    with suppress(Refusal):
        head, _ = feed(parser(), cut(data, places))
        assert not any(byte in value for _, value in head.headers for byte in (b"\r", b"\n", b"\0"))


def test_one_parser_reads_head_after_head():
    read = parser()
    data = HEAD + b"GET /2 HTTP/1.1\r\nHost: b\r\n\r\n" + b"GET /3 HTTP/1.0\r\n\r\n"
    targets = []
    while data:
        head, taken = read.feed(data)
        assert head is not None
        targets.append(head.target)
        data = data[taken:]
    assert targets == [b"/a%20b/../c?x=1&y", b"/2", b"/3"]


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: keep-alive\r\nConnection: Close\r\n", False),
        (b"1.1", b"Connection: close, keep-alive\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.0", b"Connection: keep-alive, close\r\n", False),
    ],
)
def test_whether_the_client_keeps_its_connection(version, connection, kept):
    head, _ = feed(parser(), [b"GET / HTTP/%b\r\nHost: a\r\n%b\r\n" % (version, connection)])
    assert head.keep_alive is kept


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        (b"A.example", "a.example"),
        (b"a:80", "a"),
        (b"a:", "a"),
        (b"[::1]", "[::1]"),
        (b"[2001:DB8::1]:443", "[2001:db8::1]"),
        (b"x_y-z", "x_y-z"),
    ],
)
def test_a_host_is_read_without_its_port_in_lower_case(authority, host):
    assert read_host(authority) == host


def test_a_long_host_is_read_and_not_remembered():
    before = len(fields._hosts)
    assert read_host(b"A" * 30_000) == "a" * 30_000
    assert len(fields._hosts) == before


@pytest.mark.parametrize(
    "authority", [b"", b":80", b"a b", b"a/b", b"a@b", b"a:b", b"a:80:81", b"[::1", b"::1", b"a\\b", b'a"b', b"a,b c", b"a?b"]
)
def test_what_is_no_authority_is_refused(authority):
    with pytest.raises(Refusal):
        read_host(authority)


def test_memory_for_an_unfinished_head_is_bounded():
    read = parser(max_headers_bytes=1000)
    read.feed(b"GET / HTTP/1.1\r\n")
    for _ in range(150):
        read.feed(b"A: b\r\n")
    with pytest.raises(Refusal, match="larger than 1000"):
        read.feed(b"A: b\r\n" * 20)
