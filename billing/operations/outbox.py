"""What Stripe is to be told: rows that wait or stopped, and sending one again where nothing can be counted twice."""

from datetime import datetime
from typing import Any

from pydantic import Field

from billing.model.delivery import State
from billing.model.token import Scope
from billing.operations.instants import instant, instant_or_none, number_before
from billing.operations.operation import About, Call, Model, operation
from billing.operations.pages import AskPage, Page, page
from billing.services.ports_outbox import Kept, MayDouble, NoSuchRow
from metering.model.errors import Conflict, DependencyUnavailable

_STOPPED = (State.PENDING, State.DEAD, State.UNKNOWN)


class OutboxAnswer(Model):
    id: int
    kind: str
    org: str
    identifier: str
    state: State
    attempts: int
    created: datetime
    first_attempt: datetime | None
    next_attempt: datetime | None
    delivered: datetime | None
    error: str | None


class WholeRow(OutboxAnswer):
    payload: dict[str, Any]


class OutboxList(Page):
    rows: tuple[OutboxAnswer, ...]


class AskOutbox(AskPage):
    state: State | None = Field(None, description="all but the delivered where none is named")


class WhichRow(Model):
    row: str = Field(min_length=1, max_length=255, description="its number or identifier")


@operation("GET", "/stripe/outbox", name="outbox.list", need=Scope.ADMIN, about=About.ALL)
async def list_all(call: Call, ask: AskOutbox) -> OutboxList:
    """Rows that wait or stopped, newest first."""
    states = (ask.state,) if ask.state is not None else _STOPPED
    rows, further = page(await call.billing.outbox.all(states, ask.limit + 1, number_before(ask)), ask, lambda row: (row.id,))
    return OutboxList(rows=tuple(map(outbox_answer, rows)), next=further)


@operation("GET", "/stripe/outbox/{row}", name="outbox.show", need=Scope.ADMIN, about=About.ALL, errors=(NoSuchRow,))
async def show(call: Call, ask: WhichRow) -> WholeRow:
    """One row, with what it says."""
    row = await call.billing.outbox.one(ask.row)
    return WholeRow(**dict(outbox_answer(row)), payload=dict(row.payload))


@operation(
    "POST", "/stripe/outbox/{row}/retry", name="outbox.retry", need=Scope.ADMIN, about=About.ALL,
    errors=(NoSuchRow, MayDouble, Conflict, DependencyUnavailable),
)  # fmt: skip
async def retry(call: Call, ask: WhichRow) -> OutboxAnswer:
    """Send one again that is dead or unknown, where it cannot count twice."""
    return outbox_answer(await call.billing.outbox.retry(ask.row))


def outbox_answer(row: Kept) -> OutboxAnswer:
    return OutboxAnswer(
        id=row.id, kind=row.kind, org=row.slug, identifier=row.identifier, state=row.state, attempts=row.attempts,
        created=instant(row.created_ms), first_attempt=instant_or_none(row.first_attempt_ms),
        next_attempt=instant_or_none(row.next_attempt_ms), delivered=instant_or_none(row.delivered_ms), error=row.last_error,
    )  # fmt: skip


OPERATIONS = (list_all, show, retry)
