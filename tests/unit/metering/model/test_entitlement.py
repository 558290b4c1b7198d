"""Entitlements: overrides in force, when they end, and the JSON that control writes and gateways read."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.model import entitlement as entitlements
from metering.model.entitlement import Entitlement, Override, rule_from_json, rule_to_json
from metering.model.quota import CLOSED, OPEN, Concurrency, FailureRule, Mode, Per, Quota, Rate, Then, Window

PLAN = Quota(meter="api", limit=100)
RAISED = Quota(meter="api", limit=500, source="override")
FOREVER = Quota(meter="api", limit=1000, source="override")


def entitlement(*overrides: Override) -> Entitlement:
    return Entitlement(
        org_id="o", slug="acme", name="Acme", version=1, plan="free", plan_version=1, anchor_ms=0, quotas=(PLAN,), overrides=overrides
    )


@pytest.mark.parametrize(
    ("now_ms", "limit", "next_change"), [(0, 500, 1_000), (999, 500, 1_000), (1_000, 100, None), (2_000, 100, None)]
)  # fmt: skip
def test_an_override_holds_until_its_instant_and_not_at_it(now_ms: int, limit: int, next_change: int | None) -> None:
    e = entitlement(Override(quotas=(RAISED,), until_ms=1_000))
    assert [q.limit for q in e.quotas_at(now_ms)] == [limit]
    assert e.changes_at(now_ms) == next_change


def test_of_two_overrides_in_force_the_later_one_stands() -> None:
    e = entitlement(Override(quotas=(FOREVER,)), Override(quotas=(RAISED,), until_ms=1_000))
    assert [e.quotas_at(now)[0].limit for now in (0, 1_000)] == [500, 1000]


def test_an_override_replaces_the_rate_on_the_same_meter_and_unit_of_time_and_the_concurrency_of_the_same_callers() -> None:
    rates = (Rate(meter="api", limit=5, per="second"), Rate(meter=None, limit=9, per="minute", by=Per.KEY))
    faster = Override(
        rates=(Rate(meter="api", limit=50, per="second"), Rate(meter="api", limit=1, per="minute")),
        concurrency=(Concurrency(limit=20),),
        until_ms=1_000,
    )
    e = replace(entitlement(faster), rates=rates, concurrency=(Concurrency(limit=2), Concurrency(limit=1, by=Per.KEY)))
    assert e.rates_at(999) == (rates[1], *faster.rates)
    assert [(c.limit, c.by) for c in e.concurrency_at(999)] == [(1, Per.KEY), (20, Per.ORG)]
    assert (e.rates_at(1_000), e.concurrency_at(1_000)) == (rates, e.concurrency)
    assert e.quotas_at(0) == (PLAN,)


def test_the_next_change_is_the_first_end_that_lies_ahead() -> None:
    e = entitlement(*(Override(quotas=(RAISED,), until_ms=until) for until in (3_000, 1_000, 2_000)), Override(quotas=(FOREVER,)))
    assert [e.changes_at(now) for now in (0, 1_000, 2_500, 3_000)] == [1_000, 2_000, 3_000, None]


@pytest.mark.parametrize(
    ("rule", "value"), [(None, None), (OPEN, "open"), (CLOSED, "closed"), (FailureRule("grace", 7), {"grace": 7})]
)  # fmt: skip
def test_a_failure_rule_is_a_word_or_a_number_of_calls(rule: FailureRule | None, value: object) -> None:
    assert rule_to_json(rule) == value
    assert rule_from_json(value) == rule


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
RULES = st.sampled_from([None, OPEN, CLOSED]) | st.integers(0, 10**6).map(lambda calls: FailureRule("grace", calls))
QUOTAS = st.builds(
    Quota, meter=NAMES, limit=st.none() | st.integers(0, 2**53), window=st.sampled_from(Window), mode=st.sampled_from(Mode),
    per=st.sampled_from(Per), on_store_failure=RULES, routed=st.booleans(), source=st.sampled_from(["plan", "override", "route"]),
)  # fmt: skip
QUOTAS = QUOTAS | st.builds(
    Quota, meter=NAMES, limit=st.integers(0, 9), mode=st.just(Mode.THROTTLE), shadow=st.booleans(), stop_at=st.none() | st.integers(1, 9),
    then=st.none() | st.builds(Then, limit=st.integers(0, 9), window=st.sampled_from(Window)), at_limit=st.sampled_from(["finish", "cut"]),
)  # fmt: skip
RATES = st.builds(
    Rate, meter=st.none() | NAMES, limit=st.integers(1, 9), per=st.sampled_from(["second", "minute"]), burst=st.none() | st.integers(1, 9),
    by=st.sampled_from(Per), routed=st.booleans(), shadow=st.booleans(),
)  # fmt: skip
CONCURRENCY = st.builds(Concurrency, limit=st.integers(1, 9), by=st.sampled_from(Per), routed=st.booleans(), shadow=st.booleans())
MANY_QUOTAS = st.lists(QUOTAS, max_size=2).map(tuple)
OVERRIDES = st.builds(
    Override, quotas=MANY_QUOTAS, until_ms=st.none() | st.integers(0, 2**45), reason=st.text(max_size=10),
    rates=st.lists(RATES, max_size=2).map(tuple), concurrency=st.lists(CONCURRENCY, max_size=2).map(tuple),
)  # fmt: skip
ENTITLEMENTS = st.builds(
    Entitlement, org_id=st.uuids().map(str), slug=NAMES, name=st.text(max_size=10), version=st.integers(1, 2**53), plan=NAMES,
    plan_version=st.integers(1, 99), anchor_ms=st.integers(0, 2**45), quotas=MANY_QUOTAS,
    overrides=st.lists(OVERRIDES, max_size=2).map(tuple), refused=st.none() | st.text(max_size=10),
    rates=st.lists(RATES, max_size=2).map(tuple), concurrency=st.lists(CONCURRENCY, max_size=2).map(tuple),
)  # fmt: skip


@settings(max_examples=25)
@given(ENTITLEMENTS)
def test_an_entitlement_survives_its_json(e: Entitlement) -> None:
    assert entitlements.from_json(json.loads(json.dumps(entitlements.to_json(e)))) == e


def test_what_was_written_before_there_were_rates_can_still_be_read() -> None:
    old = entitlements.to_json(entitlement())
    for name in ("rates", "concurrency"):
        del old[name]
    old["overrides"] = [{"until_ms": None, "reason": "", "quotas": []}]
    for name in ("shadow", "then", "stop_at", "at_limit"):
        del old["quotas"][0][name]
    assert entitlements.from_json(old) == entitlement(Override())
