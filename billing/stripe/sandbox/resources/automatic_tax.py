"""What stands in for Stripe Tax: rates by the customer's country (and state), as the sandbox's setting `tax` has them.

{"DE": "19", "US-CA": "8.5"}; a place that is not named is not taxed. Without a country an invoice cannot be finalized.
"""

from decimal import Decimal
from typing import Any

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.invoice_math import Rate
from billing.stripe.sandbox.own_settings import setting
from billing.stripe.sandbox.resources.base import Body, Call

_SELF = {"type": "self"}


def asked_of_subscription(given: Any) -> Body:
    enabled = bool(given and given["enabled"])
    return {"enabled": enabled, "liability": _SELF if enabled else None, "disabled_reason": None}


def of_invoice(invoice: Body, *, enabled: bool) -> Body:
    """How far the reckoning of this invoice's tax came."""
    known = bool((invoice["customer_address"] or {}).get("country"))
    status = ("complete" if known else "requires_location_inputs") if enabled else None
    more = {"liability": _SELF, "provider": "stripe"} if enabled else {"liability": None, "provider": None}
    return {"disabled_reason": None, "enabled": enabled, "status": status, **more}


def check_location(invoice: Body) -> None:
    """Raises Refusal where Stripe could not tell which tax is due."""
    if invoice["automatic_tax"]["status"] == "requires_location_inputs":
        raise Refusal(
            "The customer's location isn't recognized. Set a valid customer address in order to automatically calculate tax.",
            code="customer_tax_location_invalid",
            param="customer[address]",
        )


def rates_for(call: Call, invoice: Body, line: Body) -> tuple[Rate, ...]:
    """The rate of the customer's place, inside the price where the price says so."""
    address = invoice["customer_address"] or {}
    country, state = str(address.get("country")), address.get("state")
    rates = setting(call.store, "tax")
    percent = rates.get(f"{country}-{state}", rates.get(country))
    if percent is None:
        return ()
    price_id = line["pricing"]["price_details"]["price"] if line["pricing"] else ""
    inclusive = (call.store.get("price", price_id) or {}).get("tax_behavior") == "inclusive"
    return (Rate(_kept(call, country, Decimal(str(percent)), inclusive=inclusive), Decimal(str(percent)), inclusive),)


def _kept(call: Call, country: str, percent: Decimal, *, inclusive: bool) -> str:
    """The tax rate that stands for it in invoices."""
    rate_id = f"txr_auto{country}{str(percent).replace('.', '')}{'in' if inclusive else 'ex'}"
    if call.store.get("tax_rate", rate_id) is None:
        known = {"id": rate_id, "object": "tax_rate", "active": False, "created": call.now, "display_name": "Tax", "country": country}
        more = {"inclusive": inclusive, "livemode": False, "metadata": {}, "percentage": float(percent), "rate_type": "percentage"}
        call.store.insert("tax_rate", spec.load().blank("tax_rate") | known | more | {"effective_percentage": float(percent)})
    return rate_id
