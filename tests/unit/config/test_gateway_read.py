"""gateway.yaml, resolved: defaults filled in, charges merged by meter, failure rules, route ids."""

import zlib

import pytest

from config.gateway import (
    ApiKeyIdentity,
    Fixed,
    FromHeader,
    GatewayConfig,
    HeaderEdit,
    Health,
    Limits,
    Messages,
    Route,
    Settled,
    Source,
    Timeouts,
    Weighed,
)
from config.gateway_read import gateway_of, parse_gateway
from metering.model.errors import ConfigFaulty
from metering.model.quota import CLOSED, OPEN, FailureRule, Mode, Per, Window

from .samples import METERS, files, gateway_with

COUNTED = METERS + '  words: {unit: word, cost_from: "header:X-Words"}\n'


def config_of(gateway: str, meters: str = METERS) -> GatewayConfig:
    return gateway_of(files(gateway, meters))


def route(words: str, defaults: str = "  charge: {api: 1}", meters: str = METERS) -> Route:
    """One route at /v1/x with these words."""
    return config_of(gateway_with(f"  - {{path: /v1/x, {words}}}", defaults), meters).routes[0]


@pytest.mark.parametrize(
    ("defaults", "own", "charge"),
    [
        ("{api: 1}", None, {"api": Fixed(1)}),
        ("{api: 1, bandwidth: bytes}", "{api: 10}", {"api": Fixed(10), "bandwidth": Weighed("bytes")}),
        ("{api: 1}", "{bandwidth: response_bytes}", {"api": Fixed(1), "bandwidth": Weighed("response_bytes")}),
        ("{api: 1, bandwidth: bytes}", "{bandwidth: none}", {"api": Fixed(1)}),
        ("{api: 1, bandwidth: bytes}", "{api: 0}", {"bandwidth": Weighed("bytes")}),
        ("{api: 1}", "none", {}),
        ("{api: 1}", "{storage: held}", {"api": Fixed(1), "storage": Fixed(0)}),
        ("{api: 1, storage: held}", "{storage: none}", {"api": Fixed(1)}),
        ("{api: 1}", "{bandwidth: 5 kB}", {"api": Fixed(1), "bandwidth": Fixed(5_000)}),
        ("{api: 1}", '{pages: "header:X-Pages"}', {"api": Fixed(1), "pages": FromHeader("X-Pages")}),
        ("none", "{pages: 2}", {"pages": Fixed(2)}),
        ("{api: 1}", '{pages: "json:/used/pages"}', {"api": Fixed(1), "pages": Settled(sources=(Source("json", "/used/pages"),))}),
        ("{api: 1}", "{pages: messages}", {"api": Fixed(1), "pages": Messages("messages")}),
        (
            "{api: request_messages}",
            "{pages: response_messages}",
            {"api": Messages("request_messages"), "pages": Messages("response_messages")},
        ),
        ("{pages: 2}", '{pages: "body:/n"}', {"pages": Settled(sources=(Source("sse", "/n"), Source("json", "/n")))}),
        (
            "{pages: 2}",
            '{pages: {reserve: 2_000, settle: ["trailer:X-Pages", "sse:/n"], otherwise: 5, within: 64 kB}}',
            {"pages": Settled(sources=(Source("trailer", "X-Pages"), Source("sse", "/n")), reserve=2_000, otherwise=5, within=64_000)},
        ),
        (
            "none",
            '{bandwidth: {reserve: 5 kB, settle: "header:X-Size"}}',
            {"bandwidth": Settled(sources=(Source("header", "X-Size"),), reserve=5_000)},
        ),
    ],
)
def test_charges_are_merged_by_meter(defaults: str, own: str | None, charge: dict[str, object]) -> None:
    words = f"charge: {own}" if own else "auth: required"
    assert route(words, f"  charge: {defaults}").charge == charge


def test_a_meter_that_names_its_header_is_charged_wherever_something_is() -> None:
    assert route("auth: required", meters=COUNTED).charge == {"words": FromHeader("X-Words"), "api": Fixed(1)}
    assert route("charge: {words: none}", meters=COUNTED).charge == {"api": Fixed(1)}
    assert route("charge: none, auth: none", meters=COUNTED).charge == {}


def test_where_the_body_says_it_the_service_is_asked_for_a_body_that_can_be_read() -> None:
    assert route('charge: {pages: "json:/n"}').request_headers == HeaderEdit(add={"Accept-Encoding": "identity"}, remove=("Range",))
    assert route('charge: {pages: "header:X-Pages"}').request_headers == HeaderEdit()
    assert route('charge: {pages: {settle: "header:X-Pages", reserve: 5}}').request_headers == HeaderEdit()
    edited = route('charge: {pages: "sse:/n"}, request_headers: {add: {range: "x"}, remove: [accept-encoding]}')
    assert edited.request_headers == HeaderEdit(add={"range": "x"}, remove=("accept-encoding",))


def test_where_trailers_say_it_the_service_is_asked_for_them() -> None:
    assert route('charge: {pages: "trailer:X-Pages"}').reads_trailers
    assert not route('charge: {pages: "body:/n"}').reads_trailers


def test_a_failure_rule_of_the_route_stands_above_the_defaults_and_a_quota_keeps_its_own() -> None:
    found = route(
        "on_store_failure: open, quotas: [{meter: api, limit: 5, on_store_failure: closed}, {meter: api, limit: 9, window: day}]",
        "  charge: {api: 1}\n  on_store_failure: {grace: 200}",
    )
    assert (found.on_store_failure, [q.on_store_failure for q in found.quotas]) == (OPEN, [CLOSED, None])
    assert route("auth: required", "  charge: {api: 1}\n  on_store_failure: {grace: 200}").on_store_failure == FailureRule("grace", 200)
    assert route("auth: required").on_store_failure == CLOSED


def test_a_quota_of_a_route_counts_that_route_alone() -> None:
    (quota,) = route("quotas: [{meter: api, per: key, limit: 20, window: day, mode: hard}]").quotas
    assert (quota.routed, quota.source, quota.per, quota.limit, quota.window, quota.mode) == (
        True,
        "route",
        Per.KEY,
        20,
        Window.DAY,
        Mode.HARD,
    )


def test_units_go_back_on_all_three_failures_unless_stated() -> None:
    assert route("auth: required").return_on == {"unreachable", "5xx", "timeout"}
    assert route("return_on: [timeout]").return_on == {"timeout"}
    assert route("return_on: none").return_on == frozenset()


def test_what_a_route_leaves_out_comes_from_the_defaults() -> None:
    defaults = (
        "  charge: {api: 1}\n  timeouts: {connect: 500ms, total: 1m}\n  hide_credentials: true\n"
        "  response_headers: {add: {X-A: a, X-B: b}, remove: [Server]}"
    )
    found = route("timeouts: {total: none, idle: 2m}, response_headers: {add: {X-B: c}, remove: [X-C]}", defaults)
    assert found.timeouts == Timeouts(connect_s=0.5, idle_s=120.0, total_s=None)
    assert found.hide_credentials
    assert found.response_headers == HeaderEdit(add={"X-A": "a", "X-B": "c"}, remove=("Server", "X-C"))


def test_the_host_header_follows_the_route_then_the_upstream() -> None:
    upstreams = '  app: {targets: ["https://app.example.com"], host: upstream}'
    routes = "  - {path: /a}\n  - {path: /b, host: preserve}"
    assert [r.host for r in config_of(gateway_with(routes, upstreams=upstreams)).routes] == ["upstream", "preserve"]


def test_one_upstream_needs_no_naming_and_of_several_one_must_be_named() -> None:
    two = '  one: {targets: ["http://a"]}\n  two: {targets: ["http://b:81"]}'
    assert config_of(gateway_with(upstreams='  one: {targets: ["http://a"]}')).routes[0].upstream == "one"
    assert [f.path for f in parse_gateway(files(gateway_with(upstreams=two))).faults] == ["routes[0]"]
    assert config_of(gateway_with(upstreams=two, defaults="  charge: {api: 1}\n  upstream: two")).default_upstream == "two"


def test_identity_and_limits_have_defaults() -> None:
    found = config_of(gateway_with())
    assert (found.identity, found.limits) == ((ApiKeyIdentity(sources=("X-API-Key", "bearer")),), Limits())
    own = config_of("identity:\n  - api_key: {from: [X-Key]}\nlimits: {line: 4 kB, body: 1 MiB, keepalive: 5s}\n" + gateway_with())
    assert own.identity == (ApiKeyIdentity(sources=("X-Key",)),)
    assert own.limits == Limits(max_line=4_000, max_body=1_048_576, keepalive_s=5.0)


def test_a_route_id_is_a_hash_of_host_and_path() -> None:
    routes = "  - {path: '/a/{id}'}\n  - {path: /b, hosts: [x.example.com]}"
    assert [r.id for r in config_of(gateway_with(routes)).routes] == [zlib.crc32(b"/a/{id}"), zlib.crc32(b"x.example.com/b")]


def test_routes_of_one_path_that_differ_by_method_have_ids_of_their_own() -> None:
    routes = "  - {path: /a, methods: [GET]}\n  - {path: /a, methods: [POST]}\n  - {path: /a}"
    assert len({r.id for r in config_of(gateway_with(routes)).routes}) == 3


def test_two_paths_whose_ids_collide_are_refused() -> None:
    one, other = "/plumless", "/buckeroo"  # crc32("plumless") == crc32("buckeroo")
    assert zlib.crc32(one.encode()) == zlib.crc32(other.encode())
    (fault,) = parse_gateway(files(gateway_with(f"  - {{path: {one}}}\n  - {{path: {other}}}"))).faults
    assert (fault.path, "by chance" in fault.message) == ("routes[1].path", True)


def test_other_targets_replace_those_of_the_default_upstream() -> None:
    two = '  app: {targets: ["http://a"], health: /h}\n  two: {targets: ["http://b"]}'
    gateway = gateway_with(upstreams=two, defaults="  charge: {api: 1}\n  upstream: app")
    found = gateway_of(files(gateway).with_targets("http://10.0.0.1:9000/"))
    assert (found.upstreams["app"].targets, found.upstreams["app"].health, found.upstreams["two"].targets) == (
        ("http://10.0.0.1:9000",), Health(path="/h"), ("http://b",),
    )  # fmt: skip


def test_a_target_that_is_none_is_a_fault_of_the_option() -> None:
    assert [f.path for f in parse_gateway(files().with_targets("localhost:9000")).faults] == ["--upstream"]


def test_who_cannot_go_on_gets_every_fault_in_one_error() -> None:
    with pytest.raises(ConfigFaulty, match=r"routes\[0\].path(.|\n)*routes\[1\].path"):
        gateway_of(files(gateway_with("  - {path: a}\n  - {path: b}")))
