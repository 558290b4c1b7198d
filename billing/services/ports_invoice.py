"""What the use cases of invoices need of the rows. billing/store keeps them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from billing.model.credit_note import Credited, CreditNote
from billing.model.invoice import Credits, Discounts, Invoice, Line, State, nothing_off
from metering.model.errors import BadInput

INVOICE, CREDIT_NOTE = "invoice", "credit_note"  # what is numbered
MOST_DUE_DAYS, MOST_TEXT = 365, 1000
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9/._-]{0,15}")
PAYMENT, REFUND = "payment", "refund"


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceSettings:
    """Who writes the invoices, as it stands on them. `prefix` begins their numbers; `due_days` 0 is due when written."""

    company_name: str = ""
    company_address: str = ""
    company_email: str = ""
    company_tax_id: str = ""
    footer: str = ""
    due_days: int = 0
    prefix: str = "INV"
    logo: bytes | None = None
    logo_url: str | None = None

    def checked(self) -> "InvoiceSettings":
        """Itself. Raises BadInput."""
        if not _PREFIX.fullmatch(self.prefix):
            raise BadInput(f"{self.prefix!r} cannot begin a number: up to 16 letters, digits and . _ / -")
        if not 0 <= self.due_days <= MOST_DUE_DAYS:
            raise BadInput(f"an invoice is due within 0 to {MOST_DUE_DAYS} days, not {self.due_days}")
        for name in ("company_name", "company_address", "company_email", "company_tax_id", "footer"):
            if len(getattr(self, name)) > MOST_TEXT:
                raise BadInput(f"{name} has more than {MOST_TEXT} characters")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Money that came in for an invoice (PAYMENT), or went back (REFUND). One row for each `reference`."""

    org_id: str
    invoice_id: str
    kind: str
    amount: Decimal
    currency: str
    method: str
    reference: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceEntry:
    """`amount` above zero is in the customer's favour."""

    org_id: str
    currency: str
    identifier: str
    amount: Decimal
    invoice_id: str
    at_ms: int


class Purse(Protocol):
    """What comes off an invoice: coupons before tax, credits after it. What it reads stays as it is until the transaction ends."""

    async def discounts(self, unit: Any, org_id: str, currency: str, now_ms: int) -> Discounts: ...

    async def credits(self, unit: Any, org_id: str, currency: str, now_ms: int) -> Credits: ...

    async def spend(self, unit: Any, invoice: Invoice, taken: Sequence[Line], now_ms: int) -> None:
        """These lines stand on the invoice: what they took is gone."""
        ...

    async def give_back(self, unit: Any, invoice: Invoice, now_ms: int) -> None:
        """The invoice is void: what it took is there again."""
        ...


class NoPurse:
    """Where there are no coupons and no credits."""

    async def discounts(self, _unit: Any, _org_id: str, _currency: str, _now_ms: int) -> Discounts:
        return nothing_off

    async def credits(self, _unit: Any, _org_id: str, _currency: str, _now_ms: int) -> Credits:
        return nothing_off

    async def spend(self, _unit: Any, _invoice: Invoice, _taken: Sequence[Line], _now_ms: int) -> None:
        return

    async def give_back(self, _unit: Any, _invoice: Invoice, _now_ms: int) -> None:
        return


Place = tuple[int, str, str]
_DRAFT = "~"  # behind every number


def place_of(invoice: Invoice) -> Place:
    """Where it stands in a list, newest first: drafts before the numbers of that instant."""
    return invoice.dated_ms, invoice.number or _DRAFT, invoice.id


class InvoiceRows(Protocol):
    async def add(self, invoice: Invoice) -> bool:
        """With its lines. False where the identifier is known already: then nothing was written."""
        ...

    async def get(self, ref: str, *, lock: bool = False) -> Invoice | None:
        """By id, number, or Stripe's id."""
        ...

    async def of_org(self, org_id: str, limit: int = 100) -> list[Invoice]:
        """Newest first."""
        ...

    async def find(
        self, *, org_id: str | None = None, states: Sequence[State] = (), from_ms: int | None = None, to_ms: int | None = None,
        limit: int = 1000,
    ) -> list[Invoice]:  # fmt: skip
        """Those dated within [from, to), newest first; `states` empty is every state."""
        ...

    async def page(
        self, *, org_id: str | None, states: Sequence[State], from_ms: int | None, to_ms: int | None, after: Place | None, limit: int
    ) -> list[Invoice]:  # fmt: skip
        """As `find`, of those behind the place `after` (place_of)."""
        ...

    async def save(self, invoice: Invoice) -> None:
        """Its state, number, dates, and what was paid; the lines and sums of one that is final stay as they are."""
        ...

    async def upsert(self, invoice: Invoice) -> None:
        """One that Stripe wrote, as Stripe has it now, by its Stripe id; lines are rewritten where they differ."""
        ...

    async def drop(self, invoice_id: str) -> None:
        """A draft. What stood on it waits again."""
        ...

    async def count(self, org_id: str, prefix: str) -> int:
        """How many of its identifiers begin so."""
        ...

    async def next_number(self, name: str) -> str:
        """The number that follows the last: INV-000123. Nobody else gets one until the transaction ends; undone, it is free again."""
        ...


class CreditNoteRows(Protocol):
    async def add(self, note: CreditNote) -> None: ...

    async def of_invoice(self, invoice_id: str) -> list[CreditNote]: ...

    async def credited(self, invoice_id: str) -> Credited:
        """What all of them took back so far."""
        ...


class ReceiptRows(Protocol):
    async def add(self, receipt: Receipt) -> bool:
        """False where the reference is known already."""
        ...

    async def of_invoice(self, invoice_id: str) -> list[Receipt]: ...


class BalanceRows(Protocol):
    async def add(self, entry: BalanceEntry) -> bool:
        """False where the identifier is known already."""
        ...

    async def of_org(self, org_id: str, currency: str) -> Decimal:
        """What stands in its favour; held until the transaction ends."""
        ...


class InvoiceSettingsRow(Protocol):
    async def get(self) -> InvoiceSettings: ...

    async def logo(self) -> bytes | None:
        """What of them an organization may read that is bound to itself."""
        ...

    async def put(self, settings: InvoiceSettings, now_ms: int) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far an organization's usage periods were billed here."""

    org_id: str
    since_ms: int
    billed_until_ms: int
    next_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedPeriod:
    """A usage period as it was billed. `terms` by which, `used` how much of each meter, `amounts` all that was ever billed, by line."""

    org_id: str
    start_ms: int
    end_ms: int
    currency: str
    terms: Mapping[str, Any]
    used: Mapping[str, int]
    amounts: Mapping[str, Decimal]
    revision: int
    rated_ms: int


class InvoicingRows(Protocol):
    async def due(self, now_ms: int, after: str | None, limit: int) -> list[str]:
        """Organizations for which there is something to do, or which nobody has looked at yet; in the order of ids, behind `after`."""
        ...

    async def cursor(self, org_id: str) -> Cursor | None: ...

    async def put(self, cursor: Cursor) -> None: ...

    async def subscribed_ms(self, org_id: str) -> int | None:
        """When its subscription, or the one that ended last, was made."""
        ...

    async def flushed_ms(self) -> int | None:
        """Up to when usage has all arrived; None where nothing ever counted."""
        ...

    async def periods(self, org_id: str, since_ms: int, until_ms: int) -> dict[tuple[int, int], dict[str, int]]:
        """(start, end) -> meter -> base units, of the usage periods that start in [since, …) and end by `until`."""
        ...

    async def rated(self, org_id: str, start_ms: int, *, lock: bool = False) -> RatedPeriod | None: ...

    async def keep_rated(self, period: RatedPeriod) -> None: ...

    async def changed(self, limit: int) -> list[tuple[str, int]]:
        """Rated periods whose usage is not what was billed: (organization, start)."""
        ...

    async def keep_terms(self, org_id: str, until_ms: int, terms: Mapping[str, Any]) -> None:
        """By which usage was billed until then. Nothing where some are kept for this instant already."""
        ...

    async def terms_within(self, org_id: str, start_ms: int, end_ms: int) -> list[Mapping[str, Any]]:
        """Those that changed within the period, the last first."""
        ...

    async def terms_at(self, org_id: str, at_ms: int) -> Mapping[str, Any] | None:
        """Those that stood then, where they have changed since."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HourOfUsage:
    """Usage rows of one hour: how much, in how many events."""

    hour_ms: int
    quantity: int
    events: int


class EvidenceRows(Protocol):
    async def hours(self, org_id: str, meter: str, period_start_ms: int) -> list[HourOfUsage]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Untied:
    """One thing that does not tie out. `where` names it, `what` says it in a sentence."""

    where: str
    what: str


class CloseRows(Protocol):
    async def closed(self) -> list[str]:
        """Months that are closed, in their order: 2026-01."""
        ...

    async def first(self) -> str | None:
        """The month of the first invoice that is final."""
        ...

    async def hold(self) -> None:
        """Nobody makes an invoice final, and nobody closes a month, until the transaction ends."""
        ...

    async def untied(self, from_ms: int, to_ms: int) -> list[Untied]:
        """All that does not tie out between usage, lines, invoices, payments and refunds of these instants."""
        ...

    async def figures(self, from_ms: int, to_ms: int) -> dict[str, Any]: ...

    async def close(self, month: str, now_ms: int, figures: Mapping[str, Any]) -> None: ...
