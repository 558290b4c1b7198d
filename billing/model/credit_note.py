"""A credit note: what is taken back of an invoice that is final, row by row, never more than the row. Pure.

An invoice that is final is never changed: a credit note stands beside it. What it takes back of an open invoice is not owed any more;
of a paid one it is refunded, or goes to the customer's balance and so comes off the next invoice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from billing.model.invoice import ZERO, Invoice, State, creditable
from billing.model.money import round_amount
from billing.model.tax import tax
from metering.model.errors import BadInput, Conflict


class CreditRefused(Conflict):
    """This cannot be taken back."""

    code = "credit_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditLine:
    """`position` is the row of the invoice, from 1. `amount` is above zero; before tax, where tax comes on top."""

    position: int
    description: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Credited:
    """What credit notes for one invoice took back so far: by row, and of its tax."""

    rows: Mapping[int, Decimal]
    tax: Decimal = ZERO

    @property
    def net(self) -> Decimal:
        return sum(self.rows.values(), ZERO)


NOTHING_CREDITED = Credited(rows={})


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditNote:
    """`total` = `off_due` + `refunded` + `to_balance`: where the money goes."""

    id: str
    number: str
    org_id: str
    invoice_id: str
    currency: str
    lines: tuple[CreditLine, ...]
    subtotal: Decimal
    tax: Decimal
    total: Decimal
    reason: str
    created_ms: int
    off_due: Decimal = ZERO
    refunded: Decimal = ZERO
    to_balance: Decimal = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    lines: tuple[CreditLine, ...]
    subtotal: Decimal
    tax: Decimal
    total: Decimal


def sums(invoice: Invoice, credited: Credited, wanted: Mapping[int, Decimal | None]) -> Sums:
    """What a credit note for these rows holds; None is all that is left of the row.

    Tax is that of all that was ever taken back, less what went back of it before: so notes for every row take back exactly the tax.
    Raises CreditRefused for an invoice that is not final, and for more than is left of a row; BadInput for a row that it does not have.
    """
    if invoice.state not in (State.OPEN, State.PAID, State.UNCOLLECTIBLE):
        raise CreditRefused(f"invoice {invoice.number or invoice.id} is {invoice.state}: only one that is final and stands is credited")
    if not wanted:
        raise BadInput("name at least one row of the invoice")
    most = creditable(invoice)
    lines = tuple(_line(invoice, most, credited, position, amount) for position, amount in sorted(wanted.items()))
    subtotal = sum((line.amount for line in lines), ZERO)
    inclusive = invoice.totals.tax_inclusive
    of_all = tax(credited.net + subtotal, invoice.tax_rate, inclusive=inclusive, currency=invoice.currency)
    taxed = of_all - credited.tax
    return Sums(lines=lines, subtotal=subtotal, tax=taxed, total=subtotal if inclusive else subtotal + taxed)


def _line(invoice: Invoice, most: Sequence[Decimal], credited: Credited, position: int, amount: Decimal | None) -> CreditLine:
    if not 1 <= position <= len(most):
        raise BadInput(f"invoice {invoice.number or invoice.id} has no row {position}; it has 1 to {len(most)}")
    line = invoice.lines[position - 1]
    left = most[position - 1] - credited.rows.get(position, ZERO)
    taken = left if amount is None else amount
    if taken <= 0:
        fault = "nothing is left of it" if amount is None else f"{taken} is not above zero"
        raise CreditRefused(f"row {position} ({line.description}): {fault}", position=position)
    if taken != round_amount(taken, invoice.currency):
        raise BadInput(f"row {position}: {taken} has more decimals than {invoice.currency.upper()}")
    if taken > left:
        raise CreditRefused(f"row {position} ({line.description}): {taken} is more than the {left} that is left of it", position=position)
    return CreditLine(position=position, description=line.description, amount=taken)


def where_it_goes(invoice: Invoice, total: Decimal, *, refund: bool, refunded: Decimal = ZERO) -> tuple[Decimal, Decimal, Decimal]:
    """(off what is due, refunded, to the balance): what is still owed is let off first; of what was paid, and not `refunded` before, all
    is given back, or kept for the next invoice. What credits paid goes to the balance."""
    off_due = min(total, invoice.remaining)
    rest = total - off_due
    back = min(rest, max(ZERO, invoice.amount_paid - refunded)) if refund else ZERO
    return off_due, back, rest - back
