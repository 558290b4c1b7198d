"""Customers. A deleted one answers its id and `deleted`, and can no longer be used."""

from collections.abc import Callable
from typing import Any

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.resources.base import Body, Call, created_within, fetch, given_text, handles, metadata, page
from billing.stripe.sandbox.resources.events import change, emit
from billing.stripe.sandbox.resources.owners import live_customer, method_of
from billing.stripe.sandbox.resources.payment_methods import attached, usable
from billing.stripe.sandbox.store import new_id

_TEXTS = ("name", "email", "description", "phone")
_TAKES = {*_TEXTS, "metadata", "address", "shipping", "balance", "invoice_settings", "preferred_locales", "tax_exempt", "tax"}
_TAKES |= {"invoice_prefix", "next_invoice_sequence", "business_name", "individual_name"}
_ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")
BALANCE_SET: list[Callable[[Call, Body, int], None]] = []  # a balance that is given becomes a transaction
WHEN_DELETED: list[Callable[[Call, Body], None]] = []  # what ends with a customer


def _texts(call: Call, old: Body) -> dict[str, Any]:
    return {name: given_text(call, name, old.get(name)) for name in _TEXTS}


def _address(given: Any) -> Body | None:
    return {name: given.get(name) for name in _ADDRESS} if given else None


def _details(call: Call, old: Body) -> Body:
    """What was given, over what stood there."""
    given = call.params
    details = _texts(call, old) | {"metadata": metadata(given.get("metadata"), old.get("metadata"))}
    details |= {name: given[name] for name in ("preferred_locales", "invoice_prefix", "next_invoice_sequence") if name in given}
    details |= {name: given[name] for name in ("business_name", "individual_name") if given.get(name)}
    if "address" in given:
        details["address"] = _address(given["address"])
    if "shipping" in given:
        shipping = given["shipping"]
        details["shipping"] = {"phone": None, **shipping, "address": _address(shipping["address"])} if shipping else None
    if "tax_exempt" in given:
        details["tax_exempt"] = given["tax_exempt"] or "none"
    return details


def _invoice_settings(call: Call, old: Body, customer_id: str) -> Body:
    given = call.params.get("invoice_settings", {})
    settings = old | {name: given[name] or None for name in ("custom_fields", "footer", "rendering_options") if name in given}
    if "default_payment_method" in given:
        method = given["default_payment_method"]
        if method:
            method = method_of(call, customer_id, method, param="invoice_settings[default_payment_method]")["id"]
        settings["default_payment_method"] = method or None
    return settings


@handles("PostCustomers")
def create(call: Call) -> Body:
    call.only(_TAKES | {"test_clock", "payment_method"})
    return new_customer(call)


def new_customer(call: Call, **known: Any) -> Body:
    """Store one, by what the call gives and what is `known` beside."""
    clock = call.params.get("test_clock")
    if clock is not None:
        fetch(call, "test_helpers.test_clock", clock, noun="test clock", param="test_clock")
        call = call.of({"test_clock": clock})
    customer = spec.load().blank("customer") | {
        "id": new_id("cus"),
        "object": "customer",
        "balance": 0,
        "created": call.now,
        "delinquent": False,
        "invoice_prefix": new_id("x")[2:10].upper(),
        "invoice_settings": {"custom_fields": None, "default_payment_method": None, "footer": None, "rendering_options": None},
        "livemode": False,
        "next_invoice_sequence": 1,
        "preferred_locales": [],
        "tax_exempt": "none",
        "test_clock": clock,
        **_details(call, {}),
        **known,
    }
    call.store.insert("customer", customer)
    if "payment_method" in call.params:
        attached(call, usable(call, call.params["payment_method"]), customer)
    customer["invoice_settings"] = _invoice_settings(call, customer["invoice_settings"], customer["id"])
    call.store.replace("customer", customer)
    emit(call, "customer.created", customer)
    return _with_balance(call, customer)


def _with_balance(call: Call, customer: Body) -> Body:
    if "balance" not in call.params:
        return customer
    for set_balance in BALANCE_SET:
        set_balance(call, customer, call.params["balance"])
    return call.store.get("customer", customer["id"]) or customer


@handles("GetCustomersCustomer")
def retrieve(call: Call) -> Body:
    call.only(())
    return fetch(call, "customer", call.path["customer"], noun="customer", param="id", status=404)


@handles("PostCustomersCustomer")
def update(call: Call) -> Body:
    call.only(_TAKES)
    customer = live_customer(call, call.path["customer"], param="id", status=404)
    call = call.of(customer)
    prefix = call.params.get("invoice_prefix")
    if prefix is not None and not (3 <= len(prefix) <= 12 and prefix.isascii() and prefix.isalnum() and prefix == prefix.upper()):
        raise Refusal("Invalid invoice_prefix: must be 3-12 uppercase letters or numbers.", param="invoice_prefix")
    new = customer | _details(call, customer)
    new["invoice_settings"] = _invoice_settings(call, customer["invoice_settings"], customer["id"])
    change(call, customer, new, "customer.updated")
    return _with_balance(call, new)


@handles("DeleteCustomersCustomer")
def delete(call: Call) -> Body:
    """Its subscriptions end with it, as at Stripe."""
    call.only(())
    customer = live_customer(call, call.path["customer"], param="id", status=404)
    call = call.of(customer)
    for ended in WHEN_DELETED:
        ended(call, customer)
    gone = {"id": customer["id"], "object": "customer", "deleted": True}
    call.store.replace("customer", gone)
    emit(call, "customer.deleted", customer)
    return gone


@handles("GetCustomers")
def index(call: Call) -> Body:
    email, created, clock = call.params.get("email"), call.params.get("created"), call.params.get("test_clock")
    found = [
        customer
        for customer in call.store.newest_first("customer")
        if not customer.get("deleted")
        and email in (None, customer["email"])
        and clock == customer["test_clock"]  # those of a test clock are listed with it only
        and created_within(customer, created)
    ]
    return page(call, found, filters=("email", "created", "test_clock"))
