"""Where Stripe writes the invoices: what it does not charge itself is rated here and told to it, each line once. Real Postgres."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal as D

import pytest

from billing.model.invoice import Issuer
from billing.model.plan import Rollout
from billing.model.pricing import Spend
from billing.services.issuing import IssueReport
from billing.wiring import Invoicing, open_billing

from .conftest import METERS, PRO, Desk
from .test_issuing import Office

RATED = replace(PRO, name="rated", prices={**PRO.prices, "api": Spend(price=PRO.prices["api"], minimum=D("5.00"))})


@pytest.fixture
async def office(sold: Desk) -> Office:
    """One price that Stripe charges itself, bandwidth's, and one that it does not."""
    sold.billing = open_billing(sold.pool, sold.redis, sold.clock, meters=METERS, invoicing=Invoicing(issuer=Issuer.STRIPE))
    await sold.billing.plans.apply({"pro": PRO, "rated": RATED}, {})
    org = (await sold.billing.orgs.create("Acme", plan="rated", email="pay@acme.example")).org
    await sold.billing.issuing.run()
    return Office(sold, org.id)


async def told(office: Office) -> list[tuple[str, int]]:
    rows = await office.pool.fetch("SELECT payload FROM billing.outbox WHERE kind = 'invoice_item' ORDER BY id")
    return [(payload["meter"], payload["amount_minor"]) for payload in (json.loads(row["payload"]) for row in rows)]


async def test_what_stripe_does_not_charge_itself_is_told_it_once_when_the_period_has_ended(office: Office) -> None:
    await office.use(205_000)
    await office.use(200 * 10**9, "bandwidth")
    assert await office.issuing.run() == IssueReport()
    assert await told(office) == []
    office.forward(days=29, hours=3)
    assert [await office.issuing.run(), await office.issuing.run()] == [IssueReport(), IssueReport()]
    assert await told(office) == [("api", 500)]  # 5,000 beyond are 1.50; the minimum is 5.00
    assert await office.pool.fetchval("SELECT count(*) FROM billing.invoices") == 0


async def test_late_usage_of_what_is_rated_here_is_told_as_the_difference(office: Office) -> None:
    at = datetime.fromtimestamp(office.clock.now_ms() / 1000, UTC)
    await office.use(205_000, at=at)
    office.forward(days=29, hours=3)
    await office.issuing.run()
    await office.use(95_000, at=at)
    await office.use(300 * 10**9, "bandwidth", at=at)
    assert [await office.issuing.late(), await office.issuing.late()] == [1, 0]
    assert await told(office) == [("api", 500), ("api", 2500)]


async def test_what_was_used_by_the_terms_that_were_left_is_told_by_them(office: Office) -> None:
    office.forward(days=1)
    await office.use(300_000)
    await office.billing.plans.apply({"pro": PRO, "rated": replace(RATED, prices={}, rollout=Rollout.NOW)}, {})
    await office.use(500_000)
    office.forward(days=29, hours=3)
    await office.issuing.run()
    assert await told(office) == [("api", 3000)]


async def test_an_organization_whose_prices_stripe_all_charges_is_told_nothing(office: Office) -> None:
    await office.billing.orgs.create("Other", plan="pro")
    office.forward(days=29, hours=3)
    await office.issuing.run()
    assert await told(office) == [("api", 500)]
