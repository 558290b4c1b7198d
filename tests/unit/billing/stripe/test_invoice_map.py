"""Stripe's invoices in our form: sums, kinds of lines, states, in any currency."""

from decimal import Decimal
from typing import Any

import pytest

from billing.model.invoice import LineKind, State, totals
from billing.stripe.mirror.invoice_map import invoice_of

ORG = "aaaaaaaa-0000-4000-8000-000000000001"


def line(amount: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"il_{amount}", "amount": amount, "description": "x", "quantity": 1, "period": {"start": 1, "end": 2},
        "parent": {"type": "subscription_item_details", "subscription_item_details": {"proration": False}},
        "pricing": {"unit_amount_decimal": str(amount), "price_details": {"price": "price_base"}},
    } | changes  # fmt: skip


def invoice(*lines: dict[str, Any], **changes: Any) -> dict[str, Any]:
    total = sum(each["amount"] for each in lines)
    return {
        "id": "in_1", "currency": "usd", "status": "open", "subtotal": total, "total": total, "amount_due": max(0, total), "amount_paid": 0,
        "period_start": 10, "period_end": 20, "created": 30, "status_transitions": {"finalized_at": 31}, "number": "A-1",
        "lines": {"data": list(lines)},
    } | changes  # fmt: skip


OVERAGE = line(105, pricing={"unit_amount_decimal": "0.03", "price_details": {"price": {"id": "price_api"}}}, quantity=3500)
PRORATION = line(-500, parent={"type": "invoice_item_details", "invoice_item_details": {"proration": True}})
ITEM = line(700, parent={"type": "invoice_item_details", "invoice_item_details": {"proration": False}})


def test_each_line_is_of_its_kind() -> None:
    found = invoice_of(invoice(line(4900), OVERAGE, PRORATION, ITEM), ORG, {"price_api": "api"})
    assert [(each.kind, each.amount, each.meter) for each in found.lines] == [
        (LineKind.BASE, Decimal("49.00"), None), (LineKind.OVERAGE, Decimal("1.05"), "api"), (LineKind.PRORATION, Decimal("-5.00"), None),
        (LineKind.ONE_TIME, Decimal("7.00"), None),
    ]  # fmt: skip
    assert (found.lines[1].quantity, found.lines[1].unit_price) == (3500, Decimal("0.0003"))


SUMS: list[tuple[str, dict[str, Any]]] = [
    ("nothing beside", invoice(line(4900))),
    ("a discount", invoice(line(4900), total_discount_amounts=[{"amount": 900}], total=4000, amount_due=4000)),
    ("tax on top", invoice(line(10_000), total_taxes=[{"amount": 850, "tax_behavior": "exclusive"}], total=10_850, amount_due=10_850)),
    ("tax contained", invoice(line(10_000), total_taxes=[{"amount": 783, "tax_behavior": "inclusive"}])),
    ("a balance that took over part", invoice(line(4900), amount_due=1900)),
    ("a balance that took over all", invoice(line(4900), amount_due=0)),
    ("below zero", invoice(PRORATION)),
    ("no decimals", invoice(line(4900), currency="jpy")),
    ("three decimals", invoice(line(4900), currency="bhd")),
    (
        "all of it",
        invoice(
            line(10_000), total_discount_amounts=[{"amount": 1000}, {"amount": 500}],
            total_taxes=[{"amount": 700, "tax_behavior": "exclusive"}, {"amount": 23, "tax_behavior": "exclusive"}], total=9223,
            amount_due=9000,
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize("found", [case for _, case in SUMS], ids=[name for name, _ in SUMS])
def test_the_lines_add_up_to_stripes_sums(found: dict[str, Any]) -> None:
    made = invoice_of(found, ORG, {})
    assert totals(made.lines, tax_inclusive=made.totals.tax_inclusive) == made.totals


def test_amounts_have_the_currencys_decimals() -> None:
    assert [str(invoice_of(invoice(line(4900), currency=c), ORG, {}).totals.total) for c in ("usd", "jpy", "bhd")] == [
        "49.00",
        "4900",
        "4.900",
    ]


@pytest.mark.parametrize("state", list(State))
def test_states_are_stripes_own(state: State) -> None:
    when = {"finalized_at": 31, "paid_at": 32, "voided_at": 33 if state is State.VOID else None}
    made = invoice_of(invoice(line(1), status=state.value, status_transitions=when, attempt_count=2, next_payment_attempt=99), ORG, {})
    assert (made.state, made.number, made.attempts, made.next_attempt_ms) == (
        state, None if state is State.DRAFT else "A-1", 2, 99_000,
    )  # fmt: skip


def test_a_state_that_stripe_never_had_is_refused() -> None:
    with pytest.raises(ValueError, match="disputed"):
        invoice_of(invoice(line(1), status="disputed"), ORG, {})
