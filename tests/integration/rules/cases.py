"""Requests that no gateway may pass on, by the section of RFC 9112 (or 9110) that says so. Pure: names and bytes.

`behind` is what happens behind nginx: "refused" by nginx or by the gateway behind it; "mended" where nginx itself reads the message
leniently and sends a clean one on, which the service then gets once, framed as nginx read it; "bare" where it takes it for HTTP/0.9
and answers without a head.
"""

from dataclasses import dataclass

from .parties import KEY, request


@dataclass(frozen=True)
class Bad:
    """`status` is the gateway's own answer."""

    section: str
    raw: bytes
    status: int = 400
    behind: str = "refused"


def bad(
    section: str, *lines: bytes, start: bytes = b"POST / HTTP/1.1", body: bytes = b"", status: int = 400, behind: str = "refused"
) -> Bad:
    return Bad(section, request(*lines, start=start, body=body), status, behind)


def raw(section: str, data: bytes, *, status: int = 400, behind: str = "refused") -> Bad:
    return Bad(section, data.replace(b"<key>", b"X-API-Key: " + KEY), status, behind)


CHUNKED = b"Transfer-Encoding: chunked"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\nX-API-Key: " + KEY + b"\r\n\r\n"
END = b"0\r\n\r\n"

HEADS = {
    "Content-Length and Transfer-Encoding": bad("9112 6.3", b"Content-Length: 5", CHUNKED, body=END + SMUGGLED),
    "Transfer-Encoding and Content-Length": bad("9112 6.3", CHUNKED, b"Content-Length: 5", body=END + SMUGGLED),
    "Transfer-Encoding of two and Content-Length": bad("9112 6.3", b"Transfer-Encoding: gzip, chunked", b"Content-Length: 5", body=END),
    "Content-Lengths that differ": bad("9112 6.3", b"Content-Length: 0", b"Content-Length: 44", body=SMUGGLED),
    "Content-Lengths that agree": bad("9110 8.6", b"Content-Length: 1", b"Content-Length: 1", body=b"a"),
    "a list of Content-Lengths": bad("9110 8.6", b"Content-Length: 1, 1", body=b"a"),
    "a Content-Length with a sign": bad("9110 8.6", b"Content-Length: +1", body=b"a"),
    "a negative Content-Length": bad("9110 8.6", b"Content-Length: -1"),
    "a hexadecimal Content-Length": bad("9110 8.6", b"Content-Length: 0x1", body=b"a"),
    "a Content-Length with an underscore": bad("9110 8.6", b"Content-Length: 1_0", body=b"aaaaaaaaaa"),
    "a Content-Length with a space within": bad("9110 8.6", b"Content-Length: 1 0", body=b"aaaaaaaaaa"),
    "a Content-Length in other digits": bad("9110 8.6", "Content-Length: ١".encode(), body=b"a"),
    "a quoted Content-Length": bad("9110 8.6", b'Content-Length: "1"', body=b"a"),
    "an empty Content-Length": bad("9110 8.6", b"Content-Length:"),
    "a Content-Length of 23 digits": bad("9110 8.6", b"Content-Length: 99999999999999999999999"),
    "a Content-Length of 2^64": bad("9110 8.6", b"Content-Length: 18446744073709551616"),
    "chunked not last": bad("9112 6.1", b"Transfer-Encoding: chunked, gzip", body=END),
    "chunked twice": bad("9112 6.1", b"Transfer-Encoding: chunked, chunked", body=END),
    "chunked in two fields": bad("9112 6.1", CHUNKED, CHUNKED, body=END),
    "chunked, then identity": bad("9112 6.1", CHUNKED, b"Transfer-Encoding: identity", body=END),
    "identity, then chunked": bad("9112 6.1", b"Transfer-Encoding: identity", CHUNKED, body=END, status=501),
    "a coding that only ends in chunked": bad("9112 6.1", b"Transfer-Encoding: xchunked", body=END),
    "a coding that only begins with chunked": bad("9112 6.1", b"Transfer-Encoding: chunkedx", body=END),
    "chunked with a parameter": bad("9112 7", b"Transfer-Encoding: chunked;q=1", body=END),
    "quoted chunked": bad("9112 7", b'Transfer-Encoding: "chunked"', body=END),
    "chunked behind a comma": bad("9112 6.1", b"Transfer-Encoding: ,chunked", body=END),
    "chunked before a comma": bad("9112 6.1", b"Transfer-Encoding: chunked,", body=END),
    "chunked behind a vertical tab": bad("9112 6.1", b"Transfer-Encoding: \x0bchunked", body=END),
    "chunked before a form feed": bad("9112 6.1", b"Transfer-Encoding: chunked\x0c", body=END),
    "chunked before a no-break space": bad("9112 6.1", b"Transfer-Encoding: chunked\xa0", body=END),
    "an empty coding": bad("9112 6.1", b"Transfer-Encoding:", body=END),
    "gzip without chunked": bad("9112 6.3", b"Transfer-Encoding: gzip", body=END),
    "identity alone": bad("9112 6.1", b"Transfer-Encoding: identity", body=END),
    "chunked in HTTP/1.0": bad("9112 6.1", CHUNKED, start=b"POST / HTTP/1.0", body=END),
    "space before the colon": bad("9112 5.1", b"Transfer-Encoding : chunked", body=END),
    "tab before the colon": bad("9112 5.1", b"Content-Length\t: 1", body=b"a"),
    "space before Host's colon": raw("9112 5.1", b"GET / HTTP/1.1\r\nHost : a\r\n<key>\r\n\r\n"),
    "space in a name": bad("9110 5.1", b"Foo Bar: x"),
    "a field without a colon": bad("9112 5", b"Foo", behind="mended"),
    "a field without a name": bad("9112 5", b": x"),
    "a bracket in a name": bad("9110 5.1", b"F(o: x", behind="mended"),
    "a control byte in a name": bad("9110 5.1", b"F\x01o: x"),
    "a name beyond ASCII": bad("9110 5.1", b"F\xc3\xb6o: x", behind="mended"),
    "obs-fold": bad("9112 5.2", b"Foo: x", b" y"),
    "obs-fold with a tab": bad("9112 5.2", b"Foo: x", b"\tTransfer-Encoding: chunked"),
    "a fold of nothing": bad("9112 5.2", b"Foo: x", b" "),
    "a first field that is folded": raw("9112 2.2", b"GET / HTTP/1.1\r\n Host: a\r\n<key>\r\n\r\n"),
    "bare LF after the request line": raw("9112 2.2", b"GET / HTTP/1.1\nHost: a\r\n<key>\r\n\r\n", behind="mended"),
    "bare LF after a field": raw("9112 2.2", b"GET / HTTP/1.1\r\nHost: a\n<key>\r\n\r\n", behind="mended"),
    "bare LF at the end": raw("9112 2.2", b"GET / HTTP/1.1\r\nHost: a\r\n<key>\r\n\n", behind="mended"),
    "LF LF at the end": raw("9112 2.2", b"GET / HTTP/1.1\r\nHost: a\r\n<key>\n\n", behind="mended"),
    "nothing but bare LF": raw("9112 2.2", b"GET / HTTP/1.1\nHost: a\n<key>\n\n", behind="mended"),
    "bare CR after the request line": raw("9112 2.2", b"GET / HTTP/1.1\rHost: a\r\n<key>\r\n\r\n"),
    "bare CR in a value": raw("9112 2.2", b"GET / HTTP/1.1\r\nHost: a\r\nFoo: a\rX-Bar: b\r\n<key>\r\n\r\n"),
    "CR CR LF": raw("9112 2.2", b"GET / HTTP/1.1\r\nHost: a\r\r\n<key>\r\n\r\n", behind="mended"),
    "LF CR": raw("9112 2.2", b"GET / HTTP/1.1\n\rHost: a\n\r<key>\n\r\n\r"),
    "a control byte in a value": bad("9110 5.5", b"Foo: a\x01b"),
    "NUL in a value": bad("9110 5.5", b"Foo: a\x00b"),
    "DEL in a value": bad("9110 5.5", b"Foo: a\x7fb"),
    "a control byte in Connection": bad("9110 5.5", b"Connection: close\x01", behind="mended"),
    "two Hosts": bad("9112 3.2", b"Host: b.example"),
    "two equal Hosts": bad("9112 3.2", b"Host: a.example"),
    "no Host": raw("9112 3.2", b"GET / HTTP/1.1\r\n<key>\r\n\r\n"),
    "an empty Host": raw("9112 3.2", b"GET / HTTP/1.1\r\nHost:\r\n<key>\r\n\r\n"),
    "a Host with a path": raw("9112 3.2", b"GET / HTTP/1.1\r\nHost: a/b\r\n<key>\r\n\r\n"),
    "a Host with a user": raw("9112 3.2", b"GET / HTTP/1.1\r\nHost: u@a\r\n<key>\r\n\r\n"),
    "a Host with a space": raw("9112 3.2", b"GET / HTTP/1.1\r\nHost: a b\r\n<key>\r\n\r\n"),
    "a Host with a word for a port": raw("9112 3.2", b"GET / HTTP/1.1\r\nHost: a:b\r\n<key>\r\n\r\n"),
    "a list of Hosts": raw("9112 3.2", b"GET / HTTP/1.1\r\nHost: a, b\r\n<key>\r\n\r\n"),
    "two spaces before the target": raw("9112 3", b"GET  / HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n", behind="mended"),
    "two spaces behind the target": raw("9112 3", b"GET /  HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n", behind="mended"),
    "a space at the line's end": raw("9112 3", b"GET / HTTP/1.1 \r\nHost: a\r\n<key>\r\n\r\n", behind="mended"),
    "a space in the target": raw("9112 3.2", b"GET /a b HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n"),
    "a tab behind the method": raw("9112 3", b"GET\t/ HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n"),
    "a space before the method": raw("9112 3", b" GET / HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n"),
    "no version": raw("9112 3", b"GET /\r\nHost: a\r\n<key>\r\n\r\n", behind="bare"),
    "a control byte in the target": raw("9112 3.2", b"GET /\x01 HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n"),
    "NUL in the target": raw("9112 3.2", b"GET /\x00 HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n"),
    "raw UTF-8 in the target": raw("9112 3.2", b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n"),
    "a fragment in the target": raw("9112 3.2", b"GET /a#b HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n"),
    "a target without a slash": raw("9112 3.2", b"GET foo HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n"),
    "a star for GET": raw("9112 3.2.4", b"GET * HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n"),
    "an authority for GET": raw("9112 3.2.3", b"GET a:80 HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n"),
    "an absolute target with a user": raw("9110 4.2.4", b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n"),
    "an absolute target without a host": raw("9110 4.2.1", b"GET http:///x HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n"),
    "an absolute target of another scheme": raw("9112 3.2.2", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n", behind="mended"),
    "an absolute target without Host": raw("9112 3.2", b"GET http://a/ HTTP/1.1\r\n<key>\r\n\r\n"),
    "lower-case http": raw("9112 2.3", b"GET / http/1.1\r\nHost: a\r\n<key>\r\n\r\n"),
    "a version of two digits": raw("9112 2.3", b"GET / HTTP/1.10\r\nHost: a\r\n<key>\r\n\r\n", behind="mended"),
    "a version with a zero before it": raw("9112 2.3", b"GET / HTTP/01.1\r\nHost: a\r\n<key>\r\n\r\n"),
    "a method with a bracket": raw("9110 9.1", b"GE(T / HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n"),
    "TLS on a plain port": raw("9112 3", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    "nine blank lines": raw("9112 2.2", b"\r\n" * 9 + b"GET / HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n", behind="mended"),
    "HTTP/2's preface": raw("9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status=505),
    "HTTP/2.0": raw("9110 15.6.6", b"GET / HTTP/2.0\r\nHost: a\r\n<key>\r\n\r\n", status=505),
    "HTTP/0.9": raw("9110 15.6.6", b"GET / HTTP/0.9\r\nHost: a\r\n<key>\r\n\r\n", status=505),
    "HTTP/3.0": raw("9110 15.6.6", b"GET / HTTP/3.0\r\nHost: a\r\n<key>\r\n\r\n", status=505),
    "HTTP/9.9": raw("9110 15.6.6", b"GET / HTTP/9.9\r\nHost: a\r\n<key>\r\n\r\n", status=505),
    "an unknown method": raw("9110 15.6.2", b"BREW / HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n", status=501),
    "a method in small letters": raw("9110 9.1", b"get / HTTP/1.1\r\nHost: a\r\n<key>\r\n\r\n", status=501),
    "CONNECT": raw("9110 9.3.6", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n<key>\r\n\r\n", status=501),
    "another transfer coding": bad("9112 6.1", b"Transfer-Encoding: gzip, chunked", body=END, status=501),
    "another expectation": bad("9110 10.1.1", b"Expect: a miracle", b"Content-Length: 1", body=b"x", status=417, behind="mended"),
}

MENDED_BODIES = frozenset(
    ("a size with zeros for a page", "a control byte in an extension", "an extension without a semicolon",
     "a trailer with a space before its colon", "a trailer that is folded", "a trailer without a colon")
)  # fmt: skip
"""nginx reads these over, and drops extensions and trailers; what it sends on is framed anew."""

UNENDED_BODIES = frozenset(("a size line without end", "trailers without end"))
"""nginx swallows these for as long as they come; the body goes on, its end never comes."""

BODIES = {
    "0x before a size": b"0x1\r\na\r\n0\r\n\r\n",
    "a sign before a size": b"+1\r\na\r\n0\r\n\r\n",
    "a minus before a size": b"-1\r\na\r\n0\r\n\r\n",
    "an underscore in a size": b"1_0\r\naaaaaaaaaaaaaaaa\r\n0\r\n\r\n",
    "a space before a size": b" 1\r\na\r\n0\r\n\r\n",
    "a space within a size": b"1 0\r\naaaaaaaaaaaaaaaa\r\n0\r\n\r\n",
    "no size": b"\r\na\r\n0\r\n\r\n",
    "letters for a size": b"xyz\r\na\r\n0\r\n\r\n",
    "a size of 16 digits": b"1" * 16 + b"\r\na\r\n0\r\n\r\n",
    "a size of 2^64": b"10000000000000000\r\n\r\n0\r\n\r\n",
    "a size with zeros for a page": b"0" * 64 + b"1\r\na\r\n0\r\n\r\n",
    "bare LF behind a size": b"1\na\r\n0\r\n\r\n",
    "bare CR behind a size": b"1\ra\r\n0\r\n\r\n",
    "bare LF behind a chunk": b"1\r\na\n0\r\n\r\n",
    "a chunk longer than its size": b"1\r\nab\r\n0\r\n\r\n",
    "a chunk shorter than its size": b"3\r\na\r\n0\r\n\r\n\r\n\r\n",
    "bare LF behind the last size": b"1\r\na\r\n0\n\r\n",
    "bare LF at the end": b"1\r\na\r\n0\r\n\n",
    "a control byte in an extension": b"1;a=\x01\r\na\r\n0\r\n\r\n",
    "bare LF in an extension": b"1;a\n=b\r\na\r\n0\r\n\r\n",
    "bare CR in an extension": b"1;a=\rb\r\na\r\n0\r\n\r\n",
    "an extension without a semicolon": b"1 a=b\r\na\r\n0\r\n\r\n",
    "a size line without end": b"1;" + b"a" * 9000,
    "a trailer with a space before its colon": b"0\r\nX-T : 1\r\n\r\n",
    "a trailer that is folded": b"0\r\nX-T: 1\r\n 2\r\n\r\n",
    "a trailer without a colon": b"0\r\nX-T\r\n\r\n",
    "bare LF behind a trailer": b"0\r\nX-T: 1\n\r\n",
    "bare CR in a trailer": b"0\r\nX-T: 1\rX-U: 2\r\n\r\n",
    "trailers without end": b"0\r\n" + b"X-T: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 500,
}
