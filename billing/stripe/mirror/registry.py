"""Which events mean something here: a line for each type. All others are kept, and left alone."""

from billing.stripe.client import Resource
from billing.stripe.mirror.customers import make_first_default, write_checkout, write_customer, write_payment_method
from billing.stripe.mirror.handling import Handling
from billing.stripe.mirror.invoices import whole, write_invoice
from billing.stripe.mirror.meters import write_meter_errors
from billing.stripe.mirror.payments import write_payment_intent
from billing.stripe.mirror.subscriptions import write_subscription

_CUSTOMER = Handling(resource=Resource.CUSTOMER, write=write_customer)
_SUBSCRIPTION = Handling(resource=Resource.SUBSCRIPTION, write=write_subscription, expand=("customer",))
_INVOICE = Handling(resource=Resource.INVOICE, write=write_invoice, expand=("customer",), act=whole)
_PAYMENT = Handling(resource=Resource.PAYMENT_INTENT, write=write_payment_intent)
_METHOD = Handling(resource=Resource.PAYMENT_METHOD, write=write_payment_method, expand=("customer",))
_CHECKOUT = Handling(
    resource=Resource.CHECKOUT_SESSION, write=write_checkout, expand=("setup_intent",), act=make_first_default
)  # fmt: skip
_METER_ERRORS = Handling(resource=None, write=write_meter_errors)

HANDLINGS: dict[str, Handling] = {
    "customer.created": _CUSTOMER,
    "customer.updated": _CUSTOMER,
    "customer.deleted": _CUSTOMER,
    "customer.subscription.created": _SUBSCRIPTION,
    "customer.subscription.updated": _SUBSCRIPTION,
    "customer.subscription.deleted": _SUBSCRIPTION,
    "customer.subscription.paused": _SUBSCRIPTION,
    "customer.subscription.resumed": _SUBSCRIPTION,
    "customer.subscription.trial_will_end": _SUBSCRIPTION,
    "invoice.created": _INVOICE,
    "invoice.deleted": _INVOICE,
    "invoice.finalized": _INVOICE,
    "invoice.marked_uncollectible": _INVOICE,
    "invoice.overpaid": _INVOICE,
    "invoice.paid": _INVOICE,
    "invoice.payment_action_required": _INVOICE,
    "invoice.payment_failed": _INVOICE,
    "invoice.payment_succeeded": _INVOICE,
    "invoice.updated": _INVOICE,
    "invoice.voided": _INVOICE,
    "payment_intent.succeeded": _PAYMENT,
    "payment_intent.payment_failed": _PAYMENT,
    "payment_intent.requires_action": _PAYMENT,
    "payment_intent.canceled": _PAYMENT,
    "payment_method.attached": _METHOD,
    "payment_method.updated": _METHOD,
    "payment_method.automatically_updated": _METHOD,
    "payment_method.detached": _METHOD,
    "checkout.session.completed": _CHECKOUT,
    "v1.billing.meter.error_report_triggered": _METER_ERRORS,
    "v1.billing.meter.no_meter_found": _METER_ERRORS,
}
