"""A block read by its kind says what it says when it is read the full way; whatever differs otherwise goes the full way."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.gateway import ApiKeyIdentity, HeaderEdit, JwtIdentity, Limits, Route
from gateway import http1
from gateway.credentials import Credentials
from gateway.fields import Fields
from gateway.headers import Passage
from gateway.http1 import Refusal, RequestHead, RequestParser
from gateway.shapes import Shape, Shapes


def parser(limits: Limits | None = None) -> RequestParser[RequestHead]:
    return RequestParser(limits or Limits(), RequestHead)


def forget() -> None:
    http1._shapes = Shapes()
    http1._blocks.clear()
    http1._heads.clear()


def request(n: object, *lines: str, host: str = "a.example") -> bytes:
    return "\r\n".join(
        (f"POST /{n} HTTP/1.1", f"Host: {host}", f"X-API-Key: key-{n}", f"traceparent: 00-{n}", *lines, "Connection: keep-alive", "", "")
    ).encode("latin-1")  # fmt: skip


@pytest.fixture
def warm() -> RequestParser[RequestHead]:
    """A parser whose client sent many of a kind."""
    forget()
    read = parser()
    for n in range(40):
        read.feed(request(n, "Content-Length: 0"))
    assert read._shape is not None
    return read


def facts(head: RequestHead) -> tuple[object, ...]:
    fields = head.fields
    return (
        head.headers, tuple(head.names), dict(fields.first), head.authority, head.host, head.content_length, head.chunked,
        head.keep_alive, head.expect_continue, head.connection, head.upgrade, head.method, head.target,
    )  # fmt: skip


def outcome(read: RequestParser[RequestHead], data: bytes) -> object:
    """What a head says, or the status it is refused with."""
    try:
        head, taken = read.feed(data)
    except Refusal as refusal:
        return refusal.status
    return head and (facts(head), taken)


@given(
    st.lists(st.text(st.characters(max_codepoint=255), max_size=12), min_size=3, max_size=3),
    st.sampled_from(["0", "5", "007", "x", "-1", ""]),
)
@settings(deadline=None, max_examples=200)
def test_whatever_stands_in_the_values_is_read_or_refused_as_it_is_the_full_way(values: list[str], length: str) -> None:
    forget()
    warm = parser()
    for n in range(40):
        warm.feed(request(n, "X-A: a", "X-B: b", "X-C: c", "Content-Length: 0"))
    one = request("last", *(f"X-{name}: {value}" for name, value in zip("ABC", values, strict=True)), f"Content-Length: {length}")
    found = outcome(warm, one)
    forget()
    assert found == outcome(parser(), one)


def test_blocks_of_a_kind_that_came_often_are_read_by_it(warm: RequestParser[RequestHead]) -> None:
    head, taken = warm.feed(request("another", "Content-Length: 12") + b"hello, world")
    assert head.fields.shape is warm._shape
    assert (head.content_length, head.header(b"x-api-key"), taken) == (12, b"key-another", len(request("another", "Content-Length: 12")))


@pytest.mark.parametrize(
    "other",
    [
        request("x", "Content-Length: 0", host="b.example"), request("x", "Transfer-Encoding: chunked"), request("x", "Upgrade: h2c"),
        request("x", "Content-Length: 0").replace(b"keep-alive", b"close"), request("x", "Content-Length: 0", "X-More: 1"),
        request("x", "Content-Length: 0").replace(b"traceparent", b"Traceparent"),
        request("x", "Content-Length: 0").replace(b": key", b":key"),
    ],
)  # fmt: skip
def test_what_frames_or_routes_otherwise_is_of_another_kind(warm: RequestParser[RequestHead], other: bytes) -> None:
    head, _ = warm.feed(other)
    assert head.fields.shape is None


def test_a_body_beyond_the_limit_is_refused_whatever_the_kind(warm: RequestParser[RequestHead]) -> None:
    small = parser(Limits(max_body=10))
    assert small._shape is warm._shape
    with pytest.raises(Refusal, match="larger than 10 bytes"):
        small.feed(request("x", "Content-Length: 11"))


def test_kinds_without_end_are_not_remembered_without_end() -> None:
    shapes = Shapes()
    for n in range(3_000):
        fields = Fields([b"Host", b"X-%d" % n], [b"a", b"b"], "1.1")
        for _ in range(2 if n > 100 else 40):
            shapes.of(b"\r\nHost: a\r\nX-%d: b\r\n\r\n" % n, fields)
    assert len(shapes._known) <= 64
    assert len(shapes._seen) <= 512


ROUTES = [
    Route(id=1, path="/*", upstream="app", charge={}),
    Route(id=2, path="/*", upstream="app", charge={}, hide_credentials=True, host="upstream"),
    Route(id=3, path="/*", upstream="app", charge={}, request_headers=HeaderEdit(add={"X-Added": "50%"}, remove=("traceparent",))),
]


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("route", ROUTES)
def test_what_goes_on_of_a_block_is_the_same_however_it_was_read(warm: RequestParser[RequestHead], route: Route, trusted: bool) -> None:
    lines = ("X-50%: 1", "X-Forwarded-For: 1.2.3.4", "X-Org-Id: me", "Cookie: a=b", "Content-Length: 0")
    for n in range(40):
        warm.feed(request(n, *lines))
    passage = Passage(route, [b"x-api-key"])
    for n in ("one", "two"):
        head, _ = warm.feed(request(n, *lines))
        fully, _ = parser()._feed_fully(request(n, *lines))
        assert head.fields.shape is not None
        assert fully.fields.shape is None
        sent = [passage.request(each, "9.9.9.9", "http", trusted, b"up:1", b"", b"\r\nX-Request-Id: 1") for each in (head, fully)]
        assert sent[0] == sent[1]


def test_a_kind_that_does_not_take_its_own_model_is_not_used() -> None:
    shapes = Shapes()
    fields = Fields([b"Host", b"X"], [b"a", b"b"], "1.1")
    assert [shapes.of(b"\r\nHost: a\r\nX:b\r\n\r\n", fields) for _ in range(40)] == [None] * 40


def test_the_field_that_decides_is_the_first_that_may_hold_a_credential() -> None:
    credentials = Credentials([ApiKeyIdentity(sources=("X-API-Key", "bearer"))])
    assert credentials.decisive([b"host", b"authorization", b"x-api-key"], False) == b"x-api-key"
    assert credentials.decisive([b"host", b"authorization"], False) == b"authorization"
    assert credentials.decisive([b"host"], False) == b""
    assert credentials.is_credential(b"authorization", b"Bearer abc")
    assert not credentials.is_credential(b"authorization", b"Basic abc")


def test_no_field_decides_where_another_may_hold_the_credential_that_counts() -> None:
    """A bearer may be no token, or a token and no key; then the field behind it says who calls."""
    token, key = JwtIdentity(issuer="i", audience=("a",)), ApiKeyIdentity(sources=("bearer", "X-API-Key"))
    both = [b"host", b"authorization", b"x-api-key"]
    for ways in ([key, token], [token, key], [token, ApiKeyIdentity(sources=("X-API-Key",))]):
        assert Credentials(ways).decisive(both, False) == b""
        assert Credentials(ways).decisive([b"host", b"authorization"], False) == b"authorization"
        assert Credentials(ways).decisive([b"host", b"x-api-key"], False) == b"x-api-key"


def test_a_shape_keeps_the_length_of_each_body_apart() -> None:
    shape = Shape(Fields([b"Host", b"Content-Length"], [b"a", b"3"], "1.1"))
    found = shape.read(b"line\r\nHost: a\r\nContent-Length: 15\r\n\r\n".split(b"\r\n"))
    assert found is not None
    assert (found.content_length, shape.model.content_length) == (15, 3)
