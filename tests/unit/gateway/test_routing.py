"""Which route a request takes: the most specific wins, and no odd spelling leads around one."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.gateway import Fixed, GatewayConfig, Route, Upstream
from config.paths import readings_of
from gateway.routing import MOST_CACHED, MOST_HOSTS, Router, _best


def remembered(router: Router) -> list[tuple[str, bytes]]:
    """What is in memory: methods and paths."""
    return [(method, path) for views in router._views.values() for method, view in views.items() for path in view.known]


def router_of(*routes: Route) -> Router:
    return Router(GatewayConfig(upstreams={"app": Upstream(name="app", targets=("http://a",))}, routes=routes))


_ids = itertools.count(1)


def route(path: str, methods: str = "", hosts: str = "", auth: str = "required") -> Route:
    return Route(
        id=next(_ids), path=path, upstream="app", methods=frozenset(methods.split()) or None, hosts=tuple(hosts.split()),
        auth="none" if auth == "none" else "required", charge={"api": Fixed(1)},
    )  # fmt: skip


def taken(router: Router, path: str, method: str = "GET", host: str = "x.example.com") -> str | None:
    found = router.match(method, host, path.encode("latin-1"))
    return found.path if found else None


ROUTES = ["/*", "/health", "/v1/*", "/v1/reports/{id}", "/v1/reports/today", "/v1/{kind}/list", "/v1/reports/{id}.pdf", "/docs/*",
          "/docs/api/*", "/v1/{kind}/{id}/x", "/models/{name}:generate"]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/", "/*"), ("/other", "/*"), ("/health", "/health"), ("/health/", "/health"), ("/healthy", "/*"), ("/health/x", "/*"),
        ("/v1", "/v1/*"),
        ("/v1/reports/today", "/v1/reports/today"), ("/v1/reports/5", "/v1/reports/{id}"), ("/v1/reports/5.pdf", "/v1/reports/{id}.pdf"),
        ("/v1/reports/list", "/v1/reports/{id}"), ("/v1/things/list", "/v1/{kind}/list"), ("/v1/reports/5/x", "/v1/{kind}/{id}/x"),
        ("/v1/reports/5/y", "/v1/*"), ("/docs/api", "/docs/api/*"), ("/docs/api/a/b", "/docs/api/*"), ("/docs/apis", "/docs/*"),
        ("/models/a:generate", "/models/{name}:generate"), ("/models/:generate", "/*"), ("/v1/reports/", "/v1/*"),
    ],
)  # fmt: skip
def test_the_most_specific_route_wins_whatever_its_place(path: str, wanted: str) -> None:
    for order in (ROUTES, ROUTES[::-1]):
        assert taken(router_of(*map(route, order)), path) == wanted


@pytest.mark.parametrize(
    "path",
    ["/v1/reports/5", "//v1///reports/5", "/v1/./reports/5", "/v1/x/../reports/5", "/v1/%72eports/5", "/%76%31/reports/%35",
     "/v1/reports/5/",
     "/v1/%2e%2e/v1/reports/5", "/v1/%2E/reports/5", "/v1%2freports/5", "/v1%2Freports%2f5", "/v1\\reports\\5", "/v1%5creports/5",
     "/v1/reports;a=b/5", "/v1/reports/5;a=b", "/v1;x/reports/5", "/v1%3bx/reports/5", "/x/..%2fv1/reports/5", "/x/%2e%2e%2fv1%2freports/5",
     "/../../v1/reports/5"],
)  # fmt: skip
def test_no_spelling_leads_around_a_routes_quota(path: str) -> None:
    assert taken(router_of(route("/*"), route("/v1/reports/{id}")), path) == "/v1/reports/{id}"


@pytest.mark.parametrize(
    "path", ["/docs/..%2fadmin", "/docs/..%5Cadmin", "/docs/..;/admin", "/docs/%2e%2e/admin", "/docs/x/..%2f..%2fadmin"]
)
def test_no_spelling_leads_through_an_open_route(path: str) -> None:
    assert taken(router_of(route("/*"), route("/docs/*", auth="none")), path) == "/*"


@pytest.mark.parametrize(
    "path",
    ["/v1/x/../../health", "/v1/x/%2e%2e/%2E./health", "/v1/../health", "/./health", "/v1;x/../health", "/v1/..%2f../health",
     "/health/..", "/x%5c..%5c../health"],
)  # fmt: skip
def test_dot_segments_that_a_service_may_take_for_names_do_not_open_a_route(path: str) -> None:
    assert taken(router_of(route("/*"), route("/health", auth="none")), path) == "/*"


def test_dot_segments_do_not_lead_out_of_a_route_that_weighs_more() -> None:
    router = router_of(route("/*"), route("/v1/reports/*"), route("/health", auth="none"))
    for path in ("/v1/reports/../../cheap", "/v1/reports/%2e%2e/%2e%2e/health", "/v1;a/reports/../../cheap"):
        assert taken(router, path) == "/v1/reports/*"


def test_an_escaped_slash_in_a_name_is_still_one_name() -> None:
    assert taken(router_of(route("/*"), route("/objects/{key}")), "/objects/a%2Fb") == "/objects/{key}"


def test_bytes_beyond_ascii_match_their_escapes_in_any_case() -> None:
    router = router_of(route("/caf%C3%A9"))
    assert [taken(router, path) for path in ("/caf%c3%a9", "/caf\u00c3\u00a9", "/cafe")] == ["/caf%C3%A9", "/caf%C3%A9", None]


@pytest.mark.parametrize(
    ("host", "method", "wanted"),
    [
        ("a.example.com", "GET", 3), ("A.Example.com:8080", "GET", 3), ("a.example.com.", "POST", 2), ("b.example.com", "GET", 1),
        ("b.example.com", "POST", 0), ("", "POST", 0), ("[::1]:8080", "POST", 4), ("[::2]", "POST", 0),
    ],
)  # fmt: skip
def test_for_one_path_the_host_counts_before_the_method(host: str, method: str, wanted: int) -> None:
    routes = [
        route("/a"),
        route("/a", "GET"),
        route("/a", hosts="a.example.com"),
        route("/a", "GET", "a.example.com"),
        route("/a", hosts="[::1]"),
    ]
    assert router_of(*routes).match(method, host, b"/a") is routes[wanted]


def test_a_method_that_a_route_does_not_take_goes_on_to_the_next_that_matches() -> None:
    router = router_of(route("/a", "POST"), route("/*", "GET"))
    assert [taken(router, "/a", method) for method in ("POST", "GET", "PUT")] == ["/a", "/*", None]


def test_head_goes_where_get_goes_unless_a_route_names_it() -> None:
    get, head, rest = route("/a", "GET"), route("/a", "HEAD"), route("/*")
    assert router_of(get, rest).match("HEAD", "", b"/a") is get
    assert router_of(get, head, rest).match("HEAD", "", b"/a") is head


def test_nothing_matches_where_no_route_does() -> None:
    assert taken(router_of(route("/a")), "/b") is None


def test_what_is_remembered_is_bounded_and_stays_right() -> None:
    router = router_of(route("/n/{id}"))
    assert all(taken(router, f"/n/{n}") == "/n/{id}" for n in range(MOST_CACHED + 100))
    assert taken(router, "/n/" + "x" * 10_000) == "/n/{id}"
    assert 0 < len(remembered(router)) <= MOST_CACHED


def test_hosts_without_end_are_not_remembered_without_end() -> None:
    router = router_of(route("/*"))
    assert all(taken(router, "/a", host=f"h{n}") == "/*" for n in range(MOST_CACHED + 100))
    assert len(router._views) <= MOST_HOSTS


@pytest.mark.parametrize(
    ("method", "host", "path"), [("M" * 9_000, "h", "/a"), ("GET", "h" * 9_000, "/a"), ("GET", "h", "/" + "a" * 9_000)]
)
def test_nothing_long_is_remembered(method: str, host: str, path: str) -> None:
    router = router_of(route("/*"))
    assert taken(router, path, method, host) == "/*"
    assert all(len(method) < 600 and len(path) < 600 for method, path in remembered(router))
    assert all(len(host) < 600 for host in router._views)


def test_methods_without_end_are_not_remembered_without_end() -> None:
    router = router_of(route("/*"))
    assert all(taken(router, "/a", method=f"M{n}") == "/*" for n in range(200))
    assert all(len(views) <= 64 for views in router._views.values())


def test_of_paths_that_are_each_their_own_few_are_remembered() -> None:
    router = router_of(route("/n/{id}"))
    assert all(taken(router, f"/n/{n}") == "/n/{id}" for n in range(1_000))
    assert len({path for _, path in remembered(router)}) < 100


@given(st.binary(max_size=60))
def test_no_path_makes_routing_fail(raw: bytes) -> None:
    found = router_of(route("/*"), route("/a/{b}")).match("GET", "h", raw)
    assert found is not None


@given(st.lists(st.sampled_from(["a", "b", "~c", "d.e", "-", "_", "..", ".", "", "%61", "f;x"]), max_size=4))
def test_a_plain_path_is_read_as_any_other(segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    router = router_of(*(route(each) for each in PLAIN))
    router.match("GET", "h", b"/")
    readings = [_best(router._views["h"]["GET"].root, reading) for reading in readings_of(path)]
    wanted = min((found for found in readings if found), key=lambda found: found[0], default=None)
    assert taken(router, path, host="h") == (wanted[2].path if wanted else None)


PLAIN = ["/a", "/a/b", "/{x}/b", "/a/{x}", "/d.e/*", "/~c/{x}.e", "/a/*"]
_SEGMENTS = st.lists(st.sampled_from(["a", "b", "{x}", "c.d"]), min_size=0, max_size=4)


@given(st.lists(_SEGMENTS, min_size=1, max_size=8, unique_by=tuple), st.lists(st.sampled_from(["a", "b", "c.d", "e"]), max_size=4))
def test_the_tree_finds_what_a_walk_over_all_routes_finds(templates: list[list[str]], path: list[str]) -> None:
    def matches(template: list[str]) -> bool:
        return len(template) == len(path) and all(t in ("{x}", p) for t, p in zip(template, path, strict=True))

    fitting = sorted(
        (t for t in templates if matches(t)), key=lambda t: (any(s == "{x}" for s in t), t.count("{x}"), [s == "{x}" for s in t])
    )
    wanted = "/" + "/".join(fitting[0]) if fitting else None
    assert taken(router_of(*(route("/" + "/".join(t)) for t in templates)), "/" + "/".join(path)) == wanted
