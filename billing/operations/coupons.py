"""Coupons: offers that subscriptions redeem."""

from datetime import datetime

from pydantic import AwareDatetime, Field

from billing.model.discount import Coupon, CouponFaulty, Duration
from billing.model.money import AmountNotWhole
from billing.model.token import Scope
from billing.operations.instants import instant_or_none
from billing.operations.operation import About, Amount, Call, GivenAmount, Model, operation
from billing.operations.pages import AskPage, Page, page, read_cursor
from billing.services.coupons import CouponTaken, NoSuchCoupon
from metering.model.clock import to_ms


class CouponAnswer(Model):
    """`expires` is when it can be redeemed no more. `offer` is what it takes off, in words."""

    code: str
    name: str
    offer: str
    percent_off: Amount | None
    amount_off: dict[str, Amount]
    duration: Duration
    months: int | None
    redeemed: int
    max_redemptions: int | None
    expires: datetime | None
    status: str = Field(description="active, withdrawn")


class CouponList(Page):
    coupons: tuple[CouponAnswer, ...]


class NewCoupon(Model):
    """Either `percent_off` or `amount_off`."""

    code: str = Field(description="up to 64 letters, digits, dashes and underscores")
    percent_off: GivenAmount | None = Field(None, description="above 0, up to 100")
    amount_off: dict[str, GivenAmount] | GivenAmount | None = Field(
        None, description="in the billing currency, or by currency", examples=["10.00", {"usd": "10.00", "eur": "9.00"}]
    )
    duration: Duration = Duration.ONCE
    months: int | None = Field(None, description="with the duration repeating: 1 to 120")
    max_redemptions: int | None = Field(None, ge=1, le=2**31 - 1, description="how many organizations may redeem it")
    expires: AwareDatetime | None = Field(None, description="it can be redeemed before then")
    name: str = Field("", max_length=200, description="what invoices say; the code where it is empty")


class AskCoupon(Model):
    code: str = Field(min_length=1, max_length=64)


class Removed(Model):
    org: str
    code: str


@operation(
    "POST", "/coupons", name="coupon.create", need=Scope.BILLING, about=About.ALL, status=201,
    errors=(CouponFaulty, CouponTaken, AmountNotWhole),
)  # fmt: skip
async def create(call: Call, ask: NewCoupon) -> CouponAnswer:
    """A new coupon."""
    off = {} if ask.amount_off is None else ask.amount_off
    amounts = off if isinstance(off, dict) else {call.facts.currency: off}
    coupon = Coupon(
        code=ask.code, percent_off=ask.percent_off, amount_off={currency.lower(): amount for currency, amount in amounts.items()},
        duration=ask.duration, months=ask.months, max_redemptions=ask.max_redemptions,
        redeem_by_ms=None if ask.expires is None else to_ms(ask.expires), name=ask.name,
    )  # fmt: skip
    return coupon_answer(await call.billing.coupons.create(coupon))


@operation("GET", "/coupons", name="coupon.list", about=About.ALL)
async def list_all(call: Call, ask: AskPage) -> CouponList:
    """The withdrawn too, in the order they were made."""
    place = read_cursor(ask.after, str)
    found = await call.billing.coupons.page(after=str(place[0]) if place else None, limit=ask.limit + 1)
    rows, following = page(found, ask, lambda coupon: (coupon.code,))
    return CouponList(coupons=tuple(map(coupon_answer, rows)), next=following)


@operation("GET", "/coupons/{code}", name="coupon.show", about=About.ALL, errors=(NoSuchCoupon,))
async def show(call: Call, ask: AskCoupon) -> CouponAnswer:
    """One coupon."""
    return coupon_answer(await call.billing.coupons.show(ask.code))


@operation("POST", "/coupons/{code}/withdraw", name="coupon.withdraw", need=Scope.BILLING, about=About.ALL, errors=(NoSuchCoupon,))
async def withdraw(call: Call, ask: AskCoupon) -> CouponAnswer:
    """Nobody redeems it any more; who has redeemed it keeps it."""
    return coupon_answer(await call.billing.coupons.withdraw(ask.code))


@operation("DELETE", "/subscription/coupons/{code}", name="coupon.remove", need=Scope.BILLING, errors=(NoSuchCoupon,))
async def remove(call: Call, ask: AskCoupon) -> Removed:
    """Take it from the organization: its next invoice does not have it."""
    return Removed(org=(await call.billing.coupons.remove(call.org, ask.code)).slug, code=ask.code)


def coupon_answer(coupon: Coupon) -> CouponAnswer:
    offers = [coupon.offer("")] if coupon.percent_off is not None else [coupon.offer(currency) for currency in sorted(coupon.amount_off)]
    return CouponAnswer(
        code=coupon.code, name=coupon.name, offer=", ".join(offers), percent_off=coupon.percent_off, amount_off=dict(coupon.amount_off),
        duration=coupon.duration, months=coupon.months, redeemed=coupon.redeemed, max_redemptions=coupon.max_redemptions,
        expires=instant_or_none(coupon.redeem_by_ms), status="withdrawn" if coupon.withdrawn else "active",
    )  # fmt: skip


OPERATIONS = (create, list_all, show, withdraw, remove)
