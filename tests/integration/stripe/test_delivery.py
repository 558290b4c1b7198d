"""The outbox reaches Stripe: everything once, whatever goes wrong on the way."""

import asyncio
from typing import Any

import pytest

from billing.stripe.client import SANDBOX_KEY, Resource, StripeApi
from billing.stripe.deliver import DeliveryReport, deliver_due
from metering.model.clock import FrozenClock, to_ms

EVENTS = "/v1/billing/meter_events"
HOUR = 3600


async def deliver(outbox: Any, stripe: StripeApi, clock: FrozenClock) -> DeliveryReport:
    return await deliver_due(outbox.pool, stripe, clock, jitter=lambda: 0.0)


async def sold(outbox: Any, stripe: StripeApi, clock: FrozenClock) -> str:
    """An organization whose customer, plan and subscription stand at Stripe."""
    org_id: str = await outbox.organization()
    await outbox.sell(org_id)
    assert (await deliver(outbox, stripe, clock)).delivered == 3
    return org_id


async def test_a_sold_organization_and_its_overage_reach_stripe_in_one_run(outbox, stripe, clock, running) -> None:
    org_id = await outbox.organization()
    await outbox.sell(org_id)
    await outbox.overage(org_id, 1200)
    await outbox.overage(org_id, 34, meter="bandwidth")
    report = await deliver(outbox, stripe, clock)
    assert (report.delivered, report.pending, report.calls["meter_event", "accepted"]) == (5, 0, 2)
    customer, start = await outbox.stripe_id("customer", org_id), clock.now_ms() // 1000 // 60 * 60
    for meter, value in (("api", 1200), ("bandwidth", 34)):
        assert await stripe.usage_sum(await outbox.stripe_id("meter", meter), customer, start - HOUR, start + HOUR) == value


async def test_another_run_does_nothing(outbox, stripe, clock, running) -> None:
    await sold(outbox, stripe, clock)
    seen = len((await running.ask("GET", "/_sandbox/requests"))["data"])
    assert (await deliver(outbox, stripe, clock)).calls == {}
    assert len((await running.ask("GET", "/_sandbox/requests"))["data"]) == seen


async def test_a_meter_event_waits_for_its_customer_and_is_no_attempt_older(outbox, stripe, clock, running) -> None:
    identifier = await outbox.overage(await outbox.organization(), 5)
    report = await deliver(outbox, stripe, clock)
    row = await outbox.row(identifier)
    assert (report.pending, row["attempts"], row["first_attempt_at"]) == (1, 0, None)


async def test_a_subscription_waits_for_its_plan(outbox, stripe, clock) -> None:
    org_id = await outbox.organization()
    await outbox.add(
        "ensure_subscription", org_id, "sub:1", {"plan": "pro", "version": 1, "anchor": "2026-10-25T00:00:00Z", "trial_days": 0}
    )
    report = await deliver(outbox, stripe, clock)
    assert (report.waiting, (await outbox.row("sub:1"))["attempts"]) == (1, 0)


async def test_an_event_that_stripe_has_already_is_delivered(outbox, stripe, clock, running) -> None:
    org_id = await sold(outbox, stripe, clock)
    identifier = await outbox.overage(org_id, 7)
    customer = await outbox.stripe_id("customer", org_id)
    event = {"event_name": "weighbridge_api", "identifier": identifier, "payload[stripe_customer_id]": customer, "payload[value]": "7"}
    await running.call("POST", EVENTS, event)
    report = await deliver(outbox, stripe, clock)
    assert (report.delivered, report.calls["meter_event", "duplicate"], len(await running.events())) == (1, 1, 1)


@pytest.mark.parametrize("kind", ["timeout_after", "stored_error_after"])
async def test_what_was_accepted_without_an_answer_counts_once(kind, outbox, stripe, clock, running) -> None:
    org_id = await sold(outbox, stripe, clock)
    identifier = await outbox.overage(org_id, 7)
    await running.fault(kind, path=EVENTS)
    first = await deliver(outbox, stripe, clock)
    assert (first.retried, (await outbox.row(identifier))["state"]) == (1, "pending")
    clock.advance(5)
    second = await deliver(outbox, stripe, clock)
    assert (second.delivered, len(await running.events())) == (1, 1)


@pytest.mark.parametrize("kind", ["timeout_before", "server_error", "rate_limit", "stored_error"])
async def test_what_was_not_accepted_is_sent_again_and_counts_once(kind, outbox, stripe, clock, running) -> None:
    org_id = await sold(outbox, stripe, clock)
    await outbox.overage(org_id, 7)
    await running.fault(kind, path=EVENTS)
    assert (await deliver(outbox, stripe, clock)).retried == 1
    clock.advance(5)
    assert (await deliver(outbox, stripe, clock)).delivered == 1
    assert [event["value"] for event in await running.events()] == [7]


async def test_a_stored_500_is_answered_with_a_new_idempotency_key_and_the_same_identifier(outbox, stripe, clock, running) -> None:
    org_id = await sold(outbox, stripe, clock)
    identifier = await outbox.overage(org_id, 7)
    await running.fault("stored_error", path=EVENTS)
    await deliver(outbox, stripe, clock)
    clock.advance(60)
    await deliver(outbox, stripe, clock)
    sent = await running.requests(EVENTS)
    assert [r["outcome"] for r in sent] == ["500 An unknown error occurred (a fault that was asked for).", "500 replayed", "200"]
    first, again, anew = (r["idempotency_key"] for r in sent)
    assert first == again != anew
    assert all(identifier in r["params"] for r in sent)


async def test_a_client_that_stops_waiting_is_ambiguous_and_counts_once(outbox, stripe, clock, running) -> None:
    org_id = await sold(outbox, stripe, clock)
    identifier = await outbox.overage(org_id, 7)
    hasty = StripeApi(api_key=SANDBOX_KEY, api_base=running.url, timeout_seconds=0.3)
    await running.fault("timeout_after", path=EVENTS, hold_seconds=2)
    await deliver(outbox, hasty, clock)
    await hasty.close()
    row = await outbox.row(identifier)
    assert (row["state"], to_ms(row["first_attempt_at"])) == ("pending", clock.now_ms())
    clock.advance(5)
    await deliver(outbox, stripe, clock)
    assert ((await outbox.row(identifier))["state"], len(await running.events())) == ("delivered", 1)


async def test_no_connection_is_no_attempt_that_may_have_been_accepted(outbox, stripe, clock, running) -> None:
    org_id = await sold(outbox, stripe, clock)
    identifier = await outbox.overage(org_id, 7)
    nowhere = StripeApi(api_key=SANDBOX_KEY, api_base="http://127.0.0.1:1", timeout_seconds=2)
    await deliver(outbox, nowhere, clock)
    await nowhere.close()
    row = await outbox.row(identifier)
    assert (row["state"], row["attempts"], row["first_attempt_at"]) == ("pending", 1, None)
    clock.advance(40 * HOUR)  # so no 23 hours run, and it still goes
    assert (await deliver(outbox, stripe, clock)).delivered == 1


async def test_a_wrong_key_leaves_rows_pending_and_says_so(outbox, stripe, clock, running) -> None:
    org_id = await sold(outbox, stripe, clock)
    identifier = await outbox.overage(org_id, 7)
    stranger = StripeApi(api_key="sk_nonsense", api_base=running.url)
    report = await deliver(outbox, stranger, clock)
    await stranger.close()
    assert (report.dead, (await outbox.row(identifier))["state"]) == (0, "pending")
    assert "Invalid API Key" in report.errors["meter_event"]


async def test_an_ambiguous_row_is_unknown_after_23_hours_and_never_sent_again(outbox, stripe, clock, running) -> None:
    org_id = await sold(outbox, stripe, clock)
    identifier = await outbox.overage(org_id, 7)
    await running.fault("timeout_after", path=EVENTS)
    await deliver(outbox, stripe, clock)
    clock.advance(23 * HOUR)
    report = await deliver(outbox, stripe, clock)
    row = await outbox.row(identifier)
    assert (report.unknown, row["state"]) == (1, "unknown")
    assert "reconcile" in row["last_error"]
    clock.advance(10 * HOUR)
    await deliver(outbox, stripe, clock)
    assert len(await running.requests(EVENTS)) == 1


async def test_any_other_400_is_dead_and_does_not_stop_the_rows_behind_it(outbox, stripe, clock, running) -> None:
    org_id = await sold(outbox, stripe, clock)
    old = await outbox.overage(org_id, 1, number=1, at=clock.now_ms() // 1000 - 36 * 24 * HOUR)
    good = await outbox.overage(org_id, 2, number=2)
    report = await deliver(outbox, stripe, clock)
    assert (report.dead, report.delivered) == (1, 1)
    assert "35 days" in (await outbox.row(old))["last_error"]
    assert (await outbox.row(good))["state"] == "delivered"


async def test_a_row_in_back_off_keeps_those_behind_it_for_its_meter_and_no_others(outbox, stripe, clock, running) -> None:
    org_id = await sold(outbox, stripe, clock)
    await outbox.overage(org_id, 1, number=1)
    await outbox.overage(org_id, 2, number=2)
    await running.fault("rate_limit", path=EVENTS)
    await deliver(outbox, stripe, clock)
    await outbox.overage(org_id, 3, number=1, meter="bandwidth")
    await deliver(outbox, stripe, clock)
    assert (await outbox.states())[3:] == ["pending", "pending", "delivered"]
    clock.advance(5)
    await deliver(outbox, stripe, clock)
    assert [e["value"] for e in await running.events() if e["event_name"].endswith("_api")] == [1, 2]


async def test_two_deliverers_at_once_send_everything_once(outbox, stripe, clock, running) -> None:
    orgs = [await outbox.organization() for _ in range(4)]
    for org_id in orgs:
        await outbox.sell(org_id)
        for number in range(12):
            await outbox.overage(org_id, number + 1, number=number)
    for _ in range(6):
        await asyncio.gather(*(deliver(outbox, stripe, clock) for _ in range(3)))
        clock.advance(10)
    assert set(await outbox.states()) == {"delivered"}
    events = await running.events()
    assert len(events) == 48
    customers = [c async for c in stripe.find(Resource.CUSTOMER, {})]
    assert len(customers) == 4
    for org_id in orgs:
        customer = await outbox.stripe_id("customer", org_id)
        assert [e["value"] for e in events if e["customer"] == customer] == list(range(1, 13))


async def test_rows_of_a_deliverer_that_died_come_back(outbox, stripe, clock, running) -> None:
    org_id = await sold(outbox, stripe, clock)
    identifier = await outbox.overage(org_id, 7)
    await running.fault("timeout_after", path=EVENTS, hold_seconds=5)
    dying = asyncio.create_task(deliver(outbox, stripe, clock))
    while not await running.events():
        await asyncio.sleep(0.01)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert (await deliver(outbox, stripe, clock)).calls == {}  # the lease still stands
    clock.advance(301)
    assert (await deliver(outbox, stripe, clock)).delivered == 1
    assert ((await outbox.row(identifier))["state"], len(await running.events())) == ("delivered", 1)


async def test_the_same_identifier_is_another_event_only_after_a_day(outbox, stripe, clock, running) -> None:
    """Why 23 hours: this is what a blind retry would do."""
    org_id = await sold(outbox, stripe, clock)
    customer = await outbox.stripe_id("customer", org_id)
    event = {"event_name": "weighbridge_api", "identifier": "x", "payload[stripe_customer_id]": customer, "payload[value]": "1"}
    assert (await running.call("POST", EVENTS, event))[0] == 200
    clock.advance(24 * HOUR - 1)
    status, body = await running.call("POST", EVENTS, event)
    assert (status, body["error"]["message"]) == (400, "An event already exists with identifier x.")
    clock.advance(2)
    assert (await running.call("POST", EVENTS, event))[0] == 200


async def test_a_row_that_nobody_can_read_is_dead_and_holds_up_no_other(outbox, stripe, clock, running) -> None:
    org_id = await sold(outbox, stripe, clock)
    await outbox.add("meter_event", org_id, "broken", {"meter": "api"})
    good = await outbox.overage(org_id, 2)
    report = await deliver(outbox, stripe, clock)
    assert (report.dead, report.delivered, (await outbox.row(good))["state"]) == (1, 1, "delivered")
    assert "cannot be read" in (await outbox.row("broken"))["last_error"]
