"""Items of a subscription one by one. Each change is a change of its subscription, with the same prorations."""

from dataclasses import replace

from billing.stripe.sandbox.errors import no_such
from billing.stripe.sandbox.resources import subscriptions
from billing.stripe.sandbox.resources.base import Body, Call, fetch, handles
from billing.stripe.sandbox.resources.subscription_body import items_of

_ABOUT_ALL = ("proration_behavior", "proration_date", "payment_behavior", "off_session")
_ABOUT_ONE = ("price", "quantity", "metadata", "tax_rates")


def _stored(call: Call) -> Body:
    item = fetch(call, "item", call.path["item"], noun="subscription_item", param="item", status=404)
    if item.get("deleted"):
        raise no_such("subscription_item", item["id"], param="item", status=404)
    return item


def _change(call: Call, subscription: str, item: Body) -> None:
    params: Body = {name: call.params[name] for name in _ABOUT_ALL if name in call.params}
    subscriptions.update(replace(call, path={"subscription_exposed_id": subscription}, params=params | {"items": [item]}))


@handles("PostSubscriptionItems")
def create(call: Call) -> Body:
    call.only({*_ABOUT_ALL, *_ABOUT_ONE, "subscription"})
    before = {item["id"] for item in items_of(call, call.params["subscription"])}
    _change(call, call.params["subscription"], {name: call.params[name] for name in _ABOUT_ONE if name in call.params})
    return next(item for item in items_of(call, call.params["subscription"]) if item["id"] not in before)


@handles("GetSubscriptionItemsItem")
def retrieve(call: Call) -> Body:
    call.only(())
    return _stored(call)


@handles("PostSubscriptionItemsItem")
def update(call: Call) -> Body:
    call.only({*_ABOUT_ALL, *_ABOUT_ONE})
    item = _stored(call)
    _change(call, item["subscription"], {"id": item["id"]} | {name: call.params[name] for name in _ABOUT_ONE if name in call.params})
    return _stored(call)


@handles("DeleteSubscriptionItemsItem")
def delete(call: Call) -> Body:
    call.only({*_ABOUT_ALL, "clear_usage"})
    item = _stored(call)
    _change(call, item["subscription"], {"id": item["id"], "deleted": True, "clear_usage": call.params.get("clear_usage", False)})
    return {"id": item["id"], "object": "subscription_item", "deleted": True}
