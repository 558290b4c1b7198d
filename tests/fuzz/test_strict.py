"""The strict reader against the letter of RFC 9112: what it reads, and what it will not."""

import pytest

from .strict import requests_in, responses_in

HEAD = b"Host: a\r\n"


def lines(*lines: bytes, start: bytes = b"POST /x HTTP/1.1", body: bytes = b"") -> bytes:
    return b"\r\n".join([start, b"Host: a", *lines, b"", body])


READ = {
    "no body": (lines(), [(b"POST", b"/x", b"")], "clean"),
    "a length": (lines(b"Content-Length: 2", body=b"hi"), [(b"POST", b"/x", b"hi")], "clean"),
    "a length with zeros": (lines(b"Content-Length: 002", body=b"hi"), [(b"POST", b"/x", b"hi")], "clean"),
    "chunks": (lines(b"Transfer-Encoding: chunked", body=b"1;a\r\nh\r\n1\r\ni\r\n0\r\nX: 1\r\n\r\n"), [(b"POST", b"/x", b"hi")], "clean"),
    "pipelined": (lines() * 2, [(b"POST", b"/x", b"")] * 2, "clean"),
    "behind a close": (lines(b"Connection: close") + lines(), [(b"POST", b"/x", b"")], "close"),
    "HTTP/1.0": (lines(start=b"GET / HTTP/1.0") + lines(), [(b"GET", b"/", b"")], "close"),
    "blank lines": (b"\r\n\r\n" + lines(), [(b"POST", b"/x", b"")], "clean"),
    "absolute": (lines(start=b"GET http://b/x?y HTTP/1.1"), [(b"GET", b"/x?y", b"")], "clean"),
    "absolute without path": (lines(start=b"OPTIONS http://b HTTP/1.1"), [(b"OPTIONS", b"*", b"")], "clean"),
    "half a head": (lines()[:-1], [], "short"),
    "half a body": (lines(b"Content-Length: 5", body=b"hi"), [(b"POST", b"/x", b"hi")], "short"),
    "half a chunk": (lines(b"Transfer-Encoding: chunked", body=b"5\r\nhi"), [(b"POST", b"/x", b"hi")], "short"),
    "a chunk too long": (lines(b"Transfer-Encoding: chunked", body=b"1\r\nhi\r\n"), [(b"POST", b"/x", b"h")], "fault"),
    "a bad size": (lines(b"Transfer-Encoding: chunked", body=b"0x1\r\nh\r\n"), [(b"POST", b"/x", b"")], "fault"),
    "both framings": (lines(b"Transfer-Encoding: chunked", b"Content-Length: 1"), [], "fault"),
    "two lengths": (lines(b"Content-Length: 1", b"Content-Length: 1"), [], "fault"),
    "a signed length": (lines(b"Content-Length: +1"), [], "fault"),
    "chunked not alone": (lines(b"Transfer-Encoding: gzip, chunked"), [], "fault"),
    "a fold": (lines(b"X: a", b" b"), [], "fault"),
    "a space before the colon": (lines(b"X : a"), [], "fault"),
    "a bare LF": (lines(b"X: a\nY: b"), [], "fault"),
    "a bare CR": (lines(b"X: a\rY: b"), [], "fault"),
    "a control byte": (lines(b"X: a\x00"), [], "fault"),
    "two Hosts": (lines(b"Host: b"), [], "fault"),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", [], "fault"),
    "two spaces": (lines(start=b"GET  / HTTP/1.1"), [], "fault"),
    "another version": (lines(start=b"GET / HTTP/2.0"), [], "fault"),
}


@pytest.mark.parametrize(("data", "found", "end"), READ.values(), ids=READ.keys())
def test_requests_are_read_to_the_letter(data: bytes, found: list[tuple[bytes, bytes, bytes]], end: str) -> None:
    requests, how = requests_in(data)
    assert ([(each.method, each.target, each.body) for each in requests], how) == (found, end)


ANSWERED = {
    "a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"GET", True, [(200, b"ok", True)], "clean"),
    "cut": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", b"GET", True, [(200, b"ok", False)], "short"),
    "to the end": (b"HTTP/1.1 200 OK\r\n\r\nok", b"GET", True, [(200, b"ok", True)], "close"),
    "to an end that never came": (b"HTTP/1.1 200 OK\r\n\r\nok", b"GET", False, [(200, b"ok", False)], "short"),
    "hints": (b"HTTP/1.1 103 H\r\n\r\nHTTP/1.1 204 N\r\n\r\n", b"GET", True, [(204, b"", True)], "clean"),
    "HEAD": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"HEAD", True, [(200, b"", True)], "clean"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"GET", True, [(200, b"ok", True)], "clean"),
    "chunks without end": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", b"GET", True, [(200, b"ok", False)], "short",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "method", "ended", "found", "end"), ANSWERED.values(), ids=ANSWERED.keys())
def test_responses_are_read_to_the_letter(data: bytes, method: bytes, ended: bool, found: list[tuple[int, bytes, bool]], end: str) -> None:
    responses, how = responses_in(data, [method], ended=ended)
    assert ([(each.status, each.body, each.whole) for each in responses], how) == (found, end)


def test_bytes_behind_the_last_response_are_a_fault() -> None:
    _, how = responses_in(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nokevil", [b"GET"], ended=True)
    assert how.startswith("fault")
