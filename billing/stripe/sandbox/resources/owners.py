"""Whose something is: customers that still exist, and the payment methods that are theirs."""

from billing.stripe.sandbox.errors import Refusal, no_such
from billing.stripe.sandbox.resources.base import Body, Call, fetch


def live_customer(call: Call, customer_id: str, *, param: str = "customer", status: int = 400) -> Body:
    """The customer. Raises Refusal for one that does not exist or was deleted."""
    customer = fetch(call, "customer", customer_id, noun="customer", param=param, status=status)
    if customer.get("deleted"):
        raise no_such("customer", customer_id, param=param, status=status)
    return customer


def method_of(call: Call, customer_id: str, method_id: str, *, param: str) -> Body:
    """A payment method that is attached to this customer. Raises Refusal for any other."""
    method = fetch(call, "payment_method", method_id, noun="PaymentMethod", param=param)
    if method["customer"] != customer_id:
        raise Refusal(
            f"The customer does not have a payment method with the ID {method_id}. The payment method must be attached to the customer.",
            param=param,
            code="resource_missing",
        )
    return method
