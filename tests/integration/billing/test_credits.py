"""Credits and coupons over Postgres: never spent twice, never redeemed once too often, whatever happens at the same time."""

import asyncio
from dataclasses import replace
from decimal import Decimal

import asyncpg
import pytest

from billing.model.discount import Coupon, CouponNotRedeemable, Duration
from billing.model.invoice import Issuer
from billing.model.wallet import Burn, GrantKind
from billing.services.coupons import CouponTaken, NoSuchCoupon, undo_discounts, use_discounts
from billing.services.credits import NoSuchGrant, burn_credits, give_back_credits
from billing.services.lookup import NoSuchOrganization
from billing.services.ports_wallet import CustomerTaken
from billing.services.use_cases import Billing
from billing.wiring import Invoicing, open_billing
from metering.model.clock import to_ms
from metering.model.errors import BadInput

from .conftest import METERS, NOW, Desk

LAUNCH = Coupon(code="LAUNCH2026", percent_off=Decimal(50), duration=Duration.REPEATING, months=3, max_redemptions=100)
AT = to_ms(NOW)


def billed_here(desk: Desk) -> Billing:
    """Where Weighbridge writes the invoices: Stripe's balances know no end."""
    return open_billing(desk.pool, desk.redis, desk.clock, meters=METERS, invoicing=Invoicing(issuer=Issuer.WEIGHBRIDGE))


async def organization(desk: Desk, name: str = "Acme") -> str:
    return (await desk.billing.orgs.create(name, plan="pro")).org.id


async def invoice(desk: Desk, org_id: str, number: str = "in_1") -> str:
    await desk.pool.execute(
        "INSERT INTO billing.invoices (id, org_id, status, currency, subtotal, total, period_start, period_end, created_at)"
        " VALUES ($1, $2, 'open', 'usd', 49, 49, now(), now(), now())", number, org_id,
    )  # fmt: skip
    return number


async def burn(desk: Desk, org_id: str, invoice_id: str, amount: str) -> Burn:
    async with desk.books.transaction() as unit:
        return await burn_credits(unit, org_id, invoice_id, Decimal(amount), "usd", desk.clock.now_ms())


async def left(desk: Desk, org: str) -> Decimal:
    return sum((b.total for b in (await desk.billing.credits.statement(org)).balances), Decimal(0))


async def books_balance(desk: Desk) -> bool:
    """What each grant has paid is what it lacks."""
    return bool(
        await desk.pool.fetchval(
            "SELECT bool_and(g.amount - g.amount_left = coalesce((SELECT sum(b.amount) FROM billing.credit_burns b"
            " WHERE b.grant_id = g.id), 0)) FROM billing.credit_grants g"
        )
    )


async def test_credit_pays_an_invoice_and_says_so(sold: Desk) -> None:
    org_id = await organization(sold)
    await sold.billing.credits.add("acme", Decimal("25.00"), reason="Referral bonus")
    burned = await burn(sold, org_id, await invoice(sold, org_id), "49.00")
    assert (burned.amount, burned.rest) == (Decimal("25.00"), Decimal("24.00"))
    [row] = (await sold.billing.credits.statement("acme")).burns
    assert (row.invoice_id, row.amount) == ("in_1", Decimal("25.00"))


async def test_many_invoices_at_once_never_spend_more_than_there_is(sold: Desk) -> None:
    org_id = await organization(sold)
    for amount in ("10.00", "7.50", "2.25"):
        await sold.billing.credits.add("acme", Decimal(amount), reason="prepaid", kind=GrantKind.PAID)
    for n in range(40):
        await invoice(sold, org_id, f"in_{n}")
    burned = await asyncio.gather(*(burn(sold, org_id, f"in_{n}", "0.70") for n in range(40)))
    assert sum(b.amount for b in burned) == Decimal("19.75")
    assert sum(b.rest for b in burned) == Decimal(28) - Decimal("19.75")
    assert await left(sold, "acme") == 0
    assert await books_balance(sold)


async def test_burning_and_giving_back_at_once_leaves_the_books_in_balance(sold: Desk) -> None:
    org_id = await organization(sold)
    await sold.billing.credits.add("acme", Decimal("5.00"), reason="prepaid", kind=GrantKind.PAID)
    for n in range(12):
        await invoice(sold, org_id, f"in_{n}")

    async def there_and_back(number: int) -> None:
        await burn(sold, org_id, f"in_{number}", "2.00")
        for _ in range(2):
            async with sold.books.transaction() as unit:
                await give_back_credits(unit, org_id, f"in_{number}", AT, why="voided")

    await asyncio.gather(*(there_and_back(n) for n in range(12)))
    assert await left(sold, "acme") == Decimal("5.00")
    assert await books_balance(sold)


async def test_a_voided_invoice_gives_back_once(sold: Desk) -> None:
    org_id = await organization(sold)
    await sold.billing.credits.add("acme", Decimal("25.00"), reason="r")
    await burn(sold, org_id, await invoice(sold, org_id), "20.00")
    for _ in range(2):
        async with sold.books.transaction() as unit:
            await give_back_credits(unit, org_id, "in_1", AT, why="voided")
    assert await left(sold, "acme") == Decimal("25.00")
    assert [row.amount for row in (await sold.billing.credits.statement("acme")).burns] == [Decimal("20.00"), Decimal("-20.00")]


async def test_a_part_of_it_comes_back_and_then_the_rest(sold: Desk) -> None:
    org_id = await organization(sold)
    await sold.billing.credits.add("acme", Decimal("25.00"), reason="r")
    await burn(sold, org_id, await invoice(sold, org_id), "20.00")
    for amount, stands in ((Decimal("5.00"), "10.00"), (None, "25.00"), (Decimal("5.00"), "25.00")):
        async with sold.books.transaction() as unit:
            await give_back_credits(unit, org_id, "in_1", AT, why="voided", amount=amount)
        assert await left(sold, "acme") == Decimal(stands)


async def test_paid_credit_that_ended_meanwhile_comes_back_without_end(sold: Desk) -> None:
    org_id = await organization(sold)
    await billed_here(sold).credits.add("acme", Decimal("25.00"), reason="r", kind=GrantKind.PAID, expires_at_ms=AT + 1000)
    await burn(sold, org_id, await invoice(sold, org_id), "20.00")
    sold.clock.advance(1 * 86_400)
    assert await left(sold, "acme") == 0
    async with sold.books.transaction() as unit:
        await give_back_credits(unit, org_id, "in_1", sold.clock.now_ms(), why="invoice in_1 was voided")
    assert await left(sold, "acme") == Decimal("20.00")
    assert await books_balance(sold)


async def test_credit_that_has_ended_or_was_revoked_pays_nothing(sold: Desk) -> None:
    org_id = await organization(sold)
    with pytest.raises(BadInput, match="do not end"):
        await sold.billing.credits.add("acme", Decimal("25.00"), reason="r", expires_at_ms=AT + 1)
    await billed_here(sold).credits.add("acme", Decimal("25.00"), reason="r", expires_at_ms=AT + 1)
    revoked = await sold.billing.credits.add("acme", Decimal("5.00"), reason="r")
    await sold.billing.credits.revoke("acme", revoked.id)
    sold.clock.advance(1)
    assert (await burn(sold, org_id, await invoice(sold, org_id), "20.00")).amount == 0
    with pytest.raises(NoSuchGrant):
        await sold.billing.credits.revoke("acme", revoked.id)


async def test_the_database_itself_refuses_a_grant_below_zero_and_a_burn_that_changes(sold: Desk) -> None:
    org_id = await organization(sold)
    grant = await sold.billing.credits.add("acme", Decimal(1), reason="r")
    with pytest.raises(asyncpg.CheckViolationError):
        await sold.pool.execute("UPDATE billing.credit_grants SET amount_left = -1 WHERE id = $1", grant.id)
    await burn(sold, org_id, await invoice(sold, org_id), "1.00")
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await sold.pool.execute("DELETE FROM billing.credit_burns")


async def test_credit_goes_to_a_customer_by_its_id_at_stripe(sold: Desk) -> None:
    org_id = await organization(sold)
    await sold.pool.execute("INSERT INTO billing.stripe_objects (kind, key, stripe_id) VALUES ('customer', $1, 'cus_7')", org_id)
    assert (await sold.billing.credits.add("cus_7", Decimal(25), reason="Referral bonus")).org_id == org_id
    with pytest.raises(NoSuchOrganization):
        await sold.billing.credits.add("cus_8", Decimal(25), reason="Referral bonus")


async def test_an_organization_is_rewarded_once_for_each_that_it_brought(sold: Desk) -> None:
    await organization(sold)
    await organization(sold, "Bolt")
    first = await sold.billing.credits.refer("acme", "bolt", Decimal(25))
    assert await sold.billing.credits.refer("acme", "bolt", Decimal(25)) == first
    assert await left(sold, "acme") == Decimal(25)
    with pytest.raises(BadInput):
        await sold.billing.credits.refer("acme", "acme", Decimal(25))
    with pytest.raises(BadInput):
        await sold.billing.credits.refer("bolt", "bolt", Decimal(25))


# --- coupons -------------------------------------------------------------------------------------------------------


async def test_a_redeemed_coupon_stands_for_its_months(sold: Desk) -> None:
    org_id = await organization(sold)
    await sold.billing.coupons.create(LAUNCH)
    discount = await sold.billing.coupons.apply("acme", "LAUNCH2026")
    assert discount.end_ms == to_ms(NOW.replace(month=4, day=30))
    assert discount.coupon == replace(LAUNCH, redeemed=1)
    assert await sold.billing.coupons.of_org(org_id) == [discount]
    sold.clock.advance(90 * 86_400)
    assert await sold.billing.coupons.of_org(org_id) == []


async def test_the_last_redemption_goes_to_one_of_many(sold: Desk) -> None:
    await sold.billing.coupons.create(replace(LAUNCH, max_redemptions=3))
    for n in range(9):
        await organization(sold, f"Org {n}")

    async def redeem(number: int) -> bool:
        try:
            await sold.billing.coupons.apply(f"org-{number}", "LAUNCH2026")
        except CouponNotRedeemable:
            return False
        return True

    assert sum(await asyncio.gather(*(redeem(n) for n in range(9)))) == 3
    assert (await sold.billing.coupons.show("LAUNCH2026")).redeemed == 3


async def test_an_organization_redeems_a_coupon_once_however_often_it_is_removed(sold: Desk) -> None:
    await organization(sold)
    await sold.billing.coupons.create(LAUNCH)
    first = await sold.billing.coupons.apply("acme", "LAUNCH2026")
    await sold.billing.coupons.remove("acme", "LAUNCH2026")
    assert await sold.billing.coupons.of_org("acme") == []
    with pytest.raises(NoSuchCoupon):
        await sold.billing.coupons.remove("acme", "LAUNCH2026")
    sold.clock.advance(30 * 86_400)
    with pytest.raises(CouponNotRedeemable, match="begin it anew"):  # where Stripe writes the invoices
        await sold.billing.coupons.apply("acme", "LAUNCH2026")
    assert await billed_here(sold).coupons.apply("acme", "LAUNCH2026") == first
    assert (await sold.billing.coupons.show("LAUNCH2026")).redeemed == 1


async def test_a_coupon_that_counts_once_counts_again_when_its_invoice_is_voided(sold: Desk) -> None:
    org_id = await organization(sold)
    await sold.billing.coupons.create(Coupon(code="ONCE", amount_off={"usd": Decimal("5.00")}))
    discount = await sold.billing.coupons.apply("acme", "ONCE")
    invoice_id = await invoice(sold, org_id)
    async with sold.books.transaction() as unit:
        await use_discounts(unit, org_id, invoice_id, [(discount.id, Decimal("5.00"))], AT)
    assert await sold.billing.coupons.of_org("acme") == []
    async with sold.books.transaction() as unit:
        assert await undo_discounts(unit, invoice_id, AT) == 1
    assert [d.coupon.code for d in await sold.billing.coupons.of_org("acme")] == ["ONCE"]


async def test_a_withdrawn_coupon_stays_with_who_has_it(sold: Desk) -> None:
    await organization(sold)
    await organization(sold, "Bolt")
    await sold.billing.coupons.create(LAUNCH)
    await sold.billing.coupons.apply("acme", "LAUNCH2026")
    await sold.billing.coupons.withdraw("LAUNCH2026")
    with pytest.raises(CouponNotRedeemable):
        await sold.billing.coupons.apply("bolt", "LAUNCH2026")
    assert len(await sold.billing.coupons.of_org("acme")) == 1


async def test_a_code_is_one_coupon_for_ever(sold: Desk) -> None:
    await sold.billing.coupons.create(LAUNCH)
    with pytest.raises(CouponTaken):
        await sold.billing.coupons.create(LAUNCH)
    with pytest.raises(NoSuchCoupon):
        await sold.billing.coupons.show("LAUNCH2027")
    assert [c.code for c in await sold.billing.coupons.page()] == ["LAUNCH2026"]


# --- customers -----------------------------------------------------------------------------------------------------


async def test_a_customer_is_made_with_the_subscription_and_keeps_what_is_changed(sold: Desk) -> None:
    await organization(sold)
    assert (await sold.billing.customers.show("acme")).name == "Acme"
    wanted = {"email": "billing@example.com", "line1": "123 Main St", "postal_code": "94102", "country": "US", "language": "en"}
    after = await sold.billing.customers.update("acme", **wanted)
    assert await sold.billing.customers.show("acme") == after
    assert (after.email, after.address.postal_code) == ("billing@example.com", "94102")


async def test_two_customers_are_not_one_user(sold: Desk) -> None:
    user = "aaaaaaaa-0000-4000-8000-00000000000a"
    await organization(sold)
    await organization(sold, "Bolt")
    await sold.billing.customers.update("acme", user_id=user)
    with pytest.raises(CustomerTaken):
        await sold.billing.customers.update("bolt", user_id=user)


async def test_a_customer_of_a_marketplace_is_taken_only_where_there_are_some(sold: Desk) -> None:
    await organization(sold)
    fields = {"marketplace": "aws", "marketplace_customer_id": "m-1"}
    with pytest.raises(BadInput, match="BILLING_MARKETPLACE_ENABLED"):
        await sold.billing.customers.update("acme", **fields)
    open_to_them = open_billing(sold.pool, sold.redis, sold.clock, meters=METERS, marketplaces=True)
    assert (await open_to_them.customers.update("acme", **fields)).marketplace == "aws"


async def test_what_was_decided_about_money_is_audited(sold: Desk) -> None:
    await organization(sold)
    await sold.billing.coupons.create(LAUNCH)
    await sold.billing.coupons.apply("acme", "LAUNCH2026")
    await sold.billing.credits.add("acme", Decimal(25), reason="Referral bonus")
    await sold.billing.customers.update("acme", email="billing@example.com")
    found = {entry.action for entry in await sold.billing.audit.entries(org_ref=None, limit=1000)}
    assert found >= {"coupon.created", "discount.created", "credit.created", "customer.changed"}
