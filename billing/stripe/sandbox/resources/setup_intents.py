"""Setup intents: saving a card for later, without taking money. A card that says no when attached says no here."""

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.cards import CARDS, DECLINES
from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.resources.base import Body, Call, created_within, fetch, given_text, handles, metadata, page
from billing.stripe.sandbox.resources.events import change, keep
from billing.stripe.sandbox.resources.owners import live_customer
from billing.stripe.sandbox.resources.payment_intents import asks_owner
from billing.stripe.sandbox.resources.payment_methods import attached, declined, usable
from billing.stripe.sandbox.resources.shown import public, shown
from billing.stripe.sandbox.store import new_id

_TAKES = {"customer", "description", "metadata", "payment_method", "payment_method_types"}
_CREATE = _TAKES | {"confirm", "usage", "automatic_payment_methods", "return_url"}
_ENDED = ("succeeded", "canceled")


def new_setup(call: Call, customer: str | None, **more: object) -> Body:
    intent_id = new_id("seti")
    return keep(
        call,
        spec.load().blank("setup_intent")
        | {
            "id": intent_id,
            "object": "setup_intent",
            "client_secret": f"{intent_id}_secret_{new_id('x')[2:]}",
            "created": call.now,
            "customer": customer,
            "livemode": False,
            "metadata": {},
            "payment_method_options": {},
            "payment_method_types": ["card"],
            "status": "requires_payment_method",
            "usage": "off_session",
        }
        | more,
        "setup_intent.created",
    )


def set_up(call: Call, intent: Body, method: Body, *, authenticated: bool = False) -> Body:
    """Save the card to the customer, or note why it cannot be."""
    card = CARDS[method["_token"]]
    tried = intent | {"payment_method": method["id"], "last_setup_error": None, "next_action": None}
    if card.declines and card.on_attach:
        code, sentence = DECLINES[card.declines]
        error = {"type": "card_error", "code": code, "decline_code": card.declines, "message": sentence}
        failed = tried | {"payment_method": None, "status": "requires_payment_method", "last_setup_error": error}
        return change(call, intent, failed, "setup_intent.setup_failed")
    if card.authenticates and not authenticated:
        return change(
            call, intent, tried | {"status": "requires_action", "next_action": asks_owner(intent)}, "setup_intent.requires_action"
        )
    if intent["customer"]:
        attached(call, method, live_customer(call, intent["customer"]))
    return change(call, intent, tried | {"status": "succeeded"}, "setup_intent.succeeded")


def _confirmed(call: Call, intent: Body) -> Body:
    if intent["payment_method"] is None:
        raise Refusal("You cannot confirm this SetupIntent because it's missing a payment method.", code="setup_intent_unexpected_state")
    tried = set_up(call, intent, usable(call, intent["payment_method"]))
    if tried["last_setup_error"]:
        raise declined(tried["last_setup_error"]["decline_code"], setup_intent=public(shown(call, tried)))
    return tried


@handles("PostSetupIntents")
def create(call: Call) -> Body:
    call.only(_CREATE)
    customer = live_customer(call, call.params["customer"]) if call.params.get("customer") else None
    call = call.of(customer) if customer else call
    intent = new_setup(
        call,
        customer["id"] if customer else None,
        description=given_text(call, "description"),
        metadata=metadata(call.params.get("metadata")),
        usage=call.params.get("usage", "off_session"),
    )
    intent = _with_method(call, intent)
    return _confirmed(call, intent) if call.params.get("confirm") else intent


def _with_method(call: Call, intent: Body) -> Body:
    if "payment_method" not in call.params:
        return intent
    method = usable(call, call.params["payment_method"])
    if method["customer"] not in (None, intent["customer"]):
        raise Refusal(f"The payment method {method['id']} belongs to another customer.", param="payment_method")
    return change(call, intent, intent | {"payment_method": method["id"], "status": "requires_confirmation"})


def _stored(call: Call) -> tuple[Call, Body]:
    intent = fetch(call, "setup_intent", call.path["intent"], noun="setupintent", param="intent", status=404)
    owner = call.store.get("customer", intent["customer"]) if intent["customer"] else None
    return (call.of(owner) if owner else call), intent


def _open(intent: Body, doing: str) -> None:
    if intent["status"] in _ENDED:
        sentence = f"You cannot {doing} this SetupIntent because it has a status of {intent['status']}."
        raise Refusal(sentence, code="setup_intent_unexpected_state")


@handles("GetSetupIntentsIntent")
def retrieve(call: Call) -> Body:
    call.only({"client_secret"})
    return _stored(call)[1]


@handles("PostSetupIntentsIntent")
def update(call: Call) -> Body:
    call.only(_TAKES)
    call, intent = _stored(call)
    _open(intent, "update")
    new = intent | {
        "description": given_text(call, "description", intent["description"]),
        "metadata": metadata(call.params.get("metadata"), intent["metadata"]),
    }
    if call.params.get("customer"):
        new["customer"] = live_customer(call, call.params["customer"])["id"]
    change(call, intent, new)
    return _with_method(call, new)


@handles("PostSetupIntentsIntentConfirm")
def confirm(call: Call) -> Body:
    call.only({"payment_method", "client_secret", "return_url"})
    call, intent = _stored(call)
    _open(intent, "confirm")
    return _confirmed(call, _with_method(call, intent))


@handles("PostSetupIntentsIntentCancel")
def cancel(call: Call) -> Body:
    call.only({"cancellation_reason"})
    call, intent = _stored(call)
    _open(intent, "cancel")
    new = intent | {"status": "canceled", "cancellation_reason": call.params.get("cancellation_reason"), "next_action": None}
    return change(call, intent, new, "setup_intent.canceled")


@handles("GetSetupIntents")
def index(call: Call) -> Body:
    wanted = {name: call.params[name] for name in ("customer", "payment_method") if name in call.params}
    found = [
        intent
        for intent in call.store.newest_first("setup_intent")
        if all(intent[name] == value for name, value in wanted.items()) and created_within(intent, call.params.get("created"))
    ]
    return page(call, found, filters=(*wanted, "created"))
