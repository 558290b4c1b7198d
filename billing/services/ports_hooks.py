"""What events for others need of the world: their rows in billing/store/hooks.py, a way out in billing/channels. Part of ports.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from billing.model.hook import Endpoint, Event, Post
from billing.model.hook_delivery import Reply, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """An event to deliver now, the `attempt`th time, with the secrets that are good, the newest first."""

    id: int
    attempt: int
    event: Event
    endpoint: Endpoint
    secrets: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """How far an endpoint has been told of an event."""

    id: int
    event: Event
    endpoint_id: str
    state: str
    attempts: int
    next_attempt_ms: int | None
    tried_ms: int | None
    answer: int | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Something that was found and may be found again: told once for each `identifier`."""

    org_id: str
    type: str
    identifier: str
    data: Mapping[str, Any]


class HookRows(Protocol):
    # --- endpoints; `org_id` None is the installation's own, not every one ------------------------------------------------

    async def insert(self, endpoint: Endpoint) -> None: ...

    async def of(self, org_id: str | None) -> list[Endpoint]:
        """In the order they were made."""
        ...

    async def find(self, org_id: str | None, endpoint_id: str, *, lock: bool = False) -> Endpoint | None: ...

    async def save(self, endpoint: Endpoint) -> None: ...

    async def drop(self, endpoint_id: str) -> None: ...

    async def count(self, org_id: str | None) -> int:
        """How many there are; nobody adds another until the transaction ends."""
        ...

    async def add_secret(self, endpoint_id: str, secret: bytes, now_ms: int, *, others_until_ms: int) -> None:
        """Those before are good until then."""
        ...

    # --- events -----------------------------------------------------------------------------------------------------------

    async def note(self, found: Sequence[Found]) -> int:
        """What was told before is left out. How many were new."""
        ...

    async def send_to(self, endpoint: Endpoint, kind: str, data: Mapping[str, Any]) -> Event:
        """An event for this endpoint alone."""
        ...

    async def events(self, org_id: str | None, kind: str | None, before: int | None, limit: int) -> list[Event]:
        """Newest first; `org_id` None is everybody's, `before` an event's number."""
        ...

    async def forget(self, happened_before_ms: int) -> int:
        """Events and their deliveries. How many events."""
        ...

    # --- deliveries -------------------------------------------------------------------------------------------------------

    async def deliveries(self, endpoint_id: str, state: str | None, before: int | None, limit: int) -> list[DeliveryRow]:
        """Newest first."""
        ...

    async def replay(self, endpoint: Endpoint, message: str) -> bool:
        """Deliver this event again, or for the first time. False where there is none, or it is none of the endpoint's."""
        ...

    async def replay_since(self, endpoint: Endpoint, since_ms: int) -> int:
        """What it wants of events since then and was not told: what failed, and what happened before it was there or while it was
        disabled. How many."""
        ...

    async def endpoints_due(self, now_ms: int) -> list[str]: ...

    async def claim(self, endpoint_id: str, now_ms: int, until_ms: int) -> Claimed | None:
        """The delivery that is due longest, for nobody else before `until_ms`. Others claim beside it without waiting."""
        ...

    async def finish(self, claimed: Claimed, verdict: Verdict, reply: Reply, now_ms: int) -> bool:
        """With what it means for the endpoint. False where the claim ran out, and another has it."""
        ...

    # --- who listens ------------------------------------------------------------------------------------------------------

    async def listeners(self, kind: str) -> "Listeners": ...

    async def using(self, since_ms: int, now_ms: int) -> list[str]:
        """Organizations whose usage in a running period was written since then."""
        ...


@dataclass(frozen=True, slots=True)
class Listeners:
    """Whose events of a type anybody wants: everybody's, or those of `orgs`."""

    everybody: bool
    orgs: frozenset[str]

    def among(self, org_ids: Sequence[str]) -> list[str]:
        return [org_id for org_id in org_ids if self.everybody or org_id in self.orgs]


class HookChannel(Protocol):
    async def post(self, post: Post) -> Reply:
        """How it ended; never raises for what a receiver, or the way to it, does."""
        ...
