"""What happens to a call while the store is away: its quotas' stated rule, and the bounded grace of this worker.

Law: a failure is a stated policy. The rule that wins is the strictest among the call's limits (model/quota.strictest).
"""

from collections.abc import Callable
from dataclasses import dataclass

from .charges import Charge


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many of the calls pass, and under which rule: open, closed, grace."""

    rule: str
    passed: int


class Grace:
    """Counts what grace let pass, counter by counter. Each of `workers` workers has its share of a quota's grace."""

    def __init__(self, workers: int, used: dict[str, int], now_ms: Callable[[], int]) -> None:
        self._workers, self._now_ms = workers, now_ms
        self._used = {counter: (calls, 0) for counter, calls in used.items()}

    def decide(self, charge: Charge, asked: int) -> Verdict:
        """`asked` equal calls; what passes is booked against the grace of every limit that has one."""
        rule = charge.rule.kind
        if rule == "closed":
            return Verdict(rule, 0)
        graces = [limit for limit in charge.limits if limit.quota is not None and limit.rule.kind == "grace"]
        passed = asked
        for limit in graces:
            used = self._used.get(limit.counter, (0, 0))[0]
            passed = min(passed, max(limit.rule.grace // self._workers - used, 0))
        for limit in graces:
            used = self._used.get(limit.counter, (0, 0))[0]
            self._used[limit.counter] = (used + passed, limit.end_ms)
        self._forget_past()
        return Verdict(rule, passed)

    def _forget_past(self) -> None:
        """Windows that ended need no memory; looked at only when there is much to forget."""
        if len(self._used) > 10_000:
            now = self._now_ms()
            self._used = {c: (calls, end) for c, (calls, end) in self._used.items() if end == 0 or end > now}
