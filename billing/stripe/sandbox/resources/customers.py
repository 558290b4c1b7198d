"""Customers. A deleted one answers its id and `deleted`, and can no longer be used."""

from typing import Any

from billing.stripe.sandbox.errors import no_such
from billing.stripe.sandbox.resources.base import Body, Call, created_within, fetch, given_text, handles, metadata, page
from billing.stripe.sandbox.store import new_id

_TEXTS = ("name", "email", "description", "phone")
_TAKES = {*_TEXTS, "metadata"}


def live_customer(call: Call, customer_id: str, *, param: str = "customer", status: int = 400) -> Body:
    """The customer. Raises Refusal for one that does not exist or was deleted."""
    customer = fetch(call, "customer", customer_id, noun="customer", param=param, status=status)
    if customer.get("deleted"):
        raise no_such("customer", customer_id, param=param, status=status)
    return customer


def _texts(call: Call, old: Body) -> dict[str, Any]:
    return {name: given_text(call, name, old.get(name)) for name in _TEXTS}


@handles("PostCustomers")
def create(call: Call) -> Body:
    call.only(_TAKES)
    customer = {
        "id": new_id("cus"),
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": call.now,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "discount": None,
        "invoice_prefix": new_id("x")[2:10].upper(),
        "invoice_settings": {"custom_fields": None, "default_payment_method": None, "footer": None, "rendering_options": None},
        "livemode": False,
        "metadata": metadata(call.params.get("metadata")),
        "next_invoice_sequence": 1,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
        **_texts(call, {}),
    }
    call.store.insert("customer", customer)
    return customer


@handles("GetCustomersCustomer")
def retrieve(call: Call) -> Body:
    call.only(())
    return fetch(call, "customer", call.path["customer"], noun="customer", param="id", status=404)


@handles("PostCustomersCustomer")
def update(call: Call) -> Body:
    call.only(_TAKES)
    customer = live_customer(call, call.path["customer"], param="id", status=404)
    customer |= _texts(call, customer) | {"metadata": metadata(call.params.get("metadata"), customer["metadata"])}
    call.store.replace("customer", customer)
    return customer


@handles("DeleteCustomersCustomer")
def delete(call: Call) -> Body:
    """Its subscriptions end with it, as at Stripe."""
    customer = live_customer(call, call.path["customer"], param="id", status=404)
    for subscription in call.store.newest_first("subscription"):
        if subscription["customer"] == customer["id"] and subscription["ended_at"] is None:
            call.store.replace("subscription", subscription | {"status": "canceled", "ended_at": call.now, "canceled_at": call.now})
    gone = {"id": customer["id"], "object": "customer", "deleted": True}
    call.store.replace("customer", gone)
    return gone


@handles("GetCustomers")
def index(call: Call) -> Body:
    email, created = call.params.get("email"), call.params.get("created")
    found = (c for c in call.store.newest_first("customer") if not c.get("deleted"))
    return page(call, (c for c in found if email in (None, c["email"]) and created_within(c, created)), filters=("email", "created"))
