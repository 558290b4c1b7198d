"""What recording usage needs of the tables and of the live copy."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from metering.model.moves import Held, Moves

Bounds = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One row of the ledger, as it will be or is written."""

    id: int
    org_id: str
    meter: str
    units: int
    at_ms: int
    start_ms: int
    end_ms: int = 0
    source: str = "gateway"
    metadata: str | None = None
    corrects: int | None = None
    level: bool = False
    part: str = ""
    recorded_ms: int = 0
    route_id: int = 0
    method: str = ""
    dimensions: str = "{}"
    template: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which events. Half-open; `org_id` None is every organization."""

    org_id: str | None
    meter: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PendingMove:
    """What the store has not confirmed yet."""

    seq: int
    moves: Moves


class StagedSum(NamedTuple):
    """What the rows of an import come to: base units, and how many rows, of an organization's meter in an hour of a period."""

    org_id: str
    meter: str
    hour_ms: int
    start_ms: int
    end_ms: int
    units: int
    events: int


class ImportRows(Protocol):
    async def pieces(self, org_id: str, before: bytes) -> list[tuple[int, bytes]]:
        """Pieces of files that begin there: (lines, where they end), the longest first."""
        ...

    async def begin(self, org_id: str, before: bytes, lines: int, after: bytes, rejected: int) -> bool:
        """False where the piece was read before. Whoever reads the same waits here."""
        ...

    async def stage(self, text: bytes) -> None:
        """Rows as COPY reads them become events: ms, ms of the period's start, organization, meter, units, metadata."""
        ...

    async def add_up(self, sums: Sequence[StagedSum]) -> None:
        """Into hours and periods. The buckets are locked."""
        ...


class EventRows(Protocol):
    async def periods(self, org_id: str) -> list[Bounds]:
        """Usage periods that have rows, in order of their starts."""
        ...

    async def claim(self, org_id: str, keys: Mapping[str, tuple[int, bytes]]) -> dict[str, tuple[int, bytes]]:
        """Take each key for an event (id, fingerprint). Returns those that were taken before, with what they were taken for."""
        ...

    async def claimed(self, org_id: str, keys: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        """Those that are taken."""
        ...

    async def ids(self, count: int) -> list[int]: ...

    async def lock(self, buckets: Sequence[int]) -> None:
        """Nothing else is committed to these buckets until the transaction ends."""
        ...

    async def insert(self, rows: Sequence[EventRow]) -> None: ...

    async def add_up(self, rows: Sequence[EventRow]) -> None:
        """Into hours and periods: rows that are no levels. The buckets are locked."""
        ...

    async def hold(self, org_id: str, rows: Sequence[EventRow], anchor_ms: int, now_ms: int) -> list[Held]:
        """Levels into their history; what each of their meters holds now, in all."""
        ...

    async def unhold(self, row: EventRow, anchor_ms: int, now_ms: int) -> list[Held]:
        """A level that was never true."""
        ...

    async def held(self, org_id: str, meters: Sequence[str], anchor_ms: int, now_ms: int) -> list[Held]:
        """What is held now, worked out again."""
        ...

    async def levels(self, org_id: str) -> dict[str, int]:
        """What is held now, by meter."""
        ...

    async def open_period(self, org_id: str, meter: str, start_ms: int, end_ms: int) -> None:
        """A usage period that a level reaches into."""
        ...

    async def average(self, org_id: str, meter: str, now_ms: int, *, since_ms: int) -> None:
        """Usage periods that end behind `since_ms` say the level's mean, as far as they have come."""
        ...

    async def due_levels(self, now_ms: int, after: tuple[str, str], limit: int) -> list[tuple[str, str, int | None, int | None]]:
        """(organization, meter, end of its last period, start of the first one whose mean is not final) of those to look after."""
        ...

    async def leave_move(self, moves: Moves) -> int:
        """For the store; returns its number. The bucket is locked."""
        ...

    async def pending_buckets(self) -> list[int]: ...

    async def pending(self, bucket: int, limit: int) -> list[PendingMove]: ...

    async def moved(self, bucket: int, mark: int) -> None:
        """The store has these."""
        ...

    async def find(self, org_id: str, event_id: int) -> tuple[EventRow, int] | None:
        """An event, and what it comes to with its void and corrections."""
        ...

    async def page(self, which: Filter, after: tuple[int, int] | None, limit: int) -> list[EventRow]:
        """Newest first; `after` (ms, id) is the last one seen."""
        ...

    def stream(self, which: Filter) -> AsyncIterator[EventRow]:
        """In order of time, for as long as the transaction is open."""
        ...
