"""Half a year of random usage and random changes of quantity at the sandbox, against a calculation of a few lines."""

import random
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from math import floor

import pytest

from tests.integration.stripe.shop import START, Shop

PRICE, EACH = 4900, Fraction(3, 100)  # cents a seat and month, cents a call
STARTS = [
    int(datetime(*day, tzinfo=UTC).timestamp()) for day in ((2026, 1, 31), (2026, 2, 28), (2026, 3, 31), (2026, 4, 30), (2026, 5, 31))
]


def cents(exact: Fraction) -> int:
    """Half away from zero."""
    return floor(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)


@pytest.mark.parametrize("seed", range(3))
async def test_every_invoice_is_what_a_few_lines_say(seed, running) -> None:
    chance = random.Random(seed)
    shop = await Shop(running).open()
    made = await shop.subscribe(await shop.price(PRICE), await shop.metered("0.03"))
    seats, expected = 1, [PRICE]
    for start, end in pairwise(STARTS):
        changed, calls = 0, 0
        for at in sorted(chance.sample(range(start + 7200, end - 60), 3)):
            await shop.to((at - START) / 86_400)
            value, wanted = chance.randrange(100_000), chance.randrange(1, 6)
            await shop.use_calls(value, (at - 3600 - START) / 86_400)
            await shop.change(made, **{"items[0][id]": made["items"]["data"][0]["id"], "items[0][quantity]": wanted})
            if wanted != seats:
                left = Fraction(end - at, end - start)
                changed += cents(wanted * PRICE * left) - cents(seats * PRICE * left)
            seats, calls = wanted, calls + value
        expected.append(seats * PRICE + cents(calls * EACH) + changed)
        await shop.to((end + 3700 - START) / 86_400)
    paid = [invoice["amount_paid"] for invoice in await shop.invoices()]
    credit = -(await shop.ask("GET", f"/v1/customers/{shop.customer}"))["balance"]
    assert [total for _, total in await shop.totals()] == expected
    assert sum(paid) - credit == sum(expected)
