"""Fields of a customer: what is taken, what is refused, and what a change leaves as it was."""

from typing import Any

import pytest

from billing.model.customer import COUNTRIES, Address, Customer, CustomerFaulty, TaxId

ACME = Customer(org_id="o", name="Acme Corp", currency="usd", email="billing@example.com", address=Address(city="Berlin", country="DE"))

TAKEN: list[dict[str, Any]] = [
    {
        "name": "Acme Corporation LLC",
        "line1": "123 Main St",
        "city": "San Francisco",
        "state": "CA",
        "postal_code": "94102",
        "country": "US",
    },
    {"email": "o'neil+bills@mail.example.co.uk"},
    {"language": "de-CH"},
    {"currency": "eur"},
    {"tax_ids": (TaxId(kind="eu_vat", value="DE123456789"),)},
    {"marketplace": "aws", "marketplace_customer_id": "cus_xxxxx"},
    {"user_id": "aaaaaaaa-0000-4000-8000-00000000000a"},
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"email": "billing"}, "email"),
    ({"email": "a@b"}, "email"),
    ({"email": "a b@example.com"}, "email"),
    ({"email": "a@example.com\nBcc: all@example.com"}, "email"),
    ({"country": "USA"}, "country"),
    ({"country": "ZZ"}, "country"),
    ({"country": "us"}, "country"),
    ({"city": "x" * 201}, "city"),
    ({"city": "a\x1b[2J"}, "city"),
    ({"postal_code": " "}, "postal_code"),
    ({"language": "english"}, "language"),
    ({"currency": "dollars"}, "currency"),
    ({"name": ""}, "name"),
    ({"tax_ids": (TaxId(kind="vat", value="DE1"),)}, "tax_id"),
    ({"marketplace": "aws"}, "marketplace"),
    ({"marketplace": "ebay", "marketplace_customer_id": "1"}, "marketplace"),
    ({"user_id": "7"}, "user_id"),
]


@pytest.mark.parametrize("fields", TAKEN, ids=lambda fields: next(iter(fields)))
def test_what_can_be_is_taken(fields: dict[str, Any]) -> None:
    after = ACME.changed(**fields)
    for name, value in fields.items():
        assert getattr(after, name, None) == value or getattr(after.address, name) == value


@pytest.mark.parametrize(("fields", "field"), REFUSED)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(CustomerFaulty) as refused:
        ACME.changed(**fields)
    assert refused.value.details["field"] == field


def test_what_is_not_named_stays() -> None:
    after = ACME.changed(postal_code="10115")
    assert (after.email, after.address) == (ACME.email, Address(city="Berlin", country="DE", postal_code="10115"))


def test_an_empty_text_takes_a_field_away() -> None:
    assert ACME.changed(email="", city="").email is None
    assert ACME.changed(email="", city="").address == Address(country="DE")


def test_an_address_is_written_as_lines() -> None:
    address = Address(line1="123 Main St", city="San Francisco", state="CA", postal_code="94102", country="US")
    assert address.lines == ("123 Main St", "94102 San Francisco CA", "US")


def test_all_countries_have_two_letters() -> None:
    assert len(COUNTRIES) == 250
    assert all(len(code) == 2 for code in COUNTRIES)
