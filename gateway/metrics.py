"""The gateway's metrics, named once. Exposed by the supervisor, one page for all workers (prometheus multiprocess mode).

No label without a bound: `route` is a configured template or `unmatched`, `meter` a configured meter.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_PREFIX = "weighbridge"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
UNMATCHED = "unmatched"


class GatewayMetrics:
    """One instance a process. Values are added as they happen, or once a second where that is cheaper."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        own = registry if registry is not None else CollectorRegistry()

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(name, text, labels, namespace=_PREFIX, registry=own)

        def gauge(name: str, text: str, labels: tuple[str, ...] = (), mode: str = "livesum") -> Gauge:
            return Gauge(name, text, labels, namespace=_PREFIX, registry=own, multiprocess_mode=mode)  # type: ignore[arg-type]

        def histogram(name: str, text: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return Histogram(name, text, labels, namespace=_PREFIX, registry=own, buckets=buckets)

        self.requests = counter("requests_total", "Answers to clients", ("route", "status_class"))
        self.duration = histogram("request_duration_seconds", "From request head to last byte", ("route",))
        self.upstream_duration = histogram("upstream_duration_seconds", "From forwarding to the service's last byte", ("upstream",))
        self.admission_duration = histogram("admission_duration_seconds", "Waiting for the decision")
        self.batch_calls = histogram("admission_batch_calls", "Calls decided by one script", (), (1, 2, 4, 8, 16, 32, 64, 128, 256))
        self.admitted_units = counter("admitted_units_total", "Units charged at admission or weighed since", ("meter",))
        self.returned_units = counter("returned_units_total", "Units given back", ("meter", "cause"))
        self.refused = counter("refused_total", "Calls refused by a quota", ("meter", "mode", "reason"))
        self.rejected = counter("rejected_total", "Requests refused before any quota was asked", ("reason",))
        self.store_decisions = counter("store_decisions_total", "Calls decided by a failure rule", ("rule", "outcome"))
        self.store_errors = counter("store_errors_total", "Errors the store answered with")
        self.journal_errors = counter("journal_errors_total", "Writes to the journal that failed")
        self.store_up = gauge("store_up", "1 while the store answers this worker", mode="livemin")
        self.journal_oldest_age = gauge("journal_oldest_age_seconds", "Age of the oldest record not yet in Postgres", mode="livemax")
        self.journal_free = gauge("journal_free_bytes", "Free space where the journal lies", mode="livemin")
        self.in_flight = gauge("in_flight", "Exchanges under way", ("kind",))
        self.upstream_healthy = gauge("upstream_healthy", "1 while the target takes connections", ("upstream", "target"), "livemin")
        self.config_version = gauge("config_version", "The configuration in force, as a number", mode="livemax")

    # --- what admission tells --------------------------------------------------------------------------------------
    def admission_batch(self, calls: int) -> None:
        self.batch_calls.observe(calls)

    def by_rule(self, rule: str, passed: int, refused: int) -> None:
        if passed:
            self.store_decisions.labels(rule, "passed").inc(passed)
        if refused:
            self.store_decisions.labels(rule, "refused").inc(refused)

    def store_error(self, text: str) -> None:
        self.store_errors.inc()

    def journal_error(self, text: str) -> None:
        self.journal_errors.inc()
