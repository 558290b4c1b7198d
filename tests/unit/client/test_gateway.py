"""Who calls, as the gateway signs it: the gateway's own signature, read by the client."""

import pytest

from gateway.identity import signature
from weighbridge_client import NotSigned
from weighbridge_client.gateway import Identity, Signed

NOW = 1_770_000_000
FACTS = [
    (b"X-Org-Id", b"o-1"),
    (b"X-Org-Slug", b"acme"),
    (b"X-Org-Plan", b"pro"),
    (b"X-Key-Id", b"9"),
    (b"X-Org-Features", b"sso, seats=3"),
]


def headers(method: str = "GET", target: bytes = b"/v1/a%2Fb?q=1") -> dict[str, str]:
    rid = b"5f1c"
    lines = [*FACTS, (b"X-Request-Id", rid), signature(b"secret", NOW, FACTS, rid, method, target)]
    return {name.decode().lower(): value.decode() for name, value in lines}


def test_what_the_gateway_signed_is_known() -> None:
    signed = Signed("secret", now=lambda: NOW + 299)
    assert signed.identity("GET", "/v1/a%2Fb?q=1", headers()) == Identity(
        org_id="o-1", slug="acme", plan="pro", key_id="9", tenant=None, features="sso, seats=3", test=False
    )
    assert Signed("secret", prefix="/v1/", now=lambda: NOW).org("GET", "/a%2Fb?q=1", headers()) == "o-1"


FORGED = [
    {"x-org-id": "o-2"}, {"x-org-features": "sso, admin"}, {"x-org-test": "true"}, {"x-org-tenant": "t"}, {"x-request-id": "6"},
    {"x-weighbridge-signature": ""}, {"x-weighbridge-signature": "t=1770000000"}, {"x-weighbridge-signature": "t=x,v1=y"},
    {"x-weighbridge-signature": "t=1770000000,v1=ä"}, {"x-org-slug": "acme\npro", "x-org-plan": "9", "x-key-id": ""},
]  # fmt: skip


@pytest.mark.parametrize("change", FORGED)
def test_what_it_did_not_sign_is_nobody(change: dict[str, str]) -> None:
    signed = Signed("secret", now=lambda: NOW)
    with pytest.raises(NotSigned):
        signed.identity("GET", "/v1/a%2Fb?q=1", {**headers(), **change})
    assert signed.org("GET", "/v1/a%2Fb?q=1", {**headers(), **change}) is None


def test_another_target_method_secret_or_time_is_not_what_was_signed() -> None:
    for signed, method, target in (
        (Signed("secret", now=lambda: NOW), "POST", "/v1/a%2Fb?q=1"),
        (Signed("secret", now=lambda: NOW), "GET", "/v1/a/b?q=1"),
        (Signed("other", now=lambda: NOW), "GET", "/v1/a%2Fb?q=1"),
        (Signed("secret", now=lambda: NOW + 301), "GET", "/v1/a%2Fb?q=1"),
    ):
        assert signed.org(method, target, headers()) is None
