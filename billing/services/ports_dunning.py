"""What dunning needs of the world: its rows in billing/store/dunning.py, and who keeps subscriptions. Part of ports.py."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from billing.model.invoice import Invoice


@dataclass(frozen=True, slots=True, kw_only=True)
class DunningRow:
    """What was done about an invoice. `failures` are those told by mail; `next_ms` None: nothing, until something is heard of it.
    `marked`: its subscription knows that a payment failed."""

    invoice_id: str
    org_id: str
    next_ms: int | None
    failures: int = 0
    failed_ms: int | None = None
    tried_ms: int | None = None
    reason: str | None = None
    marked: bool = False
    warned_ms: int | None = None
    downgraded_ms: int | None = None
    returned_ms: int | None = None
    closed_ms: int | None = None


class DunningRows(Protocol):
    async def enroll(self, *, charges: bool, now_ms: int) -> int:
        """Open invoices that nobody looked after yet: of our own, where `charges` says that we charge them; of either issuer, once an
        attempt failed. How many."""
        ...

    async def due(self, now_ms: int, limit: int) -> list[str]:
        """Invoices with something to do: their time has come, an attempt failed or succeeded, they are paid or void."""
        ...

    async def get(self, invoice_id: str) -> DunningRow | None: ...

    async def save(self, row: DunningRow) -> None: ...

    async def others(self, org_id: str, invoice_id: str) -> bool:
        """Does the organization owe another invoice of which a payment failed."""
        ...


class InvoiceDesk(Protocol):
    """Who keeps what was paid: billing/services/invoices.py. The invoice is locked in the unit's transaction."""

    async def paid(self, unit: Any, invoice: Invoice, method: str, reference: str | None, amount: Decimal | None, now_ms: int) -> Invoice:
        """The same reference twice is the same payment."""
        ...

    async def attempted(self, unit: Any, invoice: Invoice, next_attempt_ms: int | None) -> Invoice:
        """An attempt to charge it failed; the next is then, or never."""
        ...


class Standings(Protocol):
    """Who keeps subscriptions, as payments concern them: billing/services/subscriptions.py. Saying it again changes nothing; what it
    returns is None where nothing changed."""

    async def payment_failed(self, org_id: str) -> Any: ...

    async def payment_succeeded(self, org_id: str) -> Any: ...

    async def gave_up(self, org_id: str, *, only_if: Callable[[Any], Awaitable[bool]]) -> Any:
        """`only_if` is asked within the transaction of the change, with its unit."""
        ...
