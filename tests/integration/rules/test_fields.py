"""RFC 9110 §5 to §7: which header fields go on, which are the connection's own, which only the gateway may say; bytes as they came."""

import gzip

import pytest

from .parties import HOP, KEY, Origin, Way, get, post, request
from .rig import ORG

FIELDS = [
    b"x-LOWER-upper: 1", b"Accept: */*", b"X-Twice: a", b"accept-encoding: br;q=1, gzip", b"X-Twice: b", b"X-Empty:", b"Cookie: a=1; b=2",
    b"X-Tab: a\tb", b"X-Latin: caf\xe9 \xff", b"X-Quotes: \"a, b\", 'c'", b"User-Agent: x", b"x-twice: c", b"Content-Language: de",
]  # fmt: skip
NOT_OURS = (b"host", b"x-api-key")


def kept(lines: list[bytes], names: set[bytes]) -> list[bytes]:
    """The lines under these names, as they stand."""
    return [line for line in lines if line.partition(b":")[0].lower() in names]


def names_of(lines: list[bytes]) -> set[bytes]:
    return {line.partition(b":")[0].lower() for line in lines}


async def test_9110_5_3_fields_go_to_the_service_in_their_order_case_and_spelling(way: Way, origin: Origin) -> None:
    assert (await way.ask(get(b"/", *FIELDS))).status == 200
    came = [line.replace(b"X-Empty: ", b"X-Empty:") for line in origin.calls[0].lines]
    expected = FIELDS if way.direct else [line for line in FIELDS if line != b"X-Empty:"]
    assert kept(came, names_of(expected)) == expected


async def test_9110_5_3_fields_go_to_the_client_in_their_order_case_and_spelling(way: Way, origin: Origin) -> None:
    cookies = [
        b"Set-Cookie: a=1; Path=/",
        b"x-one: 1",
        b"SET-COOKIE: b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT",
        b"Set-cookie: a=1; Path=/",
    ]
    fields = [
        *cookies,
        b"Server: Mine/1",
        b"Date: Tue, 15 Nov 1994 08:12:31 GMT",
        b"X-Latin: caf\xe9",
        b"Vary: A",
        b"vary: B",
        b'ETag: W/"x"',
    ]
    origin.says(b"\r\n".join([b"HTTP/1.1 200 Fine, Thanks", b"Content-Length: 2", *fields, b"", b"ok"]))
    answered = await way.ask(get())
    assert sorted(kept(answered.lines, names_of(fields))) == sorted(fields)
    assert kept(answered.lines, {b"set-cookie"}) == [cookies[0], cookies[2], cookies[3]]
    if way.direct:
        assert kept(answered.lines, names_of(fields)) == fields
        assert answered.raw.startswith(b"HTTP/1.1 200 Fine, Thanks\r\n")


async def test_9110_5_5_whitespace_around_a_value_is_not_part_of_it(direct: Way, origin: Origin) -> None:
    await direct.ask(get(b"/", b"X-A:   a b \t ", b"X-B:b"))
    assert kept(origin.calls[0].lines, {b"x-a", b"x-b"}) == [b"X-A: a b", b"X-B: b"]


async def test_9110_7_6_1_hop_by_hop_fields_and_what_connection_names_stay_behind(way: Way, origin: Origin) -> None:
    own = [b"Keep-Alive: timeout=9", b"Proxy-Connection: keep-alive", b"TE: gzip", b"X-Hop: secret", b"x-other: secret"]
    await way.ask(get(b"/", b"Connection: keep-alive, X-Hop", *own, b"Connection: X-OTHER"))
    seen = names_of(origin.calls[0].lines)
    assert not seen & {b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade"}
    if way.direct:  # nginx takes Connection away and what it named along: the gateway cannot know
        assert not seen & {b"x-hop", b"x-other"}


async def test_9110_7_6_1_the_same_holds_for_answers(way: Way, origin: Origin) -> None:
    own = [b"Keep-Alive: timeout=9", b"Proxy-Connection: keep-alive", b"X-Hop: secret", b"Upgrade: h2c"]
    origin.says(b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: 2", b"Connection: X-hop, Upgrade", *own, b"", b"ok"]))
    client = await way.connect()
    answered = await client.ask(get())
    assert not names_of(answered.lines) & {b"keep-alive", b"proxy-connection", b"x-hop", b"upgrade"}
    assert answered[b"connection"] in (None, b"keep-alive")  # nginx says the latter
    assert (await client.ask(get())).status == 200


@pytest.mark.parametrize("came", [b"order-7", b"two words"])
async def test_the_service_sees_one_request_id_and_one_trace_context(direct: Way, origin: Origin, came: bytes) -> None:
    """The client's where it is well-formed, else ours; never both, of which services read the one or the other."""
    answered = await direct.ask(get(b"/", b"X-Request-Id: " + came, b"traceparent: " + came, b"X_Request_Id: posing"))
    seen = origin.calls[0]
    assert seen.all(b"x-request-id") == answered.all(b"x-request-id")
    assert seen.all(b"traceparent") == answered.all(b"traceparent")
    assert len(seen.all(b"x-request-id")) == len(seen.all(b"traceparent")) == 1
    assert (seen[b"x-request-id"] == came) is (came == b"order-7")
    assert not seen.has(b"x_request_id")


ABUSED = b"X-Org-Id, X-Key-Id, X-Forwarded-For, X-Forwarded-Proto, X-Request-Id, Via, Host, Content-Length, X-API-Key, traceparent"


async def test_9110_7_6_1_naming_our_own_fields_in_connection_takes_none_of_them_away(way: Way, origin: Origin) -> None:
    """A client could else hide who it is, or make the next hop lose the message's framing."""
    await way.ask(post(b"hello", b"Connection: " + ABUSED))
    seen = origin.calls[0]
    assert seen[b"x-org-id"] == ORG.format(0).encode()
    assert names_of(seen.lines) >= {b"x-key-id", b"x-forwarded-for", b"x-forwarded-proto", b"x-request-id", b"via", b"host", b"traceparent"}
    assert (seen[b"content-length"], seen.body_read) == (b"5", b"hello")


async def test_9110_7_6_3_via_is_added_behind_those_that_came(way: Way, origin: Origin) -> None:
    origin.says(b"HTTP/1.1 200 OK\r\nVia: 1.0 barney\r\nContent-Length: 2\r\n\r\nok")
    answered = await way.ask(get(b"/", b"Via: 1.0 fred"))
    *came, ours = origin.calls[0].all(b"via")
    assert came == [b"1.0 fred"]
    assert ours.startswith(b"1.1 weighbridge-")
    assert answered.all(b"via") == [b"1.0 barney", ours]


async def test_9110_7_6_2_max_forwards_and_others_that_mean_nothing_to_us_pass(direct: Way, origin: Origin) -> None:
    await direct.ask(request(b"Max-Forwards: 5", b"Range: bytes=0-1", b'If-None-Match: "x"', start=b"OPTIONS /x HTTP/1.1"))
    assert names_of(origin.calls[0].lines) >= {b"max-forwards", b"range", b"if-none-match"}


CLAIMS = [
    b"Forwarded: for=203.0.113.9;proto=https", b"X-Forwarded-For: 203.0.113.9", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: b.example",
    b"X-Forwarded-Port: 443", b"X-Forwarded-Prefix: /admin", b"X-Forwarded-Server: s", b"X-Real-IP: 203.0.113.9",
    b"X_Forwarded_For: 203.0.113.9",
    b"x-forwarded-for: 198.51.100.7", b"X-Forwarded_For: 203.0.113.9", b"X-Forwarded-User: root", b"X-Forwarded-Client-Cert: c",
]  # fmt: skip


async def test_7239_8_1_nobodys_word_on_where_a_call_came_from_is_taken(way: Way, origin: Origin) -> None:
    await way.ask(get(b"/", *CLAIMS))
    seen = origin.calls[0]
    assert not [line for line in seen.lines if b"203.0.113" in line or b"198.51" in line or b"b.example" in line or b"root" in line]
    assert seen.all(b"x-forwarded-for") == ([b"127.0.0.1"] if way.direct else [b"127.0.0.1, " + HOP.encode()])
    assert seen.all(b"x-forwarded-proto") == [b"http"]
    assert seen.all(b"x-forwarded-host") == [b"a.example"]


async def test_7239_8_1_a_trusted_hops_word_is_taken_and_its_address_added(direct: Way, origin: Origin) -> None:
    await direct.ask(get(b"/", *CLAIMS), source=HOP)
    seen = origin.calls[0]
    assert seen.all(b"x-forwarded-for") == [b"203.0.113.9, 198.51.100.7, " + HOP.encode()]
    assert (seen.all(b"x-forwarded-proto"), seen.all(b"x-forwarded-host")) == ([b"https"], [b"b.example"])
    assert not seen.has(b"x_forwarded_for")


IDENTITY = [
    b"X-Org-Id: mine", b"x-org-id: mine", b"X-ORG-PLAN: mine", b"X-Org-Slug: mine", b"X-Key-Id: mine", b"X-Weighbridge-Signature: mine",
    b"X_Org_Id: mine", b"X-Org_Id: mine", b"X_KEY_ID: mine", b"X-Org-Anything: mine", b"X-Weighbridge-New: mine",
    b"x_weighbridge_signature: mine",
]  # fmt: skip


@pytest.mark.parametrize("source", [None, HOP])
async def test_who_calls_is_said_by_the_gateway_alone(source: str | None, way: Way, origin: Origin) -> None:
    """Also a trusted proxy says only where a call came from, never whose it is."""
    await way.ask(get(b"/", *IDENTITY), source=source)
    seen = origin.calls[0]
    assert not [line for line in seen.lines if b"mine" in line]
    assert seen.all(b"x-org-id") == [ORG.format(0).encode()]
    assert len(seen.all(b"x-key-id")) == 1


async def test_an_open_route_lets_no_identity_through_either(way: Way, origin: Origin) -> None:
    await way.ask(get(b"/open/x", *IDENTITY))
    assert not [line for line in origin.calls[0].lines if b"mine" in line]
    assert not origin.calls[0].has(b"x-org-id")


async def test_framing_and_credentials_in_disguise_go_no_further(way: Way, origin: Origin) -> None:
    """To a service that reads `_` as `-` (CGI), these would be the fields themselves."""
    posing = [
        b"Content_Length: 99",
        b"Transfer_Encoding: chunked",
        b"HOST_: b",
        b"X_API_Key: other",
        b"Authorization_: x",
        b"Connection_: x",
    ]
    await way.ask(post(b"hello", *posing))
    assert not names_of(origin.calls[0].lines) & {b"content_length", b"transfer_encoding", b"x_api_key"}
    assert origin.calls[0].body_read == b"hello"


PATHS = [
    b"/a/%2e%2e/b", b"/a/../b", b"//a//b", b"/%7Euser/%7euser", b"/a%2Fb", b"/a;x=1/b;y", b"/a/./b/.", b"/?", b"/a?b=c&d=%20?%3f+x",
    b"/%00", b"/a%", b"/%zz", b"/caf%C3%A9", b"/[x]^|`{}\"<>", b"/\\a", b"/a?q=\\\"'<>", b"/" + b"a" * 4000, b"/.", b"/..", b"/a/",
    b"/a?http://b/",
]  # fmt: skip


@pytest.mark.parametrize("target", PATHS, ids=lambda target: target.decode()[:20])
async def test_9110_4_2_3_the_target_goes_on_as_it_was_spelled(target: bytes, way: Way, origin: Origin) -> None:
    answered = await way.ask(get(target))
    if not way.direct and target in (b"/%00", b"/a%", b"/%zz", b"/..", b"/a/../../b"):
        assert (answered.status, origin.calls) == (400, [])  # nginx reads the path, and these are none to it
    else:
        assert (answered.status, origin.targets) == (200, [target])


async def test_9110_8_4_a_coded_body_and_its_length_pass_untouched(way: Way, origin: Origin) -> None:
    body = gzip.compress(b"hello " * 1000)
    origin.says(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    answered = await way.ask(post(body, b"Content-Encoding: gzip", b"Accept-Encoding: identity;q=0"))
    assert (answered.body, answered[b"content-encoding"], answered[b"content-length"]) == (body, b"gzip", b"%d" % len(body))
    seen = origin.calls[0]
    assert (seen.body_read, seen[b"content-encoding"], seen[b"accept-encoding"]) == (body, b"gzip", b"identity;q=0")


async def test_nothing_is_invented_for_the_service(direct: Way, origin: Origin) -> None:
    await direct.ask(get())
    assert names_of(origin.calls[0].lines) == {
        b"host", b"x-api-key", b"x-request-id", b"traceparent", b"x-org-id", b"x-org-slug", b"x-org-plan", b"x-key-id", b"x-forwarded-for",
        b"x-forwarded-proto", b"x-forwarded-host", b"via",
    }  # fmt: skip


async def test_9110_6_6_1_an_answer_without_date_gets_one_and_no_server_is_invented(direct: Way, origin: Origin) -> None:
    origin.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    answered = await direct.ask(get())
    assert answered[b"date"].endswith(b" GMT")
    assert not answered.all(b"server")
    assert not answered.all(b"content-type")


async def test_large_fields_pass_up_to_the_limits_both_ways(way: Way, origin: Origin) -> None:
    """RFC 9110 §5.4. nginx holds an answer's head in one buffer of 4 kB unless told otherwise, a request's in four of 9 kB."""
    fields = [b"X-%d: " % number + b"v" * 7_000 for number in range(4)]
    size = 200_000 if way.direct else 2_500
    origin.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Large: " + b"v" * size + b"\r\n\r\nok")
    answered = await way.ask(get(b"/", *fields))
    assert (answered.status, len(answered[b"x-large"] or b"")) == (200, size)
    assert kept(origin.calls[0].lines, names_of(fields)) == fields


async def test_a_hundred_fields_pass(way: Way, origin: Origin) -> None:
    fields = [b"X-%d: v" % number for number in range(80)]
    assert (await way.ask(get(b"/", *fields))).status == 200
    assert kept(origin.calls[0].lines, names_of(fields)) == fields


async def test_the_key_may_stand_in_authorization_and_is_seen_by_the_service(way: Way, origin: Origin) -> None:
    bearer = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + KEY + b"\r\n\r\n"
    assert (await way.ask(bearer)).status == 200
    assert origin.calls[0][b"authorization"] == b"Bearer " + KEY
