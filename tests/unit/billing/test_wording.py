"""How languages write money, numbers and dates."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from billing.model.wording import language_of, wording

MONEY = [
    ("49.00", "usd", "$49.00", "49,00 $"),
    ("49", "usd", "$49.00", "49,00 $"),
    ("1234.5", "eur", "€1,234.50", "1.234,50 €"),
    ("-5", "gbp", "-£5.00", "-5,00 £"),
    ("4900", "jpy", "¥4,900", "4.900 ¥"),
    ("1.5", "bhd", "BHD 1.500", "1,500 BHD"),
    ("49", "cad", "CA$49.00", "49,00 CA$"),
    ("49", "chf", "CHF 49.00", "49,00 CHF"),
    ("0.0003", "usd", "$0.0003", "0,0003 $"),
    ("0", "usd", "$0.00", "0,00 $"),
    ("1E+3", "usd", "$1,000.00", "1.000,00 $"),
]


@pytest.mark.parametrize(("amount", "currency", "english", "german"), MONEY)
def test_money_is_written_as_the_language_does(amount: str, currency: str, english: str, german: str) -> None:
    written = [wording(tag).money(Decimal(amount), currency).replace("\u00a0", " ") for tag in ("en", "de")]
    assert written == [english, german]


@pytest.mark.parametrize(
    ("value", "english", "german"),
    [("80000", "80,000", "80.000"), ("1.50", "1.5", "1,5"), ("1E+6", "1,000,000", "1.000.000"), ("0", "0", "0")],
)
def test_numbers_are_grouped_by_thousands(value: str, english: str, german: str) -> None:
    assert [wording(tag).number(Decimal(value)) for tag in ("en", "de")] == [english, german]


def test_dates_and_shares() -> None:
    at = datetime(2026, 3, 1, 8, 5, tzinfo=UTC)
    assert (wording("en").date(at), wording("de").date(at)) == ("March 1, 2026", "1. März 2026")
    assert (wording("en").instant(at), wording("de").instant(at)) == ("March 1, 2026, 08:05 UTC", "1. März 2026, 08:05 Uhr (UTC)")
    assert (wording("en").share(80), wording("de").share(Decimal("8.5"))) == ("80%", "8,5\u00a0%")


@pytest.mark.parametrize(
    ("tag", "found"), [("de", "de"), ("de-AT", "de"), ("DE_CH", "de"), ("en-GB", "en"), ("fr", "en"), (None, "en"), ("", "en")]
)
def test_a_language_we_do_not_have_is_english(tag: str | None, found: str) -> None:
    assert language_of(tag) == found
