"""Tax by a manual rate: where it is due, and how much of an invoice it is. Pure.

BILLING_TAX_RATE is a share (0.085 is 8.5 %), BILLING_TAX_REGIONS where it is due, by the customer's address: US-CA a state, DE a whole
country. Tax is rounded once an invoice, never once a line. Where Stripe computes taxes, Stripe writes the invoice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from billing.model.money import EXACT, round_amount
from metering.model.errors import BadInput

_ONE = Decimal(1)


class TaxRateFaulty(BadInput):
    """A tax rate is a share from 0 to 1."""

    code = "tax_rate_faulty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a customer is, as ISO 3166 has it: country US, region CA. None where the address does not say."""

    country: str | None = None
    region: str | None = None

    @property
    def codes(self) -> tuple[str, ...]:
        """The regions that it lies in: US-CA and US."""
        if not self.country:
            return ()
        country = self.country.strip().upper()
        region = (self.region or "").strip().upper().removeprefix(f"{country}-")
        return (f"{country}-{region}", country) if region else (country,)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxRule:
    """`regions` empty: due everywhere. `inclusive`: prices contain it (STRIPE_TAX_INCLUSIVE)."""

    rate: Decimal = Decimal(0)
    regions: tuple[str, ...] = ()
    inclusive: bool = False

    def __post_init__(self) -> None:
        if not self.rate.is_finite() or not 0 <= self.rate <= 1:
            raise TaxRateFaulty(f"a tax rate is a share from 0 to 1, such as 0.085, not {self.rate}")

    def at(self, place: Place) -> Decimal:
        """The rate that is due there. Where regions are named, an address that says nothing lies in none of them."""
        if not self.rate or not self.regions:
            return self.rate
        named = {region.strip().upper() for region in self.regions}
        return self.rate if named.intersection(place.codes) else Decimal(0)


NO_TAX = TaxRule()


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeTaxes:
    """How Stripe taxes the invoices that it writes: by its own computing (`automatic`, STRIPE_TAX_ENABLED), or at the manual rate."""

    automatic: bool = False
    rule: TaxRule = NO_TAX

    def told(self, place: Place) -> Mapping[str, object]:
        """For a customer there. Stripe computes nothing for one of whom it does not know the country, and refuses to be asked."""
        rate = Decimal(0) if self.automatic else self.rule.at(place)
        return {"automatic": self.automatic and bool(place.country), "rate": format(rate, "f"), "inclusive": self.rule.inclusive}

    @property
    def any(self) -> bool:
        return self.automatic or self.rule.rate > 0


NO_TAXES_AT_STRIPE = StripeTaxes()


def tax(amount: Decimal, rate: Decimal, *, inclusive: bool, currency: str) -> Decimal:
    """What is due on `amount`, or what `amount` contains of it where `inclusive`. Half away from zero, once an invoice.

    50.75 at 8.5 %: 4.31 on top. 119.00 that contains 19 %: 19.00 of it.
    """
    share = EXACT.multiply(amount, rate)
    return round_amount(EXACT.divide(share, _ONE + rate) if inclusive else share, currency)


def percent(rate: Decimal) -> str:
    """8.5 for 0.085."""
    return format(EXACT.multiply(rate, Decimal(100)).normalize(), "f")
