"""at_limit: cut, where it may stand, and what is said where it may not."""

import pytest

from .samples import METERS, faults, parsed, plan_with

MORE_METERS = METERS + "  tokens: {unit: byte, cost_from: 'header:X-Tokens'}\n"


@pytest.mark.parametrize("words", ["mode: hard", "mode: overage, stop_at: 2 GB", "per: key", "shadow: true", "window: hour"])
def test_a_quota_on_bytes_that_ends_somewhere_may_cut(words: str) -> None:
    plans = plan_with(f"quotas: [{{meter: bandwidth, limit: 1 GB, at_limit: cut, {words}}}]")
    assert faults(plans=plans) == []
    (plan,) = parsed(plans=plans).good().plans.plans.values()
    assert [q.at_limit for q in plan.quotas] == ["cut"]


@pytest.mark.parametrize(
    ("quota", "said"),
    [
        ("meter: bandwidth, limit: 1 GB, mode: soft", "nothing to cut"),
        ("meter: bandwidth, limit: 1 GB, mode: throttle, then: {limit: 1 kB, window: day}", "nothing to cut"),
        ("meter: bandwidth, limit: 1 GB, mode: overage", "write stop_at too"),
        ("meter: bandwidth, limit: unlimited", "never reached"),
        ("meter: pages, limit: 5", "only bytes that pass can be cut off"),
        ("meter: tokens, limit: 5", "only bytes that pass can be cut off"),
    ],
)
def test_a_cut_that_could_never_be_one_is_named(quota: str, said: str) -> None:
    found = faults(plans=plan_with(f"quotas: [{{{quota}, at_limit: cut}}]"), meters=MORE_METERS)
    assert [(f.path, said in f.message) for f in found] == [("plans.pro.quotas[0].at_limit", True)]
