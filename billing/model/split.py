"""Split a rounded amount over weights so that the parts add up to it: the largest remainder.

Pure. Every part is a whole number of minor units; equal remainders go to who stands first.
"""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from billing.model.money import from_minor, to_minor


def split(amount: Decimal, weights: Sequence[Decimal], currency: str) -> tuple[Decimal, ...]:
    """Parts of `amount` in proportion to `weights`, none of them below zero, as many as there are weights.

    A weight of zero gets nothing. Where the weights are amounts of the same currency that add up to `amount` or more, no part exceeds
    its weight. Raises AmountNotWhole for an amount that is not rounded, ValueError where there is something to give and nobody to take.
    """
    minor, total = to_minor(amount, currency), Fraction(sum(weights, Decimal(0)))
    if minor == 0:
        return tuple(from_minor(0, currency) for _ in weights)
    if total <= 0 or min(weights) < 0:
        raise ValueError(f"{amount} cannot be split over {list(weights)}")
    exact = [Fraction(weight) * minor / total for weight in weights]
    whole = [int(share) for share in exact]  # towards zero
    left = abs(minor - sum(whole))
    step = 1 if minor > 0 else -1
    for place in sorted(range(len(whole)), key=lambda i: -abs(exact[i] - whole[i]))[:left]:
        whole[place] += step
    return tuple(from_minor(part, currency) for part in whole)
