"""What Stripe is told as a native price comes to our amount, to the cent: the sandbox's invoice lines against our rating."""

from decimal import Decimal as D
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from billing.model.money import round_amount, to_minor
from billing.model.native import native_at_stripe
from billing.model.pricing import Graduated, Package, PerUnit, Price, Tier, Volume
from billing.stripe.objects import charged_by
from billing.stripe.sandbox.invoice_math import total_of
from metering.model.meter import Meter

METER = Meter(name="api", unit="byte", show="kB", show_size=1000, report="kB", report_size=1000)

prices_of_a_unit = st.decimals(min_value=0, max_value=20, places=4)
fees = st.decimals(min_value=0, max_value=500, places=2)
ends = st.sets(st.integers(min_value=1, max_value=2_000), max_size=4)


@st.composite
def tiers(draw: st.DrawFn) -> tuple[Tier, ...]:
    """Their ends are whole report units; every other one costs a fee."""
    bounds: list[int | None] = [end * 1000 for end in sorted(draw(ends))]
    return tuple(Tier(to=to, each=draw(prices_of_a_unit), flat=draw(st.one_of(st.just(D(0)), fees))) for to in [*bounds, None])


def at_the_sandbox(terms: Any, currency: str) -> dict[str, Any]:
    """The price as the sandbox keeps it."""
    price = {"transform_quantity": None, "tiers_mode": None, **charged_by(terms, currency)}
    price["_tiers"] = [{**tier, "up_to": None if tier["up_to"] == "inf" else tier["up_to"]} for tier in price.get("tiers", [])]
    return price


def check(price: Price, units: int, currency: str) -> None:
    at = native_at_stripe(price, METER, currency=currency)
    assume(at.terms is not None)
    ours = to_minor(round_amount(price.amount(units * METER.report_size), currency), currency)
    assert total_of(at_the_sandbox(at.terms, currency), units) == ours


currencies = st.sampled_from(["usd", "jpy", "bhd"])
quantities = st.integers(min_value=0, max_value=5_000)


@given(tiers(), quantities, currencies)
def test_volume(found: tuple[Tier, ...], units: int, currency: str) -> None:
    check(Volume(tiers=found, per_unit_size=1000), units, currency)


@given(tiers(), quantities, st.sampled_from(["usd", "bhd"]))
def test_graduated_where_full_tiers_come_to_whole_minor_units(found: tuple[Tier, ...], units: int, currency: str) -> None:
    whole = tuple(Tier(to=tier.to, each=tier.each if tier.to is None else tier.each.quantize(D("0.01")), flat=tier.flat) for tier in found)
    check(Graduated(tiers=whole, per_unit_size=1000), units, currency)


@given(prices_of_a_unit, st.integers(1, 50), quantities, currencies)
def test_units_and_packages(each: D, size: int, units: int, currency: str) -> None:
    check(PerUnit(each=each, per_unit_size=1000), units, currency)
    check(Package(size=size * 1000, each=each, per_unit_size=1000), units, currency)


def test_graduated_that_stripe_would_round_tier_by_tier_is_not_native_and_would_differ() -> None:
    price = Graduated(tiers=(Tier(to=1000, each=D("0.004")), Tier(to=2000, each=D("0.004")), Tier(each=D("0.004"))), per_unit_size=1000)
    assert round_amount(price.amount(3_000), "usd") == D("0.01")  # three lines of 0.004 would be nothing at Stripe
    assert not native_at_stripe(price, METER).native
