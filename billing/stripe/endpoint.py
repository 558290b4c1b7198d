"""Have a Stripe send its events to us: for the sandbox, whose endpoint nobody makes by hand."""

from billing.stripe.client import Resource, StripeApi
from metering.model.clock import Clock


async def register(stripe: StripeApi, url: str, clock: Clock) -> str:
    """In place of an endpoint of this address that there may be, whose secret is not shown again. Returns the secret."""
    now = clock.now_ms()
    async for endpoint in stripe.find(Resource.WEBHOOK_ENDPOINT, {}):
        if endpoint["url"] == url:
            await stripe.act(Resource.WEBHOOK_ENDPOINT, endpoint["id"], "delete", {}, key=f"wb:endpoint:{endpoint['id']}:{now}")
    made = await stripe.create_once(Resource.WEBHOOK_ENDPOINT, {"url": url, "enabled_events": ["*"]}, key=f"wb:endpoint:{now}")
    return str(made["secret"])
