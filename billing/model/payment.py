"""A try to charge an invoice, and what came of it. Pure; carried out by billing/stripe/payments.py.

A try is named by its invoice and its number. It is charged once, whatever happens in between: one whose answer was lost is UNKNOWN
until Stripe said what became of it, and while it is, no other try of that invoice begins.
"""

from dataclasses import dataclass
from enum import StrEnum

from metering.model.errors import BadInput


class PaymentState(StrEnum):
    PAID = "paid"
    DECLINED = "declined"  # by the bank, or there is nothing to charge
    NEEDS_ACTION = "needs_action"  # the customer must confirm it with the bank
    UNKNOWN = "unknown"  # not known yet


OPEN = (PaymentState.UNKNOWN,)
"""Of which Stripe must still say what became of them."""


class NotPayable(BadInput):
    """This amount cannot be charged."""

    code = "not_payable"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentOutcome:
    """`reason` is the bank's or Stripe's word (insufficient_funds), `payment_id` the PaymentIntent where there is one."""

    state: PaymentState
    reason: str | None = None
    payment_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One try. `customer` and `method` are what Stripe is told, fixed when the try began: a repetition says the same."""

    org_id: str
    invoice_id: str
    attempt: int
    amount_minor: int
    currency: str
    customer: str | None
    method: str | None
    begun_ms: int
    state: PaymentState = PaymentState.UNKNOWN
    reason: str | None = None
    payment_id: str | None = None
    refunded_minor: int = 0

    @property
    def outcome(self) -> PaymentOutcome:
        return PaymentOutcome(state=self.state, reason=self.reason, payment_id=self.payment_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentMethod:
    """What a customer pays with, as far as it is shown: the number itself never comes here."""

    id: str
    org_id: str
    type: str  # card, sepa_debit, …
    brand: str | None = None  # visa; of a bank account its bank
    last4: str | None = None
    exp_month: int | None = None
    exp_year: int | None = None
    default: bool = False

    @property
    def title(self) -> str:
        """Visa ending in 4242."""
        name = BRANDS.get(self.brand or "", (self.brand or self.type).replace("_", " ").title())
        return f"{name} ending in {self.last4}" if self.last4 else name


BRANDS = {"visa": "Visa", "mastercard": "MC", "amex": "Amex", "jcb": "JCB", "unionpay": "UnionPay", "diners": "Diners"}
