"""Usage that is stated: one use, up to a thousand at once, and what was stated wrongly."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, ValidationError, WithJsonSchema

from billing.model.event import BadEvent, Event, base_units, checked_at, checked_key, checked_metadata, checked_units, meter_of, shown
from billing.model.token import Scope
from billing.operations.operation import Call, Model, operation
from billing.operations.pages import AskPage, Page, page, read_cursor
from billing.services.exporting import said_with
from billing.services.ports_events import EventRow, Filter
from billing.services.recording import EventVoided, NoSuchEvent, Recorded
from metering.model.clock import to_datetime, to_ms
from metering.model.meter import Kind, Meter

MOST_EVENTS = 1_000
_MOST_DIGITS = 30
_LAST_MS = 253_402_300_799_000  # of the year 9999

# In the display unit: 1000, 5.5, or "5.5" where a float would not be exact.
Quantity = Annotated[
    Decimal | None,
    Field(None, allow_inf_nan=False, description="in the unit the service is shown in; a string stays exact"),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "examples": ["5.5"]}, {"type": "null"}]}),
]


class EventStatus(StrEnum):
    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"  # the same event came before, under the same idempotency key
    REJECTED = "rejected"


class EventIn(Model):
    """One use. Of a level (storage): what is held from then on; `metadata.type` says in which part of the whole."""

    service: str = Field(min_length=1, max_length=64, examples=["api"])
    quantity: Quantity
    base_quantity: int | None = Field(None, ge=0, le=2**53, description="in place of quantity: exact, in the base unit")
    timestamp: AwareDatetime | None = Field(None, description="when it happened; now, where it is not said")
    metadata: dict[str, Any] | None = Field(None, description="kept with the event; up to 8,000 characters as JSON")
    idempotency_key: str | None = Field(None, max_length=255, description="the same key again is the same event, and counts once")


class EventResult(Model):
    """What became of one event. `billable` false: it counts, and is not charged for, for this `reason`."""

    index: int
    status: EventStatus
    id: int | None = None
    billable: bool | None = None
    reason: str | None = None


class BatchAnswer(Model):
    accepted: int
    duplicates: int
    rejected: int
    results: tuple[EventResult, ...]


# Described as EventIn, and read one by one: what will not do fails alone.
Loose = Annotated[dict[str, Any], WithJsonSchema(EventIn.model_json_schema())]


class BatchAsk(Model):
    events: tuple[Loose, ...] = Field(min_length=1, max_length=MOST_EVENTS)


class RecordedEvent(Model):
    """The event, in the unit its service is shown in. `duplicate`: it was recorded before."""

    id: int
    service: str
    quantity: Decimal
    unit: str
    duplicate: bool
    billable: bool | None
    reason: str | None


class EventAnswer(Model):
    """One row of the ledger. `quantity` is in the unit the service is shown in, `base_quantity` exact. `corrects`: the event that this
    void or correction is about. Of a level (`level`), the quantity is what is held from then on."""

    id: int
    timestamp: datetime
    service: str
    quantity: Decimal
    unit: str
    base_quantity: int
    level: bool
    source: Literal["gateway", "record", "import", "void", "correction"]
    metadata: dict[str, Any] | None
    corrects: int | None
    recorded_at: datetime | None


class EventList(Page):
    events: tuple[EventAnswer, ...]


class ListAsk(AskPage):
    service: str | None = None
    start: AwareDatetime | None = Field(None, description="from this instant on")
    end: AwareDatetime | None = Field(None, description="before this instant")


class OneAsk(Model):
    id: int = Field(ge=1, lt=2**63)


class VoidAsk(OneAsk):
    reason: str | None = Field(None, max_length=500)


class CorrectAsk(VoidAsk):
    quantity: Quantity
    base_quantity: int | None = Field(None, ge=0, le=2**53)


@operation("POST", "/usage/record", name="usage.record", need=Scope.BILLING, status=201, errors=(BadEvent,))
async def record(call: Call, ask: EventIn) -> RecordedEvent:
    """Usage that no gateway saw."""
    event = _event(ask, call)
    (found,) = await call.billing.recording.record(call.org, [event])
    if found.status == EventStatus.REJECTED:
        raise BadEvent(found.reason)
    meter = call.billing.recording.meters[event.meter]
    return RecordedEvent(
        id=found.id or 0, service=meter.name, quantity=shown(event.units, meter), unit=meter.show or meter.unit,
        duplicate=found.status == EventStatus.DUPLICATE, billable=found.billable, reason=found.reason,
    )  # fmt: skip


@operation("POST", "/events", name="events.record", need=Scope.BILLING)
async def batch(call: Call, ask: BatchAsk) -> BatchAnswer:
    """Up to a thousand events. One that will not do fails alone; one that came before is answered as such."""
    found = await call.billing.recording.record(call.org, [_tried(each, call) for each in ask.events])
    count = [each.status for each in found].count
    return BatchAnswer(
        accepted=count("accepted"), duplicates=count("duplicate"), rejected=count("rejected"),
        results=tuple(_result(index, each) for index, each in enumerate(found)),
    )  # fmt: skip


@operation("GET", "/events", name="events.list")
async def list_events(call: Call, ask: ListAsk) -> EventList:
    """The ledger's rows, newest first: what was recorded, and what gateways counted, a row a minute."""
    which = Filter(org_id=call.org, meter=ask.service, from_ms=_ms(ask.start), to_ms=_ms(ask.end))
    place = read_cursor(ask.after, int, int)
    after = (min(max(int(place[0]), 0), _LAST_MS), int(place[1])) if place is not None else None
    rows, more = page(await call.billing.recording.page(which, after, ask.limit + 1), ask, lambda row: (row.at_ms, row.id))
    return EventList(events=tuple(event_answer(row, call.billing.recording.meters) for row in rows), next=more)


@operation("GET", "/events/{id}", name="events.show", errors=(NoSuchEvent,))
async def show(call: Call, ask: OneAsk) -> EventAnswer:
    """One event."""
    return event_answer(await call.billing.recording.show(call.org, ask.id), call.billing.recording.meters)


@operation("POST", "/events/{id}/void", name="usage.void", need=Scope.BILLING, unbound=True, status=201, errors=(NoSuchEvent, EventVoided))
async def void(call: Call, ask: VoidAsk) -> EventAnswer:
    """Take an event back: a row that says it never was."""
    return event_answer(await call.billing.recording.void(call.org, ask.id, ask.reason), call.billing.recording.meters)


@operation(
    "POST",
    "/events/{id}/correct",
    name="usage.correct",
    need=Scope.BILLING,
    unbound=True,
    status=201,
    errors=(NoSuchEvent, EventVoided, BadEvent),
)
async def correct(call: Call, ask: CorrectAsk) -> EventAnswer:
    """Say what it should have been: the difference is a row."""
    recording = call.billing.recording
    row = await recording.show(call.org, ask.id)
    units = _units(ask.quantity, ask.base_quantity, recording.meters.get(row.meter) or Meter(name=row.meter, unit=row.meter))
    return event_answer(await recording.correct(call.org, ask.id, units, ask.reason), recording.meters)


OPERATIONS = (record, batch, list_events, show, void, correct)


# --- words ----------------------------------------------------------------------------------------------------------------


def _tried(value: dict[str, Any], call: Call) -> Event | BadEvent:
    try:
        return _event(EventIn.model_validate(value), call)
    except ValidationError as exc:
        said = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'event'}: {fault['msg']}" for fault in exc.errors()[:5])
        return BadEvent(said)
    except BadEvent as exc:
        return exc


def _event(said: EventIn, call: Call) -> Event:
    """Raises BadEvent."""
    meter = meter_of(said.service, call.billing.recording.meters)
    if meter.kind is Kind.LEVEL and call.caller.org_id is not None:
        raise BadEvent(f"what is held of {meter.name} is stated with a token for every organization; yours is bound to one")
    return Event(
        meter=meter.name, units=_units(said.quantity, said.base_quantity, meter),
        at_ms=call.now_ms if said.timestamp is None else checked_at(to_ms(said.timestamp), call.now_ms), dated=said.timestamp is not None,
        metadata=checked_metadata(said.metadata), key=checked_key(said.idempotency_key), level=meter.kind is Kind.LEVEL,
    )  # fmt: skip


def _units(quantity: Decimal | None, base_quantity: int | None, meter: Meter) -> int:
    if (quantity is None) == (base_quantity is None):
        raise BadEvent("say either quantity or base_quantity")
    if base_quantity is not None:
        return checked_units(base_quantity, meter)
    assert quantity is not None
    exponent = quantity.as_tuple().exponent
    if not isinstance(exponent, int) or not -_MOST_DIGITS <= exponent <= _MOST_DIGITS:
        raise BadEvent("the quantity has more digits than any use")
    return base_units(format(quantity, "f"), meter)


def _result(index: int, found: Recorded) -> EventResult:
    return EventResult(index=index, status=EventStatus(found.status), id=found.id, billable=found.billable, reason=found.reason)


def event_answer(row: EventRow, meters: Mapping[str, Meter]) -> EventAnswer:
    meter = meters.get(row.meter) or Meter(name=row.meter, unit=row.meter)
    return EventAnswer(
        id=row.id, timestamp=to_datetime(row.at_ms), service=row.meter, quantity=shown(row.units, meter), unit=meter.show or meter.unit,
        base_quantity=row.units, level=row.level, source=row.source, metadata=said_with(row) or None,
        corrects=row.corrects, recorded_at=to_datetime(row.recorded_ms) if row.recorded_ms else None,
    )  # fmt: skip


def _ms(instant: datetime | None) -> int | None:
    return None if instant is None else min(max(to_ms(instant), 0), _LAST_MS)
