"""Events on their way to an endpoint: signed so that Stripe's own SDK takes them, retried, led astray on demand."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from stripe import SignatureVerificationError, WebhookSignature

ENDPOINTS = "/v1/webhook_endpoints"


@dataclass
class Receiver:
    """An endpoint that notes what it was sent, and answers `status`."""

    url: str = ""
    secret: str = ""
    status: int = 200
    heard: list[tuple[bytes, str]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.heard.append((await request.read(), request.headers["Stripe-Signature"]))
        return web.Response(status=self.status)

    @property
    def types(self) -> list[str]:
        return [json.loads(payload)["type"] for payload, _ in self.heard]

    def genuine(self, at: int = -1) -> bool:
        payload, header = self.heard[at]
        try:
            return bool(WebhookSignature.verify_header(payload.decode(), header, self.secret))
        except SignatureVerificationError:
            return False


@pytest.fixture
async def receiver(running) -> AsyncIterator[Receiver]:
    """Registered for everything."""
    made = Receiver()
    app = web.Application()
    app.router.add_post("/hook", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    _, endpoint = await running.call("POST", ENDPOINTS, {"url": made.url, "enabled_events[]": "*"})
    made.secret = endpoint["secret"]
    yield made
    await runner.cleanup()


async def tick(running: Any, seconds: int = 0) -> dict[str, Any]:
    answer: dict[str, Any] = await running.ask("POST", "/_sandbox/advance", json={"seconds": seconds})
    return answer


async def customers(running: Any, count: int = 1) -> list[str]:
    return [(await running.call("POST", "/v1/customers", {"name": str(n)}))[1]["id"] for n in range(count)]


async def undelivered(running: Any) -> list[str]:
    return [event["type"] for event in (await running.call("GET", "/v1/events", {"delivery_success": "false"}))[1]["data"]]


async def test_an_event_arrives_with_a_signature_that_stripes_sdk_verifies(running, receiver) -> None:
    (who,) = await customers(running)
    await tick(running)
    event = json.loads(receiver.heard[0][0])
    assert (event["type"], event["data"]["object"]["id"], event["pending_webhooks"]) == ("customer.created", who, 1)
    assert receiver.genuine()
    assert not [name for name in event["data"]["object"] if name.startswith("_")]


async def test_an_event_is_tried_again_until_it_is_taken(running, receiver) -> None:
    receiver.status = 500
    await customers(running)
    await tick(running)
    assert await undelivered(running) == ["customer.created"]
    for pause, tries in ((4, 1), (1, 2), (30, 3)):
        await tick(running, pause)
        assert len(receiver.heard) == tries
    receiver.status = 200
    await tick(running, 120)
    assert (await undelivered(running), len(set(receiver.heard)), receiver.genuine()) == ([], 4, True)


async def test_after_three_days_of_refusals_an_event_stays_undelivered(running, receiver) -> None:
    receiver.status = 404
    await customers(running)
    await tick(running)
    for _ in range(12):
        await tick(running, 86_400)
    assert (len(receiver.heard), await undelivered(running)) == (10, ["customer.created"])


async def test_an_endpoint_hears_of_what_it_asked_for_only(running, receiver) -> None:
    params = {"url": receiver.url, "enabled_events[]": "product.created"}
    _, endpoint = await running.call("POST", ENDPOINTS, params)
    await running.call("POST", "/v1/products", {"name": "P"})
    await customers(running)
    await tick(running)
    assert sorted(receiver.types) == ["customer.created", "product.created", "product.created"]
    await running.call("DELETE", f"{ENDPOINTS}/{endpoint['id']}")
    await running.call("POST", "/v1/products", {"name": "Q"})
    await tick(running)
    assert receiver.types.count("product.created") == 3


async def test_the_secret_is_shown_once(running, receiver) -> None:
    _, listed = await running.call("GET", ENDPOINTS)
    assert ("secret" in listed["data"][0], receiver.secret[:6]) == (False, "whsec_")


async def test_events_are_doubled_reversed_and_lost_on_demand(running, receiver) -> None:
    for wish in ({"kind": "duplicate"}, {"kind": "lose", "type": "product.created"}):
        await running.ask("POST", "/_sandbox/webhooks", json=wish)
    await customers(running)
    await running.call("POST", "/v1/products", {"name": "P"})
    await tick(running)
    assert (receiver.types, await undelivered(running)) == (["customer.created"] * 2, ["product.created"])
    await tick(running, 5)
    assert receiver.types[-1] == "product.created"
    assert "kinds" in (await running.ask("POST", "/_sandbox/webhooks", json={"kind": "earthquake"}))["error"]


async def test_what_waits_together_is_sent_in_reverse_on_demand(running, receiver) -> None:
    receiver.status = 500
    made = await customers(running, 3)
    await tick(running)
    receiver.heard.clear()
    receiver.status = 200
    await running.ask("POST", "/_sandbox/webhooks", json={"kind": "reverse"})
    await tick(running, 60)
    assert [json.loads(payload)["data"]["object"]["id"] for payload, _ in receiver.heard] == made[::-1]


@pytest.mark.parametrize(("kind", "ahead"), [("bad_signature", 0), ("stale", -3600), ("future", 3600)])
async def test_a_signature_can_be_made_wrong(kind, ahead, running, receiver, clock) -> None:
    await running.ask("POST", "/_sandbox/webhooks", json={"kind": kind})
    await customers(running)
    await tick(running)
    assert int(receiver.heard[0][1].split(",")[0][2:]) == clock.now_ms() // 1000 + ahead
    assert receiver.genuine() is (kind != "bad_signature")


async def test_events_are_found_by_type_time_and_what_changed(running, clock) -> None:
    (who,) = await customers(running)
    clock.advance(60)
    await running.call("POST", f"/v1/customers/{who}", {"name": "New"}, Idempotency_Key="k")
    since = {"created[gte]": str(clock.now_ms() // 1000), "types[0]": "customer.updated", "types[1]": "customer.deleted"}
    (event,) = (await running.call("GET", "/v1/events", since))[1]["data"]
    assert (event["data"]["previous_attributes"], event["request"]["idempotency_key"]) == ({"name": "0"}, "k")
    assert len((await running.call("GET", "/v1/events", {"type": "customer.*"}))[1]["data"]) == 2
