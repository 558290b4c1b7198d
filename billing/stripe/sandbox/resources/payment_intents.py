"""Payment intents: what is to be paid, and each try to take it from a card.

requires_payment_method -> requires_confirmation -> (requires_action ->) succeeded | back to requires_payment_method; or canceled.
"""

from collections.abc import Callable
from typing import Any

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.cards import CARDS, DECLINES
from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.resources.base import Body, Call, created_within, currency, fetch, given_text, handles, metadata, page
from billing.stripe.sandbox.resources.charges import charged
from billing.stripe.sandbox.resources.events import change, keep
from billing.stripe.sandbox.resources.owners import live_customer
from billing.stripe.sandbox.resources.payment_methods import attached, declined, usable
from billing.stripe.sandbox.resources.shown import public, shown
from billing.stripe.sandbox.store import new_id

_TAKES = {"amount", "currency", "customer", "description", "metadata", "payment_method", "payment_method_types", "receipt_email"}
_TAKES |= {"automatic_payment_methods", "setup_future_usage", "statement_descriptor", "statement_descriptor_suffix"}
_CONFIRM = {"payment_method", "off_session", "return_url", "error_on_requires_action", "setup_future_usage", "receipt_email"}
_ENDED = ("succeeded", "canceled")
_LEAST, _MOST = 50, 99_999_999
_LEAST_ELSEWHERE = {"jpy": 50, "krw": 50, "bhd": 1, "kwd": 1, "gbp": 30, "huf": 17_500, "mxn": 1_000, "sek": 300, "nok": 300, "dkk": 250}
Settled = Callable[[Call, Body], None]
WHEN_PAID: list[Settled] = []  # what else happens as an intent succeeds: its invoice is paid


def new_intent(call: Call, amount: int, money: str, customer: str | None, **more: Any) -> Body:
    """Store a payment intent that waits for a card."""
    intent_id = new_id("pi")
    return keep(
        call,
        spec.load().blank("payment_intent")
        | {
            "id": intent_id,
            "object": "payment_intent",
            "amount": amount,
            "amount_capturable": 0,
            "amount_details": {"tip": {}},
            "amount_received": 0,
            "capture_method": "automatic",
            "client_secret": f"{intent_id}_secret_{new_id('x')[2:]}",
            "confirmation_method": "automatic",
            "created": call.now,
            "currency": money,
            "customer": customer,
            "livemode": False,
            "metadata": {},
            "payment_method_options": {},
            "payment_method_types": ["card"],
            "status": "requires_payment_method",
            "_off_session": False,
        }
        | more,
        "payment_intent.created",
    )


def asks_owner(intent: Body) -> Body:
    """The next action of an intent whose card wants its owner: a page of the sandbox stands in for the bank's."""
    sdk = {"type": "three_d_secure_redirect", "stripe_js": f"/_sandbox/pay/{intent['id']}"}
    return {"type": "use_stripe_sdk", "use_stripe_sdk": sdk}


def decline_of(call: Call, method: Body) -> str | None:
    """Why this card says no right now, None if it does not. A switch that was set for some times is used up by one."""
    switched = method["_fails"]
    if switched is None:
        return CARDS[method["_token"]].declines
    if switched["times"] is not None:
        left = switched["times"] - 1
        call.store.replace("payment_method", method | {"_fails": switched | {"times": left} if left else None})
    return str(switched["code"])


def attempt(call: Call, intent: Body, method: Body, *, off_session: bool, authenticated: bool = False) -> Body:
    """Try to take the money, and note what came of it: succeeded, requires_action, or requires_payment_method with the reason."""
    tried = intent | {"payment_method": method["id"], "next_action": None, "last_payment_error": None, "_off_session": off_session}
    if CARDS[method["_token"]].authenticates and not authenticated:
        if off_session and "_invoice" not in intent:
            return _failed(call, intent, tried, method, "authentication_required")
        return change(
            call, intent, tried | {"status": "requires_action", "next_action": asks_owner(intent)}, "payment_intent.requires_action"
        )
    reason = decline_of(call, method)
    if reason:
        return _failed(call, intent, tried, method, reason)
    charge = charged(call, tried, method, None)
    paid = tried | {"status": "succeeded", "amount_received": intent["amount"], "latest_charge": charge["id"]}
    change(call, intent, paid, "payment_intent.succeeded")
    if paid["setup_future_usage"] and paid["customer"] and method["customer"] is None:
        attached(call, method, {"id": paid["customer"]})
    for settled in WHEN_PAID:
        settled(call, paid)
    return paid


def _failed(call: Call, intent: Body, tried: Body, method: Body, decline_code: str) -> Body:
    charge = charged(call, tried, method, decline_code)
    code, sentence = DECLINES[decline_code]
    error = {
        "type": "card_error",
        "charge": charge["id"],
        "code": code,
        "decline_code": decline_code,
        "doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}",
        "message": sentence,
        "payment_method": public(shown(call, method)),
    }
    failed = tried | {"status": "requires_payment_method", "payment_method": None, "latest_charge": charge["id"]}
    failed["last_payment_error"] = error
    return change(call, intent, failed, "payment_intent.payment_failed")


@handles("PostPaymentIntents")
def create(call: Call) -> Body:
    call.only(_TAKES | _CONFIRM | {"confirm"})
    money = currency(call.params["currency"])
    _check_amount(call.params["amount"], money)
    customer = live_customer(call, call.params["customer"]) if call.params.get("customer") else None
    call = call.of(customer) if customer else call
    intent = new_intent(call, call.params["amount"], money, customer["id"] if customer else None, **_described(call, {}))
    if "payment_method" in call.params:
        method = _method(call, intent)
        intent = change(call, intent, intent | {"payment_method": method["id"], "status": "requires_confirmation"})
    if not call.params.get("confirm"):
        return intent
    return _confirmed(call, intent)


def _check_amount(amount: int, money: str) -> None:
    least = _LEAST_ELSEWHERE.get(money, _LEAST)
    if amount < least:
        raise Refusal(f"Amount must be at least {least} {money} in minor units", param="amount", code="amount_too_small")
    if amount > _MOST:
        raise Refusal(f"Amount must be no more than {_MOST} in minor units", param="amount", code="amount_too_large")


def _described(call: Call, old: Body) -> Body:
    texts = ("description", "receipt_email", "statement_descriptor", "statement_descriptor_suffix", "setup_future_usage")
    automatic = call.params.get("automatic_payment_methods")
    kept = {name: given_text(call, name, old.get(name)) for name in texts}
    if automatic is not None:
        kept["automatic_payment_methods"] = {"allow_redirects": "always", **automatic}  # type: ignore[assignment]
    return kept | {"metadata": metadata(call.params.get("metadata"), old.get("metadata", {}))}


def _method(call: Call, intent: Body) -> Body:
    method = usable(call, call.params["payment_method"])
    if method["customer"] not in (None, intent["customer"]):
        raise Refusal(
            f"The provided PaymentMethod ({method['id']}) belongs to another customer: pass that customer.", param="payment_method"
        )
    if method.get("_detached"):
        raise Refusal("The provided PaymentMethod was detached from a Customer, and may not be used again.", param="payment_method")
    return method


def _confirmed(call: Call, intent: Body, method: Body | None = None) -> Body:
    """Try now. Raises Declined with the intent in it where the card says no."""
    method_id = method["id"] if method else intent["payment_method"]
    if method_id is None:
        raise Refusal(
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
        )
    off_session = call.params.get("off_session", False)
    tried = attempt(call, intent, usable(call, method_id), off_session=off_session not in (False, "false"))
    if tried["status"] == "requires_payment_method":
        error = tried["last_payment_error"]
        about = {"charge": tried["latest_charge"], "payment_intent": public(shown(call, tried)), "payment_method": error["payment_method"]}
        raise declined(error["decline_code"], **about)
    if tried["status"] == "requires_action" and call.params.get("error_on_requires_action"):
        raise declined("authentication_required", payment_intent=public(shown(call, tried)))
    return tried


def _stored(call: Call) -> tuple[Call, Body]:
    """The intent of the path, and the call at its customer's time."""
    intent = fetch(call, "payment_intent", call.path["intent"], noun="payment_intent", param="intent", status=404)
    owner = call.store.get("customer", intent["customer"]) if intent["customer"] else None
    return (call.of(owner) if owner else call), intent


@handles("GetPaymentIntentsIntent")
def retrieve(call: Call) -> Body:
    call.only({"client_secret"})
    return _stored(call)[1]


def _open(intent: Body, doing: str) -> None:
    if intent["status"] in _ENDED:
        raise Refusal(
            f"You cannot {doing} this PaymentIntent because it has a status of {intent['status']}.", code="payment_intent_unexpected_state"
        )


@handles("PostPaymentIntentsIntent")
def update(call: Call) -> Body:
    call.only(_TAKES)
    call, intent = _stored(call)
    if set(call.params) - {"metadata", "description", "receipt_email", "expand"}:
        _open(intent, "update")
    new = intent | _described(call, intent)
    if "amount" in call.params:
        _check_amount(call.params["amount"], intent["currency"])
        new["amount"] = call.params["amount"]
    if "payment_method" in call.params:
        new |= {"payment_method": _method(call, intent)["id"], "status": "requires_confirmation"}
    return change(call, intent, new)


@handles("PostPaymentIntentsIntentConfirm")
def confirm(call: Call) -> Body:
    call.only(_CONFIRM | {"client_secret"})
    call, intent = _stored(call)
    _open(intent, "confirm")
    return _confirmed(call, intent, _method(call, intent) if "payment_method" in call.params else None)


@handles("PostPaymentIntentsIntentCancel")
def cancel(call: Call) -> Body:
    call.only({"cancellation_reason"})
    call, intent = _stored(call)
    _open(intent, "cancel")
    return canceled(call, intent, call.params.get("cancellation_reason"))


def canceled(call: Call, intent: Body, reason: str | None) -> Body:
    new = intent | {"status": "canceled", "canceled_at": call.now, "cancellation_reason": reason, "next_action": None}
    return change(call, intent, new, "payment_intent.canceled")


@handles("GetPaymentIntents")
def index(call: Call) -> Body:
    customer, created = call.params.get("customer"), call.params.get("created")
    found = [i for i in call.store.newest_first("payment_intent") if customer in (None, i["customer"]) and created_within(i, created)]
    return page(call, found, filters=("customer", "created"))
