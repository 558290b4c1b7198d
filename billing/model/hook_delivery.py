"""What an attempt to deliver an event does to the delivery and to its endpoint. Pure.

billing/services/hook_delivery.py makes the attempts; billing/channels/hooks.py says how each ended.

- Answered with 2xx: delivered.
- Anything else (another status, a redirect, no answer in time, an address out of reach): tried again after growing pauses, ten times
  over some three days, as Standard Webhooks advises; then failed, until somebody replays it. A receiver that names a later time
  (Retry-After with 429 or 503) is taken at its word, up to a day.
- 410 Gone: the endpoint is disabled at once. One that never succeeded for five days while events were due is disabled as well.
"""

from dataclasses import dataclass
from enum import StrEnum

WAITS_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""After the first attempt, the second …: 5 s, 5 min, 30 min, 2, 5, 10, 14, 20, 24 hours."""

MOST_ATTEMPTS = len(WAITS_SECONDS) + 1
DISABLED_AFTER_MS = 5 * 86_400_000
_LONGEST_ASKED_MS = 86_400_000
_SPREAD = 0.1  # of a wait, on top of it, left to chance: so that what failed together comes back apart
_GONE = 410
_WAIT_STATUSES = (429, 503)


class DeliveryState(StrEnum):
    """Of a delivery."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How an attempt ended. `status` None: there was no answer, for `reason`. `retry_after_ms`: as the receiver asks."""

    status: int | None
    reason: str = ""
    retry_after_ms: int | None = None

    @property
    def accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def hopeless(self) -> bool:
        """The next event would hardly fare better now: what else waits for this endpoint is left alone for a while."""
        return self.status is None or self.status in (*_WAIT_STATUSES, _GONE) or self.status >= 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The delivery after an attempt, and `disable`: why its endpoint gets no more events, or None."""

    state: DeliveryState
    next_attempt_ms: int | None = None
    error: str | None = None
    disable: str | None = None


def judge(reply: Reply, attempt: int, *, failing_since_ms: int | None, now_ms: int, jitter: float) -> Verdict:
    """After the `attempt`th. `failing_since_ms` is the endpoint's, before this one; `jitter` in [0, 1) spreads the next attempts."""
    if reply.accepted:
        return Verdict(state=DeliveryState.DELIVERED)
    error = reply.reason or f"answered {reply.status}"
    if reply.status == _GONE:
        return Verdict(state=DeliveryState.FAILED, error=error, disable="the receiver answered 410 Gone")
    since_ms = now_ms if failing_since_ms is None else failing_since_ms
    disable = f"nothing could be delivered for 5 days; the last: {error}" if now_ms - since_ms >= DISABLED_AFTER_MS else None
    if attempt >= MOST_ATTEMPTS:
        return Verdict(state=DeliveryState.FAILED, error=error, disable=disable)
    return Verdict(state=DeliveryState.WAITING, next_attempt_ms=now_ms + wait_ms(reply, attempt, jitter), error=error, disable=disable)


def wait_ms(reply: Reply, attempt: int, jitter: float) -> int:
    pause_ms = int(WAITS_SECONDS[attempt - 1] * 1000 * (1 + _SPREAD * jitter))
    asked_ms = min(reply.retry_after_ms or 0, _LONGEST_ASKED_MS) if reply.status in _WAIT_STATUSES else 0
    return max(pause_ms, asked_ms)
