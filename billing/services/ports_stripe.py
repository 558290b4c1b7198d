"""Rows that stand between Stripe and us: its events, its ids, what customers pay with, tries to charge. Part of ports.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from billing.model.payment import Payment, PaymentMethod, PaymentOutcome
from billing.model.webhook import Status, StripeEvent
from metering.model.errors import Conflict, DependencyUnavailable, NotFound, WeighbridgeError


class NoSuchPaymentMethod(NotFound):
    """The organization has no such payment method."""

    code = "no_such_payment_method"


class PaymentMethodRefused(Conflict):
    """Stripe, or the bank, refuses this payment method."""

    code = "payment_method_refused"


class NoStripe(DependencyUnavailable):
    """There is no Stripe to ask: set STRIPE_API_KEY, or run `weighbridge up`, which brings a sandbox."""

    code = "no_stripe"


class StripeFailed(WeighbridgeError):
    """A call to Stripe did not succeed."""

    code, http_status = "stripe_call_failed", 502


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxRow:
    """An event as the inbox holds it. `attempts` counts those that were begun."""

    event_id: str
    type: str
    object_id: str
    status: Status
    payload: Mapping[str, Any]
    received_at_ms: int
    processed_at_ms: int | None
    attempts: int
    next_attempt_ms: int | None
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What the database is stamped with. `account` None: stamped before it was asked for, or of a sandbox without one."""

    mode: str
    account: str | None


class InboxRows(Protocol):
    async def add(self, events: Sequence[StripeEvent], now_ms: int) -> list[str]:
        """The ids of those that were not there."""
        ...

    async def claim(self, now_ms: int, until_ms: int, limit: int, event_id: str | None = None) -> list[InboxRow]:
        """Those that are due, of each object the first only; nobody else gets them before `until_ms`."""
        ...

    async def finish(self, row: InboxRow, status: Status, error: str | None, next_ms: int | None, now_ms: int) -> bool:
        """False where somebody else claimed it in the meantime. Held until the transaction ends."""
        ...

    async def give_back(self, row: InboxRow, next_ms: int, reason: str) -> None:
        """The claim led to no attempt: the event waits, and is not a try older."""
        ...

    async def find(self, event_id: str) -> InboxRow | None: ...

    async def newest(self, limit: int, status: Status | None = None, before: str | None = None) -> list[InboxRow]:
        """Newest first; of those that came before that event."""
        ...

    async def again(self, event_id: str) -> bool:
        """Due now, as if it had just come; False where there is no such event."""
        ...

    async def stands(self) -> int | None:
        """When Stripe made the newest of them."""
        ...

    async def side(self) -> Side | None: ...


class StripeIdRows(Protocol):
    """Which object at Stripe stands for which thing of ours; the kinds are told in billing/stripe/objects.py."""

    async def of(self, kind: str, key: str) -> str | None: ...

    async def key_of(self, kind: str, stripe_id: str) -> str | None: ...

    async def keep(self, kind: str, key: str, stripe_id: str, now_ms: int) -> None: ...

    async def claim(self, kind: str, key: str, stripe_id: str, now_ms: int) -> bool:
        """False where another object stands for it already."""
        ...

    async def forget(self, kind: str, key: str) -> None: ...


class PaymentMethodRows(Protocol):
    async def put(self, method: PaymentMethod, now_ms: int) -> None: ...

    async def drop(self, method_id: str) -> str | None:
        """Whose it was."""
        ...

    async def of_org(self, org_id: str) -> list[PaymentMethod]:
        """The default first."""
        ...

    async def set_default(self, org_id: str, method_id: str | None) -> None: ...

    async def charged(self, org_id: str) -> str | None:
        """The one that is charged: the default, else the only one."""
        ...


class PaymentAttemptRows(Protocol):
    async def begin(self, payment: Payment) -> Payment:
        """The try as it stands: this one, or the one of that number that was begun before."""
        ...

    async def of_invoice(self, invoice_id: str, *, lock: bool = False) -> list[Payment]: ...

    async def by_payment_id(self, payment_id: str) -> Payment | None: ...

    async def settle(self, invoice_id: str, attempt: int, outcome: PaymentOutcome, now_ms: int) -> bool:
        """False where it was settled before: what is paid stays paid."""
        ...

    async def unknown(self, begun_before_ms: int, limit: int) -> list[Payment]: ...

    async def refunded(self, invoice_id: str, attempt: int, refunded_minor: int) -> None:
        """How much of it was given back by now, in all."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InTheWay:
    """What the side before must say something about, before it is left."""

    pending: int
    unknown: int
    payments: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """`periods` are those under way whose overage the next side is told whole."""

    objects: int
    methods: int
    periods: int


class CutoverRows(Protocol):
    async def hold(self) -> Side | None:
        """The side that the database is stamped with. Nobody delivers, and nobody moves it, until the transaction ends."""
        ...

    async def in_the_way(self) -> InTheWay: ...

    async def orgs_with(self, kind: str) -> list[str]:
        """Living organizations that have an object of this kind at Stripe."""
        ...

    async def move(self, before: Side, after: Side, now_ms: int) -> Forgotten:
        """Forget all ids, set aside what was told, stamp."""
        ...


class Payments(Protocol):
    """Who moves money: billing/stripe/payments.py. Without Stripe there is none, and invoices are marked as paid by hand."""

    async def charge(self, org_id: str, invoice_id: str, amount_minor: int, currency: str, attempt: int) -> PaymentOutcome:
        """Off session, with the default payment method. The same invoice and attempt asked again is the same charge; while one attempt
        is unknown, another is not begun and that one's outcome is told. Raises NotPayable; what Stripe or a bank says is an outcome."""
        ...

    async def pay_there(self, stripe_id: str) -> PaymentOutcome:
        """An invoice that Stripe wrote is paid there, with the customer's default payment method; its mirror here follows at once."""
        ...

    async def refund(self, invoice_id: str, amount_minor: int, identifier: str) -> PaymentOutcome:
        """Part of what was paid, or all of it; equal identifiers are the same refund. Raises NotPayable."""
        ...


class PaymentDesk(Payments, Protocol):
    """And what customers pay with, and their pages at Stripe. `ref` is an organization's id or slug. Each raises NoSuchOrganization, and
    StripeFailed where Stripe does not do it."""

    async def methods(self, ref: str) -> list[PaymentMethod]:
        """As Stripe has them now, the default first."""
        ...

    async def attach(self, ref: str, token: str) -> PaymentMethod:
        """A method made at Stripe (pm_…) is the customer's from now on; the first is charged by default. Raises PaymentMethodRefused."""
        ...

    async def set_default(self, ref: str, method_id: str) -> PaymentMethod:
        """Charged from now on. Raises NoSuchPaymentMethod."""
        ...

    async def remove(self, ref: str, method_id: str) -> PaymentMethod:
        """Never charged again. Raises NoSuchPaymentMethod."""
        ...

    async def setup_url(self, ref: str, *, back_to: str) -> str:
        """A page on which a method is added."""
        ...

    async def portal_url(self, ref: str, *, back_to: str) -> str:
        """The customer's own page; good for an hour."""
        ...
