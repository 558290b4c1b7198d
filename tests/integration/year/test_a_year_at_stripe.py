"""The same year where Stripe writes the invoices: what its sandbox bills, from the subscriptions and meter events it was told of, is what
the same arithmetic says; and what stands here is what stands there.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from aiohttp import ClientSession
from redis.asyncio import Redis

from aggregator.overage import cutter
from billing.model.discount import Coupon, Duration
from billing.model.plan import PlanSpec, Rollout
from billing.model.tax import StripeTaxes, TaxRule
from billing.store.books import PostgresBooks
from billing.stripe.client import StripeApi
from billing.stripe.payments import StripePayments
from billing.stripe.sandbox.server import Sandbox, serve
from billing.wiring import Invoicing, open_billing
from metering.model.clock import FrozenClock, to_ms
from metering.store.postgres import open_pool

from .world import METERS, PLANS, SANDBOX_KEY, YEAR, World

GERMANS = StripeTaxes(rule=TaxRule(rate=Decimal("0.19"), regions=("DE",)))
HALF = Coupon(code="HALF", percent_off=Decimal(50), duration=Duration.REPEATING, months=3)
CLUB = PlanSpec(name="club", price={"usd": Decimal(9)}, rollout=Rollout.RENEWAL)
LINES = {
    "steady": [[4900]] * 13,
    "busy": [[4900]] + [[4900, 1500]] * 12,
    "grower": [[1900]] * 4 + [[4900, -950, 2450]] + [[4900]] * 8,
    "leaver": [[4900]] * 8 + [[300]],
    "yearly": [[49000]] * 2,
    "shrinker": [[4900]] * 6 + [[1900]] * 7,
    "undecided": [[4900]] * 13,
    "hobbyist": [[4900]] * 9 + [[0]],
    "member": [[900]] * 10 + [[1000]] * 3,
    "german": [[4900]] * 2 + [[4900, 931]] * 11,
    "credited": [[1900]] * 13,
    "promoted": [[4900]] * 3 + [[4900, -2450]] * 3 + [[4900]] * 7,
}


@pytest.fixture
async def world(database: str, redis: str, tmp_path: Path) -> AsyncIterator[World]:
    clock = FrozenClock(to_ms(datetime(YEAR, 1, 1, tzinfo=UTC)))
    url, stop = await serve(Sandbox(tmp_path / "stripe.db", clock), "127.0.0.1", 0)
    pool, store = await open_pool(database, application="test"), Redis.from_url(redis)
    api = StripeApi(api_key=SANDBOX_KEY, api_base=url)
    payments = StripePayments(PostgresBooks(pool), api, clock)
    async with ClientSession() as http:
        cut = cutter(pool, clock, METERS, bills=True)
        billing = open_billing(pool, store, clock, meters=METERS, invoicing=Invoicing(charges=True, taxes=GERMANS), cut=cut)
        await billing.coupons.create(HALF)
        await billing.plans.apply(PLANS | {"club": CLUB}, {})
        yield World(billing, pool, clock, api, payments, None, http, url)
    await api.close()
    await stop()
    await store.aclose()
    await pool.close()


@pytest.mark.long
async def test_stripe_bills_the_same_year_to_the_cent(world: World) -> None:
    b = world.billing
    for name, plan in (
        ("steady", "pro"),
        ("busy", "pro"),
        ("shrinker", "pro"),
        ("leaver", "pro"),
        ("grower", "starter"),
        ("yearly", "annual"),
        ("undecided", "pro"),
        ("hobbyist", "pro"),
        ("member", "club"),
        ("german", "pro"),
        ("promoted", "pro"),
        ("credited", "starter"),
    ):
        await world.join(name, plan)
    for month in range(1, 13):
        world.on(f"{month:02}-15", lambda: world.use("busy", 250_000))
        world.on(f"{month:02}-20", lambda: world.use("steady", 200_000))
    world.on("04-16", lambda: b.subscriptions.change_plan("grower", "pro"))
    world.on("06-10", lambda: b.subscriptions.change_plan("shrinker", "starter", at_end=True))
    for name in ("undecided", "hobbyist"):
        world.on("06-10", lambda name=name: b.subscriptions.change_plan(name, "starter", at_end=True))
        world.on("06-20", lambda name=name: b.subscriptions.change_plan(name, "pro", at_end=True))  # taken back
    world.on("02-20", lambda: b.customers.update("german", country="DE"))
    world.on("02-20", lambda: b.credits.add("credited", Decimal(30), reason="an outage"))
    world.on("03-20", lambda: b.coupons.apply("promoted", "HALF"))
    world.on("09-10", lambda: b.subscriptions.change_plan("hobbyist", "free", at_end=True))
    world.on("10-05", lambda: b.plans.apply(PLANS | {"club": replace(CLUB, price={"usd": Decimal(10)})}, {}))
    world.on("08-12", lambda: b.subscriptions.cancel("leaver", reason="too_expensive"))
    world.on("08-12", lambda: world.use("leaver", 210_000))
    await world.live()

    billed = {name: [invoice["total"] for invoice in await world.at_stripe(name)] for name in LINES}
    assert billed == {name: [sum(lines) for lines in invoices] for name, invoices in LINES.items()}
    for name in LINES:
        here = sorted((i.stripe_id or i.id, int(i.totals.total * 100), i.state.value) for i in await world.invoices(name))
        assert here == sorted((i["id"], i["total"], i["status"]) for i in await world.at_stripe(name))
    hobby = (await b.subscriptions.show("hobbyist")).subscription
    assert (hobby.plan, hobby.state.value, hobby.ended_at_ms) == ("free", "active", None)  # Stripe's ended, ours went on
    assert sorted(invoice["amount_due"] for invoice in await world.at_stripe("credited"))[:3] == [0, 800, 1900]
    statement = await b.credits.statement("credited")
    assert (statement.balances[0].total, [burn.amount for burn in statement.burns]) == (0, [19, 11])  # as Stripe took it
