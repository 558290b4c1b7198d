"""Customer, plan, subscription at Stripe: as sold here, and once, whatever happens in between."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from billing.stripe.client import SANDBOX_KEY, LiveKeyElsewhere, Resource, StripeApi
from billing.stripe.deliver import deliver_due
from billing.stripe.objects import CannotBeTold, unit_amount
from metering.model.clock import FrozenClock
from metering.model.period import period_at

DAY = 86_400


async def deliver(outbox: Any, stripe: StripeApi, clock: FrozenClock) -> Any:
    report = await deliver_due(outbox.pool, stripe, clock, jitter=lambda: 0.0)
    clock.advance(10)
    return report


async def subscription_of(outbox: Any, stripe: StripeApi, org_id: str) -> dict[str, Any]:
    found = await stripe.retrieve(Resource.SUBSCRIPTION, await outbox.stripe_id("subscription", org_id))
    assert found is not None
    return found


async def counts(stripe: StripeApi) -> dict[str, int]:
    kinds = (Resource.CUSTOMER, Resource.PRODUCT, Resource.PRICE, Resource.METER, Resource.SUBSCRIPTION)
    return {kind.value: len([item async for item in stripe.find(kind, {})]) for kind in kinds}


ONE_OF_EACH = {"customers": 1, "products": 3, "prices": 3, "billing.meters": 2, "subscriptions": 1}


async def test_a_plan_stands_at_stripe_as_it_was_sold(outbox, stripe, clock, pro) -> None:
    org_id = await outbox.organization()
    await outbox.sell(org_id, pro)
    await deliver(outbox, stripe, clock)
    items = (await subscription_of(outbox, stripe, org_id))["items"]["data"]
    assert [(i["price"]["unit_amount_decimal"], i["price"]["recurring"]["usage_type"]) for i in items] == [
        (Decimal(4900), "licensed"),
        (Decimal("0.03"), "metered"),
        (Decimal("0.005"), "metered"),
    ]
    meters = {m["event_name"]: m["default_aggregation"]["formula"] async for m in stripe.find(Resource.METER, {})}
    assert meters == {"weighbridge_api": "sum", "weighbridge_bandwidth": "sum"}


async def test_tiers_and_packages_stand_at_stripe_in_its_own_words(outbox, stripe, clock, pro) -> None:
    tiers = [{"up_to": 100_000, "each": "0.001", "flat": "0"}, {"up_to": None, "each": "0.0005", "flat": "5"}]
    tiered = {name: value for name, value in pro["meters"][0].items() if name != "each"} | {"tiers_mode": "graduated", "tiers": tiers}
    packed = pro["meters"][1] | {"each": "5", "divide_by": 10_000}
    org_id = await outbox.organization()
    for version in (1, 2):  # equal terms, one price
        await outbox.sell(org_id, pro | {"version": version, "meters": [tiered, packed]})
        await deliver(outbox, stripe, clock)
    prices = [p async for p in stripe.find(Resource.PRICE, {"expand": ["data.tiers"]})]
    charged = {p["billing_scheme"]: p for p in prices if p["recurring"]["usage_type"] == "metered"}
    assert len(prices) == 3
    assert charged["tiered"]["tiers_mode"] == "graduated"
    assert [(t["up_to"], t["unit_amount_decimal"], t["flat_amount_decimal"]) for t in charged["tiered"]["tiers"]] == [
        (100_000, Decimal("0.1"), Decimal(0)),
        (None, Decimal("0.05"), Decimal(500)),
    ]
    assert charged["per_unit"]["transform_quantity"] == {"divide_by": 10_000, "round": "up"}
    assert charged["per_unit"]["unit_amount_decimal"] == Decimal(500)


@pytest.mark.parametrize("anchor", ["2026-10-25T19:33:00Z", "2026-08-31T06:30:15Z", "2026-01-31T00:00:00Z"])
async def test_stripes_period_is_ours_now_and_in_months_to_come(anchor, outbox, stripe, clock) -> None:
    org_id = await outbox.organization()
    await outbox.sell(org_id, anchor=anchor)
    anchor_ms = int(datetime.fromisoformat(anchor).timestamp() * 1000)
    await deliver(outbox, stripe, clock)
    for _ in range(6):
        start_ms, end_ms = period_at(anchor_ms, clock.now_ms())
        for item in (await subscription_of(outbox, stripe, org_id))["items"]["data"]:
            assert (item["current_period_start"], item["current_period_end"]) == (start_ms // 1000, end_ms // 1000)
        clock.advance(31 * DAY)


async def test_a_yearly_plan_has_monthly_usage_periods(outbox, stripe, clock, pro) -> None:
    org_id = await outbox.organization()
    await outbox.sell(org_id, pro | {"interval": "year", "amount_minor": 49000}, anchor="2026-03-31T00:00:00Z")
    await deliver(outbox, stripe, clock)
    periods = [
        (item["current_period_start"], item["current_period_end"])
        for item in (await subscription_of(outbox, stripe, org_id))["items"]["data"]
    ]
    year = (
        int(datetime.fromisoformat("2026-03-31T00:00:00Z").timestamp()),
        int(datetime.fromisoformat("2027-03-31T00:00:00Z").timestamp()),
    )
    assert periods[0] == year
    assert {end for _, end in periods[1:]} == {int(datetime.fromisoformat("2026-10-31T00:00:00Z").timestamp())}


@pytest.mark.parametrize("kind", ["timeout_after", "timeout_before", "stored_error_after", "stored_error", "server_error"])
@pytest.mark.parametrize(
    "path",
    ["/v1/customers", "/v1/products", "/v1/prices", "/v1/billing/meters", "/v1/subscriptions"],
    ids=lambda path: path.rpartition("/")[2],
)
async def test_whatever_goes_wrong_once_each_object_is_made_once(kind, path, outbox, stripe, clock, running) -> None:
    org_id = await outbox.organization()
    await outbox.sell(org_id)
    await running.fault(kind, path=path)
    await deliver(outbox, stripe, clock)
    await deliver(outbox, stripe, clock)
    assert await outbox.states() == ["delivered"] * 3
    assert await counts(stripe) == ONE_OF_EACH


async def test_ids_lost_in_a_crash_are_found_again_at_stripe(outbox, stripe, clock) -> None:
    """The crash lies between Stripe's answer and our note of it; the idempotency keys have expired meanwhile."""
    org_id = await outbox.organization()
    await outbox.sell(org_id)
    await deliver(outbox, stripe, clock)
    clock.advance(2 * DAY)
    await outbox.pool.execute("UPDATE billing.outbox SET state = 'pending', next_attempt_at = NULL")
    await outbox.pool.execute("DELETE FROM billing.stripe_objects")
    assert (await deliver(outbox, stripe, clock)).delivered == 3
    assert await counts(stripe) == ONE_OF_EACH


async def test_a_second_organization_shares_the_plan(outbox, stripe, clock) -> None:
    for _ in range(2):
        await outbox.sell(await outbox.organization())
    await deliver(outbox, stripe, clock)
    assert await counts(stripe) == ONE_OF_EACH | {"customers": 2, "subscriptions": 2}


async def test_a_new_version_moves_the_subscription_and_keeps_the_item_of_each_meter(outbox, stripe, clock, pro) -> None:
    org_id = await outbox.organization()
    await outbox.sell(org_id, pro)
    await deliver(outbox, stripe, clock)
    before = {i["price"]["recurring"]["meter"]: i["id"] for i in (await subscription_of(outbox, stripe, org_id))["items"]["data"]}
    cheaper = [pro["meters"][0] | {"each": "0.0002"}]
    await outbox.sell(org_id, pro | {"version": 2, "meters": cheaper})
    await deliver(outbox, stripe, clock)
    items = (await subscription_of(outbox, stripe, org_id))["items"]["data"]
    assert [(i["price"]["unit_amount_decimal"], i["id"]) for i in items] == [
        (Decimal(4900), before[None]),
        (Decimal("0.02"), before[await outbox.stripe_id("meter", "api")]),
    ]


async def test_a_cancelled_subscription_ends_after_all_that_was_to_be_told_before(outbox, stripe, clock, running) -> None:
    org_id = await outbox.organization()
    await outbox.sell(org_id)
    await outbox.overage(org_id, 12)
    await outbox.add("cancel_subscription", org_id, f"cancel:{org_id}", {})
    await running.fault("rate_limit", path="/v1/billing/meter_events")
    await deliver(outbox, stripe, clock)
    assert (await subscription_of(outbox, stripe, org_id))["status"] == "active"
    await deliver(outbox, stripe, clock)
    assert (await subscription_of(outbox, stripe, org_id))["status"] == "canceled"
    assert set(await outbox.states()) == {"delivered"}


async def test_a_changed_subscription_waits_for_the_usage_before_it(outbox, stripe, clock, running, pro) -> None:
    org_id = await outbox.organization()
    await outbox.sell(org_id)
    await deliver(outbox, stripe, clock)
    await outbox.overage(org_id, 12)
    await outbox.sell(org_id, pro | {"version": 2, "meters": pro["meters"][1:]})
    await running.fault("rate_limit", path="/v1/billing/meter_events")
    await deliver(outbox, stripe, clock)
    assert len((await subscription_of(outbox, stripe, org_id))["items"]["data"]) == 3
    await deliver(outbox, stripe, clock)
    assert [int(e["value"]) for e in await running.events()] == [12]
    assert len((await subscription_of(outbox, stripe, org_id))["items"]["data"]) == 2


async def test_usage_that_stripe_cannot_take_holds_up_no_subscription(outbox, stripe, clock, pro) -> None:
    org_id = await outbox.organization()
    await outbox.overage(org_id, 12, meter="bandwidth")
    await outbox.sell(org_id, pro | {"meters": pro["meters"][:1]})
    await deliver(outbox, stripe, clock)
    assert (await subscription_of(outbox, stripe, org_id))["status"] == "active"


async def test_a_meter_that_reported_in_one_unit_cannot_report_in_another(outbox, stripe, clock, pro) -> None:
    org_id = await outbox.organization()
    await outbox.sell(org_id, pro)
    await deliver(outbox, stripe, clock)
    other = [pro["meters"][1] | {"report": "GB", "report_size": 10**9, "each": "0.05"}]
    await outbox.sell(org_id, pro | {"version": 2, "meters": other})
    report = await deliver(outbox, stripe, clock)
    assert "fixed once reported" in report.errors["ensure_plan"]


async def test_a_trial_ends_where_ours_does(outbox, stripe, clock) -> None:
    org_id = await outbox.organization()
    await outbox.sell(org_id, anchor="2026-10-25T00:00:00Z", trial_days=14)
    await deliver(outbox, stripe, clock)
    subscription = await subscription_of(outbox, stripe, org_id)
    assert subscription["status"] == "trialing"
    assert subscription["trial_end"] == int(datetime.fromisoformat("2026-11-08T00:00:00Z").timestamp())


@pytest.mark.parametrize(
    ("each", "currency", "amount"),
    [
        ("0.00005", "usd", "0.005"),  # $0.05 a GB, told in MB
        ("0.0003", "usd", "0.03"),
        ("49", "usd", "4900"),
        ("3", "jpy", "3"),
        ("0.001", "bhd", "1"),
        ("0.00000000000001", "usd", "0.000000000001"),
    ],
)
def test_a_unit_amount_is_in_minor_units(each: str, currency: str, amount: str) -> None:
    assert unit_amount(Decimal(each), currency) == amount


def test_a_unit_amount_that_stripe_would_round_is_refused() -> None:
    with pytest.raises(CannotBeTold):
        unit_amount(Decimal("0.000000000000001"), "usd")


def test_a_live_key_goes_to_stripe_and_nowhere_else() -> None:
    with pytest.raises(LiveKeyElsewhere):
        StripeApi(api_key="sk_live_x", api_base="http://127.0.0.1:1")


async def test_the_sandbox_refuses_a_key_that_looks_live(running) -> None:
    assert "_live_" not in SANDBOX_KEY
    status, body = await running.call("GET", "/v1/customers", Authorization="Bearer sk_live_x")
    assert (status, "live key" in body["error"]["message"]) == (403, True)
