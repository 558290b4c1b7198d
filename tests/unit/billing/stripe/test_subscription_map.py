"""Stripe's word on a subscription, taken over into ours."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.model.plan import Interval
from billing.model.subscription import ENDED, State, Subscription, Trial
from billing.stripe.mirror.subscriptions import Facts, facts_of, mirrored

NOW, END = 1_770_000_000_000, 1_772_000_000_000
OURS = Subscription(
    org_id="o", plan="pro", plan_version=1, state=State.ACTIVE, anchor_ms=NOW, interval=Interval.MONTH, currency="usd", amount=None,
    id="s", period=(NOW, END),
)  # fmt: skip
NOTHING = Facts(state=State.ACTIVE, cancel_at_ms=None, canceled_at_ms=None, ended_at_ms=None, trial_end_ms=None)


def stripes(status: str, **changes: Any) -> dict[str, Any]:
    return {"status": status, "items": {"data": [{"current_period_end": END // 1000}]}} | changes


FACTS = [
    ("plain", stripes("active"), NOTHING),
    ("at a date", stripes("active", cancel_at=9, canceled_at=5), replace(NOTHING, cancel_at_ms=9000, canceled_at_ms=5000)),
    (
        "at the period's end",
        stripes("active", cancel_at_period_end=True, canceled_at=5),
        replace(NOTHING, cancel_at_ms=END, canceled_at_ms=5000),
    ),
    (
        "ended",
        stripes("canceled", canceled_at=5, ended_at=7, cancel_at=9),
        replace(NOTHING, state=State.CANCELED, canceled_at_ms=5000, ended_at_ms=7000),
    ),
    ("paused by us", stripes("active", pause_collection={"behavior": "void"}), replace(NOTHING, state=State.PAUSED)),
    ("paused after a trial", stripes("paused"), replace(NOTHING, state=State.PAUSED)),
    ("on trial", stripes("trialing", trial_end=9), replace(NOTHING, state=State.TRIALING, trial_end_ms=9000)),
]


@pytest.mark.parametrize(("found", "facts"), [case[1:] for case in FACTS], ids=[case[0] for case in FACTS])
def test_facts_are_read(found: dict[str, Any], facts: Facts) -> None:
    assert facts_of(found) == facts


@pytest.mark.parametrize("state", list(State))
def test_every_state_of_stripes_is_known(state: State) -> None:
    assert facts_of(stripes(state.value)).state is state


def test_a_state_of_the_future_is_refused() -> None:
    with pytest.raises(ValueError, match="hibernating"):
        facts_of(stripes("hibernating"))


def test_what_is_the_same_to_the_second_stays_as_it_is() -> None:
    ours = replace(OURS, cancel_at_ms=END + 123, canceled_at_ms=NOW + 5)
    assert mirrored(ours, replace(NOTHING, cancel_at_ms=END, canceled_at_ms=NOW), NOW) == ours


def test_one_that_is_not_renewed_is_not_taken_for_canceled() -> None:
    ours = replace(OURS, auto_renew=False)
    assert mirrored(ours, replace(NOTHING, cancel_at_ms=END, canceled_at_ms=NOW), NOW) == ours


def test_a_debt_that_was_given_up_here_is_not_taken_up_again_by_stripes_tries() -> None:
    ours = replace(OURS, state=State.UNPAID)
    assert mirrored(ours, replace(NOTHING, state=State.PAST_DUE), NOW).state is State.UNPAID
    assert mirrored(ours, NOTHING, NOW).state is State.ACTIVE


def test_a_trial_ends_when_stripe_says() -> None:
    ours = replace(OURS, state=State.TRIALING, trial=Trial(start_ms=NOW, end_ms=NOW + 5000))
    after = mirrored(ours, replace(NOTHING, state=State.TRIALING, trial_end_ms=END), NOW)
    assert after.trial == Trial(start_ms=NOW, end_ms=END)


_seconds = st.none() | st.integers(NOW // 1000, END // 1000 + 9).map(lambda s: s * 1000)
_facts = st.builds(
    Facts, state=st.sampled_from(State), cancel_at_ms=_seconds, canceled_at_ms=_seconds, ended_at_ms=_seconds, trial_end_ms=_seconds
)
_ours = st.builds(
    lambda state, cancel, canceled, renew, trial: replace(
        OURS, state=state, cancel_at_ms=cancel, canceled_at_ms=canceled, auto_renew=renew,
        trial=Trial(start_ms=NOW - 9, end_ms=trial) if trial else None,
    ),
    st.sampled_from([s for s in State if s not in ENDED]), _seconds, _seconds, st.booleans(), _seconds,
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_ours, _facts)
def test_the_same_facts_again_change_nothing(ours: Subscription, facts: Facts) -> None:
    once = mirrored(ours, facts, NOW)
    assert mirrored(once, facts, NOW + 5) == once
    assert (once.ended_at_ms is not None) == (once.state in ENDED)


def test_an_end_that_stripe_was_told_of_because_a_free_plan_follows_is_no_cancellation() -> None:
    told = replace(NOTHING, cancel_at_ms=END, canceled_at_ms=5000)
    assert mirrored(OURS, told, NOW, told_end_ms=END) == OURS
    assert mirrored(OURS, told, NOW).cancel_at_ms == END
