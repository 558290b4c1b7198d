"""What Stripe is told, as rows to look at and to send again. Part of ports.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from billing.model.delivery import State
from metering.model.errors import Conflict, NotFound


class NoSuchRow(NotFound):
    """The outbox has no such row."""

    code = "no_such_outbox_row"


class MayDouble(Conflict):
    """Sending it again could count it twice."""

    code = "may_double"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One row as it stands."""

    id: int
    kind: str
    org_id: str
    slug: str
    identifier: str
    payload: Mapping[str, Any]
    state: State
    attempts: int
    first_attempt_ms: int | None
    next_attempt_ms: int | None
    last_error: str | None
    created_ms: int
    delivered_ms: int | None


class OutboxCarer(Protocol):
    """Who sends rows again that stopped: billing/stripe/outbox_care.py."""

    async def retry(self, ref: str) -> Kept:
        """As it stands afterwards. Raises NoSuchRow, MayDouble, Conflict for a row that has not stopped, DependencyUnavailable."""
        ...
