"""Lines that were rated here, as invoice items at Stripe: each once, whatever goes wrong on the way."""

from typing import Any

import pytest

from billing.stripe.client import Resource, StripeApi
from billing.stripe.deliver import deliver_due
from billing.stripe.items import ITEM_KEY
from metering.model.clock import FrozenClock

ITEM = {
    "amount_minor": 500, "currency": "usd", "description": "API Requests beyond 200,000", "meter": "api", "kind": "overage",
    "quantity": "5000", "period_start": "2026-09-25T00:00:00Z", "period_end": "2026-10-25T00:00:00Z", "line": "use1:1:2:overage:api",
}  # fmt: skip


async def deliver(outbox: Any, stripe: StripeApi, clock: FrozenClock) -> Any:
    report = await deliver_due(outbox.pool, stripe, clock, jitter=lambda: 0.0)
    clock.advance(10)
    return report


async def items(stripe: StripeApi) -> list[Any]:
    return [item async for item in stripe.find(Resource.INVOICE_ITEM, {})]


@pytest.mark.parametrize("amount", [500, -500])
async def test_an_item_waits_for_the_subscriptions_next_invoice(amount, outbox, stripe, clock) -> None:
    org_id = await outbox.organization()
    await outbox.sell(org_id)
    await outbox.add("invoice_item", org_id, "item:1", {"org_id": org_id, **ITEM, "amount_minor": amount})
    await deliver(outbox, stripe, clock)
    await deliver(outbox, stripe, clock)
    (item,) = await items(stripe)
    assert (item["amount"], item["currency"], item["description"]) == (amount, "usd", ITEM["description"])
    assert item["metadata"][ITEM_KEY] == "item:1"
    assert item["period"]["end"] - item["period"]["start"] == 30 * 86_400
    assert item["parent"]["subscription_details"]["subscription"] == await outbox.stripe_id("subscription", org_id)
    assert set(await outbox.states()) == {"delivered"}


@pytest.mark.parametrize("kind", ["timeout_after", "timeout_before", "stored_error_after", "stored_error", "server_error"])
async def test_whatever_goes_wrong_once_there_is_one_item(kind, outbox, stripe, clock, running) -> None:
    org_id = await outbox.organization()
    await outbox.sell(org_id)
    await deliver(outbox, stripe, clock)
    await outbox.add("invoice_item", org_id, "item:1", {"org_id": org_id, **ITEM})
    await running.fault(kind, path="/v1/invoiceitems")
    await deliver(outbox, stripe, clock)
    await deliver(outbox, stripe, clock)
    assert set(await outbox.states()) == {"delivered"}
    assert len(await items(stripe)) == 1


async def test_an_item_of_a_subscription_that_ended_waits_with_the_customer(outbox, stripe, clock) -> None:
    org_id = await outbox.organization()
    await outbox.sell(org_id)
    await outbox.add("cancel_subscription", org_id, f"cancel:{org_id}", {})
    await outbox.add("invoice_item", org_id, "item:1", {"org_id": org_id, **ITEM})
    await deliver(outbox, stripe, clock)
    await deliver(outbox, stripe, clock)
    (item,) = await items(stripe)
    assert item["parent"] is None
    assert item["metadata"]["weighbridge_meter"] == "api"
