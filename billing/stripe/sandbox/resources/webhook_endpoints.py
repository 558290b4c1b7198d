"""Webhook endpoints. The secret is shown once, when the endpoint is made, as at Stripe."""

from urllib.parse import urlsplit

from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.resources.base import Body, Call, fetch, given_text, handles, metadata, page
from billing.stripe.sandbox.store import new_id

_TAKES = {"url", "enabled_events", "description", "metadata"}


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refusal("Invalid URL: An explicit scheme (such as https) must be provided.", param="url", code="url_invalid")
    return text


@handles("PostWebhookEndpoints")
def create(call: Call) -> Body:
    call.only(_TAKES | {"api_version"})
    if not call.params["enabled_events"]:
        raise Refusal("You must specify at least one event.", param="enabled_events")
    secret = new_id("whsec")
    endpoint = {
        "id": new_id("we"),
        "object": "webhook_endpoint",
        "api_version": call.params.get("api_version"),
        "application": None,
        "created": call.now,
        "description": given_text(call, "description"),
        "enabled_events": call.params["enabled_events"],
        "livemode": False,
        "metadata": metadata(call.params.get("metadata")),
        "status": "enabled",
        "url": _url(call.params["url"]),
        "_secret": secret,
    }
    call.store.insert("webhook_endpoint", endpoint)
    return endpoint | {"secret": secret}


def _stored(call: Call) -> Body:
    endpoint_id = call.path["webhook_endpoint"]
    found = fetch(call, "webhook_endpoint", endpoint_id, noun="webhook endpoint", param="id", status=404)
    if found.get("deleted"):
        raise Refusal(f"No such webhook endpoint: '{endpoint_id}'", param="id", code="resource_missing", status=404)
    return found


@handles("GetWebhookEndpointsWebhookEndpoint")
def retrieve(call: Call) -> Body:
    call.only(())
    return _stored(call)


@handles("PostWebhookEndpointsWebhookEndpoint")
def update(call: Call) -> Body:
    call.only(_TAKES | {"disabled"})
    endpoint = _stored(call)
    endpoint |= {
        "url": _url(call.params.get("url", endpoint["url"])),
        "enabled_events": call.params.get("enabled_events", endpoint["enabled_events"]),
        "description": given_text(call, "description", endpoint["description"]),
        "metadata": metadata(call.params.get("metadata"), endpoint["metadata"]),
    }
    if "disabled" in call.params:
        endpoint["status"] = "disabled" if call.params["disabled"] else "enabled"
    call.store.replace("webhook_endpoint", endpoint)
    return endpoint


@handles("DeleteWebhookEndpointsWebhookEndpoint")
def delete(call: Call) -> Body:
    """What was queued for it is dropped."""
    call.only(())
    gone = {"id": _stored(call)["id"], "object": "webhook_endpoint", "deleted": True}
    call.store.replace("webhook_endpoint", gone | {"enabled_events": [], "status": "disabled"})
    call.store.drop_deliveries(gone["id"])
    return gone


@handles("GetWebhookEndpoints")
def index(call: Call) -> Body:
    return page(call, [endpoint for endpoint in call.store.newest_first("webhook_endpoint") if not endpoint.get("deleted")])
