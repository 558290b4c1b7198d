"""What a key's own limits add to a charge, and what a test key leaves out of it."""

from dataclasses import replace

from config.gateway import Fixed, Route, Weighed
from gateway.charges import Charge, make_charge
from metering.model import keys
from metering.model.apikey import KeyRecord
from metering.model.entitlement import Entitlement
from metering.model.period import window_at
from metering.model.quota import Concurrency, Mode, Per, Quota, Rate, Then, Window

NOW = 1_772_000_000_000
ORG = "o-1"
PLAN = Entitlement(
    org_id=ORG, slug="acme", name="Acme", version=3, plan="pro", plan_version=1, anchor_ms=0,
    quotas=(Quota(meter="api", limit=100), Quota(meter="api", limit=10, window=Window.HOUR, per=Per.KEY)),
    rates=(Rate(meter="api", limit=50, per="second"),), concurrency=(Concurrency(limit=7),),
)  # fmt: skip
ROUTE = Route(
    id=5, path="/*", upstream="app", charge={"api": Fixed(2), "bandwidth": Weighed("bytes")},
    quotas=(Quota(meter="api", limit=20, window=Window.DAY, routed=True, source="route"),),
)  # fmt: skip
LONGER = [(Window.PERIOD, Window.DAY), (Window.PERIOD, Window.HOUR), (Window.MONTH, Window.HOUR)]
OWN = Quota(meter="api", limit=1000, window=Window.DAY, per=Per.KEY, source="key")
PACE = Rate(meter="api", limit=5, per="second", by=Per.KEY, source="key")


def charge(*, test: bool = False, key_id: int = 9, quotas: tuple[Quota, ...] = (OWN,), rates: tuple[Rate, ...] = (PACE,)) -> Charge:
    return make_charge(PLAN, ROUTE, "GET", KeyRecord(key_id=key_id, org_id=ORG, test=test, quotas=quotas, rates=rates), NOW)


def day(meter: str, key_id: int) -> str:
    return keys.counter(ORG, meter, f"k{key_id}", Window.DAY, window_at(Window.DAY, 0, NOW)[0])


def test_a_keys_own_limits_stand_beside_those_of_plan_and_route() -> None:
    found = charge()
    assert [limit.enforced for limit in found.limits if limit.counter == day("api", 9)] == [1000]
    assert sorted(limit.enforced or 0 for limit in found.limits) == [0, 10, 20, 100, 1000]
    assert [rate.rate for rate in found.rates] == [*PLAN.rates, PACE]


def test_the_limits_of_one_key_count_that_key_alone() -> None:
    assert day("api", 8) in {limit.counter for limit in charge(key_id=8).limits}
    assert not {day("api", 9)} & {limit.counter for limit in charge(key_id=8).limits}
    assert {rate.key for rate in charge(key_id=8).rates} & {rate.key for rate in charge().rates} == {charge().rates[0].key}


def test_of_two_limits_on_one_counter_the_lower_decides() -> None:
    found = charge(quotas=(Quota(meter="api", limit=4, window=Window.HOUR, per=Per.KEY, source="key"),))
    assert [limit.enforced for limit in found.limits if limit.quota and limit.quota.window is Window.HOUR] == [4]


def throttle(limit: int, then: int, window: Window = Window.DAY, after: Window = Window.HOUR) -> Quota:
    return Quota(meter="api", limit=limit, window=window, per=Per.KEY, mode=Mode.THROTTLE, then=Then(limit=then, window=after))


def test_of_two_throttles_that_fall_to_one_slower_quota_the_earlier_stands_and_charges_it_once() -> None:
    plan = replace(PLAN, quotas=(throttle(100, 5),))
    found = make_charge(plan, ROUTE, "GET", KeyRecord(key_id=9, org_id=ORG, quotas=(throttle(50, 8),)), NOW)
    slower = [limit for limit in found.limits if limit.main is not None]
    assert [(limit.after, limit.enforced) for limit in slower] == [(50, 8)]
    assert found.limits[slower[0].main or 0].counter == day("api", 9)


def test_a_throttle_beyond_the_fourth_of_a_call_blocks_at_its_limit() -> None:
    own = (throttle(3, 1), throttle(4, 1, Window.HOUR, Window.DAY))
    plan = replace(PLAN, quotas=tuple(throttle(n, 1, window, after) for n, (window, after) in enumerate(LONGER, 10)))
    found = make_charge(plan, ROUTE, "GET", KeyRecord(key_id=9, org_id=ORG, quotas=own), NOW)
    assert len([limit for limit in found.limits if limit.main is not None]) == 4
    assert [limit.enforced for limit in found.limits if limit.quota and limit.quota.limit == 4 and limit.main is None] == [4]


def test_a_test_key_moves_no_counter_that_another_looks_at() -> None:
    ordinary, test = charge(), charge(test=True)
    assert not {limit.counter for limit in test.limits} & {limit.counter for limit in ordinary.limits}
    assert all(":?" in limit.counter for limit in test.limits)


def test_a_test_key_is_held_by_what_is_per_key_and_by_rates_and_calls_in_flight() -> None:
    found = charge(test=True)
    assert sorted(limit.enforced or 0 for limit in found.limits) == [0, 0, 10, 1000]  # the first two only count
    assert [rate.rate for rate in found.rates] == [*PLAN.rates, PACE]
    assert [slot.concurrency for slot in found.slots] == list(PLAN.concurrency)


def test_what_a_test_key_uses_is_written_down_under_a_name_of_its_own() -> None:
    found = charge(test=True)
    assert found.template.costs == (("?api", 2),)
    assert set(found.template.counters) == {"?api", "?bandwidth"}
    assert [meter for meter, _ in found.weighed] == ["?bandwidth"]
    assert day("?api", 9) in {name for name, _ in found.template.counters["?api"]}


def test_messages_and_headers_still_name_the_meter_itself() -> None:
    assert {limit.meter for limit in charge(test=True).limits} == {"api", "bandwidth"}
