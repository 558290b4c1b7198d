"""A dunning life by days, and what holds in whatever order payments and the clock go."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.dunning import DAY_MS, DEFAULT_SCHEDULE, HOUR_MS, Debt, Do, Schedule, Step, next_step, retry_ms

START = 1_768_465_800_000  # 2026-01-15 08:30 UTC
NEW = Debt(owed=True, charges=True, due_ms=START)


def step(debt: Debt, days: float, schedule: Schedule = DEFAULT_SCHEDULE) -> Step:
    return next_step(debt, schedule, START + round(days * DAY_MS))


FIRST = NEW.failed(1, START)
SECOND = FIRST.failed(2, START + 3 * DAY_MS)
THIRD = SECOND.failed(3, START + 6 * DAY_MS)
WARNED = replace(THIRD, warned_ms=START + 7 * DAY_MS)
DOWNGRADED = replace(WARNED, downgraded_ms=START + 9 * DAY_MS)


def charge(attempt: int) -> Step:
    return Step(do=Do.CHARGE, attempt=attempt)


def wait(day: int | None) -> Step:
    return Step(do=Do.WAIT, until_ms=None if day is None else START + day * DAY_MS)


LIFE = [
    ("it is charged when it is issued", NEW, 0, charge(1)),
    ("not before", NEW, -0.01, wait(0)),
    ("then it waits three days", FIRST, 0, wait(3)),
    ("until the instant", FIRST, 2.99, wait(3)),
    ("the second attempt", FIRST, 3, charge(2)),
    ("then three more", SECOND, 3, wait(6)),
    ("the third attempt", SECOND, 6, charge(3)),
    ("then a day", THIRD, 6, wait(7)),
    ("the final warning on day 7", THIRD, 7, Step(do=Do.WARN)),
    ("48 hours", WARNED, 8.99, wait(9)),
    ("the downgrade", WARNED, 9, Step(do=Do.DOWNGRADE)),
    ("then nothing, until it is paid", DOWNGRADED, 400, wait(None)),
    ("paid: back on the plan", replace(DOWNGRADED, owed=False), 10, Step(do=Do.RETURN)),
    ("and that is that", replace(DOWNGRADED, owed=False, returned_ms=START + 10 * DAY_MS), 11, Step(do=Do.DONE)),
    ("paid before anything failed", replace(NEW, owed=False), 0, Step(do=Do.DONE)),
    ("paid after the warning: in good standing", replace(WARNED, owed=False), 9, Step(do=Do.RETURN)),
    ("given up: nobody asks any more", replace(FIRST, owed=False, given_up=True), 9, wait(None)),
    ("with no plan to lose it is only charged", replace(THIRD, falls=False), 9, wait(None)),
]


@pytest.mark.parametrize(("debt", "days", "expected"), [row[1:] for row in LIFE], ids=[row[0] for row in LIFE])
def test_a_dunning_life(debt: Debt, days: float, expected: Step) -> None:
    assert step(debt, days) == expected


LATE = [
    ("an attempt that is overdue is made at once", FIRST, 20, charge(2)),
    ("two are a day apart, and the warning does not wait for them", FIRST.failed(2, START + 20 * DAY_MS), 20, Step(do=Do.WARN)),
    ("a late warning gives its 48 hours all the same", replace(THIRD, warned_ms=START + 20 * DAY_MS), 21.9, wait(22)),
    ("then the downgrade", replace(THIRD, warned_ms=START + 20 * DAY_MS), 22, Step(do=Do.DOWNGRADE)),
]


@pytest.mark.parametrize(("debt", "days", "expected"), [row[1:] for row in LATE], ids=[row[0] for row in LATE])
def test_what_is_late_moves_what_follows(debt: Debt, days: float, expected: Step) -> None:
    assert step(debt, days) == expected


STRIPES = replace(NEW, charges=False)


@pytest.mark.parametrize(
    ("debt", "days", "expected"),
    [(STRIPES, 5, wait(None)), (STRIPES.failed(1, START), 5, wait(7)), (STRIPES.failed(1, START), 7, Step(do=Do.WARN))],
)
def test_where_stripe_charges_only_the_warning_and_the_downgrade_are_ours(debt: Debt, days: float, expected: Step) -> None:
    assert step(debt, days) == expected
    assert retry_ms(debt, DEFAULT_SCHEDULE) is None


def test_a_failure_told_twice_or_out_of_order_changes_nothing() -> None:
    assert SECOND.failed(2, START + 5 * DAY_MS) == SECOND
    assert SECOND.failed(1, START + 5 * DAY_MS) == SECOND


def test_another_schedule() -> None:
    schedule = Schedule(attempts=5, days_between=1, warn_after_days=2, grace_hours=24)
    assert step(FIRST, 1, schedule) == charge(2)
    assert step(replace(FIRST.failed(2, START + DAY_MS), warned_ms=START + 2 * DAY_MS), 3, schedule) == charge(3)


# --- whatever the order -------------------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.one_of(st.integers(1, 120), st.sampled_from(["job declined", "job paid", "job unknown", "job killed", "paid", "told again"])),
    max_size=60,
)


class Life:
    """Carries steps out as the job does, on facts alone."""

    def __init__(self, charges: bool) -> None:
        self.debt, self.now_ms, self.paid_ms = replace(NEW, charges=charges), START, None
        self.mails: list[str] = []
        self.downgrades: list[int] = []
        self.charged: list[tuple[int, int]] = []

    def pay(self) -> None:
        if self.debt.owed:
            self.debt, self.paid_ms = replace(self.debt, owed=False), self.now_ms

    def job(self, outcome: str) -> None:
        for _ in range(20):
            found = next_step(self.debt, DEFAULT_SCHEDULE, self.now_ms)
            match found.do:
                case Do.CHARGE:
                    self.charged.append((found.attempt, self.now_ms))
                    if outcome == "declined":
                        self.debt = self.debt.failed(found.attempt, self.now_ms)
                        self.mails.append(f"failed {found.attempt}")
                    elif outcome == "paid":
                        self.pay()
                    else:
                        return
                case Do.WARN:
                    self.debt = replace(self.debt, warned_ms=self.now_ms)
                    self.mails.append("warning")
                case Do.DOWNGRADE:
                    self.debt = replace(self.debt, downgraded_ms=self.now_ms)
                    self.downgrades.append(self.now_ms)
                    self.mails.append("downgraded")
                case Do.RETURN:
                    self.debt = replace(self.debt, returned_ms=self.now_ms)
                case _:
                    return
        raise AssertionError("the job has no end")


@settings(deadline=None)
@given(events=EVENTS, charges=st.booleans())
def test_no_event_has_two_mails_and_no_downgrade_follows_a_payment(events: list[int | str], charges: bool) -> None:
    life = Life(charges)
    if not charges:
        life.debt = life.debt.failed(1, START)
    for event in events:
        match event:
            case int():
                life.now_ms += event * HOUR_MS
            case "paid":
                life.pay()
            case "told again":
                life.debt = life.debt.failed(life.debt.failures, life.now_ms)
            case _:
                life.job(str(event).removeprefix("job "))
    assert len(life.mails) == len(set(life.mails))
    assert life.paid_ms is None or all(at_ms <= life.paid_ms for at_ms in life.downgrades)
    if life.downgrades:
        assert life.debt.warned_ms is not None
        assert life.downgrades[0] - life.debt.warned_ms >= 48 * HOUR_MS
    assert all(attempt <= 3 and (life.paid_ms is None or at_ms <= life.paid_ms) for attempt, at_ms in life.charged)
