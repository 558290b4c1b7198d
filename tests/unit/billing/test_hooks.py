"""Events for others: how one is signed and written, where it may go, what an attempt means."""

import base64
import json
import re
from pathlib import Path

import pytest

from billing.model.hook import EVERYTHING, TYPES, Event, body_of, read_types, read_url, secret_from, signature, signed, written
from billing.model.hook_delivery import DISABLED_AFTER_MS, MOST_ATTEMPTS, WAITS_SECONDS, DeliveryState, Reply, judge
from metering.model.errors import BadInput
from metering.model.outward import Forbidden, Reach

NOW = 1_770_000_000_000
PAID = Event(message="evt_1", type="invoice.paid", happened_at_ms=NOW, data={"invoice": {"number": "INV-1", "total": "49.00"}}, org_id="o")

# What the libraries of Standard Webhooks are tested with: (secret, id, timestamp, body, signature).
PUBLISHED = [
    ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}',
     "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ("C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1649367553,
     b'{"email":"test@example.com","username":"test_user"}', "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="),
]  # fmt: skip


@pytest.mark.parametrize(("secret", "message", "seconds", "body", "expected"), PUBLISHED)
def test_a_signature_is_what_receivers_libraries_expect(secret: str, message: str, seconds: int, body: bytes, expected: str) -> None:
    assert signature(base64.b64decode(secret), message, seconds, body) == expected


def test_while_a_secret_is_replaced_both_sign() -> None:
    new, old = b"n" * 32, b"o" * 32
    post = signed(PAID, "https://example.com", (new, old), NOW)
    both = [signature(secret, "evt_1", NOW // 1000, post.body) for secret in (new, old)]
    assert post.headers["webhook-signature"] == " ".join(both)
    assert (post.headers["webhook-id"], post.headers["webhook-timestamp"]) == ("evt_1", str(NOW // 1000))


def test_a_body_says_what_when_and_the_facts() -> None:
    assert json.loads(body_of(PAID)) == {
        "type": "invoice.paid", "timestamp": "2026-02-02T02:40:00Z", "data": {"invoice": {"number": "INV-1", "total": "49.00"}},
    }  # fmt: skip


def test_a_secret_is_written_as_libraries_read_it() -> None:
    secret = secret_from(bytes(range(40)))
    assert base64.b64decode(written(secret).removeprefix("whsec_")) == bytes(range(32))
    with pytest.raises(ValueError, match="random"):
        secret_from(b"short")


def test_every_event_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    told = {word for row in rows for word in re.findall(r"`([a-z_]*\.[a-z_]+)`", row.split("|")[1])}
    assert {f"payment_method{word}" if word.startswith(".") else word for word in told} == {*TYPES}


@pytest.mark.parametrize("words", [[], ["invoice"], ["invoice.*", "nothing.happened"], ["quota.*x"], ["INVOICE.PAID"]])
def test_events_that_there_are_not_are_refused(words: list[str]) -> None:
    with pytest.raises(BadInput):
        read_types(words)


def test_events_are_kept_once_in_order() -> None:
    assert read_types(["invoice.*", "quota.threshold_reached", "invoice.*"]) == ("invoice.*", "quota.threshold_reached")
    assert read_types([EVERYTHING, *TYPES]) == (EVERYTHING, *TYPES)


URLS = [
    ("https://example.com/events?from=us", True, True),
    ("https://192.0.2.1.example.com:8443/", True, True),
    ("http://example.com/", False, True),
    ("http://10.0.0.5:9000/in", False, True),
    ("https://10.0.0.5/in", False, True),
    ("https://127.0.0.1/in", False, True),
    ("https://[::ffff:10.0.0.5]/", False, True),
    ("https://169.254.169.254/latest/meta-data", False, False),
    ("https://[fd00:ec2::254]/", False, False),
    ("ftp://example.com/", False, False),
    ("file:///etc/passwd", False, False),
    ("https://", False, False),
    ("example.com", False, False),
    ("https://ann:secret@example.com/", False, False),
    ("https://example.com/#here", False, False),
    ("https://example.com/a b", False, False),
    ("https://example.com/\r\nHost: x", False, False),
    ("https://example.com:0/", False, False),
    ("https://example.com:99999/", False, False),
    ("https://[::1/", False, False),
    ("https://example.com/" + "x" * 2000, False, False),
]


@pytest.mark.parametrize(("url", "public", "inside"), URLS)
def test_where_events_may_go(url: str, public: bool, inside: bool) -> None:
    for reach, allowed in ((Reach.PUBLIC, public), (Reach.OPERATOR, inside)):
        try:
            assert read_url(url, reach) == url
            assert allowed, (url, reach)
        except (BadInput, Forbidden):
            assert not allowed, (url, reach)


def test_ten_attempts_over_three_days_then_it_failed() -> None:
    refused, at_ms, waits = Reply(status=500), NOW, []
    for attempt in range(1, MOST_ATTEMPTS):
        verdict = judge(refused, attempt, failing_since_ms=NOW, now_ms=at_ms, jitter=0)
        assert verdict.state is DeliveryState.WAITING
        assert verdict.next_attempt_ms is not None
        waits.append((verdict.next_attempt_ms - at_ms) // 1000)
        at_ms = verdict.next_attempt_ms
    assert tuple(waits) == WAITS_SECONDS
    assert 3.1 < (at_ms - NOW) / 86_400_000 < 3.2
    last = judge(refused, MOST_ATTEMPTS, failing_since_ms=NOW, now_ms=at_ms, jitter=0)
    assert (last.state, last.error, last.disable) == (DeliveryState.FAILED, "answered 500", None)


REPLIES = [  # reply, state, seconds to the next attempt, whether the endpoint is disabled
    (Reply(status=200), DeliveryState.DELIVERED, None, False),
    (Reply(status=204), DeliveryState.DELIVERED, None, False),
    (Reply(status=302), DeliveryState.WAITING, 5, False),
    (Reply(status=404), DeliveryState.WAITING, 5, False),
    (Reply(status=410), DeliveryState.FAILED, None, True),
    (Reply(status=429, retry_after_ms=60_000), DeliveryState.WAITING, 60, False),
    (Reply(status=503, retry_after_ms=1_000), DeliveryState.WAITING, 5, False),
    (Reply(status=503, retry_after_ms=10**12), DeliveryState.WAITING, 86_400, False),
    (Reply(status=500, retry_after_ms=60_000), DeliveryState.WAITING, 5, False),
    (Reply(status=None, reason="no answer within 15 seconds"), DeliveryState.WAITING, 5, False),
]


@pytest.mark.parametrize(("reply", "state", "seconds", "disabled"), REPLIES)
def test_what_an_answer_means(reply: Reply, state: DeliveryState, seconds: int | None, disabled: bool) -> None:
    verdict = judge(reply, 1, failing_since_ms=None, now_ms=NOW, jitter=0)
    waits = None if verdict.next_attempt_ms is None else (verdict.next_attempt_ms - NOW) // 1000
    assert (verdict.state, waits, verdict.disable is not None) == (state, seconds, disabled)


def test_an_endpoint_that_took_nothing_for_five_days_is_disabled() -> None:
    for since_ms, disabled in ((NOW - DISABLED_AFTER_MS + 1, False), (NOW - DISABLED_AFTER_MS, True), (None, False)):
        verdict = judge(Reply(status=500), 3, failing_since_ms=since_ms, now_ms=NOW, jitter=0)
        assert (verdict.disable is not None) is disabled
    assert judge(Reply(status=200), 3, failing_since_ms=0, now_ms=NOW, jitter=0).disable is None


def test_what_failed_together_comes_back_apart() -> None:
    waits = {judge(Reply(status=500), 2, failing_since_ms=NOW, now_ms=NOW, jitter=j).next_attempt_ms for j in (0.0, 0.5, 0.99)}
    assert len(waits) == 3
    assert all(wait is not None and 300_000 <= wait - NOW < 330_000 for wait in waits)
