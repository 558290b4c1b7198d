"""The gateway's metrics, named once. Exposed by the supervisor, one page for all workers (prometheus multiprocess mode).

No label without a bound: `route` is a configured template or `unmatched`, `meter` a configured meter.
What happens with every call is added up in the process and handed over once a second (`gather`): a call pays for an
addition, not for a lock and a write to shared memory for each of its metrics. Who adds to the same labels again and
again asks for them once: `metrics.requests.at("/path", "2xx")` is a Sum, `metrics.duration.at("/path")` a Sample.
"""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from config.gateway import Route

_PREFIX = "weighbridge"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
UNMATCHED = "unmatched"
STATUS_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx")


class _Buckets(Histogram):
    """A histogram that takes many observations at once."""

    def take(self, counts: list[int], total: float) -> None:
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(total)


class Sum:
    """What a counter is to be raised by under certain labels."""

    __slots__ = ("count", "metric")

    def __init__(self) -> None:
        self.count: float = 0.0
        self.metric: Any = None  # the counter's child, once it was needed: a label set that never counted shows no zero

    def add(self, count: float) -> None:
        self.count += count


class Added:
    """A counter's sums, until `hand_over`."""

    def __init__(self, metric: Counter) -> None:
        self._metric = metric
        self._sums: dict[tuple[str, ...], Sum] = {}

    def at(self, *labels: str) -> Sum:
        found = self._sums.get(labels)
        if found is None:
            found = self._sums[labels] = Sum()
        return found

    def add(self, count: float, *labels: str) -> None:
        (self._sums.get(labels) or self.at(*labels)).count += count

    def hand_over(self) -> None:
        for labels, each in self._sums.items():
            if each.count:
                if each.metric is None:
                    each.metric = self._metric.labels(*labels) if labels else self._metric
                each.metric.inc(each.count)
                each.count = 0.0


class Sample:
    """What a histogram has yet to take under certain labels."""

    __slots__ = ("at", "bounds", "counts", "metric", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.at = 0  # the bucket of the last one, in which or near which the next will be
        self.total = 0.0
        self.metric: _Buckets | None = None

    def observe(self, value: float) -> None:
        at, bounds = self.at, self.bounds
        while at and value <= bounds[at - 1]:
            at -= 1
        while at < len(bounds) and value > bounds[at]:
            at += 1
        self.at, counts = at, self.counts
        counts[at] = counts[at] + 1  # not `+=`: compiled, this adds without a look at what it adds
        self.total += value


class Observed:
    """A histogram's samples, until `hand_over`."""

    def __init__(self, metric: _Buckets, bounds: tuple[float, ...]) -> None:
        self._metric, self.bounds = metric, tuple(map(float, bounds))
        self._samples: dict[tuple[str, ...], Sample] = {}

    def at(self, *labels: str) -> Sample:
        found = self._samples.get(labels)
        if found is None:
            found = self._samples[labels] = Sample(self.bounds)
        return found

    def observe(self, value: float, *labels: str) -> None:
        (self._samples.get(labels) or self.at(*labels)).observe(value)

    def hand_over(self) -> None:
        for labels, each in self._samples.items():
            if any(each.counts):
                if each.metric is None:
                    each.metric = self._metric.labels(*labels) if labels else self._metric
                each.metric.take(each.counts, each.total)
                each.counts = [0] * len(each.counts)
                each.total = 0.0


class RouteMetrics:
    """What each call of a route counts, found once."""

    __slots__ = ("_duration", "_metrics", "_path", "_requests", "upstream", "upstream_duration")

    def __init__(self, metrics: "GatewayMetrics", path: str, upstream: str) -> None:
        self._metrics, self._path, self.upstream = metrics, path, upstream
        self._requests: list[Sum | None] = [None] * len(STATUS_CLASSES)
        self._duration = metrics.duration.at(path)
        self.upstream_duration = metrics.upstream_duration.at(upstream)

    def answered(self, status: int, seconds: float) -> None:
        """A call has ended; `status` 0 where its client saw none."""
        status_class = status // 100
        requests = self._requests[status_class]
        if requests is None:
            requests = self._requests[status_class] = self._metrics.requests.at(self._path, STATUS_CLASSES[status_class])
        requests.count += 1
        self._duration.observe(seconds)


class GatewayMetrics:
    """One instance a process. `gather` once a second, and at the end."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        own = registry if registry is not None else CollectorRegistry()

        self._gathered: list[Added | Observed] = []
        self._of_routes: dict[int, RouteMetrics] = {}
        self._of_route: tuple[Route, RouteMetrics] | None = None  # the one that was asked for last

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Added:
            added = Added(Counter(name, text, labels, namespace=_PREFIX, registry=own))
            self._gathered.append(added)
            return added

        def gauge(name: str, text: str, labels: tuple[str, ...] = (), mode: str = "livesum") -> Gauge:
            return Gauge(name, text, labels, namespace=_PREFIX, registry=own, multiprocess_mode=mode)  # type: ignore[arg-type]

        def histogram(name: str, text: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] = _SECONDS) -> Observed:
            observed = Observed(_Buckets(name, text, labels, namespace=_PREFIX, registry=own, buckets=buckets), buckets)
            self._gathered.append(observed)
            return observed

        self.requests = counter("requests_total", "Answers to clients", ("route", "status_class"))
        self.duration = histogram("request_duration_seconds", "From request head to last byte", ("route",))
        self.upstream_duration = histogram("upstream_duration_seconds", "From forwarding to the service's last byte", ("upstream",))
        self.admission_duration = histogram("admission_duration_seconds", "Waiting for the decision")
        self.waited = self.admission_duration.at()
        self.batch_calls = histogram("admission_batch_calls", "Calls decided by one script", (), (1, 2, 4, 8, 16, 32, 64, 128, 256))
        self._batch = self.batch_calls.at()
        self.admitted_units = counter("admitted_units_total", "Units charged at admission or weighed since", ("meter",))
        self.returned_units = counter("returned_units_total", "Units given back", ("meter", "cause"))
        self.settled_units = counter("settled_units_total", "Units that answers were settled at, reserved or not", ("meter",))
        self.unit_faults = counter("unit_faults_total", "Answers that did not say what they were to say", ("meter", "reason"))
        self.refused = counter("refused_total", "Calls refused by a limit", ("meter", "mode", "reason"))
        self.shadow_refused = counter("shadow_refused_total", "Calls that a limit would have refused which only counts", ("meter",))
        self.cut = counter("cut_total", "Requests and responses broken off where a quota cuts", ("meter", "way"))
        self.rejected = counter("rejected_total", "Requests refused before any quota was asked", ("reason",))
        self.store_decisions = counter("store_decisions_total", "Calls decided by a failure rule", ("rule", "outcome"))
        self.store_errors = counter("store_errors_total", "Errors the store answered with")
        self.journal_errors = counter("journal_errors_total", "Writes to the journal that failed")
        self.store_up = gauge("store_up", "1 while the store answers this worker", mode="livemin")
        self.journal_oldest_age = gauge("journal_oldest_age_seconds", "Age of the oldest record not yet in Postgres", mode="livemax")
        self.full_buckets = gauge(
            "store_full_buckets",
            "Buckets whose counts wait in the journal, as Postgres takes none and the store has enough",
            mode="livemax",
        )
        self.journal_free = gauge("journal_free_bytes", "Free space where the journal lies", mode="livemin")
        self.in_flight = gauge("in_flight", "Exchanges under way", ("kind",))
        self.upstream_retries = counter("upstream_retries_total", "Calls sent once more, their kept connection having died", ("upstream",))
        self.upstream_ejections = counter("upstream_ejections_total", "Targets left out for failed calls", ("upstream",))
        self.upstream_healthy = gauge("upstream_healthy", "1 while the target takes its turns", ("upstream", "target"), "livemin")
        self.bypass_active = gauge("bypass_active", "Bypasses in force: limits that refuse nobody now", ("scope",), "livemax")
        self.compiled = gauge("compiled", "1 if every worker runs the hot path compiled", mode="livemin")
        self.config_version = gauge("config_version", "The configuration in force, as a number", mode="livemax")

    def of_route(self, route: Route) -> RouteMetrics:
        """What its calls count, by its number; a route that goes to another upstream now gets others."""
        last = self._of_route
        if last is not None and last[0] is route:
            return last[1]
        found = self._of_routes.get(route.id)
        if found is None or found.upstream != route.upstream:
            found = self._of_routes[route.id] = RouteMetrics(self, route.path, route.upstream)
        self._of_route = route, found
        return found

    def gather(self) -> None:
        """Hand over what was added up."""
        for each in self._gathered:
            each.hand_over()

    # --- what admission tells --------------------------------------------------------------------------------------
    def admission_batch(self, calls: int) -> None:
        self._batch.observe(calls)

    def by_rule(self, rule: str, passed: int, refused: int) -> None:
        if passed:
            self.store_decisions.add(passed, rule, "passed")
        if refused:
            self.store_decisions.add(refused, rule, "refused")

    def store_error(self, text: str) -> None:
        self.store_errors.add(1)

    def journal_error(self, text: str) -> None:
        self.journal_errors.add(1)
