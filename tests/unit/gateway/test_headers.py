"""Which fields go on: by name alone, whatever its case or its underscores; and who is believed."""

import pytest

from config.gateway import HeaderEdit, Limits, Route
from gateway.fields import Fields
from gateway.headers import Passage, TrustedProxies, lines_of, names_of, own_response, pass_trailers, status_line
from gateway.http1 import RequestHead, RequestParser
from gateway.reply import ResponseHead


def head(*fields: bytes, start: bytes = b"GET /a HTTP/1.1\r\nHost: h") -> RequestHead:
    parsed, _ = RequestParser(Limits(), RequestHead).feed(b"\r\n".join([start, *fields, b"", b""]))
    assert parsed is not None
    return parsed


def forwarded(passage: Passage, request: RequestHead, *, trusted: bool = False, base_path: bytes = b"") -> list[bytes]:
    raw = passage.request(request, "192.0.2.1", "http", trusted, b"up:80", base_path, b"\r\nX-Org-Id: org")
    assert raw.endswith(b"\r\n\r\n")
    return raw[:-4].split(b"\r\n")


def route(**facts) -> Route:
    return Route(id=1, path="/*", upstream="app", **facts)


HELD_BACK = """
Connection Keep-Alive Proxy-Connection TE Upgrade HTTP2-Settings Expect
X-Org-Id x-ORG-anything X-Key-Id X-Weighbridge-Signature X_Org_Id X-Org_Id x_weighbridge_x X_KEY_ID
X-Forwarded-For X-Forwarded-Port X-Forwarded_Host X_Forwarded_For Forwarded X-Real-IP X_Real_IP
Content_Length Transfer_Encoding X_API_Key
"""


def test_a_long_name_goes_on_and_is_not_remembered():
    passage, name = Passage(route()), b"X-" + b"a" * 20_000
    assert name + b": 1" in forwarded(passage, head(name + b": 1"))
    assert not any(name in lines for lines in passage._request.values())


def test_a_long_address_is_not_remembered():
    proxies = TrustedProxies(["10.0.0.0/8"])
    assert not proxies.trusts("1" * 20_000)
    assert not proxies._known


@pytest.mark.parametrize("name", HELD_BACK.split())
def test_a_field_that_may_not_go_on_does_not(name):
    value = "100-continue" if name == "Expect" else "x"
    assert forwarded(Passage(route()), head(f"{name}: {value}".encode())) == forwarded(Passage(route()), head())


@pytest.mark.parametrize(
    "field", [b"Authorization: Bearer x", b"x-api-KEY: k", b"X-Custom_Name: 1", b"Cookie: a", b"Trailer: X-Sum", b"X-Organ: 1"]
)
def test_a_field_that_may_go_on_does_as_it_came(field):
    assert field in forwarded(Passage(route()), head(field))


def test_what_connection_names_is_dropped_but_never_host_or_length():
    request = head(b"Connection: X-Gone, Host, Content-Length", b"X-Gone: 1", b"Content-Length: 0", start=b"POST / HTTP/1.1\r\nHost: h")
    lines = forwarded(Passage(route()), request)
    assert b"X-Gone: 1" not in lines
    assert b"Host: h" in lines
    assert b"Content-Length: 0" in lines
    assert b"X-Org-Id: org" in lines


def test_connection_of_one_request_says_nothing_about_the_next():
    passage = Passage(route())
    forwarded(passage, head(b"Connection: Cookie", b"Cookie: a"))
    assert b"Cookie: a" in forwarded(passage, head(b"Cookie: a"))


def test_a_request_without_host_asks_for_the_upstreams():
    assert forwarded(Passage(route()), head(start=b"GET / HTTP/1.0"))[1] == b"Host: up:80"


def test_a_route_sets_fields_in_place_of_what_came():
    passage = Passage(route(request_headers=HeaderEdit(add={"X-Env": "test"}, remove=("Accept",))))
    lines = forwarded(passage, head(b"x-env: client", b"accept: */*"))
    assert b"X-Env: test" in lines
    assert not any(line in lines for line in (b"x-env: client", b"accept: */*"))


@pytest.mark.parametrize(
    ("prefix", "base", "target", "path"),
    [
        ("/api", b"", b"/api/users?x", b"/users?x"),
        ("/api/", b"", b"/api/users", b"/users"),
        ("/api", b"", b"/api", b"/"),
        ("/api", b"", b"/api?x", b"/?x"),
        ("/api", b"", b"/apish", b"/apish"),
        ("/api", b"", b"/%61pi/users", b"/%61pi/users"),
        ("/api", b"/v2", b"/api/users", b"/v2/users"),
        (None, b"/v2", b"/users", b"/v2/users"),
        (None, b"/v2", b"*", b"*"),
    ],
)
def test_the_path_that_is_asked_for(prefix, base, target, path):
    assert Passage(route(strip_prefix=prefix)).path(target, base) == path


def response(passage: Passage, *fields: tuple[bytes, bytes], status: int = 200, add=()) -> list[bytes]:
    head = ResponseHead(status, b"OK", list(fields), keep_alive=True)
    return b"".join(passage.response(head, names_of(add), lines_of(add), b"now")).split(b"\r\n")[1:]


def test_a_response_loses_what_is_for_one_hop():
    fields = [
        (b"Connection", b"X-Hop, close"),
        (b"X-Hop", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"h2"),
    ]
    assert response(Passage(route()), *fields) == [b"Date: now", b"Via: 1.1 weighbridge"]


def test_what_we_add_replaces_what_the_service_says_but_not_its_cookies():
    lines = response(
        Passage(route()),
        (b"ratelimit", b"theirs"),
        (b"Set-Cookie", b"a"),
        (b"Date", b"then"),
        add=[(b"RateLimit", b"ours"), (b"Set-Cookie", b"b")],
    )
    assert lines == [b"Set-Cookie: a", b"Date: then", b"RateLimit: ours", b"Set-Cookie: b", b"Via: 1.1 weighbridge"]


def test_204_says_no_length_and_304_keeps_it():
    length = (b"Content-Length", b"5")
    assert b"Content-Length: 5" not in response(Passage(route()), length, status=204)
    assert b"Content-Length: 5" in response(Passage(route()), length, status=304)


def test_what_is_remembered_of_names_is_bounded():
    passage = Passage(route())
    for number in range(5000):
        forwarded(passage, head(b"X-%d: 1" % number))
    assert max(len(lines) for lines in passage._request.values()) <= 1024


def test_trailers_that_frame_route_or_authenticate_do_not_pass():
    bad = [
        (name, b"x")
        for name in (
            b"Content-Length",
            b"transfer-encoding",
            b"Host",
            b"Authorization",
            b"X-Org-Id",
            b"X_Org_Id",
            b"Set-Cookie",
            b"Trailer",
        )
    ]
    assert pass_trailers([*bad, (b"X-Checksum", b"1")]) == [(b"X-Checksum", b"1")]


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("203.0.113.9", b"1.2.3.4", "203.0.113.9"),
        ("10.0.0.1", b"1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", b"6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", b"6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4"),
        ("10.0.0.1", b"nonsense", "10.0.0.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("unix", b"1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", b"2001:DB8::1", "2001:db8::1"),
    ],
)
def test_the_clients_address_is_the_nearest_that_no_trusted_proxy_stands_behind(peer, forwarded_for, client):
    assert TrustedProxies(["10.0.0.0/8", "unix"]).client_address(peer, forwarded_for) == client


def test_nobody_is_trusted_unless_named():
    assert not TrustedProxies().trusts("127.0.0.1")
    assert not TrustedProxies(["10.0.0.0/8"]).trusts("not an address")
    with pytest.raises(ValueError, match="example"):
        TrustedProxies(["example"])


def test_our_own_answer_to_head_has_the_length_but_no_body():
    raw = own_response(404, [], b"gone", b"now", True, head(start=b"HEAD / HTTP/1.1\r\nHost: h"))
    assert raw == b"HTTP/1.1 404 Not Found\r\nDate: now\r\nContent-Length: 4\r\n\r\n"


def test_a_reason_phrase_passes_as_it_came():
    assert status_line(299, b"As you like") == b"HTTP/1.1 299 As you like"


# --- what is made once for equal heads -------------------------------------------------------------------------------------


def kept(*fields: bytes, start: bytes = b"GET /a HTTP/1.1\r\nHost: h") -> RequestHead:
    for _ in range(2):
        head(*fields, start=start)
    request = head(*fields, start=start)
    assert request.fields.kept
    return request


MANY = [
    (),
    (b"Connection: keep-alive, X-Gone, TE", b"X-Gone: 1", b"TE: trailers"),
    (b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-For: 2.2.2.2", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: x", b"Forwarded: a"),
    (b"Transfer-Encoding: chunked", b"X-Org-Id: evil", b"X_Org_Id: evil"),
]


@pytest.mark.parametrize("fields", MANY)
def test_what_is_remembered_of_a_forwarded_head_is_what_would_be_made_anew(fields):
    passages = [Passage(route()), Passage(route(host="upstream")), Passage(route(strip_prefix="/a", hide_credentials=True), [b"x-api-key"])]
    request = kept(*fields, b"X-API-Key: k", b"X-Mine: 1")
    for _ in range(2):
        for passage in passages:
            for peer, scheme, trusted, authority in [
                ("192.0.2.1", "http", False, b"up:80"), ("192.0.2.1", "http", True, b"up:80"), ("192.0.2.2", "https", True, b"b"),
                ("192.0.2.2", "https", False, b"up:80"), ("unix", "http", False, b"b"),
            ]:  # fmt: skip
                made = passage.request(request, peer, scheme, trusted, authority, b"/v2", b"\r\nX: y")
                fresh = head(*fields, b"X-API-Key: k", b"X-Mine: 1")
                fresh.fields = Fields(fresh.fields.written, fresh.fields.values, "1.1")
                assert passage.request(fresh, peer, scheme, trusted, authority, b"/v2", b"\r\nX: y") == made
                assert peer.encode() in made
                assert b"evil" not in made


def test_the_line_and_the_added_lines_are_each_requests_own():
    passage, request = Passage(route()), kept(b"A: b")
    for number in range(3):
        request.method, request.target = "PUT", b"/%d?x" % number
        made = passage.request(request, f"1.1.1.{number}", "http", False, b"up:80", b"", b"\r\nX-Id: %d" % number)
        assert made.startswith(b"PUT /%d?x HTTP/1.1\r\nHost: h\r\nA: b\r\nX-Id: %d\r\nX-Forwarded-For: 1.1.1.%d\r\n" % ((number,) * 3))


def test_many_peers_and_routes_leave_little_behind():
    request = kept(b"A: b")
    passages = [Passage(route(host="upstream")) for _ in range(20)]
    for number in range(2_000):
        passages[number % 20].request(request, f"192.0.2.{number}", "http", False, b"up:%d" % number, b"", b"")
    assert 0 < len(request.fields.memo) < 100


def test_a_head_that_comes_once_remembers_nothing():
    request = head(b"X-Once: 1")
    Passage(route()).request(request, "192.0.2.1", "http", False, b"up", b"", b"")
    assert not request.fields.memo


def test_what_is_remembered_of_a_responses_head_is_what_would_be_made_anew():
    passages = [Passage(route()), Passage(route(response_headers=HeaderEdit(add={"Server": "front"}, remove=("X-Gone",))))]
    for fields in (
        [(b"Server", b"a"), (b"X-Gone", b"1"), (b"ratelimit", b"r")],
        [(b"Date", b"d"), (b"Connection", b"X-Hop"), (b"X-Hop", b"1")],
    ):
        shared = ResponseHead(200, b"OK", fields, keep_alive=True)
        shared.kept = True
        for _ in range(2):
            for passage in passages:
                for added in ((b"RateLimit",), (), (b"X-Hop", b"Set-Cookie")):
                    lines = lines_of([(name, b"ours") for name in added])
                    fresh = ResponseHead(200, b"OK", fields, keep_alive=True)
                    assert passage.response(shared, added, lines, b"now") == passage.response(fresh, added, lines, b"now")
        assert len(shared.memo) == 2


def test_a_tunnel_is_asked_for_anew_at_the_next_hop():
    raw = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, X-Gone\r\nUpgrade: websocket\r\nX-Gone: 1\r\n\r\n"
    request, _ = RequestParser(Limits(), RequestHead, upgrades=True).feed(raw)
    assert request is not None
    lines = forwarded(Passage(route()), request)
    assert lines[-2:] == [b"Upgrade: websocket", b"Connection: Upgrade"]
    assert b"X-Gone: 1" not in lines
