"""Charges: one try to take money from a card, made by payment intents only."""

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.cards import DECLINES
from billing.stripe.sandbox.resources.base import Body, Call, created_within, fetch, handles, page
from billing.stripe.sandbox.resources.events import emit, keep
from billing.stripe.sandbox.resources.shown import part
from billing.stripe.sandbox.store import new_id

_OUTCOMES = {True: ("approved_by_network", "authorized"), False: ("declined_by_network", "issuer_declined")}


def charged(call: Call, intent: Body, method: Body, decline_code: str | None) -> Body:
    """Store the try, successful where there is no decline code, and say so by an event."""
    code, sentence = DECLINES[decline_code] if decline_code else (None, None)
    ok = decline_code is None
    network, kind = _OUTCOMES[ok]
    card = {name: method["card"][name] for name in ("brand", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4")}
    charge = spec.load().blank("charge") | {
        "id": new_id("ch"),
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": intent["amount"] if ok else 0,
        "amount_refunded": 0,
        "billing_details": method["billing_details"],
        "captured": ok,
        "created": call.now,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_code": code,
        "failure_message": sentence,
        "livemode": False,
        "metadata": intent["metadata"],
        "outcome": {
            "advice_code": None,
            "network_advice_code": None,
            "network_decline_code": None,
            "network_status": network,
            "reason": decline_code,
            "seller_message": "Payment complete." if ok else "The bank returned the decline code `" + str(decline_code) + "`.",
            "type": kind,
        },
        "paid": ok,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {
            "card": spec.load().blank("payment_method_details_card") | card | {"network": card["brand"]},
            "type": "card",
        },
        "refunded": False,
        "status": "succeeded" if ok else "failed",
    }
    charge.pop("refunds")
    return keep(call, charge, "charge.succeeded" if ok else "charge.failed")


@part("charge", "refunds")
def _refunds(call: Call, charge: Body) -> Body:
    data = [refund for refund in call.store.newest_first("refund") if refund["charge"] == charge["id"]]
    return {"object": "list", "url": f"/v1/refunds?charge={charge['id']}", "has_more": False, "data": data}


def refunded(call: Call, charge: Body, amount: int) -> None:
    """Note on a charge that this much went back."""
    total = charge["amount_refunded"] + amount
    new = charge | {"amount_refunded": total, "refunded": total == charge["amount"]}
    call.store.replace("charge", new)
    emit(call, "charge.refunded", new, before=charge)


@handles("GetChargesCharge")
def retrieve(call: Call) -> Body:
    call.only(())
    return fetch(call, "charge", call.path["charge"], noun="charge", param="id", status=404)


@handles("GetCharges")
def index(call: Call) -> Body:
    wanted = {name: call.params[name] for name in ("customer", "payment_intent") if name in call.params}
    found = [
        charge
        for charge in call.store.newest_first("charge")
        if all(charge[name] == value for name, value in wanted.items()) and created_within(charge, call.params.get("created"))
    ]
    return page(call, found, filters=(*wanted, "created"))
