"""A year in the life of twelve organizations, day by day on a clock of its own, over real Postgres and the sandbox of Stripe, which takes
the payments. What they were billed is held, cent for cent, against the lines in `LINES` and one line of arithmetic, which know
nothing of Weighbridge; what they paid, against what the sandbox took.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal as D
from fractions import Fraction
from pathlib import Path

import pytest
from aiohttp import ClientSession
from redis.asyncio import Redis

from billing.model.discount import Coupon, Duration
from billing.model.invoice import Issuer
from billing.model.invoice import State as InvoiceState
from billing.model.subscription import State
from billing.model.tax import TaxRule
from billing.services.dunning import Dunning
from billing.store.books import PostgresBooks
from billing.stripe.client import StripeApi
from billing.stripe.payments import StripePayments
from billing.stripe.sandbox.server import Sandbox, serve
from billing.wiring import Invoicing, open_billing
from metering.model.clock import FrozenClock, to_ms
from metering.store.postgres import open_pool

from .world import METERS, PLANS, SANDBOX_KEY, YEAR, World, pro

TAX = D("0.085")
DEARER = {**PLANS, "pro": pro("59.00")}  # from the renewals of 1 September on


# The lines of every invoice in cents, from 1 January 2026 to 1 January 2027.
PRO = [4900] * 8 + [5900] * 5  # January to August, September to January
LINES: dict[str, list[list[int]]] = {
    "steady": [[price] for price in PRO],
    "busy": [[4900]] + [[price, 1500] for price in PRO[1:]],  # 50,000 requests beyond the quota in every month, billed with the next
    "grower": [[1900]] * 4 + [[4900, -950, 2450]] + [[price] for price in PRO[5:]],  # half of April given back, and charged anew
    "shrinker": [[4900]] * 6 + [[1900]] * 7,  # asked on 10 June, from 1 July
    "taster": [[1900, 1900]] + [[1900]] * 9,  # tried pro in February, bought starter on 1 March, billed with April
    "wobbly": [[price] for price in PRO],  # a card that failed in March, and was replaced
    "broke": [[4900]] * 5,  # no money in May: unpaid, and on plan free
    "coupled": [[2450]] * 3 + [[price] for price in PRO[3:]],  # half price for three months
    "prepaid": [[price] for price in PRO],  # 100 dollars of credit: less is due, not less is billed
    "yearly": [[49000]] * 2,
    "leaver": [[4900]] * 8 + [[300]],  # canceled in August; 10,000 requests beyond the quota are billed when it ends
    "tardy": [[4900]] * 4 + [[4900, 600]] + [[price] for price in PRO[5:]],  # 20,000 requests of February come in April
}
GIVEN_BACK = [1000]  # of what tardy paid for March
CREDIT = 10_000


def bill(lines: list[int]) -> int:
    """With 8.5 % of their sum, half up."""
    return sum(lines) + int(Fraction(sum(lines) * 85, 1000) + Fraction(1, 2))


@pytest.fixture
async def world(database: str, redis: str, tmp_path: Path) -> AsyncIterator[World]:
    clock = FrozenClock(to_ms(datetime(YEAR, 1, 1, tzinfo=UTC)))
    url, stop = await serve(Sandbox(tmp_path / "stripe.db", clock), "127.0.0.1", 0)
    pool, store = await open_pool(database, application="test"), Redis.from_url(redis)
    api = StripeApi(api_key=SANDBOX_KEY, api_base=url)
    payments = StripePayments(PostgresBooks(pool), api, clock)
    terms = Invoicing(issuer=Issuer.WEIGHBRIDGE, tax=TaxRule(rate=TAX), charges=True)
    async with ClientSession() as http:
        billing = open_billing(pool, store, clock, meters=METERS, invoicing=terms)
        dunning = Dunning(PostgresBooks(pool), clock, billing.invoices, billing.subscriptions, payments=payments, meters=METERS)
        await billing.plans.apply(PLANS, {})
        yield World(billing, pool, clock, api, payments, dunning, http, url)
    await api.close()
    await stop()
    await store.aclose()
    await pool.close()


async def lives(world: World) -> None:
    """What the ten (and two) do, and when."""
    b = world.billing
    for name, plan in (
        ("steady", "pro"), ("busy", "pro"), ("grower", "starter"), ("shrinker", "pro"), ("wobbly", "pro"), ("broke", "pro"),
        ("yearly", "annual"), ("leaver", "pro"), ("tardy", "pro"),
    ):  # fmt: skip
        await world.join(name, plan)
    await world.join("taster", "free", card=None)
    for name in ("coupled", "prepaid"):
        await world.join(name, "pro")
    await b.coupons.create(Coupon(code="LAUNCH", percent_off=D(50), duration=Duration.REPEATING, months=3, max_redemptions=1))
    await b.coupons.apply("coupled", "LAUNCH")
    await b.credits.add("prepaid", D(100), reason="paid in advance")

    for month in range(1, 13):
        world.on(f"{month:02}-15", lambda: world.use("busy", 250_000))
        world.on(f"{month:02}-20", lambda: world.use("steady", 200_000))
    world.on("04-16", lambda: b.subscriptions.change_plan("grower", "pro"))
    world.on("06-10", lambda: b.subscriptions.change_plan("shrinker", "starter", at_end=True))
    world.on("02-03", lambda: b.trials.start("taster", "pro", 14))
    world.on("02-10", lambda: world.use("taster", 300_000))
    world.on("03-01", lambda: buys_after_its_trial(world))
    world.on("02-25", lambda: world.card("wobbly", "pm_card_chargeCustomerFail"))
    world.on("03-05", lambda: world.card("wobbly", "pm_card_mastercard"))
    world.on("04-25", lambda: world.card("broke", "pm_card_chargeCustomerFail"))
    world.on("08-12", lambda: b.subscriptions.cancel("leaver", reason="too_expensive"))
    world.on("08-12", lambda: world.use("leaver", 210_000))
    world.on("02-20", lambda: world.use("tardy", 200_000))
    world.on("04-10", lambda: world.use("tardy", 20_000, datetime(YEAR, 2, 20, tzinfo=UTC)))
    world.on("03-20", lambda: gives_back(world))
    world.on("08-20", lambda: b.plans.apply(DEARER, {}))


async def buys_after_its_trial(world: World) -> None:
    state = await world.billing.subscriptions.show("taster")
    assert (state.spec.name, state.subscription.state) == ("free", State.ACTIVE)
    await world.card("taster", "pm_card_visa")
    await world.billing.subscriptions.change_plan("taster", "starter")


async def gives_back(world: World) -> None:
    """10 dollars of March's price, and their tax, as money."""
    march = (await world.invoices("tardy"))[2]
    note = await world.billing.credit_notes.issue(march.id, {1: D(10)}, reason="a slow week", refund=True)
    await world.payments.refund(march.id, int(note.refunded * 100), note.id)


@pytest.fixture
async def lived(world: World) -> World:
    await lives(world)
    await world.live()
    return world


@pytest.mark.long
async def test_a_year_is_billed_to_the_cent(lived: World) -> None:
    billed = {name: [int(i.totals.total * 100) for i in await lived.invoices(name)] for name in LINES}
    assert billed == {name: [bill(lines) for lines in invoices] for name, invoices in LINES.items()}

    states = {name: {i.state for i in await lived.invoices(name)} for name in LINES}
    assert {name for name, found in states.items() if found != {InvoiceState.PAID}} == {"broke"}
    everything = sum(bill(lines) for invoices in LINES.values() for lines in invoices)
    assert await lived.taken() == everything - bill([4900]) - bill(GIVEN_BACK) - CREDIT

    downgraded = await lived.billing.subscriptions.show("broke")
    told = await lived.billing.entitlements.of_org(lived.orgs["broke"])
    assert (downgraded.subscription.state, told and told.plan) == (State.UNPAID, "free")
    assert await lived.mails("broke", "payment_failed") == 3
    assert [await lived.mails("broke", kind) for kind in ("payment_final_warning", "account_downgraded")] == [1, 1]
    assert await lived.mails("wobbly", "payment_failed") in (1, 2)

    for name in LINES:
        for invoice in await lived.invoices(name):
            _, explained = await lived.billing.invoices.explain(invoice.id)
            assert all(line.agree for line in explained)
    numbers = [row["number"] for row in await lived.pool.fetch("SELECT number FROM billing.invoices ORDER BY number")]
    assert numbers == [f"INV-{n:06}" for n in range(1, sum(map(len, LINES.values())) + 1)]
    for month in range(1, 13):
        await lived.billing.months.close(f"{YEAR}-{month:02}")
