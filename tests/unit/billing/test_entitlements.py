"""What the gateways are told: compiled from plan, overrides and state."""

from dataclasses import replace
from decimal import Decimal

import pytest

from billing.model.organization import Organization
from billing.model.plan import Interval, PerUnit, PlanSpec
from billing.model.subscription import State, Subscription
from billing.services.entitlements import compile_entitlement, entitlement_of
from billing.services.ports import Account, PlanRow
from metering.model.entitlement import Override
from metering.model.quota import Concurrency, Mode, Quota, Rate

ACME = Organization(id="4a0b5b5e-0000-4000-8000-000000000001", slug="acme", name="Acme", version=7)
PRO = PlanSpec(name="pro", quotas=(Quota(meter="api", limit=9, mode=Mode.OVERAGE),), prices={"api": PerUnit(each=Decimal("1"))})
FREE = PlanSpec(name="free", quotas=(Quota(meter="api", limit=1),))
BOUGHT = Subscription(
    org_id=ACME.id, plan="pro", plan_version=3, state=State.ACTIVE, anchor_ms=5_000, interval=Interval.MONTH, currency="usd", amount=None
)


def account(state: State) -> Account:
    return Account(org=ACME, deleted=False, subscription=replace(BOUGHT, state=state), spec=PRO, overrides=(), active=(), revoked=())


def test_a_plan_is_told_as_it_stands() -> None:
    entry = compile_entitlement(ACME, PRO, 3, [], 5_000, 7, 0)
    assert (entry.plan, entry.plan_version, entry.version, entry.anchor_ms) == ("pro", 3, 7, 5_000)
    assert entry.quotas == PRO.quotas


def test_overage_without_a_price_only_warns_in_plan_and_override_alike() -> None:
    override = Override(quotas=(Quota(meter="api", limit=20, mode=Mode.OVERAGE),))
    entry = compile_entitlement(ACME, replace(PRO, prices={}), 1, [override], 0, 1, 0)
    assert [entry.quotas[0].mode, entry.overrides[0].quotas[0].mode] == [Mode.SOFT, Mode.SOFT]


def test_overage_without_a_price_still_ends_at_its_stop() -> None:
    stopped = replace(PRO, quotas=(Quota(meter="api", limit=9, mode=Mode.OVERAGE, stop_at=20),), prices={})
    (quota,) = compile_entitlement(ACME, stopped, 1, [], 0, 1, 0).quotas
    assert (quota.mode, quota.stop_at) == (Mode.OVERAGE, 20)


def test_rates_and_calls_in_flight_are_told_and_those_of_an_override_say_so() -> None:
    plan = replace(PRO, rates=(Rate(meter=None, limit=5, per="second"),), concurrency=(Concurrency(limit=2),))
    override = Override(rates=(Rate(meter=None, limit=9, per="second"),), concurrency=(Concurrency(limit=4),))
    entry = compile_entitlement(ACME, plan, 1, [override], 0, 1, 0)
    assert (entry.rates, entry.concurrency) == (plan.rates, plan.concurrency)
    assert [(x.limit, x.source) for x in (*entry.rates_at(0), *entry.concurrency_at(0))] == [(9, "override"), (4, "override")]
    ended = compile_entitlement(ACME, None, 0, [], 0, 1, 0)
    assert (ended.rates, ended.concurrency) == ((), ())


def test_an_override_that_has_ended_is_left_out() -> None:
    overrides = [Override(quotas=(Quota(meter="api", limit=n),), until_ms=n) for n in (99, 100, 101)]
    entry = compile_entitlement(ACME, PRO, 1, overrides, 0, 1, 100)
    assert [o.until_ms for o in entry.overrides] == [101]


@pytest.mark.parametrize(
    ("state", "plan"),
    [
        (State.ACTIVE, "pro"),
        (State.TRIALING, "pro"),
        (State.PAST_DUE, "pro"),
        (State.UNPAID, "free"),
        (State.CANCELED, "free"),
        (State.PAUSED, "free"),
        (State.INCOMPLETE, "free"),
    ],
)
def test_a_state_entitles_to_the_plan_or_to_the_default(state: State, plan: str) -> None:
    default = PlanRow(spec=FREE, version=2, managed_by="file")
    entry = entitlement_of(account(state), default, 0)
    assert (entry.plan, entry.refused, entry.anchor_ms) == (plan, None, 5_000)


def test_without_a_default_plan_an_ended_subscription_allows_nothing() -> None:
    entry = entitlement_of(account(State.CANCELED), None, 0)
    assert entry.refused == "The subscription has ended, and there is no default plan."
    assert entry.quotas == ()
