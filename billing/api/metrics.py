"""Control's metrics, named once. Shown at /metrics, and on the host's one page where PROMETHEUS_MULTIPROC_DIR is set."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

_PREFIX = "weighbridge"


class ControlMetrics:
    """One instance a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # livemin: the page shows 0 while either control or a gateway's supervisor refuses a set of files.
        self.config_last_apply_success = Gauge(
            "config_last_apply_success", "0 while a faulty configuration waits to be corrected", namespace=_PREFIX,
            registry=self.registry, multiprocess_mode="livemin",
        )  # fmt: skip
        self.misses_answered = Counter(
            "misses_answered_total", "Keys and organizations that gateways asked control for", namespace=_PREFIX, registry=self.registry
        )
        self.duty_failures = Counter(
            "control_duty_failures_total", "Rounds of a standing duty that failed", ("duty",), namespace=_PREFIX, registry=self.registry
        )

        self.webhooks = Counter(
            "stripe_webhooks_total", "Requests to /webhooks/stripe: new, duplicate, refused, unavailable", ("outcome",),
            namespace=_PREFIX, registry=self.registry,
        )  # fmt: skip

    def webhook_came(self, outcome: str) -> None:
        self.webhooks.labels(outcome).inc()

    def page(self) -> bytes:
        return generate_latest(self.registry)
