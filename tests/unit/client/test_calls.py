"""The Python client's requests: what is asked, what is made of the answer, what is tried again."""

import base64
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest

from billing.model.hook import signature
from weighbridge_client import Event, NotSigned, Refused, Unreachable
from weighbridge_client.webhooks import verify

from .server import Control, problem, quota

AT = datetime(2026, 2, 1, tzinfo=UTC)
EVENT = Event(service="exports", quantity=Decimal("1.50"), timestamp=AT, metadata={"file": "a"}, idempotency_key="k1")


def test_a_quota_is_asked_for_by_name_and_read() -> None:
    control = Control([httpx.Response(200, json=quota(90))])
    found = control.client(org="acme").quota("api/v1 x")
    (request,) = control.asked
    assert (request.url.raw_path, request.headers["Authorization"]) == (
        b"/api/v1/billing/quota/api%2Fv1%20x?org=acme", "Bearer wbt_x",
    )  # fmt: skip
    assert (found.remaining, found.limits[0].name, found.reset_at) == (90, "api-period", datetime(2026, 2, 28, 12, tzinfo=UTC))


async def test_the_waiting_and_the_awaiting_client_ask_and_read_the_same() -> None:
    one, other = Control(), Control()
    client, awaiting = one.client(org="acme"), other.async_client(org="acme")
    assert client.quota("api") == await awaiting.quota("api")
    assert client.feature("sso", org="bolt") == await awaiting.feature("sso", org="bolt")
    assert client.record_batch([EVENT]) == await awaiting.record_batch([EVENT])
    assert [(r.method, r.url, r.content) for r in one.asked] == [(r.method, r.url, r.content) for r in other.asked]


def test_an_event_says_what_when_and_its_key() -> None:
    assert EVENT.body() == {
        "service": "exports", "quantity": "1.50", "timestamp": "2026-02-01T00:00:00+00:00", "idempotency_key": "k1",
        "metadata": {"file": "a"},
    }  # fmt: skip
    assert Event(service="api").idempotency_key != Event(service="api").idempotency_key
    with pytest.raises(ValueError, match="time zone"):
        Event(service="api", timestamp=datetime(2026, 2, 1))  # noqa: DTZ001  that is the fault


def test_a_refusal_carries_its_code_and_details() -> None:
    control = Control([problem(404, "no_such_service", "there is no service 'x'")])
    with pytest.raises(Refused, match="there is no service") as refusal:
        control.client().quota("x")
    assert (refusal.value.status, refusal.value.code, refusal.value.details) == (404, "no_such_service", {"x": 1})


def test_one_event_that_is_rejected_is_a_refusal() -> None:
    with pytest.raises(Refused, match="no such service"):
        Control().client().record(Event(service="nothing"))


BUSY = {"retry-after": "2"}
AGAIN = [  # what is answered first, whether it is asked again, after how long at least
    (httpx.ConnectError("refused"), True, 0.2),
    (httpx.ReadTimeout("slow"), True, 0.2),
    (problem(503, "x", "y"), True, 0.2),
    (problem(502, "x", "y"), True, 0.2),
    (problem(429, "x", "y", **BUSY), True, 2.0),
    (problem(429, "x", "y", **{"retry-after": "3600"}), False, 0),
    (problem(500, "x", "y"), False, 0),
    (problem(401, "x", "y"), False, 0),
]


@pytest.mark.parametrize(("first", "again", "seconds"), AGAIN)
def test_what_does_no_harm_twice_is_asked_again_where_nobody_answers(
    first: httpx.Response | Exception, again: bool, seconds: float
) -> None:
    control = Control([first])
    try:
        assert control.client().quota("api").remaining == 90
        assert again
    except (Refused, Unreachable):
        assert not again
    assert (len(control.asked), len(control.waited)) == ((2, 1) if again else (1, 0))
    assert all(seconds <= waited < max(seconds * 1.1, 0.4) for waited in control.waited)


def test_it_ends_after_so_many_tries() -> None:
    control = Control([httpx.ConnectError("refused")] * 5)
    with pytest.raises(Unreachable, match="refused"):
        control.client(retries=3).quota("api")
    assert len(control.asked) == 4


def test_a_change_of_plan_is_never_asked_for_twice_and_events_are_under_their_keys() -> None:
    control = Control([httpx.ReadTimeout("slow")])
    with pytest.raises(Unreachable):
        control.client().upgrade("pro")
    assert len(control.asked) == 1
    control = Control([httpx.ReadTimeout("slow")])
    assert control.client().record(EVENT).status == "duplicate"  # the first came through, as it turned out
    assert control.asked[0].content == control.asked[1].content


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}", b'{"service": 1}'])
def test_an_answer_of_something_else_is_told_apart(content: bytes) -> None:
    control = Control([httpx.Response(200, content=content)])
    with pytest.raises(Unreachable, match="not one of Weighbridge's"):
        control.client(retries=0).quota("api")


@pytest.mark.parametrize("count", [0, 1_001])
def test_a_batch_has_one_to_a_thousand_events(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 1,000"):
        Control().client().record_batch([EVENT] * count)


SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = b'{"type":"invoice.paid","timestamp":"2022-04-08T04:19:13Z","data":{"total":"35.00"}}'
SIGNED = {"Webhook-Id": "evt_1", "Webhook-Timestamp": "1649391553"}


def test_an_event_is_known_by_its_signature_among_several() -> None:
    good = signature(base64.b64decode(SECRET.removeprefix("whsec_")), "evt_1", 1649391553, BODY)  # the server's own
    headers = {**SIGNED, "Webhook-Signature": f"v1,AAAA v2,x {good}"}
    told = verify(BODY, headers, SECRET, now=1649391553 + 299)
    assert (told.id, told.type, told.data["total"]) == ("evt_1", "invoice.paid", "35.00")
    for body, head, now in (
        (BODY + b" ", headers, 1649391553),
        (BODY, {**headers, "Webhook-Id": "evt_2"}, 1649391553),
        (BODY, {**headers, "Webhook-Timestamp": "1649391554"}, 1649391553),
        (BODY, headers, 1649391553 + 301),
        (BODY, headers, 1649391553 - 301),
        (BODY, SIGNED, 1649391553),
        (BODY, {}, 1649391553),
    ):
        with pytest.raises(NotSigned):
            verify(body, head, SECRET, now=now)
