"""Coupons: offered, redeemed by an organization's subscription, taken off its invoices, removed.

Whoever writes an invoice asks `standing_discounts`, lets billing/model/discount.py decide, and records with `use_discounts`; who voids
one calls `undo_discounts`.
"""

from collections.abc import Sequence
from decimal import Decimal

from billing.model import outbox
from billing.model.discount import Coupon, CouponNotRedeemable, Discount
from billing.model.organization import Organization
from billing.services import lookup
from billing.services.ports import Books, Unit
from billing.services.ports_wallet import Redeemed
from metering.model.clock import Clock
from metering.model.errors import Conflict, NotFound


class NoSuchCoupon(NotFound):
    """There is no such coupon."""

    code = "no_such_coupon"


class CouponTaken(Conflict):
    """Another coupon has this code."""

    code = "coupon_taken"


class NothingToDiscount(Conflict):
    """The organization has no subscription that a coupon could be applied to."""

    code = "nothing_to_discount"


class Coupons:
    """What the command line and the API call. `bills`: Stripe writes the invoices, and takes off them what it is told of."""

    def __init__(self, books: Books, clock: Clock, *, bills: bool = False) -> None:
        self._books, self._clock, self._bills = books, clock, bills

    async def create(self, coupon: Coupon) -> Coupon:
        """Raises CouponFaulty, AmountNotWhole, CouponTaken."""
        coupon.checked()
        async with self._books.transaction() as unit:
            if not await unit.coupons.insert(coupon, self._clock.now_ms()):
                raise CouponTaken(f"there is a coupon {coupon.code} already", coupon=coupon.code)
        return coupon

    async def page(self, *, after: str | None = None, limit: int = 50) -> list[Coupon]:
        """The withdrawn too, in the order they were made, behind the one with the code `after`."""
        async with self._books.transaction() as unit:
            return await unit.coupons.page(after, limit)

    async def show(self, code: str) -> Coupon:
        """Raises NoSuchCoupon."""
        async with self._books.transaction() as unit:
            return await _coupon(unit, code)

    async def withdraw(self, code: str) -> Coupon:
        """Nobody redeems it any more; who has redeemed it keeps it. Raises NoSuchCoupon."""
        async with self._books.transaction() as unit:
            await _coupon(unit, code)
            await unit.coupons.withdraw(code, self._clock.now_ms())
            return await _coupon(unit, code)

    async def apply(self, org_ref: str, code: str) -> Discount:
        """Redeem it for the organization's subscription; from now on its invoices have it. One that was removed stands again, as it
        would have stood. Applying what stands already changes nothing.

        Raises NoSuchOrganization, NoSuchCoupon, NothingToDiscount, CouponNotRedeemable.
        """
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref, lock=True)
            coupon = await _coupon(unit, code)
            subscription = await unit.subscriptions.of_org(org.id)
            if subscription is None:
                raise NothingToDiscount(f"{org.slug} has no subscription that coupon {code} could be applied to", org=org.slug)
            before = _of_coupon(await unit.discounts.of_org(org.id), code)
            if before is None:
                coupon.check_redeemable(subscription.currency, now_ms)
                if not await unit.coupons.count(code):
                    raise CouponNotRedeemable(f"coupon {code} cannot be redeemed: somebody redeemed the last one just now", coupon=code)
                await unit.discounts.redeem(org.id, code, now_ms, coupon.ends_ms(now_ms))
            elif before.removed and self._bills:
                raise CouponNotRedeemable(
                    f"coupon {code} was removed from {org.slug}: Stripe would begin it anew, and so it is not applied again", coupon=code
                )
            elif before.removed:
                await unit.discounts.set_removed(before.discount.id, None)
            if self._bills and before is None:
                await unit.outbox.add([outbox.add_discount_row(org.id, coupon, subscription.currency, now_ms)], now_ms)
            return next(r.discount for r in await unit.discounts.of_org(org.id) if r.discount.coupon.code == code)

    async def remove(self, org_ref: str, code: str) -> Organization:
        """Its next invoice does not have it. Whose it was. Raises NoSuchOrganization, NoSuchCoupon."""
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref, lock=True)
            before = _of_coupon(await unit.discounts.of_org(org.id), code)
            if before is None or before.removed:
                raise NoSuchCoupon(f"{org.slug} has no coupon {code}", coupon=code)
            now_ms = self._clock.now_ms()
            await unit.discounts.set_removed(before.discount.id, now_ms)
            subscription = await unit.subscriptions.of_org(org.id)
            if self._bills and subscription is not None:
                row = outbox.remove_discount_row(org.id, before.discount.coupon, subscription.currency, now_ms)
                await unit.outbox.add([row], now_ms)
        return org

    async def of_org(self, org_ref: str) -> list[Discount]:
        """What its next invoice may have. Raises NoSuchOrganization."""
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref)
            return [discount for discount in await standing_discounts(unit, org.id) if discount.stands(self._clock.now_ms())]


async def standing_discounts(unit: Unit, org_id: str) -> list[Discount]:
    """The organization's discounts in the order in which they are taken; `stands` says which of them at an instant."""
    return [redeemed.discount for redeemed in await unit.discounts.of_org(org_id) if not redeemed.removed]


async def use_discounts(unit: Unit, org_id: str, invoice_id: str, taken: Sequence[tuple[int, Decimal]], now_ms: int) -> None:
    """Remember what each discount, by its number, took off a final invoice; a coupon that counts once is used by it."""
    await unit.discounts.use(org_id, invoice_id, taken, now_ms)


async def undo_discounts(unit: Unit, invoice_id: str, now_ms: int) -> int:
    """The invoice was voided: a coupon that counts once may count again. How many discounts it had."""
    return await unit.discounts.undo(invoice_id, now_ms)


def _of_coupon(redeemed: Sequence[Redeemed], code: str) -> Redeemed | None:
    return next((each for each in redeemed if each.discount.coupon.code == code), None)


async def _coupon(unit: Unit, code: str) -> Coupon:
    coupon = await unit.coupons.get(code)
    if coupon is None:
        raise NoSuchCoupon(f"there is no coupon {code!r}", coupon=code)
    return coupon
