"""Which credential counts, what a client may name itself, and what the service is told."""

import hashlib
import hmac
import re
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.gateway import Route
from gateway.directory import Caller, Org
from gateway.errors import ScopeMissing
from gateway.headers import TrustedProxies
from gateway.identity import Ids, check_scopes, client_address, identity_headers, request_id, root, signature, traceparent
from metering.model.apikey import KeyRecord
from metering.model.entitlement import Entitlement


class Head:
    """A request head with these fields."""

    def __init__(self, **fields: bytes) -> None:
        self._fields = {name.replace("_", "-").encode(): value for name, value in fields.items()}

    def header(self, lower_name: bytes) -> bytes | None:
        return self._fields.get(lower_name)


@pytest.mark.parametrize(
    ("peer", "lines", "address"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", [b"198.51.100.1"], "203.0.113.9"),  # not a proxy of ours: it may say what it likes
        ("10.0.0.2", [], "10.0.0.2"),
        ("10.0.0.2", [b"198.51.100.1"], "198.51.100.1"),
        ("10.0.0.2", [b"192.0.2.7, 198.51.100.1, 10.0.0.3"], "198.51.100.1"),
        ("10.0.0.2", [b"192.0.2.7", b"198.51.100.1"], "198.51.100.1"),  # a client's own line comes before the proxy's
    ],
)
def test_the_clients_address_is_the_nearest_that_no_trusted_proxy_stands_behind(peer: str, lines: list[bytes], address: str) -> None:
    head = SimpleNamespace(peer=peer, headers=[(b"X-Forwarded-For", line) for line in lines], names=[b"x-forwarded-for"] * len(lines))
    assert client_address(TrustedProxies(["10.0.0.0/8"]), cast(Any, head)) == address


@pytest.mark.parametrize("given_id", [b"a", b"req-1/2:3.4_5+6=7@8", b"x" * 128])
def test_a_harmless_request_id_of_the_client_is_kept(given_id: bytes) -> None:
    assert request_id(Head(x_request_id=given_id)) == given_id


@pytest.mark.parametrize("given_id", [None, b"", b"x" * 129, b"a b", b"a\n", b'a"', b"a\x00", b"\xc3\xa4", b"a,b", b"a;b"])
def test_any_other_request_id_is_replaced_by_a_fresh_one(given_id: bytes | None) -> None:
    head = Head() if given_id is None else Head(x_request_id=given_id)
    first, second = request_id(head), request_id(head)
    assert first != second
    assert re.fullmatch(rb"[0-9a-f]{32}", first)


TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_ids_are_drawn_many_at_once_and_never_twice() -> None:
    ids = Ids(at_once=3)
    made = {ids.digits() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(rb"[0-9a-f]{32}", digits) for digits in made)


def test_a_trace_that_begins_here_bears_the_name_of_its_request() -> None:
    assert root(b"4bf92f3577b34da6a3ce929d0e0e4736") == b"00-4bf92f3577b34da6a3ce929d0e0e4736-a3ce929d0e0e4736-01"


def test_a_well_formed_trace_context_goes_on() -> None:
    assert traceparent(Head(traceparent=TRACE)) == TRACE


@pytest.mark.parametrize(
    "broken",
    [
        b"", TRACE[:-1], TRACE + b"0", TRACE + b"\n", TRACE.upper(), b"ff" + TRACE[2:],
        TRACE.replace(b"4bf92f3577b34da6a3ce929d0e0e4736", b"0" * 32),
        TRACE.replace(b"00f067aa0ba902b7", b"0" * 16), TRACE.replace(b"-", b"_"), b"0-0" + TRACE[3:],
        TRACE[:-2] + b"-1", TRACE[:-3] + b"001",
        TRACE[:10] + b"-" + TRACE[11:], TRACE[:34] + b"-7" + TRACE[36:], b"-" * 55,
    ],
)  # fmt: skip
def test_a_malformed_trace_context_is_replaced_by_the_root_of_a_new_trace(broken: bytes) -> None:
    made = traceparent(Head(traceparent=broken))
    assert made != broken
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-01", made)


def test_the_service_learns_who_calls_and_never_the_key() -> None:
    entitlement = Entitlement(org_id="o-1", slug="acme", name="Acme", version=1, plan="pro", plan_version=1, anchor_ms=0)
    caller = Caller("sha", KeyRecord(key_id=9, org_id="o-1"), Org(entitlement))
    assert identity_headers(caller) == [(b"X-Org-Id", b"o-1"), (b"X-Org-Slug", b"acme"), (b"X-Org-Plan", b"pro"), (b"X-Key-Id", b"9")]


def test_the_service_learns_what_the_plan_offers_beside_quotas() -> None:
    offered = ("sso", "organizations=10")
    entitlement = Entitlement(
        org_id="o-1", slug="acme", name="Acme", version=1, plan="pro", plan_version=1, anchor_ms=0, features=offered
    )  # fmt: skip
    caller = Caller("sha", KeyRecord(key_id=9, org_id="o-1"), Org(entitlement))
    assert identity_headers(caller)[-1] == (b"X-Org-Features", b"sso, organizations=10")


def test_the_service_learns_which_tenant_a_token_names_and_that_a_key_is_for_tests() -> None:
    entitlement = Entitlement(org_id="o-1", slug="acme", name="Acme", version=1, plan="pro", plan_version=1, anchor_ms=0)
    tenant = Caller("name", KeyRecord(key_id=0, org_id="o-1"), Org(entitlement), "shop-7")
    test = Caller("name", KeyRecord(key_id=9, org_id="o-1", test=True), Org(entitlement))
    assert (b"X-Org-Tenant", b"shop-7") in identity_headers(tenant)
    assert (b"X-Org-Test", b"true") in identity_headers(test)


def route(*scopes: str) -> Route:
    return Route(id=1, path="/*", upstream="app", scopes=frozenset(scopes))


def test_a_caller_that_lacks_a_scope_of_the_route_is_refused_by_name() -> None:
    caller = Caller("name", KeyRecord(key_id=9, org_id="o-1", scopes=frozenset(("read",))), cast(Any, None))
    check_scopes(caller, route())
    check_scopes(caller, route("read"))
    with pytest.raises(ScopeMissing, match="reports, write") as caught:
        check_scopes(caller, route("write", "read", "reports"))
    assert caught.value.details == {"missing": ["reports", "write"]}
    assert caught.value.challenge == 'Bearer realm="api", error="insufficient_scope", scope="reports write"'


def test_a_signature_covers_time_request_target_and_every_identity_header() -> None:
    headers = [(b"X-Org-Id", b"o-1"), (b"X-Org-Slug", b"acme"), (b"X-Org-Plan", b"pro"), (b"X-Key-Id", b"9"), (b"X-Org-Features", b"sso")]
    name, value = signature(b"secret", 1_740_000_000, headers, b"rid", "GET", b"/a?b=c")
    message = b"1740000000\nrid\nGET /a?b=c\no-1\nacme\npro\n9\n\nsso\n"
    expected = hmac.new(b"secret", message, hashlib.sha256).hexdigest()
    assert (name, value.decode()) == (b"X-Weighbridge-Signature", f"t=1740000000,v1={expected}")


_ONE = [(b"X-Org-Id", b"o-1"), (b"X-Key-Id", b"9")]
IDENTITIES = [
    _ONE, [(b"X-Org-Id", b"o-2"), (b"X-Key-Id", b"9")], [(b"X-Org-Id", b"o-1"), (b"X-Org-Test", b"true")], [*_ONE, (b"X-Org-Tenant", b"t")],
    [*_ONE, (b"X-Org-Features", b"t")],
]  # fmt: skip
FACTS = st.tuples(
    st.integers(0, 2**31), st.sampled_from(IDENTITIES), st.sampled_from([b"r1", b"r2"]), st.sampled_from(["GET", "POST"]),
    st.sampled_from([b"/", b"/a", b"/a?b"]),
)  # fmt: skip


@given(FACTS, FACTS)
def test_different_facts_have_different_signatures(
    one: tuple[int, list[tuple[bytes, bytes]], bytes, str, bytes], other: tuple[int, list[tuple[bytes, bytes]], bytes, str, bytes]
) -> None:
    assert (signature(b"s", *one) == signature(b"s", *other)) == (one == other)
    assert signature(b"s", *one) != signature(b"t", *one)
