"""Heads read whole or in pieces come out the same, and what is refused is refused either way."""

from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.gateway import Limits
from gateway import fields, http1
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


# --- a block of fields that comes again -----------------------------------------------------------------------------------

BLOCKS = {
    "wrk": b"Host: a:81\r\nX-API-Key: k\r\nAccept: */*\r\n",
    "a browser": b"Host: a\r\nConnection: keep-alive\r\nCookie: a=1\r\nAccept: a\r\naccept: b\r\n"
    b"User-Agent:  M (X; \xe9) \t\r\nX-Empty:\r\n",
    "close": b"Host: a\r\nConnection: close, X-Odd\r\nX-Odd: 1\r\n",
    "keep-alive twice": b"Host: a\r\nConnection: Keep-Alive\r\nConnection: x\r\n",
    "a body": b"Host: a\r\nContent-Length: 5\r\n",
    "an empty body": b"Host: a\r\nContent-Length: 0\r\n",
    "chunks": b"Host: a\r\nTransfer-Encoding: Chunked\r\nTE: trailers\r\nConnection: TE\r\n",
    "expecting": b"Host: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n",
    "h2c": b"Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
    "a WebSocket": b"Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    "an Upgrade that Connection does not name": b"Host: a\r\nUpgrade: websocket\r\n",
    "no fields": b"",
    "no Host": b"A: b\r\n",
    "a bad Host": b"Host: a/b\r\n",
    "two Hosts": b"Host: a\r\nHost: a\r\n",
    "a fold": b"Host: a\r\nA: b\r\n c\r\n",
    "length and chunks": b"Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "another expectation": b"Host: a\r\nExpect: a miracle\r\n",
}
LINES = [
    *(b"%b /a?b HTTP/1.1" % method for method in (*http1._METHODS, b"CONNECT", b"PRI", b"SOURCE", b"get", b"BREW", b"G-T", b"")),
    *(b"GET %b HTTP/1.1" % target for target in (
        b"/", b"/?", b"/??", b"//x", b"/a?b?c", b"*", b"a", b"http://b:82/x?y", b"HTTP://b", b"https://b?y", b"http://u@b/", b"/a#b", b"/#",
        b"/a?#", b"/a\tb", b"/ a", b"", b"?", b"/\xc3\xa9", b"/a\x7f")),
    *(b"GET / HTTP/%b" % version for version in (b"1.0", b"1.2", b"2.0", b"0.9", b"1.1 ", b"1.1\t", b"1.10", b"11", b"1.1\r", b"1.1\n")),
    b"OPTIONS * HTTP/1.1", b"OPTIONS http://b HTTP/1.1", b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b" GET / HTTP/1.1", b"GET / http/1.1",
    b"GET\t/ HTTP/1.1", b"GET /", b"\r\nGET / HTTP/1.1", b"\r\n\r\nGET / HTTP/1.1", b"\nGET / HTTP/1.1", b"GET / HTTP/1.1\nA: b",
    b"POST /" + b"a" * 9_000 + b" HTTP/1.1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_remembered():
    http1._blocks.clear()
    http1._heads.clear()


def told(read: Callable[[bytes], tuple[RequestHead | None, int]], data: bytes) -> object:
    """All that a head says, or the refusal."""
    try:
        head, taken = read(data)
    except Refusal as refusal:
        return refusal.status, refusal.reason, refusal.message
    if head is None:
        return None
    return (
        head.method, head.target, head.path, head.headers, head.names, head.http_version, head.authority, head.host, head.content_length,
        head.chunked, head.expect_continue, head.keep_alive, head.connection, head.upgrade, head.header(b"host"), head.header(b"accept"),
        data[taken:],
    )  # fmt: skip


def warm(block: bytes, **limits: int) -> None:
    """The block becomes one that is remembered, if it may."""
    for _ in range(3):
        told(parser(**limits).feed, b"GET / HTTP/1.1\r\n" + block + b"\r\n")


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS.keys())
@pytest.mark.parametrize("behind", [b"", b"hello", b"GET /next HTTP/1.1\r\nHost: b\r\n\r\n"])
def test_a_remembered_block_says_the_same_under_every_request_line(block, behind):
    warm(block)
    for line in LINES:
        raw = line + b"\r\n" + block + b"\r\n"
        fully = told(parser()._feed_fully, raw + behind)
        assert told(parser().feed, raw + behind) == fully, line
        same = parser()
        with suppress(Refusal):
            same.feed(b"GET / HTTP/1.1\r\n" + block + b"\r\n")
            assert told(same.feed, raw + behind) == fully, line


@pytest.mark.parametrize("place", [b"/a%bb", b"/%b", b"/a?b%bc", b"/a?%b"])
def test_a_remembered_block_lets_no_byte_into_the_target_that_would_not_get_there_otherwise(place):
    block = BLOCKS["wrk"]
    warm(block)
    for byte in range(256):
        raw = b"GET " + place % bytes([byte]) + b" HTTP/1.1\r\n" + block + b"\r\n"
        assert told(parser().feed, raw) == told(parser()._feed_fully, raw), byte


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS.keys())
@pytest.mark.parametrize("behind", [b"", b"hello", b"GET /next HTTP/1.1\r\nHost: b\r\n\r\n", b"\r\n\r\n"])
def test_a_head_that_came_before_is_read_as_it_was_and_one_that_differs_by_a_byte_by_itself(block, behind):
    raw = b"GET /a?b HTTP/1.1\r\n" + block + b"\r\n"
    fully = told(parser()._feed_fully, raw + behind)
    for _ in range(4):
        assert told(parser().feed, raw + behind) == fully
    for at in range(len(raw)):
        for other in (
            raw[:at] + b"\n" + raw[at + 1 :],
            raw[:at] + b"z" + raw[at + 1 :],
            raw[:at] + raw[at + 1 :],
            raw[:at] + b" " + raw[at:],
        ):
            read = parser()
            with suppress(Refusal):
                read.feed(raw)
                assert told(read.feed, other + behind) == told(parser()._feed_fully, other + behind), (at, other)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS.keys())
@pytest.mark.parametrize("behind", [b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n\r\n", b"a\r\n\r\n", b"0\r\n\r\n"])
def test_what_stands_behind_a_head_and_ends_as_heads_do_is_never_taken_for_its_own(block, behind):
    raw = b"GET /a HTTP/1.1\r\n" + block + b"\r\n"
    fully = told(parser()._feed_fully, raw + behind)
    read = parser()
    for number in range(50):
        assert told(parser().feed, raw + behind) == fully
        with suppress(Refusal):
            assert told(read.feed, raw + behind) == fully
        told(parser().feed, b"GET /%d HTTP/1.1\r\nX-Org: %d\r\n" % (number, number) + block + b"\r\n" + behind)
    for known in (*http1._blocks.known, *http1._heads.known):
        assert known.count(b"\r\n\r\n") == known.endswith(b"\r\n\r\n") == 1


def test_a_head_that_comes_again_is_compared_on_its_connection_and_found_on_others():
    raw = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
    read = parser()
    heads = [feed(read, [raw % 1])[0] for _ in range(3)]
    assert heads[0].target is not heads[1].target
    assert heads[1].target is heads[2].target is feed(parser(), [raw % 1])[0].target
    assert feed(read, [raw % 2])[0].target == b"/2"
    assert len(http1._heads.known) == 1


def test_heads_that_come_once_are_not_kept_and_what_is_kept_is_bounded():
    for number in range(http1._MOST_BLOCKS + 500):
        told(parser().feed, b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
    assert not http1._heads.known
    for number in range(http1._MOST_BLOCKS + 500):
        for _ in range(2):
            told(parser().feed, b"GET /%d HTTP/1.1\r\nHost: b\r\n\r\n" % number)
    assert 0 < len(http1._heads.known) <= http1._MOST_BLOCKS


@given(st.binary(max_size=40), st.sampled_from(list(BLOCKS.values())))
@settings(deadline=None)
def test_no_request_line_whatever_is_read_otherwise_above_a_remembered_block(noise, block):
    warm(block)
    for raw in (noise + b"\r\n" + block + b"\r\n", b"GET /" + noise + b" HTTP/1.1\r\n" + block + b"\r\n"):
        if b"\r\n" not in noise:
            assert told(parser().feed, raw) == told(parser()._feed_fully, raw)


def test_equal_blocks_share_their_fields_from_the_third_on():
    raw = b"GET /%d HTTP/1.1\r\n" + BLOCKS["a browser"] + b"\r\n"
    heads = [feed(parser(), [raw % number])[0] for number in range(4)]
    assert [head.fields.kept for head in heads] == [False, True, True, True]
    assert heads[1].fields is heads[2].fields is heads[3].fields
    assert [head.target for head in heads] == [b"/0", b"/1", b"/2", b"/3"]


@pytest.mark.parametrize(
    "name", ["a WebSocket", "no Host", "a fold", "two Hosts", "another expectation", "length and chunks", "a bad Host"]
)
def test_what_was_refused_is_not_remembered(name):
    warm(BLOCKS[name])
    assert not http1._blocks.known


def test_what_comes_otherwise_than_under_http_1_1_is_not_remembered():
    block = b"Host: a\r\n\r\n"
    for line in (b"GET / HTTP/1.0\r\n", b"GET http://b/ HTTP/1.1\r\n"):
        for _ in range(3):
            feed(parser(), [line + block])
    assert not http1._blocks.known


def test_an_absolute_target_changes_the_host_of_its_own_request_only():
    block = BLOCKS["wrk"]
    warm(block)
    read = parser()
    hosts = [feed(read, [b"GET %b HTTP/1.1\r\n" % target + block + b"\r\n"])[0].header(b"host") for target in (b"/", b"http://b/", b"/")]
    assert hosts == [b"a:81", b"b", b"a:81"]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_line": 20}, "line_too_long"),
        ({"max_headers_bytes": 70}, "headers_too_large"),
        ({"max_header_count": 2}, "too_many_headers"),
        ({"max_body": 4}, "body_too_large"),
    ],
)
@pytest.mark.parametrize("on_one_connection", [False, True])
def test_limits_hold_for_what_is_remembered_also_those_that_came_since(limits, reason, on_one_connection):
    block = b"Host: a\r\nAccept: */*\r\nContent-Length: 5\r\n\r\n"
    short, raw = b"GET / HTTP/1.1\r\n" + block, b"GET /" + b"a" * 20 + b" HTTP/1.1\r\n" + block
    for _ in range(3):
        assert feed(parser(), [raw])[0].fields is not None
    read = parser(**limits)
    if on_one_connection and reason in ("line_too_long", "headers_too_large"):
        feed(read, [short])
    with pytest.raises(Refusal) as refused:
        feed(read, [raw])
    assert refused.value.reason == reason
    assert feed(parser(), [raw])[0].content_length == 5


def test_what_just_fits_the_limits_is_let_pass_from_memory_too():
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    limits = {"max_line": 14, "max_headers_bytes": len(raw), "max_header_count": 2, "max_body": 5}
    read = parser(**limits)
    for _ in range(5):
        assert feed(read, [raw])[0].content_length == 5


def test_a_client_whose_blocks_are_all_their_own_is_read_right_and_one_that_repeats_itself_is_remembered_again():
    read = parser()
    raw = b"GET /%d HTTP/1.1\r\nHost: a\r\nX-Id: %d\r\n\r\n"
    for number in range(100):
        head, _ = feed(read, [raw % (number, number)])
        assert (head.target, head.header(b"x-id")) == (b"/%d" % number, b"%d" % number)
    heads = [feed(read, [raw % (number, 7_777)])[0] for number in range(100)]
    assert {head.header(b"x-id") for head in heads} == {b"7777"}
    assert heads[-1].fields is heads[-2].fields


def test_blocks_that_come_once_are_not_kept_and_what_is_kept_is_bounded():
    for number in range(http1._MOST_BLOCKS + 500):
        told(parser().feed, b"GET / HTTP/1.1\r\nHost: a\r\nA: %d\r\n\r\n" % number)
    assert not http1._blocks.known
    for number in range(http1._MOST_BLOCKS + 500):
        warm(b"Host: a\r\nA: %d\r\n" % number)
    assert 0 < len(http1._blocks.known) <= http1._MOST_BLOCKS


@pytest.mark.parametrize("fields", [b"A: " + b"a" * 3_000 + b"\r\n", b"A: b\r\n" * 60])
def test_a_block_that_is_long_is_read_and_not_remembered(fields):
    warm(b"Host: a\r\n" + fields)
    assert not http1._blocks.known


def test_what_is_derived_from_a_block_is_bounded():
    warm(BLOCKS["wrk"])
    fields = feed(parser(), [b"GET / HTTP/1.1\r\n" + BLOCKS["wrk"] + b"\r\n"])[0].fields
    for number in range(1_000):
        fields.remember(number, b"x")
    assert 0 < len(fields.memo) < 100


@pytest.mark.parametrize(
    ("upgrade", "wanted"),
    [(b"websocket", b"websocket"), (b"h2c", b""), (b"h2c, WebSocket", b"WebSocket"), (b"a/1, b", b"a/1, b"), (b",", b"")],
)
def test_who_lets_protocols_change_learns_to_which(upgrade, wanted):
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: %b\r\n\r\n" % upgrade
    for _ in range(4):
        head, taken = RequestParser(Limits(), RequestHead, upgrades=True).feed(raw + b"more")
        assert head is not None
        assert (head.upgrade, taken) == (wanted, len(raw))
    if wanted:
        with pytest.raises(Refusal, match="upgrades"):
            parser().feed(raw)


def test_http_1_0_upgrades_to_nothing():
    raw = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert feed(parser(), [raw])[0].upgrade == b""
