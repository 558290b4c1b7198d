"""Currencies: how many digits a minor unit has, and the one rounding an amount gets.

Pure. Amounts are Decimal in major units; minor units (cents) are int and appear only at the edge, at Stripe.
"""

from decimal import ROUND_HALF_UP, Context, Decimal

from metering.model.errors import BadInput

# Enough digits for any product of a quantity (64 bit) and a price (12 decimals), with room for a division and a sum of such.
EXACT = Context(prec=100)

# As Stripe counts them (docs.stripe.com/currencies): ISK and UGX have no minor unit in life, and two digits there.
_NO_DIGITS = frozenset(["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"])
_THREE_DIGITS = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])


class AmountNotWhole(BadInput):
    """The amount has more decimals than its currency."""

    code = "amount_not_whole"


def minor_digits(currency: str) -> int:
    """Decimals of a currency's minor unit: JPY 0, USD 2, BHD 3."""
    code = currency.lower()
    return 0 if code in _NO_DIGITS else 3 if code in _THREE_DIGITS else 2


def round_amount(amount: Decimal, currency: str) -> Decimal:
    """`amount` to the currency's minor unit, half away from zero. Once a line, nowhere else."""
    step = Decimal(1).scaleb(-minor_digits(currency))
    return amount.quantize(step, rounding=ROUND_HALF_UP, context=EXACT)


def to_minor(amount: Decimal, currency: str) -> int:
    """Whole minor units of a rounded amount. Raises AmountNotWhole rather than round a second time."""
    minor = EXACT.scaleb(amount, minor_digits(currency))
    if minor != minor.to_integral_value():
        raise AmountNotWhole(f"{amount} is not a whole number of {currency.upper()} minor units")
    return int(minor)


def from_minor(minor: int, currency: str) -> Decimal:
    """Major units of whole minor units."""
    return EXACT.scaleb(Decimal(minor), -minor_digits(currency))
