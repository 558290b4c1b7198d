"""Whose are the customers and subscriptions of an account that was there before: nothing is guessed, what is left is named."""

from decimal import Decimal
from typing import Any

import pytest

from billing.model.adoption import Candidate, adoption
from billing.model.plan import PlanSpec

PRO = PlanSpec(name="pro", price={"usd": Decimal(49)})
ACME = Candidate(
    org_id="aaaaaaaa-0000-4000-8000-000000000001", slug="acme", email="A@acme.test", plan="pro", version=3, spec=PRO, currency="usd"
)
BOLT = Candidate(
    org_id="bbbbbbbb-0000-4000-8000-000000000001", slug="bolt", email="b@bolt.test", plan="pro", version=3, spec=PRO, currency="usd"
)


def customer(number: int, email: str | None = None, **metadata: str) -> dict[str, Any]:
    return {"id": f"cus_{number}", "email": email, "metadata": metadata}


def subscription(owner: int, amount: int = 4900, status: str = "active", **price: Any) -> dict[str, Any]:
    recurring = {"interval": "month", "interval_count": 1, "usage_type": "licensed"}
    price = {"id": f"price_{amount}", "currency": "usd", "unit_amount": amount, "recurring": recurring, "metadata": {}} | price
    return {"id": f"sub_{owner}", "customer": f"cus_{owner}", "status": status, "items": {"data": [{"price": price}]}}


OWNERS = [
    ("by the id in its metadata", [customer(1, None, weighbridge_org=ACME.org_id)], "acme"),
    ("by the slug in its metadata", [customer(1, None, org="acme")], "acme"),
    ("by its address, in any case", [customer(1, "a@ACME.test ")], "acme"),
    ("by metadata, whatever its address", [customer(1, "b@bolt.test", weighbridge_org=ACME.org_id)], "acme"),
    ("not by metadata that names nobody, though the address fits", [customer(1, "a@acme.test", weighbridge_org="gone")], None),
    ("not by an address that two customers have", [customer(1, "a@acme.test"), customer(2, "a@acme.test")], None),
    ("not without anything", [customer(1)], None),
    ("not by a stranger's address", [customer(1, "x@y.test")], None),
]


@pytest.mark.parametrize(("customers", "owner"), [case[1:] for case in OWNERS], ids=[case[0] for case in OWNERS])
def test_a_customer_is_given_to_an_organization(customers: list[dict[str, Any]], owner: str | None) -> None:
    found = adoption(customers, [], [ACME, BOLT])
    assert [link.slug for link in found.links] == ([owner] if owner else [])
    assert len(found.links) + len(found.left) == len(customers)


def test_an_organization_gets_one_customer() -> None:
    found = adoption([customer(1, None, org="acme"), customer(2, None, org=ACME.org_id)], [], [ACME])
    assert ([link.stripe_id for link in found.links], found.left) == (["cus_1"], (("cus_2", "acme is cus_1 already"),))


SUBSCRIPTIONS = [
    ("the plan's amount", subscription(1), ["customer", "subscription", "price"]),
    ("a price that is named for the plan", subscription(1, 3900, metadata={"plan": "pro"}), ["customer", "subscription", "price"]),
    ("another amount", subscription(1, 3900), ["customer"]),
    ("another currency", subscription(1, currency="eur"), ["customer"]),
    ("another interval", subscription(1, recurring={"interval": "year", "usage_type": "licensed"}), ["customer"]),
    ("a metered price", subscription(1, recurring={"interval": "month", "usage_type": "metered"}), ["customer"]),
    ("one that has ended", subscription(1, status="canceled"), ["customer"]),
]


@pytest.mark.parametrize(("found", "kinds"), [case[1:] for case in SUBSCRIPTIONS], ids=[case[0] for case in SUBSCRIPTIONS])
def test_a_subscription_is_taken_over_where_its_price_is_the_plans(found: dict[str, Any], kinds: list[str]) -> None:
    links = adoption([customer(1, None, org="acme")], [found], [ACME]).links
    assert [link.kind for link in links] == kinds


def test_the_base_price_is_kept_under_the_key_that_delivery_looks_for() -> None:
    links = adoption([customer(1, None, org="acme")], [subscription(1)], [ACME]).links
    assert {link.kind: link.key for link in links} == {
        "customer": ACME.org_id,
        "subscription": ACME.org_id,
        "price": "pro/3/usd/month/base",
    }


def test_of_two_subscriptions_one_is_named_as_too_many() -> None:
    second = subscription(1) | {"id": "sub_2"}
    found = adoption([customer(1, None, org="acme")], [subscription(1), second], [ACME])
    assert [each for each, _ in found.left] == ["sub_2"]


def test_a_subscription_of_nobody_is_left() -> None:
    assert [each for each, _ in adoption([customer(1)], [subscription(1)], [ACME]).left] == ["cus_1", "sub_1"]


def test_what_stands_already_is_found_no_second_time() -> None:
    known = Candidate(
        org_id=ACME.org_id, slug="acme", email=None, plan="pro", version=3, spec=PRO, currency="usd", customer="cus_1", subscription="sub_1"
    )
    assert adoption([customer(1, None, org="acme")], [subscription(1)], [known]) == adoption([], [], [])
