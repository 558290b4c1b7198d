"""Metrics are added up in the process and handed over in one go; the page then shows what every single call would have made it show."""

from prometheus_client import CollectorRegistry

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
