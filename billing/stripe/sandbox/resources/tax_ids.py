"""Tax ids of customers, shown on their invoices. None is verified here."""

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.errors import no_such
from billing.stripe.sandbox.resources.base import Body, Call, fetch, handles, page
from billing.stripe.sandbox.resources.events import emit, keep
from billing.stripe.sandbox.resources.owners import live_customer
from billing.stripe.sandbox.store import new_id


@handles("PostCustomersCustomerTaxIds")
def create(call: Call) -> Body:
    call.only({"type", "value"})
    customer = live_customer(call, call.path["customer"], status=404)
    country = call.params["type"].partition("_")[0].upper()
    made = spec.load().blank("tax_id") | {
        "id": new_id("txi"),
        "object": "tax_id",
        "country": None if country == "EU" else country,
        "created": call.of(customer).now,
        "customer": customer["id"],
        "livemode": False,
        "owner": {"type": "customer", "customer": customer["id"], "customer_account": None},
        "type": call.params["type"],
        "value": call.params["value"],
        "verification": {"status": "unavailable", "verified_address": None, "verified_name": None},
    }
    return keep(call, made, "customer.tax_id.created")


def _stored(call: Call) -> Body:
    found = fetch(call, "tax_id", call.path["id"], noun="tax_id", param="id", status=404)
    if found.get("deleted") or found["customer"] != call.path["customer"]:
        raise no_such("tax_id", call.path["id"], param="id", status=404)
    return found


@handles("GetCustomersCustomerTaxIdsId")
def retrieve(call: Call) -> Body:
    call.only(())
    return _stored(call)


@handles("DeleteCustomersCustomerTaxIdsId")
def delete(call: Call) -> Body:
    call.only(())
    old = _stored(call)
    gone = {"id": old["id"], "object": "tax_id", "deleted": True}
    call.store.replace("tax_id", gone)
    emit(call, "customer.tax_id.deleted", old)
    return gone


@handles("GetCustomersCustomerTaxIds")
def index(call: Call) -> Body:
    live_customer(call, call.path["customer"], status=404)
    return page(call, call.store.of("tax_id", "customer", call.path["customer"]))
