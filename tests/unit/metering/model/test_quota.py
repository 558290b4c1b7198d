"""Quotas: which replace which, what they are called, which failure rule wins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.model.quota import CLOSED, OPEN, Concurrency, FailureRule, Mode, Per, Quota, Rate, Window, replace_quotas, strictest

RULES = st.sampled_from([OPEN, CLOSED]) | st.integers(0, 1000).map(lambda calls: FailureRule("grace", calls))


def grace(calls: int) -> FailureRule:
    return FailureRule("grace", calls)


@pytest.mark.parametrize(
    ("rules", "winner"),
    [
        ([], OPEN), ([OPEN], OPEN), ([OPEN, grace(5)], grace(5)), ([grace(5), grace(2)], grace(2)), ([grace(0), CLOSED], CLOSED),
        ([CLOSED, OPEN, grace(1)], CLOSED),
    ],
)  # fmt: skip
def test_closed_wins_over_grace_over_open_and_the_smaller_grace_over_the_larger(rules: list[FailureRule], winner: FailureRule) -> None:
    assert strictest(rules) == winner


@given(st.lists(RULES, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_strictest_rule_does_not_depend_on_the_order(rules: list[FailureRule], rng: object) -> None:
    shuffled = sorted(rules, key=lambda _: rng.random())  # type: ignore[attr-defined]
    assert strictest(shuffled) == strictest(rules)


@pytest.mark.parametrize(
    ("window", "per", "name"),
    [
        (Window.HOUR, Per.ORG, "api-hourly"), (Window.DAY, Per.KEY, "api-daily-key"), (Window.PERIOD, Per.ORG, "api-period"),
        (Window.MONTH, Per.ROUTE, "api-monthly-route"),
    ],
)  # fmt: skip
def test_a_quota_is_named_for_meter_window_and_whose_use_it_adds_up(window: Window, per: Per, name: str) -> None:
    assert Quota(meter="api", limit=1, window=window, per=per).name == name


API_DAY = Quota(meter="api", limit=10, window=Window.DAY)
API_PERIOD = Quota(meter="api", limit=100)
BYTES = Quota(meter="bandwidth", limit=5, mode=Mode.SOFT)


def test_an_override_replaces_the_quota_of_its_meter_window_and_scope_and_no_other() -> None:
    higher = Quota(meter="api", limit=20, window=Window.DAY, mode=Mode.SOFT, source="override")
    assert replace_quotas((API_DAY, API_PERIOD, BYTES), (higher,)) == (API_PERIOD, BYTES, higher)


def test_an_override_of_another_scope_stands_beside_the_plans_quota() -> None:
    per_key = Quota(meter="api", limit=3, window=Window.DAY, per=Per.KEY)
    assert replace_quotas((API_DAY,), (per_key,)) == (API_DAY, per_key)


def test_no_override_changes_nothing() -> None:
    assert replace_quotas((API_DAY, BYTES), ()) == (API_DAY, BYTES)


@pytest.mark.parametrize(
    ("rate", "name", "depth"),
    [
        (Rate(meter="api", limit=5, per="second"), "api-per-second", 5),
        (Rate(meter=None, limit=5, per="minute", burst=9, by=Per.KEY), "calls-per-minute-key", 9),
        (Rate(meter=None, limit=5, per="second", by=Per.ADDRESS, routed=True), "calls-per-second-route-address", 5),
    ],
)
def test_a_rate_names_itself_and_lets_its_limit_pass_at_once_unless_it_says_otherwise(rate: Rate, name: str, depth: int) -> None:
    assert (rate.name, rate.depth) == (name, depth)


def test_a_limit_on_calls_in_flight_names_itself() -> None:
    assert [Concurrency(limit=2).name, Concurrency(limit=2, by=Per.KEY, routed=True).name] == ["concurrency", "concurrency-route-key"]
