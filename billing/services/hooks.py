"""Endpoints that events are sent to: made, changed, their secrets replaced, their events listed and replayed.

`org_id` None stands for the installation's own endpoints, which get the events of every organization.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from billing.model.hook import MOST_ENDPOINTS, TEST, TYPES, Endpoint, Event, read_description, read_types, read_url, secret_from, written
from billing.services.ports import Books, Unit
from billing.services.ports_hooks import DeliveryRow
from metering.model.clock import Clock
from metering.model.errors import BadInput, Conflict, NotFound
from metering.model.outward import Reach

KEPT_DAYS = 30  # events, and what became of them
OVERLAP_SECONDS = 86_400  # how long a replaced secret still signs, unless told
LONGEST_OVERLAP_SECONDS = 30 * 86_400
_BY_HAND = "disabled by hand"
_ID = re.compile(r"[a-z]+_[0-9a-z]{1,64}")
_DAY_MS = 86_400_000


class NoSuchHook(NotFound):
    """There is no such endpoint for events."""

    code = "no_such_hook"


class NoSuchEvent(NotFound):
    """There is no such event for this endpoint."""

    code = "no_such_event"


class TooManyHooks(Conflict):
    """There are as many endpoints as there may be."""

    code = "too_many_hooks"


class HookDisabled(Conflict):
    """The endpoint is disabled: nothing is sent to it."""

    code = "hook_disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecret:
    """`secret` is shown this once."""

    endpoint: Endpoint
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HookChange:
    """What is to be otherwise; None stays."""

    url: str | None = None
    types: Sequence[str] | None = None
    description: str | None = None
    enabled: bool | None = None


class Hooks:
    """`entropy` gives at least 32 random bytes a call; `reach` is how far an endpoint's URL may lead."""

    def __init__(self, books: Books, clock: Clock, *, entropy: Callable[[], bytes], reach: Reach) -> None:
        self._books, self._clock, self._entropy, self._reach = books, clock, entropy, reach

    async def create(self, org_id: str | None, url: str, types: Sequence[str], *, description: str = "", by: str) -> NewSecret:
        """Raises BadInput, Forbidden, TooManyHooks."""
        now_ms, secret = self._clock.now_ms(), secret_from(self._entropy())
        fresh = Endpoint(
            id="hook_" + self._entropy()[:12].hex(), org_id=org_id, url=read_url(url, self._reach), types=read_types(types),
            description=read_description(description), created_by=by, created_at_ms=now_ms,
        )  # fmt: skip
        async with self._books.transaction() as unit:
            if await unit.hooks.count(org_id) >= MOST_ENDPOINTS:
                raise TooManyHooks(f"there are {MOST_ENDPOINTS} endpoints already, which is as many as there may be: delete one")
            await unit.hooks.insert(fresh)
            await unit.hooks.add_secret(fresh.id, secret, now_ms, others_until_ms=now_ms)
        return NewSecret(endpoint=fresh, secret=written(secret))

    async def all(self, org_id: str | None) -> list[Endpoint]:
        async with self._books.transaction() as unit:
            return await unit.hooks.of(org_id)

    async def show(self, org_id: str | None, endpoint_id: str) -> Endpoint:
        """Raises NoSuchHook."""
        async with self._books.transaction() as unit:
            return await _found(unit, org_id, endpoint_id)

    async def update(self, org_id: str | None, endpoint_id: str, change: HookChange) -> Endpoint:
        """Enabled again, it gets what waits for it; `replay` brings what happened in between. Raises NoSuchHook, BadInput, Forbidden."""
        if change == HookChange():
            raise BadInput("say what to change: url, types, description, or enabled")
        async with self._books.transaction() as unit:
            after = _changed(await _found(unit, org_id, endpoint_id, lock=True), change, self._reach, self._clock.now_ms())
            await unit.hooks.save(after)
        return after

    async def delete(self, org_id: str | None, endpoint_id: str) -> Endpoint:
        """Raises NoSuchHook."""
        async with self._books.transaction() as unit:
            gone = await _found(unit, org_id, endpoint_id, lock=True)
            await unit.hooks.drop(gone.id)
        return gone

    async def rotate(self, org_id: str | None, endpoint_id: str, *, overlap_seconds: int = OVERLAP_SECONDS) -> NewSecret:
        """A new secret; those before sign beside it for so long. Raises NoSuchHook, BadInput."""
        if not 0 <= overlap_seconds <= LONGEST_OVERLAP_SECONDS:
            raise BadInput("an old secret signs beside the new one for 0 seconds to 30 days")
        now_ms, secret = self._clock.now_ms(), secret_from(self._entropy())
        async with self._books.transaction() as unit:
            endpoint = await _found(unit, org_id, endpoint_id, lock=True)
            await unit.hooks.add_secret(endpoint.id, secret, now_ms, others_until_ms=now_ms + overlap_seconds * 1000)
        return NewSecret(endpoint=endpoint, secret=written(secret))

    async def test(self, org_id: str | None, endpoint_id: str) -> Event:
        """An event for this endpoint alone, sent as every other. Raises NoSuchHook, HookDisabled."""
        async with self._books.transaction() as unit:
            endpoint = _enabled(await _found(unit, org_id, endpoint_id))
            return await unit.hooks.send_to(endpoint, TEST, {"hook": endpoint.id, "message": "This is a test."})

    async def events(self, org_id: str | None, kind: str | None = None, *, before: int | None = None, limit: int = 50) -> list[Event]:
        """Newest first. Raises BadInput."""
        if kind is not None and kind not in TYPES:
            raise BadInput(f"there are no events {kind!r}; there are: {', '.join(TYPES)}")
        async with self._books.transaction() as unit:
            return await unit.hooks.events(org_id, kind, before, limit)

    async def deliveries(
        self, org_id: str | None, endpoint_id: str, state: str | None = None, *, before: int | None = None, limit: int = 50
    ) -> list[DeliveryRow]:
        """Newest first. Raises NoSuchHook."""
        async with self._books.transaction() as unit:
            endpoint = await _found(unit, org_id, endpoint_id)
            return await unit.hooks.deliveries(endpoint.id, state, before, limit)

    async def replay(self, org_id: str | None, endpoint_id: str, message: str) -> int:
        """One event again, whatever became of it. Raises NoSuchHook, NoSuchEvent, HookDisabled."""
        async with self._books.transaction() as unit:
            endpoint = _enabled(await _found(unit, org_id, endpoint_id))
            if not (_ID.fullmatch(message) and await unit.hooks.replay(endpoint, message)):
                raise NoSuchEvent(f"there is no event {message!r} for this endpoint; events are kept for {KEPT_DAYS} days")
        return 1

    async def replay_since(self, org_id: str | None, endpoint_id: str, since_ms: int) -> int:
        """All that it wants since then and was not told of. Raises NoSuchHook, HookDisabled."""
        since_ms = max(since_ms, self._clock.now_ms() - KEPT_DAYS * _DAY_MS)  # there are none from before
        async with self._books.transaction() as unit:
            endpoint = _enabled(await _found(unit, org_id, endpoint_id))
            return await unit.hooks.replay_since(endpoint, since_ms) if since_ms <= self._clock.now_ms() else 0


async def _found(unit: Unit, org_id: str | None, endpoint_id: str, *, lock: bool = False) -> Endpoint:
    endpoint = await unit.hooks.find(org_id, endpoint_id, lock=lock) if _ID.fullmatch(endpoint_id) else None
    if endpoint is None:
        raise NoSuchHook(f"there is no endpoint {endpoint_id!r}; hook list has those there are", hook=endpoint_id)
    return endpoint


def _enabled(endpoint: Endpoint) -> Endpoint:
    if endpoint.disabled_at_ms is not None:
        raise HookDisabled(f"{endpoint.id} is disabled ({endpoint.disabled_reason}): enable it first", hook=endpoint.id)
    return endpoint


def _changed(endpoint: Endpoint, change: HookChange, reach: Reach, now_ms: int) -> Endpoint:
    if change.url is not None:
        endpoint = replace(endpoint, url=read_url(change.url, reach))
    if change.types is not None:
        endpoint = replace(endpoint, types=read_types(change.types))
    if change.description is not None:
        endpoint = replace(endpoint, description=read_description(change.description))
    if change.enabled is True:
        return replace(endpoint, disabled_at_ms=None, disabled_reason=None, failing_since_ms=None)
    if change.enabled is False and endpoint.disabled_at_ms is None:
        return replace(endpoint, disabled_at_ms=now_ms, disabled_reason=_BY_HAND)
    return endpoint
