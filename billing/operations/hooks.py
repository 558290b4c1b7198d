"""Endpoints that events are sent to: an organization's own under /hooks, the installation's, which get everybody's, under /all/hooks."""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, Field

from billing.model.hook import TYPES, Endpoint, Event
from billing.model.hook_delivery import DeliveryState
from billing.model.token import Scope
from billing.operations.operation import A, About, Call, Model, Nothing, Operation, R, Run, operation
from billing.operations.pages import AskPage, Page, page, read_cursor
from billing.services.hooks import HookChange, HookDisabled, NoSuchEvent, NoSuchHook, TooManyHooks
from billing.services.ports_hooks import DeliveryRow
from metering.model.clock import to_datetime, to_ms
from metering.model.errors import BadInput, WeighbridgeError


class HookStatus(StrEnum):
    ENABLED = "enabled"
    FAILING = "failing"  # the last attempt failed; it is tried again
    DISABLED = "disabled"


class HookRow(Model):
    """`events` are types, nouns with all of theirs (invoice.*), or * for everything."""

    id: str
    url: str
    events: tuple[str, ...]
    description: str
    status: HookStatus
    failing_since: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None
    created: datetime
    created_by: str


class HookList(Model):
    hooks: tuple[HookRow, ...]


class HookMade(HookRow):
    """`secret` is shown this once."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])


class EventType(Model):
    type: str
    when: str


class EventTypes(Model):
    types: tuple[EventType, ...]


class EventRow(Model):
    """`id` is what receivers get as webhook-id; `data` is the payload's."""

    id: str
    type: str
    org: str | None
    happened: datetime
    data: dict[str, Any]


class EventList(Page):
    events: tuple[EventRow, ...]


class Delivery(Model):
    """`answer` is the status of the last attempt, null where there was no answer; `attempts` since it was noted or replayed."""

    event: str
    type: str
    org: str | None
    happened: datetime
    status: DeliveryState
    attempts: int
    next_attempt: datetime | None
    tried: datetime | None
    answer: int | None
    error: str | None


class Deliveries(Page):
    deliveries: tuple[Delivery, ...]


class Replayed(Model):
    """How many events will be sent."""

    events: int


class AskHook(Model):
    hook: str = Field(max_length=100)


class CreateHook(Model):
    url: str = Field(max_length=2000, description="https://…")
    events: tuple[str, ...] = Field(("*",), max_length=50)
    description: str = Field("", max_length=200)


class UpdateHook(AskHook):
    url: str | None = Field(None, max_length=2000)
    events: tuple[str, ...] | None = Field(None, max_length=50)
    description: str | None = Field(None, max_length=200)
    enabled: bool | None = None


class RotateHook(AskHook):
    overlap_seconds: int = Field(86_400, ge=0, le=2_592_000, description="how long the old secret signs beside the new one")


class AskEvents(AskPage):
    type: str | None = Field(None, max_length=100)


class AskDeliveries(AskPage, AskHook):
    status: DeliveryState | None = None


class ReplayAsk(AskHook):
    """One event again, or all since an instant that the endpoint wants and was not told of."""

    event: str | None = Field(None, max_length=100)
    since: AwareDatetime | None = None


_HOOK = (NoSuchHook,)
_Pair = tuple[Operation[A, R], Operation[A, R]]


def _both(
    method: str, path: str, *, name: str, need: Scope = Scope.READ, status: int = 200, errors: tuple[type[WeighbridgeError], ...] = ()
) -> Callable[[Run[A, R]], _Pair[A, R]]:
    """(for an organization's own endpoints, for the installation's), of which the second leave `call.org_id` empty. Events tell of
    invoices and cards: none is for an API key."""

    def made(run: Run[A, R]) -> _Pair[A, R]:
        own = operation(method, path, name=name, need=need, by_token=True, status=status, errors=errors)(run)
        everybody = operation(
            method, "/all" + path, name=f"{name}_all", need=need, by_token=True, about=About.ALL, status=status, errors=errors
        )(run)
        return own, everybody

    return made


@operation("GET", "/hooks/types", name="hook.types", about=About.ANYBODY)
async def types(call: Call, ask: Nothing) -> EventTypes:
    """Which events there are."""
    return EventTypes(types=tuple(EventType(type=kind, when=when) for kind, when in TYPES.items()))


@_both("GET", "/hooks/events", name="hook.events")
async def events(call: Call, ask: AskEvents) -> EventList:
    """What happened in the last 30 days, newest first."""
    place = read_cursor(ask.after, int)
    found = await call.billing.hooks.events(call.org_id, ask.type, before=_number(place), limit=ask.limit + 1)
    rows, following = page(found, ask, lambda event: (event.id,))
    return EventList(events=tuple(map(_event, rows)), next=following)


@_both("GET", "/hooks", name="hook.list")
async def list_hooks(call: Call, ask: Nothing) -> HookList:
    """Every endpoint."""
    return HookList(hooks=tuple(_row(endpoint) for endpoint in await call.billing.hooks.all(call.org_id)))


@_both("POST", "/hooks", name="hook.create", need=Scope.BILLING, status=201, errors=(TooManyHooks,))
async def create(call: Call, ask: CreateHook) -> HookMade:
    """Send events to a URL, signed with a secret that is shown this once."""
    made = await call.billing.hooks.create(call.org_id, ask.url, ask.events, description=ask.description, by=call.caller.name)
    return _made(made.endpoint, made.secret)


@_both("GET", "/hooks/{hook}", name="hook.show", errors=_HOOK)
async def show(call: Call, ask: AskHook) -> HookRow:
    """One endpoint, and how it does."""
    return _row(await call.billing.hooks.show(call.org_id, ask.hook))


@_both("PATCH", "/hooks/{hook}", name="hook.update", need=Scope.BILLING, errors=_HOOK)
async def update(call: Call, ask: UpdateHook) -> HookRow:
    """Another URL, other events, enabled or disabled."""
    change = HookChange(url=ask.url, types=ask.events, description=ask.description, enabled=ask.enabled)
    return _row(await call.billing.hooks.update(call.org_id, ask.hook, change))


@_both("DELETE", "/hooks/{hook}", name="hook.delete", need=Scope.BILLING, errors=_HOOK)
async def delete(call: Call, ask: AskHook) -> HookRow:
    """Send nothing to it any more, and forget what was sent."""
    return _row(await call.billing.hooks.delete(call.org_id, ask.hook))


@_both("POST", "/hooks/{hook}/rotate", name="hook.rotate", need=Scope.BILLING, errors=_HOOK)
async def rotate(call: Call, ask: RotateHook) -> HookMade:
    """A new secret, shown this once; the old one signs beside it for a while."""
    made = await call.billing.hooks.rotate(call.org_id, ask.hook, overlap_seconds=ask.overlap_seconds)
    return _made(made.endpoint, made.secret)


@_both("POST", "/hooks/{hook}/test", name="hook.test", need=Scope.BILLING, errors=(NoSuchHook, HookDisabled))
async def test(call: Call, ask: AskHook) -> EventRow:
    """An event for this endpoint alone."""
    return _event(await call.billing.hooks.test(call.org_id, ask.hook))


@_both("GET", "/hooks/{hook}/deliveries", name="hook.deliveries", errors=_HOOK)
async def deliveries(call: Call, ask: AskDeliveries) -> Deliveries:
    """What it was told, and what not yet; newest first."""
    place = read_cursor(ask.after, int)
    state = ask.status.value if ask.status else None
    found = await call.billing.hooks.deliveries(call.org_id, ask.hook, state, before=_number(place), limit=ask.limit + 1)
    rows, following = page(found, ask, lambda row: (row.id,))
    return Deliveries(deliveries=tuple(map(_delivery, rows)), next=following)


@_both("POST", "/hooks/{hook}/replay", name="hook.replay", need=Scope.BILLING, errors=(NoSuchHook, NoSuchEvent, HookDisabled))
async def replay(call: Call, ask: ReplayAsk) -> Replayed:
    """Send one event again, or all since an instant that it was not told of."""
    if ask.event is not None and ask.since is None:
        return Replayed(events=await call.billing.hooks.replay(call.org_id, ask.hook, ask.event))
    if ask.event is None and ask.since is not None:
        return Replayed(events=await call.billing.hooks.replay_since(call.org_id, ask.hook, to_ms(ask.since)))
    raise BadInput("say what to replay: one event, or all since an instant")


def _number(place: tuple[int | str, ...] | None) -> int | None:
    return None if place is None else int(place[0])


def _facts(endpoint: Endpoint) -> dict[str, Any]:
    status = HookStatus.DISABLED if endpoint.disabled_at_ms is not None else HookStatus.ENABLED
    if status is HookStatus.ENABLED and endpoint.failing_since_ms is not None:
        status = HookStatus.FAILING
    return {
        "id": endpoint.id, "url": endpoint.url, "events": endpoint.types, "description": endpoint.description, "status": status,
        "failing_since": _instant(endpoint.failing_since_ms), "disabled_at": _instant(endpoint.disabled_at_ms),
        "disabled_reason": endpoint.disabled_reason, "created": to_datetime(endpoint.created_at_ms), "created_by": endpoint.created_by,
    }  # fmt: skip


def _row(endpoint: Endpoint) -> HookRow:
    return HookRow(**_facts(endpoint))


def _made(endpoint: Endpoint, secret: str) -> HookMade:
    return HookMade(**_facts(endpoint), secret=secret)


def _event(event: Event) -> EventRow:
    return EventRow(id=event.message, type=event.type, org=event.slug, happened=to_datetime(event.happened_at_ms), data=dict(event.data))


def _delivery(row: DeliveryRow) -> Delivery:
    waits = row.state == DeliveryState.WAITING
    return Delivery(
        event=row.event.message, type=row.event.type, org=row.event.slug, happened=to_datetime(row.event.happened_at_ms),
        status=DeliveryState(row.state), attempts=row.attempts, next_attempt=_instant(row.next_attempt_ms) if waits else None,
        tried=_instant(row.tried_ms), answer=row.answer, error=row.error,
    )  # fmt: skip


def _instant(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else to_datetime(at_ms)


OPERATIONS: tuple[Operation[Any, Any], ...] = (
    types, *events, *list_hooks, *create, *show, *update, *delete, *rotate, *test, *deliveries, *replay,
)  # fmt: skip
