"""What the gateway's supervisor counts. The workers' own metrics are in gateway/metrics.py; one page shows both."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class SupervisorMetrics:
    """One instance a supervisor."""

    def __init__(self) -> None:
        own = CollectorRegistry()
        self.worker_restarts = Counter(
            "worker_restarts_total", "Workers that died and were replaced", namespace="weighbridge", registry=own
        )
        self.rows_dropped = Counter(
            "standalone_rows_dropped_total", "Rows of usage that a gateway without Postgres let go", namespace="weighbridge", registry=own
        )
        self.config_last_apply_success = Gauge(
            "config_last_apply_success", "0 while a faulty configuration waits to be corrected", namespace="weighbridge",
            registry=own, multiprocess_mode="livemin",
        )  # fmt: skip
