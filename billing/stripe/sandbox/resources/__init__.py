"""One file for each of Stripe's resources; importing this package registers them all."""

from billing.stripe.sandbox.resources import (
    charges,
    customers,
    events,
    meter_events,
    meters,
    payment_intents,
    payment_methods,
    prices,
    products,
    refunds,
    setup_intents,
    subscriptions,
    webhook_endpoints,
)
from billing.stripe.sandbox.resources.base import HANDLERS, Call

__all__ = [
    "HANDLERS",
    "Call",
    "charges",
    "customers",
    "events",
    "meter_events",
    "meters",
    "payment_intents",
    "payment_methods",
    "prices",
    "products",
    "refunds",
    "setup_intents",
    "subscriptions",
    "webhook_endpoints",
]
