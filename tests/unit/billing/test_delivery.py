"""What an attempt does to its row: rules as a table, and the laws over any sequence of outcomes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.model.delivery import FORGOTTEN_AFTER_MS, Attempt, Outcome, State, back_off_ms, judge, may_send, too_late

NOW = 1_800_000_000_000
HOUR = 3_600_000


def attempt(number: int = 1, before_ms: int | None = None, *, looks_first: bool = False, claimed_ms: int = NOW) -> Attempt:
    return Attempt(attempts=number, claimed_ms=claimed_ms, before_ms=before_ms, looks_first=looks_first)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.ACCEPTED, State.DELIVERED),
        (Outcome.DUPLICATE, State.DELIVERED),
        (Outcome.REFUSED, State.DEAD),
        (Outcome.NOT_ACCEPTED, State.PENDING),
        (Outcome.AMBIGUOUS, State.PENDING),
    ],
)
def test_an_outcome_of_a_first_attempt_leads_to_this_state(outcome: Outcome, state: State) -> None:
    assert judge(attempt(), outcome, now_ms=NOW, jitter=0.5).state is state


def test_an_attempt_that_surely_was_not_accepted_takes_its_first_attempt_back() -> None:
    assert judge(attempt(), Outcome.NOT_ACCEPTED, now_ms=NOW + 5, jitter=0).first_attempt_at_ms is None


def test_an_ambiguous_attempt_keeps_the_instant_it_was_claimed_at() -> None:
    assert judge(attempt(), Outcome.AMBIGUOUS, now_ms=NOW + 30_000, jitter=0).first_attempt_at_ms == NOW


def test_a_sure_refusal_does_not_forget_an_earlier_ambiguous_attempt() -> None:
    verdict = judge(attempt(2, NOW - HOUR), Outcome.NOT_ACCEPTED, now_ms=NOW, jitter=0)
    assert verdict.first_attempt_at_ms == NOW - HOUR


def test_a_rate_limit_is_retried_for_ever() -> None:
    verdict = judge(attempt(500, None), Outcome.NOT_ACCEPTED, now_ms=NOW, jitter=0)
    assert verdict.state is State.PENDING


def test_an_ambiguous_row_becomes_unknown_rather_than_be_retried_after_23_hours() -> None:
    verdict = judge(attempt(30, NOW - FORGOTTEN_AFTER_MS + 1_000), Outcome.AMBIGUOUS, reason="503", now_ms=NOW, jitter=0)
    assert (verdict.state, verdict.next_attempt_at_ms, verdict.error) == (State.UNKNOWN, None, "503")


@pytest.mark.parametrize(("age_ms", "allowed"), [(FORGOTTEN_AFTER_MS - 1, True), (FORGOTTEN_AFTER_MS, False)])
def test_a_row_may_be_sent_again_for_23_hours(age_ms: int, allowed: bool) -> None:
    assert may_send(attempt(2, NOW - age_ms), NOW) is allowed


def test_a_row_that_came_too_late_is_unknown_and_says_why() -> None:
    verdict = too_late(attempt(2, NOW - 2 * FORGOTTEN_AFTER_MS))
    assert verdict.state is State.UNKNOWN
    assert "reconcile" in str(verdict.error)


def test_what_looks_first_is_never_unknown() -> None:
    row = attempt(40, NOW - 5 * FORGOTTEN_AFTER_MS, looks_first=True)
    assert may_send(row, NOW)
    assert judge(row, Outcome.AMBIGUOUS, now_ms=NOW, jitter=0).state is State.PENDING


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_between_one_second_and_an_hour(attempts: int, jitter: float) -> None:
    assert 1_000 <= back_off_ms(attempts, jitter) <= HOUR


@given(st.lists(st.tuples(st.sampled_from([Outcome.NOT_ACCEPTED, Outcome.AMBIGUOUS]), st.integers(0, 6 * HOUR)), max_size=60))
def test_no_row_is_sent_when_stripe_may_have_forgotten_it(history: list[tuple[Outcome, int]]) -> None:
    """Whatever outcomes and delays: each send after a possible acceptance is within the 23 hours of it."""
    now, before, maybe_since = NOW, None, None
    for number, (outcome, late_ms) in enumerate(history, start=1):
        row = attempt(number, before, claimed_ms=now)
        if not may_send(row, now):
            break
        assert maybe_since is None or now < maybe_since + FORGOTTEN_AFTER_MS
        if outcome is Outcome.AMBIGUOUS and maybe_since is None:
            maybe_since = now
        verdict = judge(row, outcome, now_ms=now, jitter=0.5)
        if verdict.next_attempt_at_ms is None:
            break
        before, now = verdict.first_attempt_at_ms, verdict.next_attempt_at_ms + late_ms
