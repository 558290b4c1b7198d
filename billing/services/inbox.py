"""Stripe's events: taken in, shown, worked through again. What they mean is in billing/stripe/mirror.py."""

from collections.abc import Sequence
from dataclasses import dataclass

from billing.model.webhook import EventFaulty, SignatureRefused, Status, StripeEvent, read_event, verify, wrong_side
from billing.services.ports import Books
from billing.services.ports_stripe import InboxRow
from metering.model.clock import Clock
from metering.model.errors import BadInput, DependencyUnavailable, NotFound

__all__ = ["EventFaulty", "Inbox", "NoSuchEvent", "OtherSide", "Receipt", "SecretMissing", "SignatureRefused"]


class SecretMissing(DependencyUnavailable):
    """STRIPE_WEBHOOK_SECRET is not set, so nothing that Stripe sends can be believed."""

    code, retryable = "webhook_secret_missing", False


class OtherSide(BadInput):
    """The event is of another side of Stripe."""

    code = "other_side"


class NoSuchEvent(NotFound):
    """The inbox holds no such event."""

    code = "no_such_event"


@dataclass(frozen=True, slots=True)
class Receipt:
    """`new` False: it came before, and is done once."""

    event: StripeEvent
    new: bool


class Inbox:
    """`mode` is the side of Stripe that the settings lead to (sandbox, test, live), for a database that is not stamped yet."""

    def __init__(self, books: Books, clock: Clock, *, secrets: Sequence[str], mode: str) -> None:
        self._books, self._clock, self._secrets, self._mode = books, clock, tuple(secrets), mode

    async def receive(self, body: bytes, signature: str) -> Receipt:
        """Verified and stored; nothing else. Raises SignatureRefused, EventFaulty, OtherSide, and SecretMissing or DatabaseUnreachable:
        then the sender should come back."""
        if not self._secrets:
            raise SecretMissing()
        verify(body, signature, self._secrets, self._clock.now_ms())
        event = read_event(body)
        added = await self.take_in([event])
        return Receipt(event, bool(added))

    async def take_in(self, events: Sequence[StripeEvent]) -> list[str]:
        """The ids of those that are new. Raises OtherSide, and then keeps none."""
        async with self._books.transaction() as unit:
            side = await unit.inbox.side()
            for event in events:
                if fault := wrong_side(event, side.mode if side else self._mode, side.account if side else None):
                    raise OtherSide(fault)
            return await unit.inbox.add(events, self._clock.now_ms())

    async def all(self, limit: int, status: Status | None = None, before: str | None = None) -> list[InboxRow]:
        """Newest first; of those that came before that event."""
        async with self._books.transaction() as unit:
            return await unit.inbox.newest(limit, status, before)

    async def show(self, event_id: str) -> InboxRow:
        """Raises NoSuchEvent."""
        async with self._books.transaction() as unit:
            row = await unit.inbox.find(event_id)
        if row is None:
            raise NoSuchEvent(f"the inbox holds no event {event_id}; `weighbridge webhook list` shows those that came")
        return row

    async def again(self, event_id: str) -> InboxRow:
        """Due now, whatever became of it before. Raises NoSuchEvent."""
        async with self._books.transaction() as unit:
            await unit.inbox.again(event_id)
        return await self.show(event_id)
