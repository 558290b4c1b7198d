"""Coupons, and what they take off the lines of one invoice.

Pure. A coupon is an offer; a discount is the coupon once one organization has redeemed it. The rules are Stripe's
(docs.stripe.com, "Coupons and promotion codes"): discounts are taken in the order in which they were redeemed, each off what those
before it have left, so 20 % and then $5 differs from $5 and then 20 %; prorations are not discounted. Ours beyond that: together
they never make an invoice negative. Redemptions are counted by billing/store/coupons.sql, exactly.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from billing.model.invoice_item import ItemKind
from billing.model.money import EXACT, round_amount, to_minor
from billing.model.split import split
from metering.model.clock import isoformat, to_datetime, to_ms
from metering.model.errors import BadInput, Conflict
from metering.model.period import add_months

_CODE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HUNDRED = Decimal(100)
_NOT_DISCOUNTED = frozenset([ItemKind.PRORATION, ItemKind.CORRECTION])


class Duration(StrEnum):
    """How long a coupon takes something off, once it is redeemed."""

    ONCE = "once"  # the first invoice from which there is anything to take
    REPEATING = "repeating"  # every invoice for so many months
    FOREVER = "forever"


class CouponFaulty(BadInput):
    """A coupon takes off a percentage or an amount, for a time that is said."""

    code = "coupon_faulty"


class CouponNotRedeemable(Conflict):
    """Nobody can redeem this coupon any more, or not for this organization."""

    code = "coupon_not_redeemable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupon:
    """`code` is what people type: LAUNCH2026. Either `percent_off` (above 0, to 100) or `amount_off`, in major units by currency.

    `redeem_by_ms` ends redeeming; what was redeemed before goes on.
    """

    code: str
    percent_off: Decimal | None = None
    amount_off: Mapping[str, Decimal] = field(default_factory=dict)
    duration: Duration = Duration.ONCE
    months: int | None = None  # with duration repeating
    max_redemptions: int | None = None
    redeem_by_ms: int | None = None
    name: str = ""
    redeemed: int = 0
    withdrawn: bool = False

    def checked(self) -> "Coupon":
        """Itself. Raises CouponFaulty."""
        if not _CODE.fullmatch(self.code):
            raise CouponFaulty(f"{self.code!r} is no code of a coupon: up to 64 letters, digits, dashes and underscores")
        self._check_value()
        if (self.duration is Duration.REPEATING) != (self.months is not None):
            raise CouponFaulty("a coupon that repeats says for how many months, and no other does")
        if self.months is not None and not 1 <= self.months <= 120:
            raise CouponFaulty(f"{self.months} months is no duration of a coupon: 1 to 120")
        if self.max_redemptions is not None and self.max_redemptions < 1:
            raise CouponFaulty(f"a coupon that may be redeemed {self.max_redemptions} times is none: 1 or more")
        return self

    def _check_value(self) -> None:
        if (self.percent_off is None) == (not self.amount_off):
            raise CouponFaulty("a coupon takes off a percentage or an amount: say one of the two")
        if self.percent_off is not None and not 0 < self.percent_off <= 100:
            raise CouponFaulty(f"{self.percent_off} % cannot be taken off: above 0, up to 100")
        for currency, amount in self.amount_off.items():
            if to_minor(amount, currency) <= 0:
                raise CouponFaulty(f"{amount} {currency.upper()} takes nothing off: write an amount above zero")

    def offer(self, currency: str) -> str:
        """What it takes off, for people: 50% off, 10.00 USD off."""
        if self.percent_off is not None:
            return f"{format(self.percent_off.normalize(), 'f')}% off"
        return (
            f"{round_amount(self.amount_off[currency], currency)} {currency.upper()} off" if currency in self.amount_off else "nothing off"
        )

    def check_redeemable(self, currency: str, now_ms: int) -> None:
        """Raises CouponNotRedeemable. How often it was redeemed is decided where it is counted, too."""
        why = None
        if self.withdrawn:
            why = "it was withdrawn"
        elif self.redeem_by_ms is not None and now_ms >= self.redeem_by_ms:
            why = f"it could be redeemed until {isoformat(self.redeem_by_ms)}"
        elif self.max_redemptions is not None and self.redeemed >= self.max_redemptions:
            why = f"it was redeemed {self.max_redemptions} times, which is as often as it may be"
        elif self.percent_off is None and currency not in self.amount_off:
            why = f"it takes off {', '.join(c.upper() for c in sorted(self.amount_off))}, and this organization pays {currency.upper()}"
        if why is not None:
            raise CouponNotRedeemable(f"coupon {self.code} cannot be redeemed: {why}", coupon=self.code)

    def ends_ms(self, start_ms: int) -> int | None:
        """When a discount that starts then ends: the same day, so many months on; None without end."""
        return None if self.months is None else to_ms(add_months(to_datetime(start_ms), self.months))


@dataclass(frozen=True, slots=True, kw_only=True)
class Discount:
    """A coupon that one organization has redeemed. `used` is true once a coupon that counts once was taken off an invoice."""

    id: int
    coupon: Coupon
    start_ms: int
    end_ms: int | None = None
    used: bool = False

    def stands(self, at_ms: int) -> bool:
        """Whether an invoice of that instant has it."""
        if self.coupon.duration is Duration.ONCE and self.used:
            return False
        return self.start_ms <= at_ms and (self.end_ms is None or at_ms < self.end_ms)


class Charge(Protocol):
    """What a discount sees of a line: InvoiceItem and rating's Line both are one."""

    @property
    def kind(self) -> ItemKind: ...
    @property
    def amount(self) -> Decimal: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscountLine:
    """What one discount takes off one invoice: `amount`, above zero, is the sum of `parts`, one for each of the lines."""

    discount_id: int
    coupon: str
    description: str
    amount: Decimal
    parts: tuple[Decimal, ...]


def discountable(line: Charge) -> bool:
    """Charges are; what is given back, and what a change within an interval causes, is not."""
    return line.amount > 0 and line.kind not in _NOT_DISCOUNTED


def discounts(lines: Sequence[Charge], redeemed: Sequence[Discount], currency: str, now_ms: int) -> tuple[DiscountLine, ...]:
    """What each discount that stands takes off these rounded lines, in the order given; those that take nothing are left out.

    Each is rounded once, half away from zero, and shared out by largest remainder, so that no line and no invoice goes below zero.
    """
    left = [line.amount if discountable(line) else Decimal(0) for line in lines]
    due = max(Decimal(0), sum((line.amount for line in lines), Decimal(0)))
    found = []
    for discount in redeemed:
        base = sum(left, Decimal(0))
        amount = min(_wanted(discount.coupon, base, currency), base, due) if discount.stands(now_ms) else Decimal(0)
        if amount <= 0:
            continue
        parts = split(amount, left, currency)
        left = [rest - part for rest, part in zip(left, parts, strict=True)]
        due -= amount
        coupon = discount.coupon
        found.append(
            DiscountLine(
                discount_id=discount.id, coupon=coupon.code, description=f"{coupon.name or coupon.code} ({coupon.offer(currency)})",
                amount=amount, parts=parts,
            )
        )  # fmt: skip
    return tuple(found)


def _wanted(coupon: Coupon, base: Decimal, currency: str) -> Decimal:
    if coupon.percent_off is not None:
        return round_amount(EXACT.divide(EXACT.multiply(base, coupon.percent_off), _HUNDRED), currency)
    return coupon.amount_off.get(currency, Decimal(0))
