"""`check` names every fault at once: file, line, path, and what to do."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from config.files import FileSet
from config.load import parse

from .samples import GATEWAY, METERS, PLANS, faults, files, gateway_with, parsed, plan_with

NOT_AVAILABLE = "is not available in this version of Weighbridge"


def test_the_sample_has_no_faults() -> None:
    assert parsed().faults == []


def test_faults_of_all_files_and_places_are_named_at_once() -> None:
    found = faults(
        gateway=gateway_with("  - {path: docs}\n  - {path: /a, upstream: ap}\n  - {path: /b, charge: {apii: 1}}"),
        meters=METERS + "  tokens: {unit: token, shw: GB}\n",
        plans=plan_with("quotas: [{meter: apj, limit: 5 GX, mode: hrad}], trial_days: -1"),
        orgs="orgs:\n  Acme: {id: 5}\n",
    )
    assert [(f.file, f.line, f.path) for f in found] == [
        ("gateway.yaml", 6, "routes[0].path"),
        ("gateway.yaml", 7, "routes[1].upstream"),
        ("gateway.yaml", 8, "routes[2].charge.apii"),
        ("meters.yaml", 7, "meters.tokens.shw"),
        ("orgs.yaml", 2, "orgs.Acme"),
        ("orgs.yaml", 2, "orgs.Acme"),
        ("orgs.yaml", 2, "orgs.Acme"),
        ("orgs.yaml", 2, "orgs.Acme.id"),
        ("plans.yaml", 2, "plans.pro.quotas[0].meter"),
        ("plans.yaml", 2, "plans.pro.quotas[0].mode"),
        ("plans.yaml", 2, "plans.pro.trial_days"),
    ]


def test_a_fault_prints_as_file_line_path_and_sentence() -> None:
    (fault,) = faults(plans=plan_with("quotas: [{meter: apj, limit: 1}]"))
    assert str(fault) == "plans.yaml:2: plans.pro.quotas[0].meter: there is no meter `apj` in meters.yaml; did you mean `api`?"


GATEWAY_FAULTS = [
    ("  - {path: /x, chrage: {api: 1}}", "routes[0].chrage", "did you mean `charge`?"),
    ("  - {path: /x, charge: {api: 1.5}}", "routes[0].charge.api", "whole number"),
    ("  - {path: /x, charge: {api: 1_000_000_000_001}}", "routes[0].charge.api", "more than one call can take"),
    ("  - {path: /x, charge: {api: 5 GB}}", "routes[0].charge.api", "`GB` is no unit for a meter of unit `request`"),
    ("  - {path: /x, charge: {api: bytes}}", "routes[0].charge.api", "weighs bytes"),
    ("  - {path: /x, charge: {bandwidth: messages}}", "routes[0].charge.bandwidth", "counts messages, but `bandwidth` counts bytes"),
    ("  - {path: /x, charge: {api: mesages}}", "routes[0].charge.api", "bytes, messages"),
    ("  - {path: /x, auth: none, charge: {api: messages}, quotas: [{meter: api, limit: 5, per: address}]}",
     "routes[0].charge", "could not be settled"),
    ("  - {path: /x, charge: {api: messages}, rate: {meter: api, limit: 5, per: minute}}", "routes[0].rate.meter", "known when it ends"),
    ("  - {path: /x, charge: {storage: 1}}", "routes[0].charge.storage", "write held"),
    ("  - {path: /x, charge: {api: held}}", "routes[0].charge.api", "is no level"),
    ("  - {path: /x, auth: none}", "routes[0].auth", "charge: none"),
    ("  - {path: /x, auth: none, charge: {api: 2}}", "routes[0].charge", "charge: none"),
    ("  - {path: /x}\n  - {path: /x/}", "routes[1].path", "already takes /x"),
    ("  - {path: '/x/{a}', methods: [GET]}\n  - {path: '/x/{b}', methods: [POST, GET]}", "routes[1].path", "already takes GET /x/{a}"),
    ("  - {path: '/x/{a'}", "routes[0].path", "braces"),
    ("  - {path: '/x/{a}/{a}'}", "routes[0].path", "twice"),
    ("  - {path: '/x/*/y'}", "routes[0].path", "last segment"),
    ("  - {path: '/x?y'}", "routes[0].path", "queries"),
    ("  - {path: '/x/../y'}", "routes[0].path", "never matches"),
    ("  - {path: '/x//y'}", "routes[0].path", "empty segment"),
    ("  - {path: '/x y'}", "routes[0].path", "%20"),
    ("  - {path: /x, methods: [get]}", "routes[0].methods[0]", "GET"),
    ("  - {path: /x, methods: GET}", "routes[0].methods", "a list"),
    ("  - {path: /x, hosts: []}", "routes[0].hosts", "matches nothing"),
    ("  - {path: /x, hosts: ['http://a']}", "routes[0].hosts[0]", "host name"),
    ("  - {path: /x, host: api.example.com}", "routes[0].host", "hosts: [api.example.com]"),
    ("  - {path: /x, strip_prefix: /y}", "routes[0].strip_prefix", "does not begin with /y"),
    ("  - {path: /x, timeouts: {connect: soon}}", "routes[0].timeouts.connect", "no duration"),
    ("  - {path: /x, timeouts: {connect: none}}", "routes[0].timeouts.connect", "needs an end"),
    ("  - {path: /x, return_on: [4xy]}", "routes[0].return_on[0]", "none of"),
    ("  - {path: /x, on_store_failure: ajar}", "routes[0].on_store_failure", "open (calls pass)"),
    ("  - {path: /x, on_store_failure: {grace: 0}}", "routes[0].on_store_failure", "above 0"),
    ("  - {path: /x, request_headers: {add: {Content-Length: 5}}}", "routes[0].request_headers.add", "connection"),
    ("  - {path: /x, response_headers: {add: {X-A: \"a\\nb\"}}}", "routes[0].response_headers.add.X-A", "one line"),
    ("  - {path: /x, quotas: [{meter: pages, limit: 5}]}", "routes[0].quotas[0].meter", "never move"),
    ("  - {path: /x, quotas: [{meter: api, limit: 5, mode: overage}]}", "routes[0].quotas[0].mode", "plans.yaml"),
    ("  - {path: /x, charge: {pages: {reserve: 5}}}", "routes[0].charge.pages", "`settle` is missing"),
    ("  - {path: /x, charge: {pages: {settle: 'json:usage.total'}}}", "routes[0].charge.pages.settle", "write it like /usage/total"),
    ("  - {path: /x, charge: {pages: 'sse:/a~2'}}", "routes[0].charge.pages", "~0"),
    ("  - {path: /x, charge: {pages: {settle: usage}}}", "routes[0].charge.pages.settle", "says nowhere to look"),
    ("  - {path: /x, charge: {pages: {settle: []}}}", "routes[0].charge.pages.settle", "there is no source in it"),
    ("  - {path: /x, charge: {pages: {settle: 'header:X Y'}}}", "routes[0].charge.pages.settle", "no header name"),
    ("  - {path: /x, charge: {pages: {settle: 'json:/a', reserve: -1}}}", "routes[0].charge.pages.reserve", "below zero"),
    ("  - {path: /x, charge: {pages: {settle: 'json:/a', reserve: 5 GB}}}", "routes[0].charge.pages.reserve", "no unit for a meter"),
    ("  - {path: /x, charge: {pages: {settle: 'json:/a', reserve: unlimited}}}", "routes[0].charge.pages.reserve", "write a number"),
    ("  - {path: /x, charge: {pages: {settle: 'json:/a', reserve: 9_000_000_000_000}}}", "routes[0].charge.pages.reserve", "one call can"),
    ("  - {path: /x, charge: {pages: {settle: 'json:/a', otherwise: guess}}}", "routes[0].charge.pages.otherwise", "no amount"),
    ("  - {path: /x, charge: {pages: {settle: 'json:/a', within: 1 GB}}}", "routes[0].charge.pages.within", "at most 16 MiB"),
    ("  - {path: /x, charge: {pages: {settle: 'json:/a', resreve: 5}}}", "routes[0].charge.pages.resreve", "did you mean `reserve`?"),
    ("  - {path: /x, charge: {pages: {settle: 'json:/a', default: 5}}}", "routes[0].charge.pages.default", "otherwise"),
    ("  - {path: /x, charge: {pages: 'json:/a'}, rate: {meter: pages, limit: 5, per: minute}}", "routes[0].rate.meter", "or a reserve"),
    ("  - {path: /x, charge: {pages: {settle: 'json:/a', reserve: 9}}, rate: {meter: pages, limit: 5, per: minute}}",
     "routes[0].rate.limit", "write burst: 9"),
    ("  - {path: /x, auth: none, charge: {pages: 'json:/a'}, quotas: [{meter: pages, limit: 5, per: address}]}",
     "routes[0].charge", "could not be settled"),
    ("  - {path: /x, prices: {api: 1}}", "routes[0].prices", "plans.yaml"),
    ("  - 5", "routes[0]", "mapping"),
    ("  []", "routes", "write at least one"),
]  # fmt: skip


@pytest.mark.parametrize(("routes", "path", "said"), GATEWAY_FAULTS)
def test_a_faulty_route_says_what_to_do(routes: str, path: str, said: str) -> None:
    found = faults(gateway=gateway_with(routes))
    assert path in [f.path for f in found]
    assert said in next(f.message for f in found if f.path == path)


PLAN_FAULTS = [
    ("quotas: [{meter: api, limit: 1, window: hour, mode: overage}]", "quotas[0].window", "billed by the period"),
    ("quotas: [{meter: api, limit: 1, per: key, mode: overage}]", "quotas[0].per", "as a whole"),
    ("quotas: [{meter: api, limit: unlimited, mode: overage}]", "quotas[0].limit", "nothing is ever over"),
    ("quotas: [{meter: api, limit: 1}, {meter: api, limit: 2}]", "quotas[1]", "keep one"),
    ("quotas: [{meter: api, limit: -1}]", "quotas[0].limit", "below zero"),
    ("quotas: [{meter: api, limit: 99999999999999999999}]", "quotas[0].limit", "more than can be counted"),
    ("quotas: [{meter: api}]", "quotas[0]", "`limit` is missing"),
    ("quotas: [{meter: api, limit: 1, window: week}]", "quotas[0].window", "none of hour, day, period or month"),
    ("quotas: [{meter: storage, limit: 1 GB, window: day}]", "quotas[0].window", "is a level"),
    ("quotas: {api: 5}", "quotas", "a list"),
    ("prices: {api: {each: 0.0003}}", "prices.api.each", 'in quotes, so that no digit is lost: "0.0003"'),
    ("prices: {api: {each: '$1'}}", "prices.api.each", "no price"),
    ("prices: {api: {each: '1,5'}}", "prices.api.each", "no price"),
    ("prices: {api: {each: {usd: 1}}}", "prices.api.each.usd", "in quotes"),
    ("prices: {api: {each: {}}}", "prices.api.each", "one for each currency"),
    ("prices: {api: {each: {usd: '1', eur: '1'}, minimum: '5'}}", "prices.api.minimum", "same currencies"),
    ("prices: {api: {model: grduated}}", "prices.api.model", "did you mean `graduated`?"),
    ("prices: {api: {model: graduated}}", "prices.api", "`tiers` is missing"),
    ("prices: {api: {model: package, size: 100}}", "prices.api", "`each` is missing"),
    ("prices: {api: {model: package, size: 0, each: '1'}}", "prices.api.size", "at least one unit"),
    ("prices: {api: {model: package, size: unlimited, each: '1'}}", "prices.api.size", "write a number"),
    ("prices: {api: {model: dynamic}}", "prices.api", "`multiplier` is missing"),
    ("prices: {api: {model: dynamic, multiplier: many}}", "prices.api.multiplier", "no number"),
    ("prices: {api: {each: '1', free: 5}}", "prices.api.free", "it goes with model: package"),
    ("prices: {api: {each: '1', per: hour}}", "prices.api.per", "`api` is no level"),
    ("prices: {api: {each: '1', price: '2'}}", "prices.api.price", "is written each"),
    ("prices: {api: {each: '1', minimum: '5', maximum: '4'}}", "prices.api", "minimum of 5 is above the maximum of 4"),
    ("prices: {api: {model: percentage, percentage: 1, free_amount: '0.5'}}", "prices.api", "no whole number of `request`"),
    ("prices: {api: {tiers: [{each: '1'}]}}", "prices.api.tiers", "model: graduated (each unit at its own tier) or model: volume"),
    ("prices: {api: {model: volume, tiers: []}}", "prices.api.tiers", "there is no tier"),
    ("prices: {api: {model: volume, tiers: [{to: 5, each: '1'}]}}", "prices.api.tiers[0].to", "the last tier has no end"),
    ("prices: {api: {model: volume, tiers: [{each: '1'}, {each: '2'}]}}", "prices.api.tiers[0]", "only the last tier has no end"),
    (
        "prices: {api: {model: volume, tiers: [{to: 5, each: '1'}, {to: 5, each: '2'}, {each: '3'}]}}",
        "prices.api.tiers[1].to",
        "tiers rise",
    ),
    ("prices: {api: {model: volume, tiers: [{to: 5 GB, each: '1'}, {each: '3'}]}}", "prices.api.tiers[0].to", "`GB` is no unit"),
    ("prices: {api: {model: volume, tiers: [{to: 5}, {each: '3'}]}}", "prices.api.tiers[0]", "this tier has no price"),
    ("prices: {api: {model: volume, tiers: [{to: 5, percentage: 3}, {each: '3'}]}}", "prices.api.tiers[0].percentage", "written each"),
    ("prices: {api: {model: volume, tiers: [{up_to: 5, each: '1'}, {each: '3'}]}}", "prices.api.tiers[0].up_to", "written to: 1_000"),
    ("prices: {api: {model: volume, tiers: [{to: 5, each: 1}, {each: '3'}]}}", "prices.api.tiers[0].each", "in quotes"),
    ("minimum: '5'", "minimum", "a minimum stands on a price"),
    ("prices: {apii: {each: '1'}}", "prices.apii", "did you mean `api`?"),
    ("prices: {api: {each: '0.0000000000001'}}", "prices.api.each", "12"),
    ("prices: {bandwidth: {each: '0.0000000000001'}}", "prices.bandwidth.each", "12"),
    ("prices: {api: {}}", "prices.api", "`each` is missing"),
    ("features: [sso, sso]", "features[1]", "twice"),
    ("features: ['Bad Key']", "features[0]", "no feature key"),
    ("features: [{key: seats, number: -1}]", "features[0].number", "whole number"),
    ("copy_from: prod", "copy_from", "no plan `prod`; did you mean `pro`?"),
    ("copy_from: pro", "copy_from", "circle"),
    ("interval: weekly", "interval", "none of day, week, month or year"),
    ("rollout: later", "rollout", "none of"),
    ("overage: {}", "overage", "mode: overage"),
    ("discount: 17", "discount", "discount_label"),
    ("trial_days: two", "trial_days", "whole number"),
]


@pytest.mark.parametrize(("words", "path", "said"), PLAN_FAULTS)
def test_a_faulty_plan_says_what_to_do(words: str, path: str, said: str) -> None:
    found = faults(plans=plan_with(words))
    assert f"plans.pro.{path}" in [f.path for f in found]
    assert said in next(f.message for f in found if f.path == f"plans.pro.{path}")


@pytest.mark.parametrize(
    ("price", "said"),
    [("{usd: 49.00}", '"49.00"'), ("{usd: 49}", '"49"'), ('{usd: "49.001"}', "2 decimals"), ('{jpy: "1.5"}', "0 decimals"),
     ("{}", "currency"),
     ('{USD: "1"}', "no currency"), ('"49"', "by currency"), ("5", "by currency"), ('{usd: "-1"}', "no price")],
)  # fmt: skip
def test_a_base_price_is_exact_money_by_currency(price: str, said: str) -> None:
    found = faults(plans=f"plans:\n  pro: {{price: {price}}}\n")
    assert len(found) == 1
    assert said in found[0].message


def test_a_plan_without_a_price_says_how_to_write_one() -> None:
    (fault,) = faults(plans="plans:\n  pro: {title: Pro}\n")
    assert "contact sales" in fault.message


NOT_BUILT_IN_PLANS = [
    ("setup_fee: {usd: '500'}", ["setup_fee"]),
]
NOT_BUILT_ON_ROUTES = [
    ("hosts: ['*.example.com']", ["hosts[0]"]),
]


@pytest.mark.parametrize(("words", "paths"), NOT_BUILT_IN_PLANS)
def test_a_word_that_is_not_built_is_refused_as_such_in_a_plan(words: str, paths: list[str]) -> None:
    found = faults(plans=plan_with(words))
    assert [(f.path.removeprefix("plans.pro."), NOT_AVAILABLE in f.message) for f in found] == [(path, True) for path in paths]


@pytest.mark.parametrize(("words", "paths"), NOT_BUILT_ON_ROUTES)
def test_a_word_that_is_not_built_is_refused_as_such_on_a_route(words: str, paths: list[str]) -> None:
    found = faults(gateway=gateway_with(f"  - {{path: /x, {words}}}"))
    assert [(f.path.removeprefix("routes[0]."), NOT_AVAILABLE in f.message) for f in found] == [(path, True) for path in paths]


def test_other_identities_and_dimensions_are_not_built() -> None:
    found = faults(
        gateway="identity:\n  - basic: {}\n" + GATEWAY,
        meters=METERS + "  tokens: {unit: token, by: [model]}\n",
    )
    assert [(f.path, NOT_AVAILABLE in f.message) for f in found] == [
        ("identity[0].basic", True),
        ("meters.tokens.by", True),
    ]


@pytest.mark.parametrize("issuer", ["stripe", "weighbridge"])
def test_either_may_write_the_invoices(issuer: str) -> None:
    assert faults(plans=f"issuer: {issuer}\n" + PLANS) == []


def test_nobody_else_writes_them() -> None:
    (fault,) = faults(plans="issuer: both\n" + PLANS)
    assert fault.path == "issuer"


def test_a_word_that_weighbridge_never_heard_is_unknown_not_unavailable() -> None:
    (fault,) = faults(plans=plan_with("flux_capacitor: 1"))
    assert "there is no word `flux_capacitor` here" in fault.message


def test_an_unreadable_meters_file_makes_no_faults_elsewhere() -> None:
    assert [f.file for f in faults(meters="meters: [")] == ["meters.yaml"]


def test_a_faulty_meter_makes_no_faults_where_it_is_named() -> None:
    assert [f.path for f in faults(meters=METERS.replace("unit: request", "unit: 5"))] == ["meters.api.unit"]


@pytest.mark.parametrize(("cut", "said"), [("", "empty"), ("# nothing\n", "empty"), ("- 1\n", "mapping"), ("plans: {}\n", "no plan")])
def test_a_file_without_content_says_so(cut: str, said: str) -> None:
    (fault,) = faults(plans=cut)
    assert said in fault.message


def test_missing_files_are_faults_of_the_set() -> None:
    found = parse(FileSet(texts={"gateway.yaml": GATEWAY}, unread={"meters.yaml": "gone", "plans.yaml": "gone"})).faults
    assert [(f.file, f.line) for f in found] == [("meters.yaml", 0), ("plans.yaml", 0)]


def test_an_overage_quota_without_a_price_is_a_warning() -> None:
    found = parsed(plans=plan_with("quotas: [{meter: api, limit: 1, mode: overage}]"))
    assert (found.faults, [w.path for w in found.warnings]) == ([], ["plans.pro.quotas[0].mode"])


def test_a_price_that_a_hard_quota_never_lets_charge_is_a_warning() -> None:
    found = parsed(plans=plan_with("quotas: [{meter: api, limit: 1}], prices: {api: {each: '1'}}"))
    assert (found.faults, [w.path for w in found.warnings]) == ([], ["plans.pro.prices.api"])


def test_an_override_for_an_organization_that_orgs_yaml_lacks_is_a_fault() -> None:
    override = "overrides:\n  acmee: {reason: r, until: 2027-01-01T00:00:00Z, quotas: [{meter: api, limit: 5}]}\n"
    org = "orgs:\n  acme: {id: 018f2d5e-7c3a-7b1e-9d42-6a5b0c1d2e3f, plan: pro, anchor: 2026-01-15T00:00:00Z}\n"
    (fault,) = faults(plans=PLANS + override, orgs=org)
    assert "did you mean `acme`?" in fault.message


_texts = ["api", "none", "hard", "overage", "hour", "5\xa0GB", "2s", "/x", "x", "*", "pro", "header:X", "1.5"]
_keys = [
    "api",
    "meter",
    "limit",
    "mode",
    "window",
    "per",
    "path",
    "charge",
    "auth",
    "price",
    "prices",
    "quotas",
    "each",
    "usd",
    "copy_from",
    "grace",
    "upstream",
    "upstreams",
    "targets",
    "routes",
    "defaults",
    "plans",
    "meters",
    "unit",
    "kind",
    "features",
    "key",
    "from",
    "api_key",
    "identity",
    "on_store_failure",
    "timeouts",
    "connect",
    "overrides",
    "reason",
    "until",
    "methods",
    "hosts",
    "strip_prefix",
    "return_on",
    "pro",
    "app",
    "orgs",
    "id",
    "anchor",
    "keys",
    "sha256",
    "host",
    "limits",
    "body",
]
_leaves = st.one_of(st.integers(-5, 10**25), st.sampled_from(_texts), st.booleans(), st.none(), st.floats())
_values = st.recursive(
    _leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_keys), inner, max_size=4)), max_leaves=25
)


def _yaml(value: object) -> str:
    return json.dumps(value).replace("Infinity", ".inf").replace("NaN", ".nan")


@settings(max_examples=30, deadline=None)
@given(_values, _values, _values, _values)
def test_no_configuration_makes_check_fail_itself(gateway: object, meters: object, plans: object, orgs: object) -> None:
    found = parse(files(_yaml(gateway), _yaml(meters), _yaml(plans), _yaml(orgs)))
    assert (found.config is None) == bool(found.faults)


ORGS = """
orgs:
  acme: {id: 018f2d5e-7c3a-7b1e-9d42-6a5b0c1d2e3f, plan: pro, anchor: "2026-01-15T00:00:00Z", keys: [{sha256: x, test: true}]}
"""
FULL_GATEWAY = """
upstreams: {app: {targets: ["http://a"], health: /h, host: upstream}}
identity: [{api_key: {from: [X-API-Key, bearer]}}]
limits: {line: 8 kB, body: 1 MB, header_timeout: 10s}
defaults: {auth: required, charge: {api: 1, bandwidth: bytes}, return_on: [5xx], preflight: free, timeouts: {connect: 1s}}
routes:
  - {path: "/v1/{id}", methods: [GET], hosts: [a.example.com], charge: {pages: "header:X-P"}, strip_prefix: /v1,
     quotas: [{meter: api, limit: 5, per: key, window: day, on_store_failure: {grace: 5}}], request_headers: {add: {A: b}, remove: [C]}}
  - {path: /health, auth: none, charge: none}
  - {path: /slow, rates: [{meter: api, limit: 5, per: second, burst: 10, by: key, shadow: true}], concurrency: [{limit: 2, by: key}],
     tenant: {header: X-T}}
  - {path: /chat, charge: {pages: {reserve: 5, settle: ["sse:/a/b", "header:X-P"], otherwise: 3, within: 5 kB}, api: "json:/a"}}
  - {path: /docs/*, auth: none, rate: {limit: 5, per: minute, by: address}, quotas: [{meter: api, limit: 9, per: address, window: day}]}
"""
FULL_PLANS = """
plans:
  pro: {price: {usd: "1.00"}, quotas: [{meter: api, limit: 5, mode: overage}], prices: {api: {each: "1"}},
    features: [sso, {key: seats, number: 5}]}
  annual: {copy_from: pro, interval: year, trial_days: 3, rollout: now, concurrency: {limit: 3}, rates: none,
    quotas: [{meter: pages, limit: 5, mode: throttle, then: {limit: 1, window: day}}, {meter: api, limit: 5, mode: overage, stop_at: 9}]}
overrides: {acme: {reason: r, until: "2027-01-01T00:00:00Z", quotas: [{meter: api, limit: 5}],
  rates: [{limit: 5, per: second}], concurrency: 2}}
"""


@st.composite
def _spoiled(draw: st.DrawFn, text: str) -> str:
    """The text's value with one place in it replaced by something else."""
    root = [yaml.safe_load(text)]
    places: list[tuple[Any, Any]] = []
    todo: list[Any] = [root]
    while todo:
        inner = todo.pop()
        for key in list(inner) if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ():
            places.append((inner, key))
            todo.append(inner[key])
    where, key = draw(st.sampled_from(places))
    where[key] = draw(_values)
    return _yaml(root[0])


@settings(max_examples=40, deadline=None)
@given(_spoiled(FULL_GATEWAY), _spoiled(METERS), _spoiled(FULL_PLANS), _spoiled(ORGS))
def test_no_spoiled_configuration_makes_check_fail_itself(gateway: str, meters: str, plans: str, orgs: str) -> None:
    for which in (files(gateway), files(meters=meters), files(plans=plans, orgs=orgs), files(gateway, meters, plans, orgs)):
        found = parse(which)
        assert (found.config is None) == bool(found.faults)
        assert all(f.message and f.line >= 0 for f in found.faults)
