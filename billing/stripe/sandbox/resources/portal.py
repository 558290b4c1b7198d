"""Billing portal sessions, and what the portal lets a customer do. Its page is the sandbox's own (pages.py)."""

from typing import Any

from billing.stripe.sandbox.errors import Refusal, missing_parameter, not_imitated
from billing.stripe.sandbox.resources.base import Body, Call, fetch, given_text, handles, metadata, page
from billing.stripe.sandbox.resources.events import change, keep
from billing.stripe.sandbox.resources.owners import live_customer
from billing.stripe.sandbox.store import new_id

_CONFIGURATION = "billing_portal.configuration"
_TAKES = {"business_profile", "default_return_url", "features", "metadata", "name", "active"}
_REASONS = ["too_expensive", "missing_features", "switched_service", "unused", "customer_service", "too_complex", "low_quality", "other"]
_FEATURES: Body = {
    "customer_update": {"allowed_updates": ["email", "address", "name", "tax_id"], "enabled": True},
    "invoice_history": {"enabled": True},
    "payment_method_update": {"enabled": True, "payment_method_configuration": None},
    "subscription_cancel": {
        "cancellation_reason": {"enabled": True, "options": _REASONS},
        "enabled": True,
        "mode": "at_period_end",
        "proration_behavior": "none",
    },
    "subscription_update": {
        "billing_cycle_anchor": "unchanged",
        "default_allowed_updates": [],
        "enabled": False,
        "products": None,
        "proration_behavior": "none",
        "schedule_at_period_end": {"conditions": []},
        "trial_update_behavior": "end_trial",
    },
}


def _features(given: Body, old: Body | None = None) -> Body:
    """Each as given over what it was; one that was never named is off in a new configuration."""
    base = old or {name: dict(feature, enabled=False) for name, feature in _FEATURES.items()}
    merged = {name: feature | _plain(given.get(name, {})) for name, feature in base.items()}
    merged["subscription_cancel"]["cancellation_reason"] = {"options": [], "enabled": False} | merged["subscription_cancel"][
        "cancellation_reason"
    ]
    return merged


def _plain(feature: Body) -> Body:
    return {name: [] if value == "" else value for name, value in feature.items()}


def _new(call: Call, features: Body, *, default: bool, **more: Any) -> Body:
    body = {
        "id": new_id("bpc"),
        "object": _CONFIGURATION,
        "active": True,
        "application": None,
        "business_profile": {"headline": None, "privacy_policy_url": None, "terms_of_service_url": None},
        "created": call.now,
        "default_return_url": None,
        "features": features,
        "is_default": default,
        "livemode": False,
        "login_page": {"enabled": False, "url": None},
        "metadata": {},
        "name": None,
        "updated": call.now,
    }
    return keep(call, body | more, "billing_portal.configuration.created")


def _default(call: Call) -> Body:
    """The one that is used where none is named; it is there from the first time it is needed."""
    found = [each for each in call.store.newest_first(_CONFIGURATION) if each["is_default"]]
    return found[0] if found else _new(call, _FEATURES, default=True)


def _described(call: Call, old: Body) -> Body:
    given = call.params
    found: Body = {
        "default_return_url": given_text(call, "default_return_url", old.get("default_return_url")),
        "metadata": metadata(given.get("metadata"), old.get("metadata")),
        "name": given_text(call, "name", old.get("name")),
    }
    if "business_profile" in given:
        empty = {"headline": None, "privacy_policy_url": None, "terms_of_service_url": None}
        found["business_profile"] = empty | old.get("business_profile", {}) | {n: v or None for n, v in given["business_profile"].items()}
    if "active" in given:
        found["active"] = given["active"]
    return found


@handles("PostBillingPortalConfigurations")
def create_configuration(call: Call) -> Body:
    call.only(_TAKES - {"active"})
    return _new(call, _features(call.params["features"]), default=False, **_described(call, {}))


def _configuration(call: Call) -> Body:
    return fetch(call, _CONFIGURATION, call.path["configuration"], noun="configuration", param="configuration", status=404)


@handles("GetBillingPortalConfigurationsConfiguration")
def retrieve_configuration(call: Call) -> Body:
    call.only(())
    return _configuration(call)


@handles("PostBillingPortalConfigurationsConfiguration")
def update_configuration(call: Call) -> Body:
    call.only(_TAKES)
    old = _configuration(call)
    new = old | _described(call, old) | {"features": _features(call.params.get("features", {}), old["features"]), "updated": call.now}
    return change(call, old, new, "billing_portal.configuration.updated")


@handles("GetBillingPortalConfigurations")
def index_configurations(call: Call) -> Body:
    wanted = {name: call.params[name] for name in ("active", "is_default") if name in call.params}
    _default(call)
    found = [each for each in call.store.newest_first(_CONFIGURATION) if all(each[name] == value for name, value in wanted.items())]
    return page(call, found, filters=tuple(wanted))


@handles("PostBillingPortalSessions")
def create(call: Call) -> Body:
    call.only({"customer", "configuration", "flow_data", "locale", "return_url"})
    if "customer" not in call.params:
        raise missing_parameter("customer")
    customer = live_customer(call, call.params["customer"])
    chosen = call.params.get("configuration")
    configuration = fetch(call, _CONFIGURATION, chosen, noun="configuration", param="configuration") if chosen else _default(call)
    session_id = new_id("bps")
    url = call.params.get("return_url", configuration["default_return_url"])
    if url is not None and not url.startswith(("http://", "https://")):
        raise Refusal("Not a valid URL", param="return_url", code="url_invalid")
    session = {
        "id": session_id,
        "object": "billing_portal.session",
        "configuration": configuration["id"],
        "created": call.of(customer).now,
        "customer": customer["id"],
        "customer_account": None,
        "flow": _flow(call.params.get("flow_data")),
        "livemode": False,
        "locale": call.params.get("locale"),
        "on_behalf_of": None,
        "return_url": url,
        "url": f"{call.store.setting('url', '')}/_sandbox/portal/{session_id}",
    }
    return keep(call, session, "billing_portal.session.created")


def _flow(given: Body | None) -> Body | None:
    if given is None:
        return None
    kind = given["type"]
    if kind not in ("payment_method_update", "subscription_cancel"):
        raise not_imitated(f"the portal flow {kind}", "flow_data[type]")
    after = given.get("after_completion", {"type": "portal_homepage"})
    found = {
        "after_completion": {"hosted_confirmation": None, "redirect": None} | after,
        "customer_update": None,
        "subscription_cancel": None,
        "subscription_update": None,
        "subscription_update_confirm": None,
        "type": kind,
    }
    if kind == "subscription_cancel":
        found["subscription_cancel"] = {"retention": None, "subscription": given["subscription_cancel"]["subscription"]}
    return found
