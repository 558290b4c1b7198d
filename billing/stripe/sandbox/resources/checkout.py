"""Checkout sessions: a page of the sandbox (pages.py) stands in for Stripe's, where a person or a test completes or leaves them."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.errors import Refusal, missing_parameter, not_imitated
from billing.stripe.sandbox.invoice_math import Charged, Discount, Sums, sums, total_of
from billing.stripe.sandbox.resources import subscriptions
from billing.stripe.sandbox.resources.base import Body, Call, created_within, currency, fetch, given_text, handles, metadata, page
from billing.stripe.sandbox.resources.customers import new_customer
from billing.stripe.sandbox.resources.events import change, keep
from billing.stripe.sandbox.resources.lines import title
from billing.stripe.sandbox.resources.owners import live_customer
from billing.stripe.sandbox.resources.payment_intents import attempt, new_intent
from billing.stripe.sandbox.resources.payment_methods import attached, declined, new_card
from billing.stripe.sandbox.resources.setup_intents import new_setup, set_up
from billing.stripe.sandbox.resources.shown import part, shown
from billing.stripe.sandbox.resources.subscription_body import is_metered
from billing.stripe.sandbox.store import new_id
from billing.stripe.sandbox.work import does

_TAKES = {"mode", "customer", "customer_email", "customer_creation", "line_items", "success_url", "cancel_url", "client_reference_id"}
_TAKES |= {"metadata", "currency", "discounts", "allow_promotion_codes", "expires_at", "locale", "payment_method_types", "ui_mode"}
_TAKES |= {"subscription_data", "payment_intent_data", "setup_intent_data", "payment_method_collection", "billing_address_collection"}
_SUBSCRIPTION = {"metadata", "description", "trial_period_days", "trial_end", "trial_settings", "default_tax_rates", "billing_cycle_anchor"}
_SUBSCRIPTION |= {"billing_mode", "proration_behavior", "billing_cycle_anchor_config"}
_LASTS, _SOONEST = 86_400, 1800


@handles("PostCheckoutSessions")
def create(call: Call) -> Body:
    call.only(_TAKES)
    mode = call.params.get("mode")
    if mode is None:
        raise missing_parameter("mode")
    if call.params.get("ui_mode", "hosted_page") != "hosted_page":
        raise not_imitated("any page but the hosted one", "ui_mode")
    customer = live_customer(call, call.params["customer"]) if call.params.get("customer") else None
    call = call.of(customer) if customer else call
    bought = _line_items(call, mode)
    session = _new(call, mode, customer, bought)
    if mode == "setup":
        more = {"metadata": metadata(call.params.get("setup_intent_data", {}).get("metadata"))}
        session["setup_intent"] = new_setup(call, session["customer"], **more)["id"]
    keep(call, session)
    call.store.plan("checkout.expire", session["id"], session["expires_at"], customer["test_clock"] if customer else None)
    return session


def _new(call: Call, mode: str, customer: Body | None, bought: list[Body]) -> Body:
    given, session_id = call.params, new_id("cs_test")
    added = _added_up(call, bought)
    money = currency(given["currency"]) if "currency" in given else bought[0]["_money"] if bought else None
    discounts = [{"coupon": each.get("coupon"), "promotion_code": each.get("promotion_code")} for each in given.get("discounts", [])]
    return spec.load().blank("checkout.session") | {
        "id": session_id,
        "object": "checkout.session",
        "amount_subtotal": added.subtotal if mode != "setup" else None,
        "amount_total": added.total if mode != "setup" else None,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "allow_promotion_codes": given.get("allow_promotion_codes"),
        "cancel_url": _url(given, "cancel_url"),
        "client_reference_id": given_text(call, "client_reference_id"),
        "created": call.now,
        "currency": money,
        "custom_fields": [],
        "custom_text": dict.fromkeys(("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")),
        "customer": customer["id"] if customer else None,
        "customer_creation": given.get("customer_creation", "always" if mode == "subscription" else "if_required"),
        "customer_email": given_text(call, "customer_email"),
        "discounts": discounts,
        "expires_at": _expiry(call),
        "livemode": False,
        "locale": given.get("locale"),
        "metadata": metadata(given.get("metadata")),
        "mode": mode,
        "payment_method_collection": given.get("payment_method_collection", "always"),
        "payment_method_types": ["card"],
        "payment_status": "no_payment_required" if mode == "setup" else "unpaid",
        "shipping_options": [],
        "status": "open",
        "success_url": _url(given, "success_url"),
        "total_details": {"amount_discount": added.subtotal - added.total, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": f"{call.store.setting('url', '')}/_sandbox/checkout/{session_id}",
        "_bought": bought,
        "_data": _data(call, mode),
    }


def _url(given: Mapping[str, Any], name: str) -> str | None:
    url: str | None = given.get(name)
    if url is not None and not url.startswith(("http://", "https://")):
        raise Refusal("Not a valid URL", param=name, code="url_invalid")
    return url


def _expiry(call: Call) -> int:
    at = int(call.params.get("expires_at", call.now + _LASTS))
    if not call.now + _SOONEST <= at <= call.now + _LASTS:
        raise Refusal(
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.", param="expires_at"
        )
    return at


def _data(call: Call, mode: str) -> Body:
    names = {"subscription": "subscription_data", "payment": "payment_intent_data", "setup": "setup_intent_data"}
    for each, name in names.items():
        if each != mode and name in call.params:
            raise Refusal(f"You can not pass `{name}` in `{mode}` mode.", param=name)
    data: Body = call.params.get(names[mode], {})
    takes = {"subscription": _SUBSCRIPTION, "payment": {"metadata", "description", "setup_future_usage"}, "setup": {"metadata"}}[mode]
    for name in data:
        if name not in takes:
            raise not_imitated(f"{names[mode]}[{name}]", f"{names[mode]}[{name}]")
    return data


def _line_items(call: Call, mode: str) -> list[Body]:
    given = call.params.get("line_items", [])
    if bool(given) == (mode == "setup"):
        raise missing_parameter("line_items") if mode != "setup" else Refusal("You can not pass `line_items` in `setup` mode.")
    return [_line_item(call, mode, each, at) for at, each in enumerate(given)]


def _line_item(call: Call, mode: str, given: Body, at: int) -> Body:
    for name in given:
        if name not in ("price", "quantity", "metadata"):
            raise not_imitated(f"line_items[{at}][{name}]", f"line_items[{at}][{name}]")
    price = fetch(call, "price", given.get("price", ""), noun="price", param=f"line_items[{at}][price]")
    if mode == "payment" and price["recurring"] is not None:
        raise Refusal("You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode.", param="mode")
    metered = price["recurring"] is not None and is_metered(price)
    if not metered and given.get("quantity", 0) < 1:
        raise missing_parameter(f"line_items[{at}][quantity]")
    amount = 0 if metered else total_of(price, given["quantity"])
    return {
        "id": new_id("li"),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": price["currency"],
        "description": title(call, price),
        "metadata": metadata(given.get("metadata")),
        "price": price,
        "quantity": None if metered else given["quantity"],
        "_money": price["currency"],
    }


def _added_up(call: Call, bought: list[Body]) -> Sums:
    """What is to be paid now, at the coupons that were named."""
    trial = {"trial_period_days", "trial_end"} & set(call.params.get("subscription_data", {}))
    discounts = []
    for given in call.params.get("discounts", []):
        code = given.get("promotion_code")
        promotion = fetch(call, "promotion_code", code, noun="promotion code", param="discounts") if code else None
        coupon_id = promotion["promotion"]["coupon"] if promotion else given.get("coupon", "")
        coupon = fetch(call, "coupon", coupon_id, noun="coupon", param="discounts")
        percent = Decimal(str(coupon["percent_off"])) if coupon["percent_off"] is not None else None
        discounts.append(Discount(coupon["id"], percent, coupon["amount_off"]))
    free = [bool(trial) and each["price"]["recurring"] is not None for each in bought]
    return sums([Charged(0 if none else each["amount_total"]) for none, each in zip(free, bought, strict=True)], discounts)


def completed(call: Call, session: Body, card: str, email: str | None = None) -> Body:
    """What the page does when a customer presses the button. Raises Declined or Refusal where the card says no."""
    if session["status"] != "open":
        raise Refusal(f"This Checkout Session is {session['status']}.")
    owner = call.store.get("customer", session["customer"]) if session["customer"] else None
    call = call.of(owner) if owner else call
    given_email = email or session["customer_email"]
    if owner is None and (session["mode"] == "subscription" or session["customer_creation"] == "always"):
        owner = new_customer(call, email=given_email)
    done = session | {"customer": owner["id"] if owner else None, "status": "complete"}
    known = {name: (owner or {}).get(name) for name in ("address", "email", "name", "phone", "tax_exempt")}
    empty: Body = {"business_name": None, "individual_name": None, "tax_ids": []}
    done["customer_details"] = empty | known | {"email": known["email"] or given_email}
    done |= {"subscription": _subscribed, "payment": _paid, "setup": _saved}[session["mode"]](call, done, new_card(call, card))
    call.store.plan("checkout.expire", session["id"], None, None)
    return change(call, session, done, "checkout.session.completed")


def _subscribed(call: Call, session: Body, card: Body) -> Body:
    customer = live_customer(call, session["customer"])
    attached(call, card, customer)
    items = [{"price": each["price"]["id"]} | ({"quantity": each["quantity"]} if each["quantity"] else {}) for each in _recurring(session)]
    once = [{"price": each["price"]["id"], "quantity": each["quantity"]} for each in session["_bought"] if not each["price"]["recurring"]]
    params = {"customer": customer["id"], "items": items, "default_payment_method": card["id"], **session["_data"]}
    params |= {"payment_behavior": "error_if_incomplete"}
    params |= {"add_invoice_items": once} if once else {}
    if session["discounts"]:
        params["discounts"] = [{name: value for name, value in each.items() if value} for each in session["discounts"]]
    made = subscriptions.create(replace(call, params=params))
    status = "no_payment_required" if session["amount_total"] == 0 else "paid"
    return {"subscription": made["id"], "invoice": made["latest_invoice"], "payment_status": status}


def _recurring(session: Body) -> list[Body]:
    return [each for each in session["_bought"] if each["price"]["recurring"]]


def _paid(call: Call, session: Body, card: Body) -> Body:
    data = session["_data"]
    more = {"description": data.get("description"), "metadata": data.get("metadata", {})}
    more["setup_future_usage"] = data.get("setup_future_usage")
    intent = new_intent(call, session["amount_total"], session["currency"], session["customer"], **more)
    tried = attempt(call, intent, card, off_session=False, authenticated=True)
    if tried["status"] != "succeeded":
        raise declined(tried["last_payment_error"]["decline_code"])
    return {"payment_intent": intent["id"], "payment_status": "paid"}


def _saved(call: Call, session: Body, card: Body) -> Body:
    intent = call.store.get("setup_intent", session["setup_intent"])
    assert intent is not None
    tried = set_up(call, intent | {"customer": session["customer"]}, card, authenticated=True)
    if tried["last_setup_error"]:
        raise declined(tried["last_setup_error"]["decline_code"])
    return {}


def _stored(call: Call) -> Body:
    return fetch(call, "checkout.session", call.path["session"], noun="checkout.session", param="session", status=404)


@handles("GetCheckoutSessionsSession")
def retrieve(call: Call) -> Body:
    call.only(())
    return _stored(call)


@handles("PostCheckoutSessionsSession")
def update(call: Call) -> Body:
    call.only({"metadata"})
    old = _stored(call)
    return change(call, old, old | {"metadata": metadata(call.params.get("metadata"), old["metadata"])})


@handles("PostCheckoutSessionsSessionExpire")
def expire(call: Call) -> Body:
    call.only(())
    session = _stored(call)
    if session["status"] != "open":
        raise Refusal(f'Only Checkout Sessions with a status in ["open"] can be expired. This one is {session["status"]}.')
    return _expired(call, session)


def _expired(call: Call, session: Body) -> Body:
    call.store.plan("checkout.expire", session["id"], None, None)
    return change(call, session, session | {"status": "expired", "url": None}, "checkout.session.expired")


@does("checkout.expire")
def _expire_when_due(call: Call, session_id: str) -> None:
    session = call.store.get("checkout.session", session_id)
    if session and session["status"] == "open":
        _expired(call, session)


@part("checkout.session", "line_items")
def _shown_items(_call: Call, session: Body) -> Body:
    url = f"/v1/checkout/sessions/{session['id']}/line_items"
    return {"object": "list", "data": session["_bought"], "has_more": False, "url": url}


@handles("GetCheckoutSessionsSessionLineItems")
def line_items(call: Call) -> Body:
    return page(call, _stored(call)["_bought"])


@handles("GetCheckoutSessions")
def index(call: Call) -> Body:
    names = ("customer", "payment_intent", "status", "subscription")
    wanted = {name: call.params[name] for name in names if name in call.params}
    found = [
        shown(call, session)
        for session in call.store.newest_first("checkout.session")
        if all(session[name] == value for name, value in wanted.items()) and created_within(session, call.params.get("created"))
    ]
    return page(call, found, filters=(*wanted, "created"))
