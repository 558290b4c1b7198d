"""What Stripe is told of a subscription beside its prices: when it ends, whether it is paused."""

from dataclasses import replace
from decimal import Decimal

from billing.model.outbox import next_price_rows, update_row
from billing.model.plan import Interval, PlanSpec
from billing.model.subscription import State, Subscription
from tests.integration.stripe.test_objects import deliver, subscription_of


async def test_stripe_hears_that_it_ends_that_it_does_not_and_that_it_waits(outbox, stripe, clock) -> None:
    org_id = await outbox.organization()
    await outbox.sell(org_id)
    await deliver(outbox, stripe, clock)
    ends_ms = clock.now_ms() // 1000 * 1000 + 20 * 86_400_000
    s = Subscription(
        id="s", org_id=org_id, plan="pro", plan_version=1, state=State.ACTIVE, anchor_ms=clock.now_ms(), interval=Interval.MONTH,
        currency="usd", amount=Decimal(49),
    )  # fmt: skip
    seen = []
    for revision, change in enumerate(({"cancel_at_ms": ends_ms}, {}, {"state": State.PAUSED}, {}), start=1):
        row = update_row(replace(s, revision=revision, **change))
        await outbox.add(row.kind, org_id, row.identifier, dict(row.payload))
        await deliver(outbox, stripe, clock)
        told = await subscription_of(outbox, stripe, org_id)
        seen.append((told["cancel_at"], (told["pause_collection"] or {}).get("behavior")))
    assert seen == [(ends_ms // 1000, None), (None, None), (None, "void"), (None, None)]
    assert set(await outbox.states()) == {"delivered"}


async def test_stripe_hears_what_the_next_period_costs_before_it_begins(outbox, stripe, clock) -> None:
    """The base price alone, and not prorated: what this period used is charged at its own prices."""
    org_id = await outbox.organization()
    await outbox.sell(org_id)
    await deliver(outbox, stripe, clock)
    before = await subscription_of(outbox, stripe, org_id)
    stands = PlanSpec(name="pro", price={"usd": Decimal(49)})
    s = Subscription(
        id="s", org_id=org_id, plan="pro", plan_version=1, state=State.ACTIVE, anchor_ms=clock.now_ms(), interval=Interval.MONTH,
        currency="usd", amount=Decimal(49),
    )  # fmt: skip
    seen = []
    for revision, price in enumerate((Decimal(19), Decimal(29)), start=1):
        spec = PlanSpec(name=f"plan{price}", price={"usd": price})
        for row in next_price_rows(replace(s, revision=revision), spec, 1, {}, stands=stands):
            await outbox.add(row.kind, org_id, row.identifier, dict(row.payload))
        await deliver(outbox, stripe, clock)
        told = await subscription_of(outbox, stripe, org_id)
        seen.append([item["price"]["unit_amount"] for item in told["items"]["data"] if not item["price"]["recurring"]["meter"]])
        assert [item["price"]["id"] for item in told["items"]["data"] if item["price"]["recurring"]["meter"]] == [
            item["price"]["id"] for item in before["items"]["data"] if item["price"]["recurring"]["meter"]
        ]
    assert seen == [[1900], [2900]]
    assert set(await outbox.states()) == {"delivered"}
    assert next_price_rows(s, replace(stands, interval=Interval.YEAR), 2, {}, stands=stands) == ()
