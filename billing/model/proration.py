"""What a stretch of a billing period is worth, by the second, and what a change within it gives back and charges. Pure.

As Stripe does it (docs.stripe.com, "Prorations"): what was paid for and not used is credited at the old price, what is left of the
period is charged at the new one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from billing.model.cycle import Bounds, Cycle, period_of
from billing.model.money import EXACT, minor_digits, round_amount

_SECOND_MS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Proration:
    """`credit` is zero or below, `charge` zero or above; both are rounded, each as the line that it becomes."""

    credit: Decimal
    charge: Decimal

    @property
    def net(self) -> Decimal:
        return self.credit + self.charge


def part(amount: Decimal, period: Bounds, stretch: Bounds, currency: str) -> Decimal:
    """What of the period's price falls to `stretch`, which lies in it.

    The parts of any split of a period sum to its price: each is the difference of what is left at its two ends, rounded. What is
    left until the period's end is thereby rounded itself, as Stripe rounds it.
    """
    start_ms, end_ms = stretch
    return _left(amount, period, start_ms, currency) - _left(amount, period, end_ms, currency)


def worth(amount: Decimal, cycle: Cycle, stretch: Bounds, currency: str) -> Decimal:
    """What a stretch of any length costs at this price a period: whole periods, and parts of those at its ends."""
    at_ms, end_ms = stretch
    total = Decimal(0)
    while at_ms < end_ms:
        period = period_of(cycle, at_ms)
        until_ms = min(end_ms, period[1])
        total += part(amount, period, (at_ms, until_ms), currency)
        at_ms = until_ms
    return total


def change(old: Decimal, new: Decimal, cycle: Cycle, left: Bounds, currency: str) -> Proration:
    """Another price for what is left of the period: 10 to 20 at half gives back 5 and charges 10."""
    return Proration(credit=-worth(old, cycle, left, currency), charge=worth(new, cycle, left, currency))


def split(amount: Decimal, weights: Sequence[int], currency: str) -> tuple[Decimal, ...]:
    """A rounded amount in proportion to the weights, by largest remainder: the parts sum to it, and none is a whole minor unit off.

    Equal remainders go to the first.
    """
    whole, step = sum(weights), Decimal(1).scaleb(-minor_digits(currency))
    if whole <= 0:
        raise ValueError("there is nothing to split by")
    units = int(EXACT.divide(abs(amount), step))
    floors = [units * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(units * weights[i] % whole), i))
    for index in by_remainder[: units - sum(floors)]:
        floors[index] += 1
    sign = -1 if amount < 0 else 1
    return tuple(sign * floor * step for floor in floors)


def _left(amount: Decimal, period: Bounds, at_ms: int, currency: str) -> Decimal:
    """Of the period's price, what falls to the time from `at_ms` to its end."""
    start, end = period[0] // _SECOND_MS, period[1] // _SECOND_MS
    if not period[0] <= at_ms <= period[1]:
        raise ValueError("the stretch does not lie in the period")
    seconds = end - at_ms // _SECOND_MS
    return round_amount(EXACT.divide(EXACT.multiply(amount, Decimal(seconds)), Decimal(end - start)), currency)
