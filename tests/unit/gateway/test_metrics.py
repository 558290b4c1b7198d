"""Metrics are added up in the process and handed over in one go; the page then shows what every single call would have made it show."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from config.gateway import Route
from gateway.metrics import GatewayMetrics


def test_what_was_added_up_is_handed_over_once() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    for _ in range(3):
        metrics.requests.add(1, "/*", "2xx")
    metrics.gather()
    metrics.gather()
    assert registry.get_sample_value("weighbridge_requests_total", {"route": "/*", "status_class": "2xx"}) == 3


def test_observations_land_in_their_buckets_as_single_ones_would() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    for seconds in (0.001, 0.0011, 40):
        metrics.duration.observe(seconds, "/*")
    metrics.gather()
    shown = {
        bound: registry.get_sample_value("weighbridge_request_duration_seconds_bucket", {"route": "/*", "le": bound})
        for bound in ("0.001", "0.0025", "30.0", "+Inf")
    }
    assert shown == {"0.001": 1, "0.0025": 2, "30.0": 2, "+Inf": 3}
    assert registry.get_sample_value("weighbridge_request_duration_seconds_sum", {"route": "/*"}) == 40.0021


def test_labels_that_were_asked_for_once_add_up_with_those_named_each_time() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    requests, duration = metrics.requests.at("/*", "2xx"), metrics.duration.at("/*")
    for _ in range(2):  # they outlive what was handed over
        requests.add(1)
        metrics.requests.add(1, "/*", "2xx")
        duration.observe(0.002)
        metrics.duration.observe(0.002, "/*")
        metrics.gather()
    assert registry.get_sample_value("weighbridge_requests_total", {"route": "/*", "status_class": "2xx"}) == 4
    assert registry.get_sample_value("weighbridge_request_duration_seconds_count", {"route": "/*"}) == 4


def test_labels_that_were_asked_for_and_never_counted_are_not_shown() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    metrics.requests.at("/*", "5xx")
    metrics.duration.at("/*")
    metrics.gather()
    assert registry.get_sample_value("weighbridge_requests_total", {"route": "/*", "status_class": "5xx"}) is None
    assert registry.get_sample_value("weighbridge_request_duration_seconds_count", {"route": "/*"}) is None


def test_a_route_that_goes_to_another_upstream_is_observed_there() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    former, present = (Route(id=1, path="/*", upstream=upstream) for upstream in ("blue", "green"))
    for route in (former, former, present, former, present):
        metrics.of_route(route).upstream_duration.observe(0.01)
        metrics.of_route(route).answered(200, 0.01)
    metrics.gather()
    counts = [registry.get_sample_value("weighbridge_upstream_duration_seconds_count", {"upstream": u}) for u in ("blue", "green")]
    assert counts == [3, 2]
    assert registry.get_sample_value("weighbridge_requests_total", {"route": "/*", "status_class": "2xx"}) == 5


@given(st.lists(st.floats(0, 60) | st.sampled_from((*Histogram.DEFAULT_BUCKETS[:-1], 0.001, 30.0)), min_size=1))
def test_what_is_sorted_in_at_once_is_what_single_observations_would_show(values: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    metrics = GatewayMetrics(ours)
    bounds = metrics.admission_duration.bounds
    single = Histogram("weighbridge_admission_duration_seconds", "-", registry=theirs, buckets=bounds)
    for value in values:
        metrics.admission_duration.observe(value)
        single.observe(value)
    metrics.gather()
    for bound in (*map(str, map(float, bounds)), "+Inf"):
        name, labels = "weighbridge_admission_duration_seconds_bucket", {"le": bound}
        assert ours.get_sample_value(name, labels) == theirs.get_sample_value(name, labels)
