"""Tax by a manual rate: how much, and where it is due."""

from decimal import Decimal as D

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.tax import Place, TaxRateFaulty, TaxRule, percent, tax

CENT = D("0.01")


@pytest.mark.parametrize(
    ("amount", "rate", "inclusive", "currency", "expected"),
    [
        ("50.75", "0.085", False, "usd", "4.31"),  # the guide's invoice
        ("119.00", "0.19", True, "eur", "19.00"),
        ("100.00", "0.19", True, "eur", "15.97"),
        ("0.10", "0.05", False, "usd", "0.01"),  # half away from zero
        ("-0.10", "0.05", False, "usd", "-0.01"),
        ("1001", "0.1", False, "jpy", "100"),
        ("10.005", "0.1", False, "bhd", "1.001"),
        ("50.75", "0", False, "usd", "0.00"),
        ("0", "0.085", True, "usd", "0.00"),
    ],
)
def test_tax_is_rounded_once_half_away_from_zero(amount: str, rate: str, inclusive: bool, currency: str, expected: str) -> None:
    assert tax(D(amount), D(rate), inclusive=inclusive, currency=currency) == D(expected)


@settings(deadline=None, max_examples=60)
@given(st.decimals(0, 10_000, places=2), st.decimals(0, 1, places=4))
def test_what_a_gross_amount_contains_is_what_its_net_amount_has_on_top(gross: D, rate: D) -> None:
    contained = tax(gross, rate, inclusive=True, currency="usd")
    assert abs(tax(gross - contained, rate, inclusive=False, currency="usd") - contained) <= CENT


@pytest.mark.parametrize(
    ("regions", "country", "region", "due"),
    [
        ((), None, None, True),
        ((), "DE", None, True),
        (("US-CA", "US-NY"), "US", "CA", True),
        (("US-CA", "US-NY"), "us", "us-ny", True),
        (("us-ca",), "US", "CA", True),
        (("US-CA",), "US", "TX", False),
        (("US-CA",), "US", None, False),
        (("DE",), "DE", "BY", True),
        (("CA",), "US", "CA", False),  # Canada is not California
        (("US-CA",), None, "CA", False),
        (("US-CA",), None, None, False),
    ],
)
def test_tax_is_due_where_the_customer_is(regions: tuple[str, ...], country: str | None, region: str | None, due: bool) -> None:
    rule = TaxRule(rate=D("0.085"), regions=regions)
    assert rule.at(Place(country=country, region=region)) == (D("0.085") if due else 0)


@pytest.mark.parametrize("rate", ["-0.01", "8.5", "NaN"])
def test_a_rate_that_is_no_share_is_refused(rate: str) -> None:
    with pytest.raises(TaxRateFaulty):
        TaxRule(rate=D(rate))


@pytest.mark.parametrize(("rate", "shown"), [("0.085", "8.5"), ("0.19", "19"), ("0.2", "20"), ("0", "0"), ("0.0725", "7.25")])
def test_a_rate_is_shown_as_people_write_it(rate: str, shown: str) -> None:
    assert percent(D(rate)) == shown
