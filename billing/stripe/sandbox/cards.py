"""The cards that the sandbox knows: Stripe's test payment methods, and what becomes of them. Pure.

A card declines when it is attached (as most of Stripe's declining cards do), when it is charged, or never. Any card can
be made to fail later by a switch of the sandbox (server.py, POST /_sandbox/cards).
"""

from collections.abc import Mapping
from dataclasses import dataclass

# Decline code -> Stripe's error code and the sentence a customer reads.
DECLINES: Mapping[str, tuple[str, str]] = {
    "generic_decline": ("card_declined", "Your card was declined."),
    "insufficient_funds": ("card_declined", "Your card has insufficient funds."),
    "lost_card": ("card_declined", "Your card was declined."),
    "stolen_card": ("card_declined", "Your card was declined."),
    "fraudulent": ("card_declined", "Your card was declined."),
    "card_velocity_exceeded": ("card_declined", "Your card was declined for making repeated attempts too frequently."),
    "expired_card": ("expired_card", "Your card has expired."),
    "incorrect_cvc": ("incorrect_cvc", "Your card's security code is incorrect."),
    "processing_error": ("processing_error", "An error occurred while processing your card. Try again in a little bit."),
    "authentication_required": ("authentication_required", "Your card was declined. This transaction requires authentication."),
}
# Stripe tells of these with a decline code of its own; for the others code and decline code are the same word.


@dataclass(frozen=True, slots=True)
class Card:
    """One test card. `declines` is a decline code; `on_attach` says that it is refused as soon as it is attached."""

    brand: str
    last4: str
    declines: str | None = None
    on_attach: bool = False
    authenticates: bool = False  # wants the customer, each time


_GOOD = {
    "pm_card_visa": Card("visa", "4242"),
    "pm_card_visa_debit": Card("visa", "5556"),
    "pm_card_mastercard": Card("mastercard", "4444"),
    "pm_card_mastercard_debit": Card("mastercard", "8210"),
    "pm_card_mastercard_prepaid": Card("mastercard", "5100"),
    "pm_card_amex": Card("amex", "8431"),
    "pm_card_discover": Card("discover", "1117"),
    "pm_card_diners": Card("diners", "0004"),
    "pm_card_jcb": Card("jcb", "0505"),
    "pm_card_unionpay": Card("unionpay", "0005"),
}
_BAD = {
    "pm_card_chargeCustomerFail": Card("visa", "0341", "generic_decline"),
    "pm_card_chargeDeclined": Card("visa", "0002", "generic_decline", on_attach=True),
    "pm_card_visa_chargeDeclined": Card("visa", "0002", "generic_decline", on_attach=True),
    "pm_card_visa_chargeDeclinedInsufficientFunds": Card("visa", "9995", "insufficient_funds", on_attach=True),
    "pm_card_chargeDeclinedInsufficientFunds": Card("visa", "9995", "insufficient_funds", on_attach=True),
    "pm_card_visa_chargeDeclinedLostCard": Card("visa", "9987", "lost_card", on_attach=True),
    "pm_card_visa_chargeDeclinedStolenCard": Card("visa", "9979", "stolen_card", on_attach=True),
    "pm_card_chargeDeclinedFraudulent": Card("visa", "0019", "fraudulent", on_attach=True),
    "pm_card_chargeDeclinedExpiredCard": Card("visa", "0069", "expired_card", on_attach=True),
    "pm_card_chargeDeclinedIncorrectCvc": Card("visa", "0127", "incorrect_cvc", on_attach=True),
    "pm_card_chargeDeclinedProcessingError": Card("visa", "0119", "processing_error", on_attach=True),
    "pm_card_visa_chargeDeclinedVelocityLimitExceeded": Card("visa", "6975", "card_velocity_exceeded", on_attach=True),
    "pm_card_authenticationRequired": Card("visa", "3184", authenticates=True),
}
CARDS: Mapping[str, Card] = _GOOD | _BAD
# The numbers of Stripe's test cards that stand for the same.
NUMBERS: Mapping[str, str] = {
    "4242424242424242": "pm_card_visa",
    "4000056655665556": "pm_card_visa_debit",
    "5555555555554444": "pm_card_mastercard",
    "378282246310005": "pm_card_amex",
    "4000000000000341": "pm_card_chargeCustomerFail",
    "4000000000000002": "pm_card_chargeDeclined",
    "4000000000009995": "pm_card_visa_chargeDeclinedInsufficientFunds",
    "4000000000009987": "pm_card_visa_chargeDeclinedLostCard",
    "4000000000009979": "pm_card_visa_chargeDeclinedStolenCard",
    "4000000000000069": "pm_card_chargeDeclinedExpiredCard",
    "4000000000000127": "pm_card_chargeDeclinedIncorrectCvc",
    "4000000000000119": "pm_card_chargeDeclinedProcessingError",
    "4000002760003184": "pm_card_authenticationRequired",
}
TOKENS: Mapping[str, str] = {name.replace("pm_card_", "tok_"): name for name in CARDS}
