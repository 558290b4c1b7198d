"""What an attempt to tell Stripe something does to its outbox row.

Pure. billing/stripe/deliver.py makes the attempts; billing/stripe/client.py says how each ended.

- Accepted (2xx), or refused as a duplicate of this identifier: delivered.
- Refused for what it says (any other 400): dead, for a person to look at.
- Not accepted for certain (429, a key that is not valid, no connection): tried again, for ever.
- Ambiguous (5xx, timeout, a connection lost in between): tried again under the same identifier, which Stripe keeps apart
  for 24 hours at least; after 23 hours never again blindly, but `unknown`, to be reconciled.

`first_attempt_at` is stored before sending. It stands for the first attempt that may have been accepted, so an attempt
that surely was not takes it back.
"""

from dataclasses import dataclass
from enum import StrEnum

FORGOTTEN_AFTER_MS = 23 * 3600 * 1000  # Stripe remembers an identifier for 24 hours; one is kept as a margin
_FIRST_WAIT_MS, _LONGEST_WAIT_MS = 2_000, 3_600_000
_MOST_DOUBLINGS = 20


class Outcome(StrEnum):
    """How an attempt ended."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"  # Stripe has an event with this identifier
    REFUSED = "refused"
    NOT_ACCEPTED = "not_accepted"
    AMBIGUOUS = "ambiguous"


class State(StrEnum):
    """Of an outbox row."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try, claimed at `claimed_ms`. `attempts` counts it; `before_ms` is the first_attempt_at of the row before it, if any.

    `looks_first` is for deliveries that find out what is at Stripe before they create anything: they are never ambiguous
    for good, and go on after the 23 hours.
    """

    attempts: int
    claimed_ms: int
    before_ms: int | None
    looks_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The row after an attempt. A next attempt stands only with PENDING."""

    state: State
    first_attempt_at_ms: int | None
    next_attempt_at_ms: int | None = None
    error: str | None = None


def may_send(attempt: Attempt, now_ms: int) -> bool:
    """False where Stripe may have forgotten the identifier of an attempt that it may have accepted."""
    return attempt.looks_first or attempt.before_ms is None or now_ms < attempt.before_ms + FORGOTTEN_AFTER_MS


def too_late(attempt: Attempt) -> Verdict:
    """The verdict on a row that `may_send` forbids."""
    reason = "an earlier attempt may have been accepted, and Stripe may have forgotten its identifier: reconcile before sending again"
    return Verdict(state=State.UNKNOWN, first_attempt_at_ms=attempt.before_ms, error=reason)


def judge(attempt: Attempt, outcome: Outcome, *, reason: str = "", now_ms: int, jitter: float) -> Verdict:
    """What becomes of the row. `jitter` in [0, 1) spreads the retries; `now_ms` is when the attempt ended."""
    began_ms = attempt.before_ms if attempt.before_ms is not None else attempt.claimed_ms
    if outcome in (Outcome.ACCEPTED, Outcome.DUPLICATE):
        return Verdict(state=State.DELIVERED, first_attempt_at_ms=began_ms)
    if outcome is Outcome.REFUSED:
        return Verdict(state=State.DEAD, first_attempt_at_ms=began_ms, error=reason)
    next_ms = now_ms + back_off_ms(attempt.attempts, jitter)
    if outcome is Outcome.NOT_ACCEPTED:
        return Verdict(state=State.PENDING, first_attempt_at_ms=attempt.before_ms, next_attempt_at_ms=next_ms, error=reason)
    if not attempt.looks_first and next_ms >= began_ms + FORGOTTEN_AFTER_MS:
        return Verdict(state=State.UNKNOWN, first_attempt_at_ms=began_ms, error=reason)
    return Verdict(state=State.PENDING, first_attempt_at_ms=began_ms, next_attempt_at_ms=next_ms, error=reason)


def back_off_ms(attempts: int, jitter: float) -> int:
    """Doubling from two seconds to an hour; of each wait the second half is left to chance."""
    doublings = min(max(attempts, 1) - 1, _MOST_DOUBLINGS)  # without a bound the number itself would grow
    wait = min(_FIRST_WAIT_MS << doublings, _LONGEST_WAIT_MS)
    return wait // 2 + int(wait // 2 * jitter)
