"""One file for each of Stripe's resources; importing this package registers them all."""

from billing.stripe.sandbox.resources import customers, meter_events, meters, prices, products, subscriptions
from billing.stripe.sandbox.resources.base import HANDLERS, Call

__all__ = ["HANDLERS", "Call", "customers", "meter_events", "meters", "prices", "products", "subscriptions"]
