"""A change under an Idempotency-Key: made once, answered as often as it is asked for. The laws are in billing/services/repeats.py."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from billing.api.sealing import Seal, Unsealable
from billing.services.repeats import Answered, OutcomeUnknown, Repeats
from metering.model.errors import DependencyUnavailable, WeighbridgeError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """`again`: it was given before."""

    status: int
    text: str
    again: bool = False


async def once(repeats: Repeats, seal: Seal, work: Callable[[], Awaitable[Answer]]) -> Answer:
    """Raises KeyReused, StillAsked, OutcomeUnknown, and what the work raises."""
    before = await repeats.begin(seal.id, seal.fingerprint)
    if before is not None:
        try:
            return Answer(before.status, seal.open(before.answer).decode(), again=True)
        except Unsealable:
            raise OutcomeUnknown from None
    try:
        answer = await work()
    except WeighbridgeError as exc:
        await (repeats.forget(seal.id) if exc.http_status < 500 else repeats.fail(seal.id))
        raise
    except BaseException:
        await repeats.fail(seal.id)
        raise
    try:
        await repeats.keep(seal.id, Answered(status=answer.status, answer=seal.close(answer.text.encode())))
    except DependencyUnavailable as exc:  # the change is made, and who asked is told; asked again, its outcome is unknown
        log.warning("an answer could not be kept for its Idempotency-Key: %s", exc)
    return answer
