"""Payment methods: test cards, attached to a customer or to none. A test token (pm_card_visa) becomes a card of its own when used.

The sandbox's own switch (`fails` in cards.py's decline codes) makes an attached card decline from then on.
"""

from typing import Any

from billing.stripe.sandbox.cards import CARDS, DECLINES, NUMBERS, TOKENS
from billing.stripe.sandbox.errors import Declined, Refusal, missing_parameter, no_such
from billing.stripe.sandbox.resources.base import Body, Call, fetch, handles, metadata, page
from billing.stripe.sandbox.resources.events import change, emit
from billing.stripe.sandbox.resources.owners import live_customer
from billing.stripe.sandbox.resources.shown import shown
from billing.stripe.sandbox.store import new_id

_ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")


def _billing_details(given: Body, old: Body | None = None) -> Body:
    before = old or {"address": {}, "email": None, "name": None, "phone": None, "tax_id": None}
    address = {**before["address"], **(given.get("address") or {})}
    texts = {name: given.get(name, before[name]) or None for name in ("email", "name", "phone", "tax_id")}
    return {"address": {name: address.get(name) for name in _ADDRESS}, **texts}


def new_card(call: Call, token: str, given: Body | None = None) -> Body:
    """A fresh payment method of one of Stripe's test cards, attached to nobody; stored."""
    card, given = CARDS[token], given or {}
    details = given.get("card", {})
    body = {
        "id": new_id("pm"),
        "object": "payment_method",
        "allow_redisplay": given.get("allow_redisplay", "unspecified"),
        "billing_details": _billing_details(given.get("billing_details", {})),
        "card": {
            "brand": card.brand,
            "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
            "country": "US",
            "display_brand": card.brand,
            "exp_month": details.get("exp_month", 12),
            "exp_year": details.get("exp_year", 2035),
            "fingerprint": f"sandbox{card.last4}{card.brand}"[:16],
            "funding": "debit" if "debit" in token else "credit",
            "generated_from": None,
            "last4": card.last4,
            "networks": {"available": [card.brand], "preferred": None},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": True},
            "wallet": None,
        },
        "created": call.now,
        "customer": None,
        "customer_account": None,
        "livemode": False,
        "metadata": metadata(given.get("metadata")),
        "type": "card",
        "_token": token,
        "_fails": None,
    }
    call.store.insert("payment_method", body)
    return body


def usable(call: Call, method_id: str, *, param: str = "payment_method", status: int = 400) -> Body:
    """The payment method of this id, or a new one of this test token."""
    if method_id in CARDS:
        return new_card(call, method_id)
    return fetch(call, "payment_method", method_id, noun="PaymentMethod", param=param, status=status)


@handles("PostPaymentMethods")
def create(call: Call) -> Body:
    call.only({"type", "card", "billing_details", "metadata", "allow_redisplay"})
    if call.params.get("type") != "card":
        raise Refusal("The sandbox imitates cards only: pass type=card.", param="type", code="sandbox_not_imitated")
    card = call.params.get("card")
    if card is None:
        raise missing_parameter("card")
    token = TOKENS.get(card["token"]) if "token" in card else NUMBERS.get(card["number"].replace(" ", ""))
    if token is None:
        raise Refusal(
            "The sandbox takes Stripe's test cards only, such as 4242424242424242 or tok_visa. Never send it a real card.",
            param="card[number]",
            code="incorrect_number",
            status=402,
            kind="card_error",
        )
    return new_card(call, token, dict(call.params))


@handles("GetPaymentMethodsPaymentMethod")
def retrieve(call: Call) -> Body:
    call.only(())
    return usable(call, call.path["payment_method"], param="payment_method", status=404)


@handles("PostPaymentMethodsPaymentMethod")
def update(call: Call) -> Body:
    call.only({"billing_details", "metadata", "allow_redisplay", "card"})
    method = fetch(call, "payment_method", call.path["payment_method"], noun="PaymentMethod", param="payment_method", status=404)
    if method["customer"] is None:
        raise Refusal("You must save this PaymentMethod to a customer before you can update it.")
    card = {name: value for name, value in call.params.get("card", {}).items() if name != "networks"}
    new = method | {
        "billing_details": _billing_details(call.params.get("billing_details", {}), method["billing_details"]),
        "metadata": metadata(call.params.get("metadata"), method["metadata"]),
        "allow_redisplay": call.params.get("allow_redisplay", method["allow_redisplay"]),
        "card": method["card"] | card,
    }
    return change(call, method, new, "payment_method.updated")


def attached(call: Call, method: Body, customer: Body) -> Body:
    """Save a card to a customer. Raises Declined where the card is one that is refused at once."""
    if method["customer"] not in (None, customer["id"]):
        sentence = "The payment method you provided has already been attached to a customer."
        raise Refusal(sentence, param="payment_method", code="resource_already_exists")
    if method.get("_detached"):
        raise Refusal("This PaymentMethod was detached from a Customer, and may not be used again.", param="payment_method")
    card = CARDS[method["_token"]]
    if card.declines and card.on_attach:
        raise declined(card.declines)
    if method["customer"] is None:
        method = method | {"customer": customer["id"]}
        call.store.replace("payment_method", method)
        emit(call, "payment_method.attached", method)
    return method


def declined(decline_code: str, **about: Any) -> Declined:
    code, sentence = DECLINES[decline_code]
    return Declined(sentence, code=code, decline_code=decline_code, about=about)


@handles("PostPaymentMethodsPaymentMethodAttach")
def attach(call: Call) -> Body:
    call.only({"customer"})
    if "customer" not in call.params:
        raise missing_parameter("customer")
    customer = live_customer(call, call.params["customer"])
    call = call.of(customer)
    return attached(call, usable(call, call.path["payment_method"], status=404), customer)


@handles("PostPaymentMethodsPaymentMethodDetach")
def detach(call: Call) -> Body:
    """It can never be attached again, and is no longer anyone's default."""
    call.only(())
    method = fetch(call, "payment_method", call.path["payment_method"], noun="PaymentMethod", param="payment_method", status=404)
    if method["customer"] is None:
        raise Refusal("The payment method you provided is not attached to a customer so detachment is impossible.", param="payment_method")
    customer = fetch(call, "customer", method["customer"], noun="customer", param="customer")
    call = call.of(customer)
    settings = customer.get("invoice_settings", {})
    if settings.get("default_payment_method") == method["id"]:
        changed = customer | {"invoice_settings": settings | {"default_payment_method": None}}
        change(call, customer, changed, "customer.updated")
    for subscription in call.store.of("subscription", "customer", customer["id"]):
        if subscription.get("default_payment_method") == method["id"]:
            call.store.replace("subscription", subscription | {"default_payment_method": None})
    return change(call, method, method | {"customer": None, "_detached": True}, "payment_method.detached")


def _listed(call: Call, customer_id: str, filters: tuple[str, ...]) -> Body:
    live_customer(call, customer_id)
    wanted = call.params.get("type", "card")
    found = [shown(call, method) for method in call.store.of("payment_method", "customer", customer_id) if method["type"] == wanted]
    return page(call, found, filters=filters)


@handles("GetPaymentMethods")
def index(call: Call) -> Body:
    if "customer" not in call.params:
        raise missing_parameter("customer")
    return _listed(call, call.params["customer"], ("customer", "type"))


@handles("GetCustomersCustomerPaymentMethods")
def index_of_customer(call: Call) -> Body:
    return _listed(call, call.path["customer"], ("type",))


@handles("GetCustomersCustomerPaymentMethodsPaymentMethod")
def retrieve_of_customer(call: Call) -> Body:
    call.only(())
    method = fetch(call, "payment_method", call.path["payment_method"], noun="PaymentMethod", param="payment_method", status=404)
    if method["customer"] != call.path["customer"]:
        raise no_such("PaymentMethod", method["id"], param="payment_method", status=404)
    return method
