"""Invoices: states, lines, what they add up to, and what can be taken back of one."""

from dataclasses import replace
from decimal import Decimal as D
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.credit_note import NOTHING_CREDITED, Credited, CreditRefused, sums, where_it_goes
from billing.model.invoice import (
    BELOW_SUBTOTAL,
    TRANSITIONS,
    Deduction,
    Event,
    Invoice,
    InvoiceTransitionRefused,
    Issuer,
    LineKind,
    LinesFaulty,
    State,
    after,
    build,
    creditable,
    is_called,
    month_of,
    states_called,
    word,
)
from billing.model.invoice_item import InvoiceItem, ItemKind
from billing.model.tax import Place, TaxRule
from metering.model.errors import BadInput

DAY = 86_400_000
CALIFORNIA = Place(country="US", region="CA")


def item(amount: str, kind: ItemKind = ItemKind.USAGE, **more: Any) -> InvoiceItem:
    given = {
        "org_id": "o", "identifier": f"{kind}:{amount}", "kind": kind, "description": kind.value, "quantity": D(1), "unit_price": None,
        "amount": D(amount), "currency": "usd", "period_start_ms": 0, "period_end_ms": 30 * DAY,
    }  # fmt: skip
    return InvoiceItem(**{**given, **more})


def off(amount: str) -> Any:
    return lambda _: [Deduction(reference="c", description="Coupon", amount=D(amount))]


def invoice(items: list[InvoiceItem], *, state: State = State.OPEN, **options: Any) -> Invoice:
    lines, found, rate = build(items, currency="usd", place=CALIFORNIA, **options)
    return Invoice(
        id="in_1", org_id="o", issuer=Issuer.WEIGHBRIDGE, identifier="i", state=state, currency="usd", lines=lines, totals=found,
        tax_rate=rate, period_start_ms=0, period_end_ms=30 * DAY, created_ms=30 * DAY,
    )  # fmt: skip


# --- states -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_what_the_table_does_not_name_is_refused(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert after(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(InvoiceTransitionRefused, match=f"an invoice that is {state}"):
            after(state, event)


def test_nothing_follows_paid_and_void_and_everything_is_reached_from_a_draft() -> None:
    assert not [state for state, _ in TRANSITIONS if state in (State.PAID, State.VOID)]
    reached = {State.DRAFT}
    while more := {after for (state, _), after in TRANSITIONS.items() if state in reached} - reached:
        reached |= more
    assert reached == set(State)


@pytest.mark.parametrize(
    ("state", "attempts", "due_ms", "now_ms", "words"),
    [
        (State.OPEN, 0, 10 * DAY, 10 * DAY + 5, {"open", "unpaid"}),  # due on this day
        (State.OPEN, 0, 10 * DAY, 11 * DAY, {"open", "unpaid", "past_due"}),
        (State.OPEN, 1, 20 * DAY, 10 * DAY, {"open", "unpaid", "past_due"}),
        (State.PAID, 2, 10 * DAY, 30 * DAY, {"paid"}),
        (State.UNCOLLECTIBLE, 3, 10 * DAY, 30 * DAY, {"uncollectible"}),
        (State.DRAFT, 0, None, 30 * DAY, {"draft"}),
    ],
)
def test_unpaid_is_open_and_past_due_is_open_with_a_failed_attempt_or_overdue(
    state: State, attempts: int, due_ms: int | None, now_ms: int, words: set[str]
) -> None:
    found = replace(invoice([item("1.00")], state=state), attempts=attempts, due_ms=due_ms)
    every = {*(s.value for s in State), "unpaid", "past_due"}
    assert {each for each in every if is_called(found, each, now_ms)} == words
    assert all(found.state in states_called(each) for each in words)  # what is looked for holds what is found
    assert word(found, now_ms) in words


def test_a_word_that_is_no_state_is_refused() -> None:
    with pytest.raises(BadInput, match="there are: draft, open, paid"):
        is_called(invoice([item("1.00")]), "owing", 0)


# --- lines and sums -----------------------------------------------------------------------------------------------------


def test_the_invoice_of_the_guide_adds_up() -> None:
    found = invoice(
        [item("1.50", ItemKind.OVERAGE), item("0.25", ItemKind.OVERAGE), item("49.00", ItemKind.BASE)], rule=TaxRule(rate=D("0.085"))
    )
    assert [line.amount for line in found.lines] == [D("49.00"), D("1.50"), D("0.25"), D("4.31")]
    assert (found.totals.subtotal, found.totals.tax, found.totals.total) == (D("50.75"), D("4.31"), D("55.06"))
    assert found.totals.amount_due == D("55.06")


def test_lines_stand_in_the_order_of_their_kinds_and_within_one_as_they_came() -> None:
    kinds = list(reversed(ItemKind))
    lines, _, _ = build(
        [item("1.00", kind) for kind in kinds], currency="usd", rule=TaxRule(rate=D("0.1")), discounts=off("1.00"), credits=off("2.00")
    )
    assert [line.kind for line in lines] == list(LineKind)


SUMS = [  # items, discount, tax rate, inclusive, credit, (subtotal, discount, tax, total, credit, due, carried)
    (["100.00"], None, "0.2", False, None, ("100.00", "0", "20.00", "120.00", "0", "120.00", "0")),
    (["100.00"], "50.00", "0.2", False, None, ("100.00", "50.00", "10.00", "60.00", "0", "60.00", "0")),
    (["119.00"], None, "0.19", True, None, ("119.00", "0", "19.00", "119.00", "0", "119.00", "0")),
    (["119.00"], None, "0.19", True, "100.00", ("119.00", "0", "19.00", "119.00", "100.00", "19.00", "0")),
    (["100.00"], "100.00", "0.2", False, None, ("100.00", "100.00", "0.00", "0.00", "0", "0.00", "0")),
    (["100.00"], None, "0", False, "100.00", ("100.00", "0", "0", "100.00", "100.00", "0.00", "0")),
    (["10.00", "-30.00"], None, "0.1", False, None, ("-20.00", "0", "-2.00", "-22.00", "0", "0", "22.00")),
    ([], None, "0.2", False, None, ("0", "0", "0.00", "0.00", "0", "0", "0")),
]


@pytest.mark.parametrize(("amounts", "discount", "rate", "inclusive", "credit", "expected"), SUMS)
def test_sums(amounts: list[str], discount: str | None, rate: str, inclusive: bool, credit: str | None, expected: tuple[str, ...]) -> None:
    more = {"discounts": off(discount)} if discount else {}
    more |= {"credits": off(credit)} if credit else {}
    _, t, _ = build([item(each) for each in amounts], currency="usd", rule=TaxRule(rate=D(rate), inclusive=inclusive), **more)
    assert (t.subtotal, t.discount, t.tax, t.total, t.credit, t.amount_due, t.carried) == tuple(map(D, expected))


@pytest.mark.parametrize("more", [{"discounts": off("11.00")}, {"credits": off("11.00")}, {"discounts": off("-1.00")}])
def test_no_deduction_goes_beyond_what_it_is_taken_from(more: dict[str, Any]) -> None:
    with pytest.raises(LinesFaulty):
        build([item("10.00")], currency="usd", **more)


def test_credits_are_asked_for_what_is_due_after_tax_and_nothing_below_zero() -> None:
    asked: list[D] = []
    build([item("10.00")], currency="usd", rule=TaxRule(rate=D("0.1")), credits=lambda due: asked.append(due) or ())
    build([item("-10.00")], currency="usd", rule=TaxRule(rate=D("0.1")), credits=lambda due: asked.append(due) or ())
    assert asked == [D("11.00"), 0]


def test_items_of_another_currency_are_refused() -> None:
    with pytest.raises(LinesFaulty, match="cannot hold items in eur"):
        build([item("1.00"), item("1.00", currency="eur")], currency="usd")


AMOUNTS = st.lists(st.decimals(-500, 500, places=2), max_size=12)


@settings(deadline=None, max_examples=60)
@given(AMOUNTS, st.decimals(0, 1, places=3), st.booleans(), st.integers(0, 100), st.integers(0, 100))
def test_the_lines_of_any_invoice_sum_to_what_is_due(amounts: list[D], rate: D, inclusive: bool, discount: int, credit: int) -> None:
    subtotal = sum(amounts, D(0))
    cut = (max(D(0), subtotal) * discount / 100).quantize(D("0.01"))
    lines, t, _ = build(
        [item(str(each)) for each in amounts],
        currency="usd",
        rule=TaxRule(rate=rate, inclusive=inclusive),
        discounts=off(str(min(cut, max(D(0), subtotal)))),
        credits=lambda due: off(str((due * credit / 100).quantize(D("0.01"), rounding="ROUND_DOWN")))(due),
    )
    counted = [line.amount for line in lines if not (inclusive and line.kind is LineKind.TAX)]
    assert sum(counted, D(0)) == t.amount_due - t.carried
    assert sum((line.amount for line in lines if line.kind not in BELOW_SUBTOTAL), D(0)) == t.subtotal
    assert t.amount_due >= 0
    assert t.carried >= 0
    assert not (t.amount_due and t.carried)


# --- credit notes -------------------------------------------------------------------------------------------------------


def test_a_credit_note_takes_back_a_row_and_its_tax() -> None:
    found = invoice([item("49.00", ItemKind.BASE), item("1.75", ItemKind.OVERAGE)], rule=TaxRule(rate=D("0.085")))
    note = sums(found, NOTHING_CREDITED, {2: None})
    assert (note.subtotal, note.tax, note.total) == (D("1.75"), D("0.15"), D("1.90"))
    assert [(line.position, line.description) for line in note.lines] == [(2, "overage")]


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({1: D("49.01")}, CreditRefused), ({1: D(0)}, CreditRefused), ({1: D("-1")}, CreditRefused), ({1: D("0.001")}, BadInput),
        ({9: None}, BadInput), ({0: None}, BadInput), ({}, BadInput), ({3: None}, CreditRefused),
    ],
)  # fmt: skip
def test_never_more_than_the_row(wanted: dict[int, D | None], error: type[Exception]) -> None:
    found = invoice([item("49.00", ItemKind.BASE), item("1.75", ItemKind.OVERAGE)], rule=TaxRule(rate=D("0.085")))
    with pytest.raises(error):
        sums(found, NOTHING_CREDITED, wanted)


def test_what_went_back_before_is_not_there_again() -> None:
    found = invoice([item("49.00", ItemKind.BASE)])
    assert sums(found, Credited(rows={1: D("40.00")}), {1: None}).total == D("9.00")
    with pytest.raises(CreditRefused, match=r"9\.01 is more than the 9\.00 that is left of it"):
        sums(found, Credited(rows={1: D("40.00")}), {1: D("9.01")})


@pytest.mark.parametrize("state", [State.DRAFT, State.VOID])
def test_only_an_invoice_that_is_final_and_stands_is_credited(state: State) -> None:
    with pytest.raises(CreditRefused):
        sums(invoice([item("49.00")], state=state), NOTHING_CREDITED, {1: None})


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.decimals("0.01", 500, places=2), min_size=1, max_size=8),
    st.decimals(0, 1, places=3),
    st.booleans(),
    st.integers(0, 100),
)
def test_notes_for_every_row_one_by_one_take_back_exactly_the_invoice(amounts: list[D], rate: D, inclusive: bool, discount: int) -> None:
    cut = (sum(amounts, D(0)) * discount / 100).quantize(D("0.01"), rounding="ROUND_DOWN")
    found = invoice([item(str(each)) for each in amounts], rule=TaxRule(rate=rate, inclusive=inclusive), discounts=off(str(cut)))
    credited, total = NOTHING_CREDITED, D(0)
    for position, most in enumerate(creditable(found), 1):
        if most:
            note = sums(found, credited, {position: None})
            credited = Credited(rows={**credited.rows, position: note.subtotal}, tax=credited.tax + note.tax)
            total += note.total
    assert total == found.totals.total
    assert credited.tax == found.totals.tax


def test_what_is_owed_is_let_off_first_and_the_rest_goes_where_it_was_asked_to() -> None:
    owed = invoice([item("100.00")])
    assert where_it_goes(owed, D("30.00"), refund=True) == (D("30.00"), 0, 0)
    paid = replace(owed, state=State.PAID, amount_paid=D("100.00"))
    assert where_it_goes(paid, D("30.00"), refund=True) == (0, D("30.00"), 0)
    assert where_it_goes(paid, D("30.00"), refund=False) == (0, 0, D("30.00"))


def test_a_month_is_the_calendars_in_utc() -> None:
    assert month_of(1_769_903_999_999) == "2026-01"
    assert month_of(1_769_904_000_000) == "2026-02"
