"""What a customer does in the portal: cards, the end of a subscription, name and address. Each by what the API would do."""

from collections.abc import Callable
from dataclasses import replace

from billing.stripe.sandbox.cards import CARDS
from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.resources import customers, payment_methods, subscriptions
from billing.stripe.sandbox.resources.base import Body, Call, fetch
from billing.stripe.sandbox.resources.owners import live_customer, method_of

Form = dict[str, str]
Act = Callable[[Call, Body, Form], Body]


def _default(call: Call, customer: str, method: str) -> Body:
    params = {"invoice_settings": {"default_payment_method": method}}
    return customers.update(replace(call, path={"customer": customer}, params=params))


def add_card(call: Call, session: Body, form: Form) -> Body:
    """The new card becomes the default."""
    if form.get("card") not in CARDS:
        raise Refusal(f"card is one of {', '.join(CARDS)}", param="card")
    customer = live_customer(call, session["customer"])
    method = payment_methods.attached(call, payment_methods.new_card(call.of(customer), form["card"]), customer)
    return _default(call, customer["id"], method["id"])


def default(call: Call, session: Body, form: Form) -> Body:
    return _default(call, session["customer"], form.get("payment_method", ""))


def remove(call: Call, session: Body, form: Form) -> Body:
    method = method_of(call, session["customer"], form.get("payment_method", ""), param="payment_method")
    return payment_methods.detach(replace(call, path={"payment_method": method["id"]}, params={}))


def _allowed(call: Call, session: Body, feature: str) -> Body:
    configuration = fetch(call, "billing_portal.configuration", session["configuration"], noun="configuration", param="configuration")
    found: Body = configuration["features"][feature]
    if not found["enabled"]:
        raise Refusal(f"The portal's configuration does not allow {feature.replace('_', ' ')}.")
    return found


def _own(call: Call, session: Body, form: Form) -> Call:
    subscription = fetch(call, "subscription", form.get("subscription", ""), noun="subscription", param="subscription")
    if subscription["customer"] != session["customer"]:
        raise Refusal("This subscription is another customer's.", param="subscription")
    return replace(call, path={"subscription_exposed_id": subscription["id"]})


def cancel(call: Call, session: Body, form: Form) -> Body:
    how = _allowed(call, session, "subscription_cancel")
    call = _own(call, session, form)
    details = {name: form[name] for name in ("feedback", "comment") if form.get(name)}
    if how["mode"] == "immediately":
        prorate = how["proration_behavior"] != "none"
        return subscriptions.cancel(replace(call, params={"prorate": prorate, "cancellation_details": details}))
    return subscriptions.update(replace(call, params={"cancel_at_period_end": True, "cancellation_details": details}))


def keep(call: Call, session: Body, form: Form) -> Body:
    return subscriptions.update(replace(_own(call, session, form), params={"cancel_at_period_end": False}))


def update(call: Call, session: Body, form: Form) -> Body:
    """Name, e-mail and address."""
    _allowed(call, session, "customer_update")
    params: Body = {name: form[name] for name in ("name", "email") if form.get(name)}
    address = {name: form[name] for name in ("line1", "line2", "city", "postal_code", "state", "country") if form.get(name)}
    if address:
        params["address"] = address
    return customers.update(replace(call, path={"customer": session["customer"]}, params=params))


ACTS: dict[str, Act] = {"add_card": add_card, "default": default, "remove": remove, "cancel": cancel, "keep": keep, "update": update}
