"""What Stripe is told beside prices: the customer as it stands here, taxes, coupons; before there is a subscription, and while one runs."""

from decimal import Decimal
from typing import Any

from billing.model import outbox as rows
from billing.model.customer import Address, Customer
from billing.model.discount import Coupon, Duration
from billing.model.tax import Place, StripeTaxes, TaxRule
from billing.model.wallet import Grant
from billing.stripe.client import Resource
from tests.integration.stripe.test_objects import deliver, subscription_of

GERMANS = StripeTaxes(rule=TaxRule(rate=Decimal("0.19"), regions=("DE",)))
HALF = Coupon(code="HALF", percent_off=Decimal(50), duration=Duration.REPEATING, months=3)
FIVE = Coupon(code="FIVE", amount_off={"usd": Decimal(5), "eur": Decimal(4)})


async def told(outbox: Any, row: rows.OutboxRow) -> None:
    await outbox.add(row.kind, row.org_id, row.identifier, dict(row.payload))


async def coupons_of(outbox: Any, stripe: Any, org_id: str) -> dict[str, str]:
    """Coupon -> discount."""
    found = await stripe.retrieve(Resource.SUBSCRIPTION, (await subscription_of(outbox, stripe, org_id))["id"], expand=["discounts"])
    return {each["source"]["coupon"]: each["id"] for each in found["discounts"]}


async def test_a_customers_address_is_told_and_taken_away(outbox, stripe, clock) -> None:
    org_id = await outbox.organization()
    await outbox.add("ensure_customer", org_id, f"cust:{org_id}", {"slug": "acme", "name": "Acme", "email": "a@acme.test"})
    full = Customer(
        org_id=org_id, name="Acme GmbH", currency="usd", email="pay@acme.test", phone="+49 30 1", language="de",
        address=Address(line1="Hauptstr. 1", city="Berlin", postal_code="10115", country="DE"),
    )  # fmt: skip
    seen = []
    for at, customer in enumerate((full, Customer(org_id=org_id, name="Acme", currency="usd"))):
        await told(outbox, rows.customer_changed_row(customer, clock.now_ms() + at))
        await deliver(outbox, stripe, clock)
        found = await stripe.retrieve(Resource.CUSTOMER, await outbox.stripe_id("customer", org_id))
        seen.append((found["name"], found["email"], found["phone"], (found["address"] or {}).get("city")))
    assert seen == [("Acme GmbH", "pay@acme.test", "+49 30 1", "Berlin"), ("Acme", None, None, None)]
    assert set(await outbox.states()) == {"delivered"}


async def test_a_subscription_begins_with_its_tax_and_changes_with_the_address(outbox, stripe, clock) -> None:
    org_id = await outbox.organization()
    await told(outbox, rows.tax_row(org_id, GERMANS.told(Place(country="DE")), clock.now_ms()))
    await outbox.sell(org_id)
    seen = []
    for at, where in enumerate(("DE", "US", "DE"), start=1):
        await told(outbox, rows.tax_row(org_id, GERMANS.told(Place(country=where)), clock.now_ms() + at))
        await deliver(outbox, stripe, clock)
        seen.append([(r["percentage"], r["inclusive"]) for r in (await subscription_of(outbox, stripe, org_id))["default_tax_rates"]])
    assert seen == [[(19, False)], [], [(19, False)]]
    assert len([rate async for rate in stripe.find(Resource.TAX_RATE, {})]) == 1
    [first] = [invoice async for invoice in stripe.find(Resource.INVOICE, {})]
    assert (first["total"] - first["subtotal"], first["total"]) == (round(first["subtotal"] * 0.19), sum((first["subtotal"], 931)))


async def test_stripe_computes_taxes_where_it_knows_the_country(outbox, stripe, clock) -> None:
    org_id = await outbox.organization()
    stripes = StripeTaxes(automatic=True, rule=TaxRule(rate=Decimal("0.19")))
    assert [stripes.told(Place(country=where))["automatic"] for where in ("DE", None)] == [True, False]
    await told(outbox, rows.tax_row(org_id, stripes.told(Place()), clock.now_ms()))
    await outbox.sell(org_id)
    seen = []
    for at, where in enumerate((None, "DE"), start=1):
        customer = Customer(org_id=org_id, name="Acme", currency="usd", address=Address(country=where))
        await told(outbox, rows.customer_changed_row(customer, clock.now_ms() + at))
        await told(outbox, rows.tax_row(org_id, stripes.told(customer.place), clock.now_ms() + at))
        await deliver(outbox, stripe, clock)
        found = await subscription_of(outbox, stripe, org_id)
        seen.append((found["automatic_tax"]["enabled"], found["default_tax_rates"]))
    assert seen == [(False, []), (True, [])]


async def test_credit_is_told_once_and_taken_back(outbox, stripe, clock) -> None:
    org_id = await outbox.organization()
    await outbox.add("ensure_customer", org_id, f"cust:{org_id}", {"slug": "acme", "name": "Acme", "email": "a@acme.test"})
    grant = Grant(org_id=org_id, amount=Decimal(25), left=Decimal(25), currency="usd", reason="Referral bonus", identifier="referral:x")
    await told(outbox, rows.credit_row(grant, grant.amount, "given"))
    await deliver(outbox, stripe, clock)
    # an attempt whose answer was lost: it is looked for before it is sent again
    await outbox.pool.execute("UPDATE billing.outbox SET state = 'pending', attempts = 1 WHERE kind = 'credit'")
    await deliver(outbox, stripe, clock)
    await told(outbox, rows.credit_row(grant, Decimal(-10), "taken"))
    await deliver(outbox, stripe, clock)
    customer = await outbox.stripe_id("customer", org_id)
    entries = [(entry["amount"], entry["description"]) async for entry in stripe.balance_of(customer)]
    assert entries == [(1000, "Referral bonus"), (-2500, "Referral bonus")]
    assert (await stripe.retrieve(Resource.CUSTOMER, customer))["balance"] == -1500


async def test_coupons_wait_for_the_subscription_and_run_on_beside_others(outbox, stripe, clock) -> None:
    org_id = await outbox.organization()
    await told(outbox, rows.add_discount_row(org_id, HALF, "usd", clock.now_ms()))
    await deliver(outbox, stripe, clock)
    await outbox.sell(org_id)
    await deliver(outbox, stripe, clock)
    first = await coupons_of(outbox, stripe, org_id)
    await told(outbox, rows.add_discount_row(org_id, FIVE, "usd", clock.now_ms() + 1))
    await told(outbox, rows.add_discount_row(org_id, FIVE, "usd", clock.now_ms() + 2))
    await deliver(outbox, stripe, clock)
    both = await coupons_of(outbox, stripe, org_id)
    await told(outbox, rows.remove_discount_row(org_id, HALF, "usd", clock.now_ms() + 3))
    await deliver(outbox, stripe, clock)
    assert (list(first), list(both), both["HALF"]) == (["HALF"], ["HALF", "FIVE_usd"], first["HALF"])
    assert await coupons_of(outbox, stripe, org_id) == {"FIVE_usd": both["FIVE_usd"]}
    five = await stripe.retrieve(Resource.COUPON, "FIVE_usd")
    assert (five["amount_off"], five["currency"], five["name"]) == (500, "usd", "FIVE")
    assert set(await outbox.states()) == {"delivered"}
