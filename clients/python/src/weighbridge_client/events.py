"""Usage as it is told. Each event gets an idempotency key where it is made, so that telling it again counts it once."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

MOST_IN_A_BATCH = 1_000
LARGEST_BATCH_BYTES = 3_000_000  # of what a server takes in one request, with room for how it is written


def _now() -> datetime:
    return datetime.now(UTC)


def _key() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`quantity` is in the unit that the service is shown in: an int, or a Decimal, which stays exact."""

    service: str
    quantity: int | Decimal = 1
    timestamp: datetime = field(default_factory=_now)
    metadata: Mapping[str, Any] | None = None
    idempotency_key: str = field(default_factory=_key)

    def __post_init__(self) -> None:
        if self.timestamp.tzinfo is None:
            raise ValueError("an event's timestamp needs a time zone")

    def body(self) -> dict[str, Any]:
        said: dict[str, Any] = {
            "service": self.service, "quantity": self.quantity if isinstance(self.quantity, int) else format(self.quantity, "f"),
            "timestamp": self.timestamp.isoformat(), "idempotency_key": self.idempotency_key,
        }  # fmt: skip
        return said if self.metadata is None else {**said, "metadata": dict(self.metadata)}

    def size_bytes(self) -> int:
        """About what it takes in a request. Raises TypeError or ValueError for metadata that is no JSON."""
        return len(json.dumps(self.body())) if self.metadata is not None else 200
