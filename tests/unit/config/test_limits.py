"""Rates, calls in flight, throttles, stops and shadows: what is written, what it means, and every sentence about what cannot be."""

import pytest

from billing.model.plan import PlanSpec
from config.gateway import Fixed, Route
from config.gateway_read import gateway_of
from config.load import load_good
from metering.model.quota import Concurrency, Mode, Per, Quota, Rate, Then, Window

from .samples import PLANS, faults, files, gateway_with, parsed, plan_with


def plan_of(words: str) -> PlanSpec:
    return load_good(files(plans=plan_with(words))).plans.plans["pro"]


def route_of(words: str, defaults: str = "  charge: {api: 1, bandwidth: bytes}") -> Route:
    return gateway_of(files(gateway_with(f"  - {{path: /x, {words}}}", defaults))).routes[0]


QUOTAS = [
    ("{meter: api, limit: 10_000, mode: throttle, then: {limit: 100, window: day}}",
     Quota(meter="api", limit=10_000, mode=Mode.THROTTLE, then=Then(limit=100, window=Window.DAY))),
    ("{meter: bandwidth, limit: 5 GB, mode: throttle, then: {limit: 10 MB, window: hour}}",
     Quota(meter="bandwidth", limit=5 * 10**9, mode=Mode.THROTTLE, then=Then(limit=10**7, window=Window.HOUR))),
    ("{meter: bandwidth, limit: 5 GB, mode: overage, stop_at: 1 TB}",
     Quota(meter="bandwidth", limit=5 * 10**9, mode=Mode.OVERAGE, stop_at=10**12)),
    ("{meter: api, limit: 5, shadow: true}", Quota(meter="api", limit=5, shadow=True)),
    ("{meter: api, limit: 5, mode: overage, stop_at: 6, shadow: true}",
     Quota(meter="api", limit=5, mode=Mode.OVERAGE, stop_at=6, shadow=True)),
]  # fmt: skip


@pytest.mark.parametrize(("written", "meant"), QUOTAS)
def test_a_quota_may_throttle_stop_or_only_be_watched(written: str, meant: Quota) -> None:
    assert plan_of(f"quotas: [{written}]").quotas == (meant,)


RATES = [
    ("{meter: api, limit: 5, per: second, burst: 10}", Rate(meter="api", limit=5, per="second", burst=10)),
    ("{limit: 300, per: minute, by: key, shadow: true}", Rate(meter=None, limit=300, per="minute", by=Per.KEY, shadow=True)),
    ("{meter: api, limit: 1_000 requests, per: minute, by: route}", Rate(meter="api", limit=1_000, per="minute", by=Per.ROUTE)),
]


@pytest.mark.parametrize(("written", "meant"), RATES)
def test_a_rate_is_so_many_a_second_or_a_minute(written: str, meant: Rate) -> None:
    assert plan_of(f"rates: [{written}]").rates == (meant,)


IN_FLIGHT = [
    ("2", (Concurrency(limit=2),)),
    ("{limit: 2, by: key}", (Concurrency(limit=2, by=Per.KEY),)),
    ("[{limit: 9}, {limit: 2, by: key, shadow: true}]", (Concurrency(limit=9), Concurrency(limit=2, by=Per.KEY, shadow=True))),
]


@pytest.mark.parametrize(("written", "meant"), IN_FLIGHT)
def test_calls_in_flight_are_a_number_one_limit_or_a_list(written: str, meant: tuple[Concurrency, ...]) -> None:
    assert plan_of(f"concurrency: {written}").concurrency == meant
    routed = route_of(f"concurrency: {written}").concurrency
    assert [(c.limit, c.by, c.shadow, c.routed, c.source) for c in routed] == [(c.limit, c.by, c.shadow, True, "route") for c in meant]


COPIED = """
plans:
  free:
    price: {usd: "0"}
    quotas: [{meter: api, limit: 10_000}]
    rates: [{meter: api, limit: 5, per: second}, {limit: 9, per: minute}]
    concurrency: [{limit: 2}, {limit: 1, by: key}]
  hobby: {copy_from: free, rates: [{meter: api, limit: 50, per: second, burst: 60}], concurrency: 20}
  wide: {copy_from: free, rates: none, concurrency: none}
  same: {copy_from: free}
"""


def test_a_copy_replaces_the_rate_of_the_same_kind_and_none_drops_them_all() -> None:
    plans = load_good(files(plans=COPIED)).plans.plans
    kept, raised = Rate(meter=None, limit=9, per="minute"), Rate(meter="api", limit=50, per="second", burst=60)
    assert (plans["hobby"].rates, plans["hobby"].concurrency) == ((kept, raised), (Concurrency(limit=1, by=Per.KEY), Concurrency(limit=20)))
    assert (plans["wide"].rates, plans["wide"].concurrency, len(plans["wide"].quotas)) == ((), (), 1)
    assert (plans["same"].rates, plans["same"].concurrency) == (plans["free"].rates, plans["free"].concurrency)


def test_an_override_may_carry_rates_and_calls_in_flight_alone() -> None:
    text = PLANS + "overrides:\n  acme: {reason: r, until: 2027-01-01T00:00:00Z, rates: [{limit: 50, per: second}], concurrency: 9}\n"
    found = load_good(files(plans=text)).plans.overrides["acme"]
    assert (found.quotas, found.rates, found.concurrency) == (
        (),
        (Rate(meter=None, limit=50, per="second", source="override"),),
        (Concurrency(limit=9, source="override"),),
    )


def test_a_route_has_one_rate_or_several_beside_the_plans() -> None:
    one = route_of("rate: {limit: 5, per: second}").rates
    several = route_of("rates: [{limit: 5, per: second}, {meter: api, limit: 60, per: minute, by: key}]").rates
    assert one == (Rate(meter=None, limit=5, per="second", routed=True, source="route"),)
    assert several == (*one, Rate(meter="api", limit=60, per="minute", by=Per.KEY, routed=True, source="route"))


def test_an_open_route_is_limited_by_address_and_weighs_only_what_its_limits_count() -> None:
    rated = route_of("auth: none, charge: none, rate: {limit: 5, per: second, by: address}, concurrency: {limit: 2, by: address}")
    assert (rated.charge, rated.rates[0].by, rated.concurrency[0].by) == ({}, Per.ADDRESS, Per.ADDRESS)
    counted = route_of("auth: none, quotas: [{meter: api, limit: 100, per: address, window: day}]")
    assert (counted.charge, counted.quotas[0].per) == ({"api": Fixed(1)}, Per.ADDRESS)
    heavy = route_of("auth: none, charge: {api: 3}, rate: {meter: api, limit: 9, per: second, by: address}")
    assert heavy.charge == {"api": Fixed(3)}


PLAN_FAULTS = [
    ("quotas: [{meter: api, limit: 1, mode: throttle}]", "quotas[0].mode", "say what it falls to"),
    ("quotas: [{meter: api, limit: 1, then: {limit: 1, window: day}}]", "quotas[0].then", "only mode: throttle"),
    ("quotas: [{meter: api, limit: 1, mode: soft, then: {limit: 1, window: day}}]", "quotas[0].then", "with mode: soft"),
    ("quotas: [{meter: api, limit: unlimited, mode: throttle, then: {limit: 1, window: day}}]", "quotas[0].limit", "never used up"),
    ("quotas: [{meter: api, limit: 1, mode: throttle, then: {limit: 1, window: period}}]", "quotas[0].then.window", "their sum"),
    ("quotas: [{meter: api, limit: 1, mode: throttle, then: {limit: 0, window: day}}]", "quotas[0].then.limit", "write mode: hard"),
    ("quotas: [{meter: api, limit: 1, mode: throttle, then: {limit: unlimited, window: day}}]", "quotas[0].then.limit", "mode: soft"),
    ("quotas: [{meter: api, limit: 1, mode: throttle, then: {limit: 1}}]", "quotas[0].then", "`window` is missing"),
    ("quotas: [{meter: api, limit: 1, mode: throttle, then: {limit: 1, window: day, mode: hard}}]", "quotas[0].then.mode", "leave it out"),
    ("quotas: [{meter: api, limit: 1, mode: throttle, then: 100}]", "quotas[0].then", "mapping"),
    ("quotas: [{meter: api, limit: 1, mode: throttle, then: {limit: 1 GB, window: day}}]", "quotas[0].then.limit", "no unit"),
    ("quotas: [{meter: storage, limit: 1 GB, mode: throttle, then: {limit: 1, window: day}}]", "quotas[0].mode", "is a level"),
    ("quotas: [{meter: api, limit: 5, stop_at: 9}]", "quotas[0].stop_at", "with mode: hard leave it out"),
    ("quotas: [{meter: api, limit: 5, mode: soft, stop_at: 9}]", "quotas[0].stop_at", "with mode: soft"),
    ("quotas: [{meter: api, limit: 5, mode: overage, stop_at: 5}]", "quotas[0].stop_at", "lies beyond the limit"),
    ("quotas: [{meter: api, limit: 5, mode: overage, stop_at: 4}]", "quotas[0].stop_at", "lies beyond the limit"),
    ("quotas: [{meter: api, limit: 5, mode: overage, stop_at: unlimited}]", "quotas[0].stop_at", "leave it out"),
    ("quotas: [{meter: api, limit: 5, mode: overage, stop_at: 4 GB}]", "quotas[0].stop_at", "no unit"),
    ("quotas: [{meter: api, limit: 5, mode: soft, shadow: true}]", "quotas[0].shadow", "never blocks"),
    ("quotas: [{meter: api, limit: 5, mode: overage, shadow: true}]", "quotas[0].shadow", "never blocks"),
    ("quotas: [{meter: api, limit: unlimited, shadow: true}]", "quotas[0].shadow", "never blocks"),
    ("quotas: [{meter: api, limit: 5, shadow: yes}]", "quotas[0].shadow", "true or false"),
    ("quotas: [{meter: api, limit: 5, per: address}]", "quotas[0].per", "write per: key"),
    ("quotas: [{meter: api, limit: 5, burst: 9}]", "quotas[0].burst", "rates: ["),
    ("rates: [{meter: apj, limit: 5, per: second}]", "rates[0].meter", "did you mean `api`?"),
    ("rates: [{meter: storage, limit: 5, per: second}]", "rates[0].meter", "is a level"),
    ("rates: [{meter: bandwidth, limit: 5, per: second}]", "rates[0].meter", "before a call has moved them"),
    ("rates: [{meter: api, limit: 5}]", "rates[0]", "`per` is missing"),
    ("rates: [{meter: api, limit: 5, per: hour}]", "rates[0].per", "for an hour or longer write a quota"),
    ("rates: [{meter: api, limit: 5, per: fortnight}]", "rates[0].per", "second or minute"),
    ("rates: [{meter: api, limit: 5, window: day, per: second}]", "rates[0].window", "for an hour or longer write a quota"),
    ("rates: [{meter: api, limit: 5, per: second, mode: soft}]", "rates[0].mode", "shadow: true"),
    ("rates: [{meter: api, limit: 0, per: second}]", "rates[0].limit", "lets no call pass"),
    ("rates: [{meter: api, limit: unlimited, per: second}]", "rates[0].limit", "leave the rate out"),
    ("rates: [{meter: api, limit: 1.5, per: second}]", "rates[0].limit", "no whole number"),
    ("rates: [{meter: api, limit: 5, per: second, burst: 0}]", "rates[0].burst", "at least 1"),
    ("rates: [{meter: api, limit: 5, per: second, burst: -1}]", "rates[0].burst", "below zero"),
    ("rates: [{meter: api, limit: 5, per: second, by: address}]", "rates[0].by", "write by: key"),
    ("rates: [{meter: api, limit: 5, per: second}, {meter: api, limit: 6, per: second}]", "rates[1]", "already a rate on `api`"),
    ("rates: [{limit: 5, per: second}, {limit: 6, per: second}]", "rates[1]", "already a rate of calls"),
    ("rates: {meter: api, limit: 5, per: second}", "rates", "a list"),
    ("rate: {meter: api, limit: 5, per: second}", "rate", "write a list"),
    ("concurrency: 0", "concurrency", "let no call pass"),
    ("concurrency: -1", "concurrency", "let no call pass"),
    ("concurrency: many", "concurrency", "no number of calls"),
    ("concurrency: {limit: 0}", "concurrency.limit", "let no call pass"),
    ("concurrency: {limit: 2, by: adress}", "concurrency.by", "none of"),
    ("concurrency: {limit: 2, by: address}", "concurrency", "{limit: 2, by: key}"),
    ("concurrency: [{limit: 2}, {limit: 3}]", "concurrency", "keep one"),
    ("concurrency: {limit: 2, per: key}", "concurrency.per", "by: key"),
    ("concurrency: {limit: 2, meter: api}", "concurrency.meter", "leave it out"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "path", "said"), PLAN_FAULTS)
def test_a_limit_of_a_plan_that_cannot_be_says_what_to_write(words: str, path: str, said: str) -> None:
    found = {f.path.removeprefix("plans.pro."): f.message for f in faults(plans=plan_with(words))}
    assert path in found
    assert said in found[path]


ROUTE_FAULTS = [
    ("auth: none, charge: none, rate: {limit: 5, per: second}", "rate.by", "write by: address"),
    ("auth: none, quotas: [{meter: api, limit: 5}]", "quotas[0].per", "write per: address"),
    ("auth: none, charge: none, concurrency: 2", "concurrency", "{limit: 2, by: address}"),
    ("rate: {limit: 5, per: second, by: address}", "rate.by", "write by: key"),
    ("quotas: [{meter: api, limit: 5, per: address}]", "quotas[0].per", "write per: key"),
    ("auth: none, charge: {pages: 1}, quotas: [{meter: api, limit: 5, per: address}]", "charge", "nobody to charge for pages"),
    ("rate: {meter: pages, limit: 5, per: second}", "rate.meter", "never move"),
    ("charge: {pages: 'header:X-Pages'}, rate: {meter: pages, limit: 5, per: second}", "rate.meter", "known when it ends"),
    ("charge: {api: 10}, rate: {meter: api, limit: 5, per: second}", "rate.limit", "none ever would"),
    ("charge: {api: 10}, rate: {meter: api, limit: 50, per: second, burst: 9}", "rate.burst", "write burst: 10"),
    ("rate: {limit: 5, per: second}, rates: [{limit: 5, per: minute}]", "rate", "under `rates`"),
    ("rate: {limit: 5, per: second, by: adress}", "rate.by", "did you mean `address`?"),
    ("concurrency: 0", "concurrency", "let no call pass"),
    ("shadow: true", "shadow", "write it on the quota"),
]


@pytest.mark.parametrize(("words", "path", "said"), ROUTE_FAULTS)
def test_a_limit_of_a_route_that_cannot_be_says_what_to_write(words: str, path: str, said: str) -> None:
    defaults = "  charge: {api: 1, bandwidth: bytes}"
    found = {f.path.removeprefix("routes[0]."): f.message for f in faults(gateway=gateway_with(f"  - {{path: /x, {words}}}", defaults))}
    assert path in found
    assert said in found[path]


@pytest.mark.parametrize("word", ["rate: {limit: 5, per: second}", "rates: []", "concurrency: 2", "quotas: []"])
def test_limits_do_not_stand_in_the_defaults(word: str) -> None:
    (fault,) = faults(gateway=gateway_with(defaults=f"  charge: {{api: 1}}\n  {word}"))
    assert "on a route, or in a plan" in fault.message


def test_an_override_of_nothing_is_a_fault() -> None:
    (fault,) = faults(plans=PLANS + "overrides:\n  acme: {reason: r, until: 2027-01-01T00:00:00Z}\n")
    assert (fault.path, "write quotas, rates or concurrency" in fault.message) == ("overrides.acme", True)


def test_a_rate_of_a_plan_that_a_call_never_gets_past_or_never_moves_is_a_warning() -> None:
    gateway = gateway_with("  - {path: /heavy, charge: {api: 10}}\n  - {path: /*}", "  charge: {api: 1}")
    found = parsed(gateway, plans=plan_with("rates: [{meter: api, limit: 5, per: second}, {meter: pages, limit: 5, per: second}]"))
    assert (found.faults, [w.path for w in found.warnings]) == ([], ["plans.pro.rates"] * 2)
    assert "/heavy weighs 10" in found.warnings[0].message
    assert "no route charges a number of `pages`" in found.warnings[1].message


def test_a_tenant_is_named_by_a_header_of_the_defaults_or_of_the_route_and_on_no_open_route() -> None:
    defaults = "  charge: {api: 1}\n  tenant: {header: X-Tenant-Id}"
    assert route_of("auth: required", defaults).tenant_header == "x-tenant-id"
    assert route_of("tenant: {header: X-Customer}", defaults).tenant_header == "x-customer"
    assert route_of("tenant: none", defaults).tenant_header is None
    assert route_of("auth: none, charge: none", defaults).tenant_header is None
    assert route_of("auth: required").tenant_header is None


def test_limits_may_be_by_tenant_where_calls_name_one() -> None:
    words = "quotas: [{meter: api, limit: 5, per: tenant}], rate: {limit: 5, per: second, by: tenant}, concurrency: {limit: 2, by: tenant}"
    route = route_of(words, "  charge: {api: 1}\n  tenant: {header: X-Tenant-Id}")
    assert (route.quotas[0].per, route.rates[0].by, route.concurrency[0].by) == (Per.TENANT,) * 3
    found = faults(gateway=gateway_with(f"  - {{path: /x, {words}}}"))
    assert [f.path for f in found] == ["routes[0].concurrency", "routes[0].quotas[0].per", "routes[0].rate.by"]
    assert all("write tenant: {header: X-Tenant-Id}" in f.message for f in found)


def test_a_limit_of_a_plan_by_tenant_where_nobody_names_one_is_a_warning() -> None:
    plans = plan_with("quotas: [{meter: api, limit: 5, per: tenant}]")
    assert [w.path for w in parsed(plans=plans).warnings] == ["plans.pro"]
    assert parsed(gateway_with(defaults="  charge: {api: 1}\n  tenant: {header: X-T}"), plans=plans).warnings == []


@pytest.mark.parametrize(
    ("words", "path", "said"),
    [
        ("tenant: X-Tenant-Id", "tenant", "mapping"),
        ("tenant: {header: 'X Tenant'}", "tenant.header", "no header name"),
        ("tenant: {claim: tid}", "tenant.claim", "there is no word"),
        ("auth: none, charge: none, tenant: {header: X-T}", "tenant", "no organization"),
    ],
)
def test_a_tenant_that_cannot_be_named_so_is_a_fault(words: str, path: str, said: str) -> None:
    found = {f.path.removeprefix("routes[0]."): f.message for f in faults(gateway=gateway_with(f"  - {{path: /x, {words}}}"))}
    assert said in found[path]


def test_a_reserve_that_never_fits_is_worth_a_look() -> None:
    gateway = gateway_with("  - {path: /chat, charge: {pages: {reserve: 2_000, settle: 'json:/n'}}}\n  - {path: /*}")
    found = parsed(gateway, plans=plan_with("quotas: [{meter: pages, limit: 1_999}], rates: [{meter: pages, limit: 100, per: minute}]"))
    assert (found.faults, [w.path for w in found.warnings]) == ([], ["plans.pro.quotas", "plans.pro.rates"])
    assert "/chat reserves 2,000, and pages-period has 1,999: none ever passes" in found.warnings[0].message
    assert parsed(gateway, plans=plan_with("quotas: [{meter: pages, limit: 2_000}]")).warnings == []
    assert parsed(gateway, plans=plan_with("quotas: [{meter: pages, limit: 1, mode: soft}]")).warnings == []
