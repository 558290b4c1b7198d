"""A change that is asked for again under one Idempotency-Key is answered again, and made once.

Laws: of two that ask at once, one makes the change. What was refused changed nothing, and may be asked again under its key. What ended in a
fault of ours has perhaps been made: it is not made again under its key, and who asks is told so. Kept for a day.
"""

from dataclasses import dataclass

from billing.services.ports import Books
from metering.model.clock import Clock
from metering.model.errors import Conflict, WeighbridgeError

KEPT_MS = 24 * 3_600_000
_LONGEST_MS = 600_000  # nothing that still runs has run for longer
_SWEPT_AT_ONCE = 100


class KeyReused(WeighbridgeError):
    """This Idempotency-Key was used for another request; each change takes its own."""

    code, http_status = "idempotency_key_reused", 422


class StillAsked(Conflict):
    """The first request with this Idempotency-Key is still at work; ask again in a moment."""

    code, retryable = "idempotency_in_progress", True


class OutcomeUnknown(Conflict):
    """The first request with this Idempotency-Key ended in a fault, perhaps behind its change; see what there is, then use a new key."""

    code = "idempotency_outcome_unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """How the first was answered. `answer` is what `keep` was given."""

    status: int
    answer: bytes


class Repeats:
    def __init__(self, books: Books, clock: Clock) -> None:
        self._books, self._clock = books, clock

    async def begin(self, repeat_id: bytes, fingerprint: bytes) -> Answered | None:
        """The answer that was given before; None: this is the first, and must end in `keep`, `forget` or `fail`.

        Raises KeyReused, StillAsked, OutcomeUnknown.
        """
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            await unit.repeats.sweep(now_ms - KEPT_MS, _SWEPT_AT_ONCE)
            if await unit.repeats.claim(repeat_id, fingerprint, now_ms):
                return None
            found = await unit.repeats.find(repeat_id)
        if found is None:  # forgotten just now
            raise StillAsked
        if found.fingerprint != fingerprint:
            raise KeyReused
        if found.status is not None and found.answer is not None:
            return Answered(status=found.status, answer=found.answer)
        if found.failed or found.begun_at_ms + _LONGEST_MS < now_ms:
            raise OutcomeUnknown
        raise StillAsked

    async def keep(self, repeat_id: bytes, answered: Answered) -> None:
        async with self._books.transaction() as unit:
            await unit.repeats.keep(repeat_id, answered.status, answered.answer)

    async def forget(self, repeat_id: bytes) -> None:
        """It was refused, and changed nothing."""
        async with self._books.transaction() as unit:
            await unit.repeats.forget(repeat_id)

    async def fail(self, repeat_id: bytes) -> None:
        async with self._books.transaction() as unit:
            await unit.repeats.fail(repeat_id)
