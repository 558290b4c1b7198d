"""Refunds: money that goes back to the card it came from. They succeed at once."""

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.resources.base import Body, Call, created_within, fetch, handles, metadata, page
from billing.stripe.sandbox.resources.charges import refunded
from billing.stripe.sandbox.resources.events import change, keep
from billing.stripe.sandbox.store import new_id


@handles("PostRefunds")
def create(call: Call) -> Body:
    call.only({"charge", "payment_intent", "amount", "reason", "metadata"})
    charge = _charge(call)
    return refund(call, charge, call.params.get("amount"), call.params.get("reason"), metadata(call.params.get("metadata")))


def refund(call: Call, charge: Body, amount: int | None, reason: str | None = None, notes: dict[str, str] | None = None) -> Body:
    """Give back `amount` (minor units), or all that is left of a charge. Raises Refusal where that is more than was taken."""
    owner = call.store.get("customer", charge["customer"]) if charge["customer"] else None
    call = call.of(owner) if owner else call
    left = charge["amount"] - charge["amount_refunded"]
    if not charge["paid"] or left == 0:
        raise Refusal(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    amount = left if amount is None else amount
    if amount <= 0:
        raise Refusal("Invalid positive integer", param="amount", code="parameter_invalid_integer")
    if amount > left:
        raise Refusal(f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", param="amount")
    made = spec.load().blank("refund") | {
        "id": new_id("re"),
        "object": "refund",
        "amount": amount,
        "charge": charge["id"],
        "created": call.now,
        "currency": charge["currency"],
        "customer": charge["customer"],
        "metadata": notes or {},
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "reason": reason,
        "status": "succeeded",
    }
    keep(call, made, "refund.created")
    refunded(call, charge, amount)
    return made


def _charge(call: Call) -> Body:
    charge_id, intent_id = call.params.get("charge"), call.params.get("payment_intent")
    if (charge_id is None) == (intent_id is None):
        raise Refusal("One of the following params should be provided for this request: payment_intent or charge.", param="charge")
    if intent_id is not None:
        intent = fetch(call, "payment_intent", intent_id, noun="payment_intent", param="payment_intent")
        charge_id = intent["latest_charge"]
        if charge_id is None:
            raise Refusal(f"This PaymentIntent ({intent_id}) does not have a successful charge to refund.", param="payment_intent")
    return fetch(call, "charge", str(charge_id), noun="charge", param="charge")


@handles("GetRefundsRefund")
def retrieve(call: Call) -> Body:
    call.only(())
    return fetch(call, "refund", call.path["refund"], noun="refund", param="id", status=404)


@handles("PostRefundsRefund")
def update(call: Call) -> Body:
    call.only({"metadata"})
    old = fetch(call, "refund", call.path["refund"], noun="refund", param="id", status=404)
    return change(call, old, old | {"metadata": metadata(call.params.get("metadata"), old["metadata"])}, "refund.updated")


@handles("GetRefunds")
def index(call: Call) -> Body:
    wanted = {name: call.params[name] for name in ("charge", "payment_intent") if name in call.params}
    found = [
        each
        for each in call.store.newest_first("refund")
        if all(each[name] == value for name, value in wanted.items()) and created_within(each, call.params.get("created"))
    ]
    return page(call, found, filters=(*wanted, "created"))
