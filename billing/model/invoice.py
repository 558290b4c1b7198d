"""An invoice: its states, what moves it between them, its lines, and how they add up. Pure.

States and their order of lines are Stripe's (docs.stripe.com, "Invoicing overview"). A line is rounded already when it comes here;
tax is rounded once an invoice (billing/model/tax.py). billing/services/invoices.py gathers, numbers and keeps; the rows are in
billing/store/invoices.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from billing.model.invoice_item import InvoiceItem
from billing.model.split import split
from billing.model.tax import NO_TAX, Place, TaxRule, percent, tax
from metering.model.clock import to_datetime
from metering.model.errors import BadInput, Conflict

ZERO = Decimal(0)
_DAY_MS = 86_400_000


class Issuer(StrEnum):
    """Who writes an organization's invoices: `issuer` in plans.yaml. Never both."""

    STRIPE = "stripe"  # ours mirror them
    WEIGHBRIDGE = "weighbridge"


class State(StrEnum):
    DRAFT = "draft"  # being prepared; it has no number
    OPEN = "open"  # final, and to be paid
    PAID = "paid"
    VOID = "void"  # taken back: nobody owes it
    UNCOLLECTIBLE = "uncollectible"  # owed, and given up


class Event(StrEnum):
    FINALIZE = "finalize"
    PAY = "pay"
    VOID = "void"
    GIVE_UP = "give_up"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.DRAFT, Event.FINALIZE): State.OPEN,
    (State.OPEN, Event.PAY): State.PAID,
    (State.OPEN, Event.VOID): State.VOID,
    (State.OPEN, Event.GIVE_UP): State.UNCOLLECTIBLE,
    (State.UNCOLLECTIBLE, Event.PAY): State.PAID,
    (State.UNCOLLECTIBLE, Event.VOID): State.VOID,
}


class InvoiceTransitionRefused(Conflict):
    """An invoice in this state cannot do that."""

    code = "invoice_transition_refused"


def after(state: State, event: Event) -> State:
    """The state that follows. Raises InvoiceTransitionRefused."""
    if (state, event) not in TRANSITIONS:
        can = sorted(e.value for s, e in TRANSITIONS if s is state)
        able = f"it can {' or '.join(can)}" if can else "nothing follows it"
        raise InvoiceTransitionRefused(f"an invoice that is {state} cannot {event}: {able}".replace("_", " "), state=state, event=event)
    return TRANSITIONS[state, event]


class LineKind(StrEnum):
    """In the order in which an invoice lists its lines; the first eight are those of ItemKind."""

    BASE = "base"
    PRORATION = "proration"
    OVERAGE = "overage"
    USAGE = "usage"
    MINIMUM = "minimum"
    LATE = "late"
    CORRECTION = "correction"
    ONE_TIME = "one_time"
    DISCOUNT = "discount"  # below zero, before tax
    TAX = "tax"
    CREDIT = "credit"  # below zero, after tax: what was paid beforehand or given back


_ORDER = {kind: place for place, kind in enumerate(LineKind)}
BELOW_SUBTOTAL = frozenset([LineKind.DISCOUNT, LineKind.TAX, LineKind.CREDIT])


class LinesFaulty(BadInput):
    """These cannot be the lines of one invoice."""

    code = "invoice_lines_faulty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """`amount` is rounded already; `unit_price` None where tiers decide. `reference` names the coupon, the grant or the item that it
    comes from; `evidence` what the amount comes from, down to usage rows."""

    kind: LineKind
    description: str
    amount: Decimal
    quantity: Decimal = Decimal(1)
    unit_price: Decimal | None = None
    meter: str | None = None
    period_start_ms: int | None = None
    period_end_ms: int | None = None
    item_id: int | None = None
    reference: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deduction:
    """Part of a sum that a coupon, a grant or a balance takes over. `amount` is above zero, and rounded; of a discount, `parts` tell
    how much of it comes off each of the items."""

    reference: str
    description: str
    amount: Decimal
    parts: tuple[Decimal, ...] = ()


Discounts = Callable[[Sequence[InvoiceItem]], Sequence[Deduction]]  # of these items; never more than they add up to
Credits = Callable[[Decimal], Sequence[Deduction]]  # of what is due after tax; never more than that


def nothing_off(_: object) -> Sequence[Deduction]:
    """Where there is no coupon, and no credit."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """`subtotal` - `discount` + `tax` (where not contained) = `total`; `total` - `credit` = `amount_due`, and where that would lie
    below zero, `carried` goes to the customer's balance."""

    subtotal: Decimal
    discount: Decimal
    tax: Decimal
    tax_inclusive: bool
    total: Decimal
    credit: Decimal
    amount_due: Decimal
    carried: Decimal

    @property
    def before_tax(self) -> Decimal:
        """What was sold, without tax."""
        return self.total - self.tax


def totals(lines: Sequence[Line], *, tax_inclusive: bool) -> Totals:
    """What the lines add up to; every line counts once."""

    def sum_of(*kinds: LineKind) -> Decimal:
        return sum((line.amount for line in lines if line.kind in kinds), ZERO)

    subtotal = sum((line.amount for line in lines if line.kind not in BELOW_SUBTOTAL), ZERO)
    discount, taxes, credit = -sum_of(LineKind.DISCOUNT), sum_of(LineKind.TAX), -sum_of(LineKind.CREDIT)
    total = subtotal - discount + (ZERO if tax_inclusive else taxes)
    due = total - credit
    return Totals(
        subtotal=subtotal, discount=discount, tax=taxes, tax_inclusive=tax_inclusive, total=total, credit=credit,
        amount_due=max(ZERO, due), carried=max(ZERO, -due),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """`number` None while it is a draft; `stripe_id` where Stripe wrote it, or takes the payment. `identifier` stands for what it is
    the invoice of (organization and period): equal identifiers are the same invoice. `credited` is what credit notes took back."""

    id: str
    org_id: str
    issuer: Issuer
    identifier: str
    state: State
    currency: str
    lines: tuple[Line, ...]
    totals: Totals
    tax_rate: Decimal
    period_start_ms: int
    period_end_ms: int
    created_ms: int
    number: str | None = None
    finalized_ms: int | None = None
    due_ms: int | None = None
    paid_ms: int | None = None
    closed_ms: int | None = None  # voided, or given up
    amount_paid: Decimal = ZERO
    credited: Decimal = ZERO
    attempts: int = 0
    next_attempt_ms: int | None = None
    stripe_id: str | None = None
    payment_method: str | None = None  # Visa ending in 4242
    seller: Mapping[str, Any] = field(default_factory=dict)  # as they were when it became final
    buyer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def remaining(self) -> Decimal:
        """What is still to be paid."""
        if self.state not in (State.OPEN, State.UNCOLLECTIBLE):
            return ZERO
        return max(ZERO, self.totals.amount_due - self.amount_paid - self.credited)

    @property
    def chargeable(self) -> bool:
        """Whether it can be charged: it is open, and something is due."""
        return self.state is State.OPEN and self.remaining > 0

    @property
    def dated_ms(self) -> int:
        """The date that stands on it."""
        return self.finalized_ms if self.finalized_ms is not None else self.created_ms

    def moved(self, event: Event, now_ms: int) -> "Invoice":
        """After `event`. Raises InvoiceTransitionRefused."""
        state = after(self.state, event)
        if event is Event.FINALIZE:
            return replace(self, state=state, finalized_ms=now_ms)
        if event is Event.PAY:
            return replace(self, state=state, paid_ms=now_ms, next_attempt_ms=None)
        return replace(self, state=state, closed_ms=now_ms, next_attempt_ms=None)

    def overdue(self, now_ms: int) -> bool:
        """From the day (UTC) after the one that it is due on."""
        return self.state is State.OPEN and self.due_ms is not None and now_ms // _DAY_MS > self.due_ms // _DAY_MS


class Word(StrEnum):
    """What people ask an invoice list for, beside its states."""

    UNPAID = "unpaid"
    PAST_DUE = "past_due"


def word(invoice: Invoice, now_ms: int) -> str:
    """Its state as people read it: an open one is past due after a payment that failed, or once it is overdue."""
    past_due = invoice.state is State.OPEN and (invoice.attempts > 0 or invoice.overdue(now_ms))
    return Word.PAST_DUE if past_due else invoice.state.value


def states_called(asked: str | None) -> tuple[State, ...]:
    """Of which states an invoice can be that `is_called` so; () is any. Raises BadInput for a word that is none."""
    known = [*State, *Word]
    if asked is None:
        return ()
    if asked not in {each.value for each in known}:
        raise BadInput(f"{asked!r} is no state of an invoice; there are: {', '.join(known)}")
    return (State.OPEN,) if asked in (Word.UNPAID, Word.PAST_DUE) else (State(asked),)


def is_called(invoice: Invoice, asked: str, now_ms: int) -> bool:
    """Whether a list of the invoices that are `asked` holds it. Raises BadInput for a word that is none."""
    states_called(asked)
    return asked in (word(invoice, now_ms), invoice.state.value) or (asked == Word.UNPAID and invoice.state is State.OPEN)


# --- from what waits to an invoice ------------------------------------------------------------------------------------------


def line_of(item: InvoiceItem) -> Line:
    return Line(
        kind=LineKind(item.kind.value), description=item.description, amount=item.amount, quantity=item.quantity,
        unit_price=item.unit_price, meter=item.meter, period_start_ms=item.period_start_ms, period_end_ms=item.period_end_ms,
        item_id=item.id or None, reference=item.identifier, evidence=item.evidence,
    )  # fmt: skip


def build(
    items: Sequence[InvoiceItem],
    *,
    currency: str,
    place: Place = Place(),  # noqa: B008  immutable
    rule: TaxRule = NO_TAX,
    discounts: Discounts = nothing_off,
    credits: Credits = nothing_off,  # noqa: A002  the word of the trade
) -> tuple[tuple[Line, ...], Totals, Decimal]:
    """The lines in their order, what they add up to, and the rate of the tax.

    Discounts come off before tax, credits after it. A sum below zero is taxed below zero: what is given back carries its tax back.
    Raises LinesFaulty for items of another currency, and for a deduction beyond what it is taken from.
    """
    if other := sorted({item.currency for item in items} - {currency}):
        raise LinesFaulty(f"an invoice in {currency} cannot hold items in {', '.join(other)}")
    ordered = sorted(items, key=lambda item: _ORDER[LineKind(item.kind.value)])
    sold = [line_of(item) for item in ordered]
    subtotal = sum((line.amount for line in sold), ZERO)
    off = _deductions(discounts(ordered), max(ZERO, subtotal), LineKind.DISCOUNT)
    net = subtotal + sum((line.amount for line in off), ZERO)
    rate = rule.at(place)
    taxed = tax(net, rate, inclusive=rule.inclusive, currency=currency)
    taxes = [_tax_line(taxed, rate)] if rate else []
    total = net if rule.inclusive else net + taxed
    paid_before = _deductions(credits(max(ZERO, total)), max(ZERO, total), LineKind.CREDIT)
    lines = (*sold, *off, *taxes, *paid_before)
    return lines, totals(lines, tax_inclusive=rule.inclusive), rate


def _deductions(found: Sequence[Deduction], most: Decimal, kind: LineKind) -> list[Line]:
    taken = sum((each.amount for each in found), ZERO)
    if any(each.amount < 0 for each in found) or taken > most:
        raise LinesFaulty(f"{kind}s of {taken} cannot come off {most}")
    return [
        Line(
            kind=kind, description=d.description, amount=-d.amount, reference=d.reference,
            evidence={"parts": [str(part) for part in d.parts]} if d.parts else {},
        )
        for d in found if d.amount
    ]  # fmt: skip


def _tax_line(amount: Decimal, rate: Decimal) -> Line:
    return Line(kind=LineKind.TAX, description=f"Tax ({percent(rate)}%)", amount=amount, unit_price=None, evidence={"rate": str(rate)})


# --- credit notes -----------------------------------------------------------------------------------------------------------


def creditable(invoice: Invoice) -> tuple[Decimal, ...]:
    """For each line, by its place: the most that credit notes may take back of it, before tax where tax comes on top.

    Only what a discount left of a line can be given back, and what lines below zero give back already is shared by those above.
    """
    sold = [line for line in invoice.lines if line.kind not in BELOW_SUBTOTAL]
    left = [max(ZERO, line.amount) for line in sold]
    unshared = -sum((line.amount for line in sold if line.amount < 0), ZERO)
    for line in invoice.lines:
        if line.kind is LineKind.DISCOUNT:
            cuts = [Decimal(part) for part in line.evidence.get("parts", ())]
            if len(cuts) == len(left):
                left = [rest - cut for rest, cut in zip(left, cuts, strict=True)]
            else:
                unshared -= line.amount
    unshared = min(unshared, sum(left, ZERO))
    if unshared:
        left = [rest - cut for rest, cut in zip(left, split(unshared, left, invoice.currency), strict=True)]
    return (*left, *(ZERO for _ in range(len(invoice.lines) - len(left))))


def month_of(at_ms: int) -> str:
    """The calendar month (UTC) of an instant: 2026-01."""
    return to_datetime(at_ms).strftime("%Y-%m")
