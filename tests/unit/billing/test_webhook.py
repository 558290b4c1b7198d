"""The signature over the bytes as they came, and what an event must be."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stripe import WebhookSignature

from billing.model.webhook import EventFaulty, SignatureRefused, event_of, read_event, sign, verify, wrong_side

NOW = 1_793_000_000
BODY = b'{"id":"evt_1","type":"invoice.paid"}'
ONE, OTHER = "whsec_one", "whsec_other"


def check(body: bytes, header: str, *secrets: str) -> None:
    verify(body, header, secrets or (ONE,), NOW * 1000)


TAKEN = [
    ("signed now", sign(BODY, ONE, NOW), (ONE,)),
    ("as old as is allowed", sign(BODY, ONE, NOW - 300), (ONE,)),
    ("as far ahead as is allowed", sign(BODY, ONE, NOW + 300), (ONE,)),
    ("by the second of two secrets", sign(BODY, OTHER, NOW), (ONE, OTHER)),
    ("by the first of two secrets", sign(BODY, ONE, NOW), (ONE, OTHER)),
    ("by both, while one is rolled at Stripe", sign(BODY, OTHER, NOW) + ",v1=" + sign(BODY, ONE, NOW).partition("v1=")[2], (ONE,)),
    ("with a scheme of the future beside it", sign(BODY, ONE, NOW) + ",v2=abc,v0=" + "0" * 64, (ONE,)),
    ("with spaces behind the commas", sign(BODY, ONE, NOW).replace(",", ", "), (ONE,)),
]


@pytest.mark.parametrize(("header", "secrets"), [case[1:] for case in TAKEN], ids=[case[0] for case in TAKEN])
def test_a_signature_is_taken(header: str, secrets: tuple[str, ...]) -> None:
    check(BODY, header, *secrets)


REFUSED = [
    ("no header", BODY, "", "missing"),
    ("nonsense", BODY, "hello", "missing"),
    ("no timestamp", BODY, "v1=" + "0" * 64, "missing"),
    ("two timestamps", BODY, f"t={NOW}," + sign(BODY, ONE, NOW), "lacks a timestamp"),
    ("a timestamp that is no number", BODY, sign(BODY, ONE, NOW).replace(f"t={NOW}", "t=now"), "lacks a timestamp"),
    ("a negative timestamp", BODY, sign(BODY, ONE, NOW).replace("t=", "t=-"), "lacks a timestamp"),
    ("a timestamp in other digits", BODY, sign(BODY, ONE, NOW).replace("t=1", "t=١"), "lacks a timestamp"),
    ("no signature", BODY, f"t={NOW}", "lacks"),
    ("the scheme of tests", BODY, sign(BODY, ONE, NOW).replace("v1=", "v0="), "lacks"),
    ("another secret", BODY, sign(BODY, OTHER, NOW), "fits"),
    ("an empty signature", BODY, f"t={NOW},v1=", "fits"),
    ("a signature that is no hex", BODY, f"t={NOW},v1=ü", "fits"),
    ("half of the signature", BODY, sign(BODY, ONE, NOW)[:-32], "fits"),
    ("a body that was changed", BODY + b" ", sign(BODY, ONE, NOW), "fits"),
    ("another timestamp", BODY, sign(BODY, ONE, NOW).replace(f"t={NOW}", f"t={NOW - 1}"), "fits"),
    ("a second too old", BODY, sign(BODY, ONE, NOW - 301), "301 s old"),
    ("replayed a day later", BODY, sign(BODY, ONE, NOW - 86_400), "86400 s old"),
    ("a second too far ahead", BODY, sign(BODY, ONE, NOW + 301), "ahead of this server's clock"),
]


@pytest.mark.parametrize(("body", "header", "why"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_signature_is_refused(body: bytes, header: str, why: str) -> None:
    with pytest.raises(SignatureRefused, match=why):
        check(body, header)


def test_without_a_secret_nothing_is_taken() -> None:
    with pytest.raises(SignatureRefused):
        verify(BODY, sign(BODY, "", NOW), (), NOW * 1000)


def test_stripes_sdk_signs_as_we_do() -> None:
    assert WebhookSignature.generate_signature_header(BODY.decode(), ONE, NOW) == sign(BODY, ONE, NOW)


@settings(deadline=None)
@given(st.binary(max_size=200), st.binary(min_size=1, max_size=8), st.data())
def test_no_changed_byte_passes(body: bytes, noise: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body)))
    changed = body[:at] + noise + body[at + data.draw(st.integers(0, len(noise))) :]
    header = sign(body, ONE, NOW)
    check(body, header)
    if changed != body:
        with pytest.raises(SignatureRefused):
            check(changed, header)


def event(**changes: Any) -> dict[str, Any]:
    about = {"id": "sub_1", "object": "subscription"}
    return {"id": "evt_1", "type": "customer.subscription.updated", "created": NOW, "livemode": False, "data": {"object": about}} | changes


def test_an_event_is_read() -> None:
    read = read_event(json.dumps(event()).encode())
    assert (read.id, read.type, read.object_id, read.created_ms, read.live) == (
        "evt_1", "customer.subscription.updated", "sub_1", NOW * 1000, False,
    )  # fmt: skip


def test_an_event_about_nothing_is_about_itself() -> None:
    thin = {"id": "evt_2", "object": "v2.core.event", "type": "v1.billing.meter.no_meter_found", "created": "2026-10-25T00:00:00Z"}
    assert (event_of(thin).object_id, event_of(thin).created_ms) == ("evt_2", 0)


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"[]", b'"evt_1"', b"{", b'{"type": "x"}', b'{"id": "evt_1"}', b'{"id": 7, "type": "x"}', b'{"id": "evt_1", "type": ""}',
     b'{"id": "in_1", "type": "x"}', b'{"id": "evt_\\n", "type": "x"}', b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(EventFaulty):
        read_event(body)


SIDES = [
    (False, None, "sandbox", None, True), (False, None, "test", "acct_1", True), (True, None, "live", "acct_1", True),
    (True, None, "test", None, False), (True, None, "sandbox", None, False), (False, None, "live", None, False),
    (False, "acct_1", "test", "acct_1", True), (False, "acct_2", "test", "acct_1", False), (False, "acct_2", "test", None, True),
]  # fmt: skip


@pytest.mark.parametrize(("live", "account", "mode", "stamped", "fits"), SIDES)
def test_an_event_of_another_side_is_named(live: bool, account: str | None, mode: str, stamped: str | None, fits: bool) -> None:
    found = wrong_side(event_of(event(livemode=live, account=account)), mode, stamped)
    assert (found is None) is fits
