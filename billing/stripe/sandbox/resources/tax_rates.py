"""Tax rates: a percentage, inside the price or on top of it. What a rate is never changes; it can only be retired."""

from decimal import Decimal

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.invoice_math import Rate
from billing.stripe.sandbox.resources.base import Body, Call, created_within, fetch, given_text, handles, metadata, page
from billing.stripe.sandbox.resources.events import change, keep
from billing.stripe.sandbox.store import new_id

_TEXTS = ("country", "description", "jurisdiction", "state", "tax_type")


def rate_of(call: Call, rate_id: str) -> Rate:
    rate = fetch(call, "tax_rate", rate_id, noun="tax rate", param="tax_rates")
    return Rate(rate_id, Decimal(str(rate["percentage"])), rate["inclusive"])


def rates_given(call: Call, ids: list[str] | str | None, param: str) -> list[Body]:
    """The tax rates of these ids, as they stand in subscriptions and invoices. Raises Refusal for one that is not active."""
    rates = [fetch(call, "tax_rate", each, noun="tax rate", param=param) for each in ids or ()]
    for rate in rates:
        if not rate["active"]:
            raise Refusal(f"The tax rate {rate['id']} is archived.", param=param)
    return rates


@handles("PostTaxRates")
def create(call: Call) -> Body:
    call.only({*_TEXTS, "display_name", "inclusive", "percentage", "active", "metadata"})
    percentage = Decimal(call.params["percentage"])
    if not 0 <= percentage <= 100 or percentage != round(percentage, 4):
        raise Refusal("Invalid percentage: between 0 and 100, with at most 4 decimal places", param="percentage")
    number = float(percentage)  # as Stripe answers it; sums are made from its shortest decimal form, which is exact here
    rate = spec.load().blank("tax_rate") | {
        "id": new_id("txr"),
        "object": "tax_rate",
        "active": call.params.get("active", True),
        "created": call.now,
        "display_name": call.params["display_name"],
        "effective_percentage": number,
        "inclusive": call.params["inclusive"],
        "livemode": False,
        "metadata": metadata(call.params.get("metadata")),
        "percentage": number,
        "rate_type": "percentage",
        **{name: given_text(call, name) for name in _TEXTS},
    }
    return keep(call, rate, "tax_rate.created")


@handles("GetTaxRatesTaxRate")
def retrieve(call: Call) -> Body:
    call.only(())
    return fetch(call, "tax_rate", call.path["tax_rate"], noun="tax rate", param="id", status=404)


@handles("PostTaxRatesTaxRate")
def update(call: Call) -> Body:
    call.only({*_TEXTS, "display_name", "active", "metadata"})
    old = fetch(call, "tax_rate", call.path["tax_rate"], noun="tax rate", param="id", status=404)
    new = old | {name: given_text(call, name, old[name]) for name in _TEXTS}
    new |= {name: call.params[name] for name in ("display_name", "active") if name in call.params}
    return change(call, old, new | {"metadata": metadata(call.params.get("metadata"), old["metadata"])}, "tax_rate.updated")


@handles("GetTaxRates")
def index(call: Call) -> Body:
    wanted = {name: call.params[name] for name in ("active", "inclusive") if name in call.params}
    found = [
        rate
        for rate in call.store.newest_first("tax_rate")
        if all(rate[name] == value for name, value in wanted.items()) and created_within(rate, call.params.get("created"))
    ]
    return page(call, found, filters=(*wanted, "created"))
