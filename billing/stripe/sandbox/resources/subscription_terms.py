"""What a subscription is told by a request, beside its items: when it starts, tries, collects, pauses and ends."""

from typing import Any

from billing.stripe.sandbox.errors import Refusal, missing_parameter, not_imitated
from billing.stripe.sandbox.resources.automatic_tax import asked_of_subscription
from billing.stripe.sandbox.resources.base import Body, Call, given_text, metadata
from billing.stripe.sandbox.resources.cycles import Anchor, boundary, next_match
from billing.stripe.sandbox.resources.discounts import given_discounts
from billing.stripe.sandbox.resources.owners import method_of
from billing.stripe.sandbox.resources.subscription_body import items_of
from billing.stripe.sandbox.resources.tax_rates import rates_given

_MOST_TRIAL_DAYS, _DAY = 730, 86_400


def schedule(call: Call, prices: list[Body]) -> Body:
    """Start, trial and anchor of a new one. `_anchor_day` is ours: a 31st that the anchor's month lacks."""
    now, params = call.now, call.params
    start = params.get("backdate_start_date", now)
    if start > now:
        raise Refusal("backdate_start_date must be in the past.", param="backdate_start_date")
    end = trial_end(call)
    config, chosen = params.get("billing_cycle_anchor_config"), params.get("billing_cycle_anchor")
    if config is not None and chosen is not None:
        raise Refusal("You may only specify one of billing_cycle_anchor and billing_cycle_anchor_config.", param="billing_cycle_anchor")
    earliest = max(now, end or now)
    anchor = next_match(config, earliest) if config else Anchor.at(chosen if chosen is not None else earliest)
    if chosen is not None:
        _check_anchor(chosen, now, prices)
    parts = ("day_of_month", "hour", "minute", "month", "second")
    return {
        "billing_cycle_anchor": anchor.instant,
        "_anchor_day": anchor.day,
        "billing_cycle_anchor_config": {part: config.get(part) for part in parts} if config else None,
        "start_date": start,
        "trial_start": now if end else None,
        "trial_end": end,
        "_warned": False,
    }


def _check_anchor(chosen: int, now: int, prices: list[Body]) -> None:
    if chosen <= now:
        raise Refusal("billing_cycle_anchor must be in the future.", param="billing_cycle_anchor")
    for price in prices:
        if chosen > boundary(Anchor.at(now), price["recurring"]["interval"], price["recurring"]["interval_count"], 1):
            raise Refusal("billing_cycle_anchor cannot be later than next natural billing date", param="billing_cycle_anchor")


def trial_end(call: Call) -> int | None:
    """When the trial ends that was asked for; None for `now`, or where none was."""
    days, end = call.params.get("trial_period_days"), call.params.get("trial_end")
    if days is not None and end is not None:
        raise Refusal("You may only specify one of these parameters: trial_end, trial_period_days.", param="trial_end")
    if days is not None:
        end = call.now + days * _DAY
    if end is None or end == "now":
        return None
    if not call.now < int(end) <= call.now + _MOST_TRIAL_DAYS * _DAY:
        raise Refusal("Invalid trial: it ends in the future, within two years.", param="trial_end")
    return int(end)


def collection(call: Call, old: Body) -> Body:
    method = call.params.get("collection_method", old["collection_method"])
    due = call.params.get("days_until_due", old.get("days_until_due"))
    if method == "send_invoice" and due is None:
        raise missing_parameter("days_until_due")
    if method != "send_invoice" and "days_until_due" in call.params:
        raise Refusal("days_until_due is only for collection_method=send_invoice.", param="days_until_due")
    return {"collection_method": method, "days_until_due": due if method == "send_invoice" else None}


def described(call: Call, old: Body, customer: str, subscription_id: str) -> Body:
    """Texts, cards, taxes, discounts: what a request gives, over what stood there."""
    given = call.params
    found: Body = {
        "description": given_text(call, "description", old.get("description")),
        "metadata": metadata(given.get("metadata"), old.get("metadata")),
    }
    if "default_payment_method" in given:
        chosen = given["default_payment_method"]
        found["default_payment_method"] = method_of(call, customer, chosen, param="default_payment_method")["id"] if chosen else None
    if "default_tax_rates" in given:
        found["default_tax_rates"] = rates_given(call, given["default_tax_rates"], "default_tax_rates")
    if "discounts" in given:
        owner = {"customer": customer, "subscription": subscription_id}
        found["discounts"] = given_discounts(call, given["discounts"], old.get("discounts", []), **owner)
    if "trial_settings" in given:
        found["trial_settings"] = given["trial_settings"]
    if "automatic_tax" in given:
        found["automatic_tax"] = asked_of_subscription(given["automatic_tax"])
    if "payment_settings" in given:
        found["payment_settings"] = _payment_settings(given["payment_settings"])
    return found


def _payment_settings(given: Body) -> Body:
    for name in given:
        if name not in ("save_default_payment_method", "payment_method_types"):
            raise not_imitated(f"payment_settings[{name}]", f"payment_settings[{name}]")
    return {"payment_method_options": None, "payment_method_types": None, "save_default_payment_method": "off"} | given


def ending(call: Call, subscription: Body) -> Body:
    """cancel_at_period_end, cancel_at and the reason that was given."""
    given, found = call.params, {}
    if "cancel_at_period_end" in given and given.get("cancel_at"):
        raise Refusal("You may only specify one of these parameters: cancel_at, cancel_at_period_end.", param="cancel_at")
    if "cancel_at_period_end" in given:
        at = _period_end(call, subscription, min) if given["cancel_at_period_end"] else None
        found = {"cancel_at_period_end": given["cancel_at_period_end"], "cancel_at": at, "canceled_at": call.now if at else None}
    elif "cancel_at" in given:
        at = _cancel_at(call, subscription, given["cancel_at"])
        found = {"cancel_at_period_end": False, "cancel_at": at, "canceled_at": call.now if at else None}
    details = dict(subscription["cancellation_details"])
    if found:
        details["reason"] = "cancellation_requested" if found["cancel_at"] else None
    return found | {"cancellation_details": details | reasons(call)}


def reasons(call: Call) -> Body:
    given = call.params.get("cancellation_details", {})
    return {name: given[name] or None for name in ("comment", "feedback") if name in given}


def _period_end(call: Call, subscription: Body, pick: Any) -> int:
    if subscription["status"] == "trialing":
        return int(subscription["trial_end"])
    return int(pick(item["current_period_end"] for item in items_of(call, subscription["id"])))


def _cancel_at(call: Call, subscription: Body, wanted: Any) -> int | None:
    if wanted == "":
        return None
    if wanted in ("min_period_end", "max_period_end"):
        return _period_end(call, subscription, min if wanted == "min_period_end" else max)
    if not isinstance(wanted, int):
        raise not_imitated(f"cancel_at={wanted}", "cancel_at")
    if wanted <= call.now:
        raise Refusal("cancel_at must be in the future.", param="cancel_at")
    return wanted


def pause(call: Call, subscription: Body) -> Body | None:
    given = call.params.get("pause_collection", subscription["pause_collection"])
    return {"behavior": given["behavior"], "resumes_at": given.get("resumes_at")} if given else None
