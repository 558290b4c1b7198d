"""A usage period on the bill: however its usage arrives, it costs the same in the end."""

import json
from dataclasses import replace
from decimal import Decimal as D
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.invoice_item import ItemKind
from billing.model.period_bill import Terms, first_bill, later_bill, terms_from_json, terms_of, terms_to_json
from billing.model.plan import Interval, PlanSpec
from billing.model.pricing import PerUnit
from billing.model.subscription import State, Subscription
from metering.model.entitlement import Override
from metering.model.meter import Meter
from metering.model.quota import Mode, Quota

DAY = 86_400_000
PERIOD = (0, 31 * DAY)
METERS = {
    "api": Meter(name="api", unit="request", title="API Requests"),
    "bandwidth": Meter(name="bandwidth", unit="byte", show="GB", show_size=10**9, report="MB", report_size=10**6),
}
SPEC = PlanSpec(
    name="pro",
    price={"usd": D("49.00")},
    quotas=(Quota(meter="api", limit=100, mode=Mode.OVERAGE),),
    prices={"api": PerUnit(each=D("0.0137")), "bandwidth": PerUnit(each=D("0.05"), per_unit_size=10**9)},
)
TERMS = Terms(spec=SPEC, plan_version=1, overrides=(), currency="usd")


def subscription(state: State) -> Subscription:
    return Subscription(
        org_id="o", plan="pro", plan_version=1, state=state, anchor_ms=0, interval=Interval.MONTH, currency="usd", amount=D("49.00")
    )


USE = st.fixed_dictionaries({"api": st.integers(0, 5_000), "bandwidth": st.integers(0, 10**12)})


@settings(deadline=None, max_examples=60)
@given(st.lists(USE, min_size=1, max_size=6))
def test_usage_that_arrives_in_any_parts_and_is_taken_back_costs_what_its_sum_costs(states: list[dict[str, int]]) -> None:
    bill = first_bill("o", TERMS, PERIOD, states[0], METERS)
    total = sum((item.amount for item in bill.items), D(0))
    for revision, (before, after) in enumerate(pairwise(states), 1):
        bill = later_bill(
            "o", TERMS, PERIOD, after, METERS, billed=bill.amounts, before=before, revision=revision, now_ms=0
        )  # fmt: skip
        assert {item.kind for item in bill.items} <= {ItemKind.LATE}
        total += sum((item.amount for item in bill.items), D(0))
    assert total == sum((item.amount for item in first_bill("o", TERMS, PERIOD, states[-1], METERS).items), D(0))


@settings(deadline=None, max_examples=30)
@given(USE)
def test_rating_again_changes_nothing(used: dict[str, int]) -> None:
    bill = first_bill("o", TERMS, PERIOD, used, METERS)
    assert first_bill("o", TERMS, PERIOD, used, METERS) == bill
    again = later_bill("o", TERMS, PERIOD, used, METERS, billed=bill.amounts, before=used, revision=1, now_ms=0)
    assert again.items == ()
    assert again.amounts == bill.amounts


def test_the_parts_of_a_lines_evidence_are_its_amount_before_it_was_rounded() -> None:
    (line,) = first_bill("o", TERMS, PERIOD, {"api": 333}, METERS).items
    assert sum(D(part["amount"]) for part in line.evidence["parts"]) == D("3.1921")
    assert line.amount == D("3.19")
    assert json.loads(json.dumps(line.evidence)) == line.evidence


def test_calls_with_test_keys_are_never_billed() -> None:
    assert first_bill("o", TERMS, PERIOD, {"?api": 5_000}, METERS).items == ()


@pytest.mark.parametrize(
    ("state", "charges"),
    [(State.ACTIVE, True), (State.PAST_DUE, True), (State.TRIALING, False), (State.PAUSED, False), (State.CANCELED, False)],
)
def test_a_trial_and_what_does_not_entitle_cost_nothing(state: State, charges: bool) -> None:
    assert terms_of(subscription(state), SPEC, (), "usd").charges is charges


def test_an_override_counts_while_it_stands_at_the_periods_end() -> None:
    more = Override(quotas=(Quota(meter="api", limit=1_000, mode=Mode.OVERAGE, source="override"),), until_ms=31 * DAY, reason="launch")
    terms = terms_of(subscription(State.ACTIVE), SPEC, (more,), "usd")
    assert [item.quantity for item in first_bill("o", terms, PERIOD, {"api": 1_200}, METERS).items] == [200]
    ended = terms_of(subscription(State.ACTIVE), SPEC, (replace(more, until_ms=30 * DAY),), "usd")
    assert [item.quantity for item in first_bill("o", ended, PERIOD, {"api": 1_200}, METERS).items] == [1_100]
    kept = json.loads(json.dumps(terms_to_json(terms)))
    assert terms_to_json(terms_from_json(kept)) == kept
