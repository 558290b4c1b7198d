"""What would change, by path; and what may pass beyond a limit while the store is away."""

import pytest

from config.diff import compare
from config.load import load_good
from config.worst_case import summary, worst_cases

from .samples import GATEWAY, METERS, PLANS, files, gateway_with, plan_with

OLD = load_good(files())


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        ({}, []),
        ({"gateway": GATEWAY + "# a word to the reader\n"}, []),
        ({"plans": PLANS.replace("200_000", "250_000")}, ["~ plans.pro.quotas.api.period: 200,000 overage → 250,000 overage"]),
        ({"plans": PLANS.replace('"0.0003"', '"0.0004"')}, ["~ plans.pro.prices.api: 0.0003 each → 0.0004 each"]),
        ({"plans": PLANS.replace('"49.00"', '"59.00"')}, ["~ plans.pro.price: 49.00 usd → 59.00 usd"]),
        ({"plans": PLANS + '  big: {price: {usd: "99.00"}}\n'}, ["+ plans.big: 99.00 usd"]),
        ({"plans": PLANS.split("  pro:")[0]}, ["- plans.pro: 49.00 usd"]),
        (
            {"plans": PLANS.replace("limit: 10_000}", "limit: 10_000}, {meter: bandwidth, limit: 5 GB}")},
            ["+ plans.free.quotas.bandwidth.period: 5 GB hard"],
        ),
        (
            {"plans": PLANS.replace("limit: 10_000}]", "limit: 10_000, mode: throttle, then: {limit: 100, window: day}}]")},
            ["~ plans.free.quotas.api.period: 10,000 hard → 10,000 throttle, then 100 by the day"],
        ),
        (
            {"plans": PLANS.replace("mode: overage", "mode: overage, stop_at: 2_000_000")},
            ["~ plans.pro.quotas.api.period: 200,000 overage → 200,000 overage, stops at 2,000,000"],
        ),
        (
            {"plans": PLANS.replace("limit: 10_000}]", "limit: 10_000, shadow: true}]")},
            ["~ plans.free.quotas.api.period: 10,000 hard → 10,000 hard, shadow"],
        ),
        (
            {"plans": PLANS.replace("limit: 10_000}]", "limit: 10_000}]\n    rates: [{meter: api, limit: 5, per: second, burst: 10},"
             " {limit: 60, per: minute, by: key, shadow: true}]\n    concurrency: [{limit: 2}, {limit: 1, by: key, shadow: true}]")},
            ["+ plans.free.concurrency: 2 in flight", "+ plans.free.concurrency.by_key: 1 in flight, shadow",
             "+ plans.free.rates.api.second: 5 a second, burst 10", "+ plans.free.rates.calls.minute.by_key: 60 a minute, shadow"],
        ),
        (
            {"gateway": GATEWAY.replace("{path: /*}", "{path: /*, rate: {limit: 5, per: second}, concurrency: 9}")},
            ["+ routes[/*].concurrency: 9 in flight", "+ routes[/*].rates.calls.second: 5 a second"],
        ),
        ({"gateway": GATEWAY.replace("api: 1,", "api: 2,")}, ["~ routes[/*].charge: api: 1, bandwidth: bytes → api: 2, bandwidth: bytes"]),
        (
            {"gateway": GATEWAY.replace("api: 1,", 'api: {settle: "json:/n", reserve: 3},')},
            [
                "~ routes[/*].charge: api: 1, bandwidth: bytes → api: reserve 3, settle json:/n, otherwise 3, within 1,048,576 bytes,"
                " bandwidth: bytes",
                "~ routes[/*].request_headers: none → +Accept-Encoding: identity, -Range",
            ],
        ),
        ({"gateway": GATEWAY + "  - {path: /new, methods: [POST, GET]}\n"}, ["+ routes[GET,POST /new]: api: 1, bandwidth: bytes"]),
        ({"meters": METERS.replace("report: MB", "report: GB", 1)}, ["~ meters.bandwidth.report: MB → GB",
          "~ meters.bandwidth.report_size: 1000000 → 1000000000"]),
    ],
)  # fmt: skip
def test_each_difference_is_one_line(changed: dict[str, str], lines: list[str]) -> None:
    assert [str(change) for change in compare(OLD, load_good(files(**changed)))] == lines


def test_a_change_of_a_plan_names_the_plan_so_that_its_organizations_can_be_counted() -> None:
    (change,) = compare(OLD, load_good(files(plans=PLANS.replace("200_000", "1"))))
    assert (change.plan, change.org) == ("pro", None)


def test_an_override_names_its_organization() -> None:
    text = PLANS + "overrides:\n  acme: {reason: r, until: 2027-01-01T00:00:00Z, quotas: [{meter: api, limit: 5}]}\n"
    (change,) = compare(OLD, load_good(files(plans=text)))
    assert (str(change), change.org) == ("+ overrides.acme: r", "acme")


def test_where_there_was_nothing_everything_is_new() -> None:
    assert {change.kind for change in compare(None, OLD)} == {"added"}


def worst(quotas: str, rule: str, routes: str = "  - {path: /*}", workers: int = 2) -> dict[str, int | None]:
    config = load_good(
        files(gateway_with(routes, f"  charge: {{api: 1}}\n  on_store_failure: {rule}"), plans=plan_with(f"quotas: [{quotas}]"))
    )
    return {f"{case.route} {case.quota.name}": case.calls for case in worst_cases(config, workers)}


@pytest.mark.parametrize(
    ("quotas", "rule", "found"),
    [
        ("{meter: api, limit: 10}", "{grace: 200}", {"/* api-period": 200}),
        ("{meter: api, limit: 10}", "{grace: 201}", {"/* api-period": 200}),  # each of two workers has 100
        ("{meter: api, limit: 10}", "open", {"/* api-period": None}),
        ("{meter: api, limit: 10}", "closed", {"/* api-period": 0}),
        ("{meter: api, limit: 10, on_store_failure: closed}", "open", {"/* api-period": 0}),
        ("{meter: api, limit: 10, on_store_failure: {grace: 10}}", "open", {"/* api-period": 10}),
        ("{meter: api, limit: 10, mode: soft}", "{grace: 200}", {}),  # nothing to pass beyond
        ("{meter: api, limit: 10, shadow: true, on_store_failure: closed}", "{grace: 200}", {}),  # nor here, and its rule has no say
        ("{meter: api, limit: 10, mode: throttle, then: {limit: 1, window: day}}", "{grace: 200}", {"/* api-period": 200}),
        ("{meter: api, limit: 10, mode: overage, stop_at: 20}", "{grace: 200}", {"/* api-period": 200}),
        ("{meter: api, limit: 10, mode: overage}", "{grace: 200}", {}),
        ("{meter: storage, limit: 1 GB}", "{grace: 200}", {}),  # no route charges it
        ("{meter: api, limit: unlimited}", "closed", {}),
        # the strictest rule of all that a call meets decides
        ("{meter: api, limit: 10, on_store_failure: open}, {meter: api, limit: 5, window: day, on_store_failure: closed}", "open",
         {"/* api-period": 0, "/* api-daily": 0}),
        # an hour's grace begins anew each hour
        ("{meter: api, limit: 9, window: day, on_store_failure: open}, "
         "{meter: api, limit: 5, window: hour, on_store_failure: {grace: 10}}",
         "open", {"/* api-daily": 240, "/* api-hourly": 10}),
    ],
)  # fmt: skip
def test_the_worst_case_adds_up_the_rules(quotas: str, rule: str, found: dict[str, int | None]) -> None:
    assert worst(quotas, rule) == found


def test_a_routes_rule_stands_above_the_defaults_in_the_worst_case() -> None:
    routes = "  - {path: /a, on_store_failure: closed}\n  - {path: /*}"
    assert worst("{meter: api, limit: 10}", "{grace: 4}", routes) == {"/a api-period": 0, "/* api-period": 4}


def test_a_grace_too_small_to_share_is_said_to_refuse() -> None:
    config = load_good(
        files(
            gateway_with(defaults="  charge: {api: 1}\n  on_store_failure: {grace: 1}"), plans=plan_with("quotas: [{meter: api, limit: 5}]")
        )
    )
    lines = summary(config, workers=2)
    assert ("no call passes" in lines[0], "leaves none for each" in lines[1]) == (True, True)
