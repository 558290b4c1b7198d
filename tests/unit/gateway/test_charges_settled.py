"""What is reserved stands in a charge like any fixed weight; what settles it stands beside."""

from config.gateway import Fixed, Route, Settled, Source
from gateway.charges import Charge, make_charge
from metering.model.apikey import KeyRecord
from metering.model.entitlement import Entitlement
from metering.model.quota import Mode, Per, Quota, Rate, Then, Window

NOW = 1_772_000_000_000
TOKENS = Settled(sources=(Source("json", "/n"),), reserve=2_000, within=64_000)
ROWS = Settled(sources=(Source("header", "X-Rows"), Source("sse", "/rows")), within=128_000)


def charge(*quotas: Quota, rates: tuple[Rate, ...] = (), test: bool = False, **costs: Fixed | Settled) -> Charge:
    org = Entitlement(
        org_id="o", slug="acme", name="Acme", version=1, plan="free", plan_version=1, anchor_ms=0, quotas=quotas, rates=rates
    )  # fmt: skip
    route = Route(id=5, path="/*", upstream="app", charge=costs or {"api": Fixed(1), "tokens": TOKENS, "rows": ROWS})
    return make_charge(org, route, "GET", KeyRecord(key_id=9, org_id="o", test=test), NOW)


def test_the_reserve_is_the_cost_in_every_limit_and_in_the_journal() -> None:
    of = charge(Quota(meter="tokens", limit=9), Quota(meter="tokens", limit=99, window=Window.DAY, per=Per.KEY))
    assert {limit.meter: limit.cost for limit in of.limits} == {"api": 1, "tokens": 2_000, "rows": 0}
    assert [limit.cost for limit in of.limits if limit.meter == "tokens"] == [2_000, 2_000]
    assert of.template.costs == (("api", 1), ("tokens", 2_000))
    assert (of.settles, of.weighed) == ((("tokens", TOKENS), ("rows", ROWS)), ())


def test_what_is_looked_for_is_worked_out_once_for_all_meters() -> None:
    wanted = charge().wanted
    assert wanted is not None
    assert (wanted.json, list(wanted.events), wanted.within) == (True, ["/rows"], 128_000)
    assert charge(api=Fixed(1)).wanted is None


def test_a_throttles_slower_quota_takes_the_reserve_too() -> None:
    of = charge(Quota(meter="tokens", limit=9, mode=Mode.THROTTLE, then=Then(limit=5_000, window=Window.DAY)))
    assert [limit.cost for limit in of.limits if limit.main is not None] == [2_000]


def test_a_rate_takes_the_reserve_and_none_is_on_what_reserves_nothing() -> None:
    tokens, rows = Rate(meter="tokens", limit=6_000, per="minute"), Rate(meter="rows", limit=6_000, per="minute")
    assert [(rate.rate, rate.cost) for rate in charge(rates=(tokens, rows)).rates] == [(tokens, 2_000)]


def test_a_test_key_settles_apart_from_what_is_billed() -> None:
    of = charge(Quota(meter="tokens", limit=9), test=True)
    assert [measure for measure, _ in of.settles] == ["?tokens", "?rows"]
    assert of.template.costs == (("?api", 1), ("?tokens", 2_000))
    assert all(limit.enforced is None for limit in of.limits)
