"""Stripe's events as they came in, and what became of them."""

from datetime import datetime
from typing import Any

from pydantic import Field

from billing.model.token import Scope
from billing.model.webhook import Status
from billing.operations.instants import instant, instant_or_none
from billing.operations.operation import About, Call, Model, operation
from billing.operations.pages import AskPage, Page, page, read_cursor
from billing.services.inbox import NoSuchEvent
from billing.services.ports_stripe import InboxRow


class EventRow(Model):
    event_id: str
    type: str
    status: Status
    received_at: datetime
    processed_at: datetime | None
    object: str
    attempts: int
    error: str | None


class EventAnswer(EventRow):
    payload: dict[str, Any] = Field(description="the event as Stripe sent it")


class EventList(Page):
    events: tuple[EventRow, ...]


class AskEvents(AskPage):
    status: Status | None = None


class WhichEvent(Model):
    event_id: str = Field(min_length=1, max_length=255)


@operation("GET", "/stripe/events", name="webhook.list", need=Scope.ADMIN, about=About.ALL)
async def list_all(call: Call, ask: AskEvents) -> EventList:
    """Newest first."""
    place = read_cursor(ask.after, str)
    found = await call.billing.inbox.all(ask.limit + 1, ask.status, None if place is None else str(place[0]))
    rows, further = page(found, ask, lambda row: (row.event_id,))
    return EventList(events=tuple(map(event_row, rows)), next=further)


@operation("GET", "/stripe/events/{event_id}", name="webhook.show", need=Scope.ADMIN, about=About.ALL, errors=(NoSuchEvent,))
async def show(call: Call, ask: WhichEvent) -> EventAnswer:
    """One event, with what Stripe sent."""
    return _answer(await call.billing.inbox.show(ask.event_id))


@operation(
    "POST", "/stripe/events/{event_id}/retry", name="webhook.retry", need=Scope.ADMIN, about=About.ALL, status=202, errors=(NoSuchEvent,)
)
async def retry(call: Call, ask: WhichEvent) -> EventAnswer:
    """Due now, whatever became of it before; the aggregator works it through within seconds."""
    return _answer(await call.billing.inbox.again(ask.event_id))


def event_row(row: InboxRow) -> EventRow:
    return EventRow(
        event_id=row.event_id, type=row.type, status=row.status, received_at=instant(row.received_at_ms),
        processed_at=instant_or_none(row.processed_at_ms), object=row.object_id, attempts=row.attempts, error=row.last_error,
    )  # fmt: skip


def _answer(row: InboxRow) -> EventAnswer:
    return EventAnswer(**dict(event_row(row)), payload=dict(row.payload))


OPERATIONS = (list_all, show, retry)
