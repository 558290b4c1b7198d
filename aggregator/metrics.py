"""The aggregator's metrics, named once. In prometheus multiprocess mode they appear on the gateway's page.

No label without a bound: `step` and `task` are names in the code (`job` is what Prometheus calls a scrape), `state` and
`outcome` words of the protocol.
"""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from aggregator.flush import FlushReport
from aggregator.recovery import RecoveryReport
from metering.model.clock import Clock

_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60)
_STATES = ("pending", "unknown", "dead")


class AggregatorMetrics:
    """One instance a process. The lag is told by `tell_lag`, each second, so that it grows while nothing works."""

    def __init__(self, clock: Clock, registry: CollectorRegistry | None = None) -> None:
        own = self.registry = registry if registry is not None else CollectorRegistry()

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(name, text, labels, namespace="weighbridge", registry=own)

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(name, text, labels, namespace="weighbridge", registry=own, multiprocess_mode="livemostrecent")

        def histogram(name: str, text: str, labels: tuple[str, ...]) -> Histogram:
            return Histogram(name, text, labels, namespace="weighbridge", registry=own, buckets=_SECONDS)

        self._clock = clock
        self._flushed_at_ms = clock.now_ms()
        self._flush_lag = gauge("flush_lag_seconds", "Since a flush last brought everything into Postgres")
        self._flush_duration = histogram("flush_duration_seconds", "A step of a flush, for one group of buckets", ("step",))
        self._batches = counter("flush_batches_total", "Drained batches, by what became of them", ("outcome",))
        self._rows = counter("flush_rows_total", "Rows of usage written")
        self._quarantined = counter("usage_quarantined_total", "Fields of drained batches that nobody can read")
        self._buckets = gauge("buckets_unready", "Buckets of the store that do not admit", ("state",))
        self._restored = counter("buckets_restored_total", "Buckets that were brought back from Postgres")
        self._opened_late = counter("buckets_opened_late_total", "Of those: opened before every live gateway had replayed")
        self._outbox_rows = gauge("outbox_rows", "What Stripe has not been told", ("state",))
        self._outbox_age = gauge("outbox_oldest_age_seconds", "Age of the oldest row that waits for delivery")
        self._cut = counter("overage_events_total", "Outbox rows cut from overages")
        self._stripe_calls = counter("stripe_calls_total", "Attempts to tell Stripe something", ("operation", "outcome"))
        self._mails = counter("mails_total", "Mails to customers, by what became of them", ("state",))
        self._mails_waiting = gauge("mails_waiting", "Mails that are due and did not go out yet")
        self._mails_age = gauge("mails_oldest_age_seconds", "Since when the oldest of them is due")
        self._hooks = counter("hooks_total", "Attempts to deliver an event, by what became of them", ("state",))
        self._hooks_disabled = counter("hooks_disabled_total", "Endpoints for events that were disabled: nothing could be delivered")
        self._hooks_waiting = gauge("hooks_waiting", "Deliveries of events to enabled endpoints that are not over")
        self._hooks_age = gauge("hooks_oldest_age_seconds", "Since when the oldest of them waits")
        self._webhooks = counter("stripe_events_total", "Stripe's events worked through, by what became of them", ("type", "outcome"))
        self._dunning = counter("dunning_total", "What was done about invoices that are not paid", ("step",))
        self._runs = counter("job_runs_total", "Runs of the aggregator's jobs", ("task", "outcome"))
        self.tell_lag()

    def timer(self) -> "StepTimer":
        """An observer for one flush."""
        return StepTimer(self._flush_duration, self._clock)

    def flushed(self, report: FlushReport) -> None:
        for outcome, count in (
            ("committed", report.batches),
            ("replayed", report.replayed),
            ("fenced", report.fenced),
            ("gap", report.gaps),
        ):
            self._batches.labels(outcome).inc(count)
        self._rows.inc(report.rows)
        self._quarantined.inc(report.quarantined)

    def all_flushed_at(self, instant_ms: int) -> None:
        """Everything settled before then is in Postgres, by whichever aggregator."""
        self._flushed_at_ms = max(self._flushed_at_ms, instant_ms)
        self.tell_lag()

    @property
    def lag_seconds(self) -> float:
        return max(0, self._clock.now_ms() - self._flushed_at_ms) / 1000

    def tell_lag(self) -> None:
        self._flush_lag.set(self.lag_seconds)

    def looked(self, report: RecoveryReport) -> None:
        self._buckets.labels("needing").set(report.needing)
        self._buckets.labels("waiting").set(report.waiting)
        self._restored.inc(report.restored)
        self._opened_late.inc(report.opened_late)

    def outbox(self, rows: dict[str, int], oldest_age_seconds: float) -> None:
        for state in _STATES:
            self._outbox_rows.labels(state).set(rows.get(state, 0))
        self._outbox_age.set(oldest_age_seconds)

    def delivered(self, calls: Mapping[tuple[str, str], int]) -> None:
        for (operation, outcome), count in calls.items():
            self._stripe_calls.labels(operation, outcome).inc(count)

    def webhooks(self, outcomes: Mapping[tuple[str, str], int]) -> None:
        """The types are those that Weighbridge knows, and `other`."""
        for (kind, outcome), count in outcomes.items():
            self._webhooks.labels(kind, outcome).inc(count)

    def cut(self, rows: int) -> None:
        self._cut.inc(rows)

    def mailed(self, states: Mapping[str, int]) -> None:
        """`states`: sent | retried | dropped | dead."""
        for state, count in states.items():
            self._mails.labels(state).inc(count)

    def hooked(self, states: Mapping[str, int], disabled: int) -> None:
        """`states`: delivered | retried | failed."""
        for state, count in states.items():
            self._hooks.labels(state).inc(count)
        self._hooks_disabled.inc(disabled)

    def hooks(self, waiting: int, oldest_age_seconds: float) -> None:
        self._hooks_waiting.set(waiting)
        self._hooks_age.set(oldest_age_seconds)

    def dunned(self, steps: Mapping[str, int]) -> None:
        """`steps`: paid | declined | needs_action | unknown (charges), warned, downgraded, returned."""
        for step, count in steps.items():
            self._dunning.labels(step).inc(count)

    def mails(self, waiting: int, oldest_age_seconds: float) -> None:
        self._mails_waiting.set(waiting)
        self._mails_age.set(oldest_age_seconds)

    def ran(self, job: str, outcome: str) -> None:
        """`outcome`: done | failed | elsewhere (another aggregator is at it)."""
        self._runs.labels(job, outcome).inc()


class StepTimer:
    """Called after each step: the time since the one before is the step's."""

    def __init__(self, histogram: Histogram, clock: Clock) -> None:
        self._histogram, self._clock = histogram, clock
        self._last = clock.monotonic()

    def __call__(self, step: str) -> None:
        now = self._clock.monotonic()
        self._histogram.labels(step).observe(now - self._last)
        self._last = now
