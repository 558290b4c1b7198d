"""What an invoice adds up to: tiers, packages, prorations, discounts, taxes. Pure; amounts in whole minor units.

Each line is rounded once, half away from zero. What is reckoned over a whole invoice (a discount, a tax rate) is rounded
once and then spread over its lines so that they add up to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Any

_HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class Part:
    """One line of a price: `note` says which part of the price it is."""

    quantity: int
    amount: int
    unit_amount_decimal: str | None
    note: str = ""


def rounded(exact: Decimal) -> int:
    """To a whole minor unit, half away from zero."""
    return int(exact.quantize(Decimal(1), ROUND_HALF_UP))


def parts(price: Mapping[str, Any], quantity: int) -> list[Part]:
    """What `quantity` of this price costs, in the lines that Stripe writes: one a tier reached, flat amounts apart."""
    if price["billing_scheme"] == "per_unit":
        units = _packed(quantity, price["transform_quantity"])
        return [Part(quantity, rounded(Decimal(price["unit_amount_decimal"]) * units), price["unit_amount_decimal"])]
    return _volume(price["_tiers"], quantity) if price["tiers_mode"] == "volume" else _graduated(price["_tiers"], quantity)


def _packed(quantity: int, transform: Mapping[str, Any] | None) -> int:
    if transform is None:
        return quantity
    size = int(transform["divide_by"])
    return -(-quantity // size) if transform["round"] == "up" else quantity // size


def _volume(tiers: Sequence[Mapping[str, Any]], quantity: int) -> list[Part]:
    number, tier = next((n, t) for n, t in enumerate(tiers) if t["up_to"] is None or quantity <= t["up_to"])
    return _tier(tier, quantity, f"tier {number + 1}")


def _graduated(tiers: Sequence[Mapping[str, Any]], quantity: int) -> list[Part]:
    """The first tier's flat amount is due at a quantity of nothing, too."""
    found: list[Part] = []
    below = 0
    for number, tier in enumerate(tiers):
        top = quantity if tier["up_to"] is None else min(quantity, tier["up_to"])
        if number and quantity <= below:
            break
        found += _tier(tier, max(0, top - below), f"tier {number + 1}")
        below = tier["up_to"] or 0
    return found


def _tier(tier: Mapping[str, Any], units: int, note: str) -> list[Part]:
    found = []
    if tier["unit_amount_decimal"] is not None or tier["flat_amount_decimal"] is None:
        each = Decimal(tier["unit_amount_decimal"] or 0)
        found.append(Part(units, rounded(each * units), tier["unit_amount_decimal"], note))
    if tier["flat_amount_decimal"] is not None:
        found.append(Part(0, rounded(Decimal(tier["flat_amount_decimal"])), None, f"{note}, flat fee"))
    return found


def total_of(price: Mapping[str, Any], quantity: int) -> int:
    return sum(part.amount for part in parts(price, quantity))


def prorated(amount: int, at: int, start: int, end: int) -> int:
    """The share of `amount`, due for [start, end), that falls into [at, end); by the second."""
    return rounded(Decimal(amount) * (end - at) / (end - start))


def spread(total: int, exact: Sequence[Decimal]) -> list[int]:
    """Whole numbers next to `exact` that add up to `total`: the largest remainders are rounded up first."""
    whole = [int(share.to_integral_value(ROUND_FLOOR)) for share in exact]
    order = sorted(range(len(exact)), key=lambda at: (whole[at] - exact[at], at))
    for at in order[: max(0, total - sum(whole))]:
        whole[at] += 1
    return whole


@dataclass(frozen=True, slots=True)
class Discount:
    """A coupon at work: percent off, or an amount in minor units. `products` limits it; None is all."""

    id: str
    percent: Decimal | None
    amount: int | None
    products: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """A tax rate in percent, on top of the amount or inside it."""

    id: str
    percent: Decimal
    inclusive: bool


@dataclass(frozen=True, slots=True)
class Charged:
    """One line as the sums see it."""

    amount: int
    discountable: bool = True
    product: str | None = None
    rates: tuple[Rate, ...] = ()


@dataclass(frozen=True, slots=True)
class Tax:
    rate: str
    amount: int
    taxable: int
    inclusive: bool


@dataclass(frozen=True, slots=True)
class Sums:
    """`discounts` and `taxes` line by line, in the order of the lines."""

    subtotal: int
    total: int
    discounts: list[dict[str, int]]
    taxes: list[list[Tax]]

    @property
    def exclusive_tax(self) -> int:
        return sum(tax.amount for line in self.taxes for tax in line if not tax.inclusive)

    @property
    def inclusive_tax(self) -> int:
        return sum(tax.amount for line in self.taxes for tax in line if tax.inclusive)


def sums(lines: Sequence[Charged], discounts: Sequence[Discount] = ()) -> Sums:
    """Lines, then discounts one after the other, then taxes on what is left."""
    left = [line.amount for line in lines]
    given: list[dict[str, int]] = [{} for _ in lines]
    for discount in discounts:
        for at, off in enumerate(_off(lines, left, discount)):
            if off:
                left[at] -= off
                given[at][discount.id] = off
    taxes = _taxes(lines, left)
    subtotal = sum(line.amount for line in lines)
    total = sum(left) + sum(tax.amount for line in taxes for tax in line if not tax.inclusive)
    return Sums(subtotal, total, given, taxes)


def _off(lines: Sequence[Charged], left: Sequence[int], discount: Discount) -> list[int]:
    """How much of this discount falls on each line. It never turns a line negative."""
    fits = [
        amount if line.discountable and amount > 0 and (discount.products is None or line.product in discount.products) else 0
        for line, amount in zip(lines, left, strict=True)
    ]
    base = sum(fits)
    if base == 0:
        return [0] * len(lines)
    off = rounded(base * discount.percent / _HUNDRED) if discount.percent is not None else min(discount.amount or 0, base)
    return spread(off, [Decimal(off) * amount / base for amount in fits])


def _taxes(lines: Sequence[Charged], left: Sequence[int]) -> list[list[Tax]]:
    """Each rate is rounded once over the invoice."""
    taxes: list[list[Tax]] = [[] for _ in lines]
    for rate in dict.fromkeys(rate for line in lines for rate in line.rates):
        of = [at for at, line in enumerate(lines) if rate in line.rates]
        divisor = _HUNDRED + rate.percent if rate.inclusive else _HUNDRED
        exact = [left[at] * rate.percent / divisor for at in of]
        for at, amount in zip(of, spread(rounded(sum(exact, Decimal(0))), exact), strict=True):
            taxable = left[at] - amount if rate.inclusive else left[at]
            taxes[at].append(Tax(rate.id, amount, taxable, rate.inclusive))
    return taxes


def settled(total: int, balance: int) -> tuple[int, int]:
    """(amount due, the customer's balance after): a negative balance is credit, a positive one is owed with this invoice."""
    due = total + balance
    return max(due, 0), min(due, 0)
