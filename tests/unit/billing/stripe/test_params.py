"""Form parameters, read as Stripe reads them."""

from typing import Any

import pytest

from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.params import nested, read
from billing.stripe.sandbox.spec import load


def accepts(operation_id: str) -> Any:
    return load().by_id(operation_id).accepts


def test_brackets_become_lists_and_objects_and_text_becomes_numbers_and_truth_values() -> None:
    pairs = [
        ("customer", "cus_1"),
        ("items[1][price]", "price_b"),
        ("items[0][price]", "price_a"),
        ("items[0][quantity]", "3"),
        ("cancel_at_period_end", "false"),
        ("metadata[a]", "7"),
    ]
    assert read(pairs, accepts("PostSubscriptions")) == {
        "customer": "cus_1",
        "items": [{"price": "price_a", "quantity": 3}, {"price": "price_b"}],
        "cancel_at_period_end": False,
        "metadata": {"a": "7"},
    }


def test_empty_brackets_count_up() -> None:
    assert nested([("expand[]", "a"), ("expand[]", "b")]) == {"expand": {"0": "a", "1": "b"}}


@pytest.mark.parametrize(
    ("operation", "pairs", "code", "param"),
    [
        ("PostCustomers", {"nme": "A"}, "parameter_unknown", "nme"),
        ("PostSubscriptions", {"items[0][prize]": "x"}, "parameter_unknown", "items[0][prize]"),
        ("PostProducts", {"active": "true"}, "parameter_missing", "name"),
        ("PostPrices", {"currency": "usd", "recurring[usage_type]": "metered"}, "parameter_missing", "recurring[interval]"),
        ("PostPrices", {"currency": "usd", "unit_amount": "1.5"}, "parameter_invalid_integer", "unit_amount"),
        ("PostPrices", {"currency": "usd", "unit_amount_decimal": "1e3"}, None, "unit_amount_decimal"),
        ("PostPrices", {"currency": "usd", "recurring[interval]": "hour"}, None, "recurring[interval]"),
        ("PostPrices", {"currency": "usd", "active": "yes"}, None, "active"),
        ("PostSubscriptions", {"items[x][price]": "p"}, None, "items"),
        ("PostSubscriptions", {"items": "p"}, None, "items"),
        ("PostBillingMeterEvents", {"event_name": "e", "payload": "x"}, None, "payload"),
        ("PostBillingMeterEvents", {"event_name": "e" * 101, "payload[value]": "1"}, None, "event_name"),
    ],
)
def test_what_breaks_the_schema_is_refused_by_its_name(operation: str, pairs: dict[str, str], code: str | None, param: str) -> None:
    with pytest.raises(Refusal) as caught:
        read(pairs.items(), accepts(operation))
    assert (caught.value.code, caught.value.param) == (code, param)
