"""What goes on into the next period."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.model.rollover import Period, carried, raised, rolling
from metering.model.quota import Mode, Per, Quota, Window

CASES = [
    ("all that was not used", Period(base=100), 40, 1000, 60),
    ("up to the bound", Period(base=100), 40, 50, 50),
    ("nothing where all was used", Period(base=100), 100, 1000, 0),
    ("nothing where more was used", Period(base=100), 250, 1000, 0),
    ("what was carried is used first", Period(base=100, carried=60), 50, 1000, 100),
    ("and is not carried twice", Period(base=100, carried=60), 0, 1000, 100),
    ("beyond it the plan's own", Period(base=100, carried=60), 130, 1000, 30),
]


@pytest.mark.parametrize(("before", "used", "bound", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_units_that_were_not_used_are_carried(before: Period, used: int, bound: int, expected: int) -> None:
    assert carried(before, used, bound) == expected


@given(st.integers(0, 1000), st.integers(0, 500), st.lists(st.integers(0, 2000), min_size=1, max_size=12))
def test_over_any_number_of_periods_nothing_is_given_that_no_plan_gave(base: int, bound: int, uses: list[int]) -> None:
    units, granted, within = 0, 0, 0
    for used in uses:
        granted += base
        within += min(used, base + units)
        units = carried(Period(base=base, carried=units), used, bound)
        assert 0 <= units <= min(bound, base)
    assert within + units <= granted


def test_only_a_period_quota_of_the_organization_with_a_limit_carries() -> None:
    quotas = (
        Quota(meter="api", limit=5, window=Window.DAY),
        Quota(meter="tokens", limit=5, per=Per.KEY),
        Quota(meter="pages", limit=None),
        Quota(meter="rows", limit=5),
    )
    assert list(rolling(quotas, ["api", "tokens", "pages", "rows"])) == ["rows"]


def test_the_stop_of_an_overage_quota_moves_along() -> None:
    found = raised(Quota(meter="api", limit=100, mode=Mode.OVERAGE, stop_at=500), 50)
    assert (found.limit, found.stop_at) == (150, 550)
