"""`POST /webhooks/stripe`: verify the bytes as they came, keep the event, answer. The work is done elsewhere, and afterwards.

Stripe sends again whatever is not answered with 2xx, for three days.
"""

import asyncio
from collections.abc import Callable

from aiohttp import web

from billing.model.webhook import MOST_BYTES
from billing.services.inbox import EventFaulty, Inbox, OtherSide, SignatureRefused
from metering.model.errors import BadInput, DependencyUnavailable

_HEADER = "Stripe-Signature"
_READ_SECONDS = 20.0


class BodyRefused(BadInput):
    """The body cannot be one of Stripe's."""

    code = "body_refused"


class StripeWebhook:
    """`came` is told what came of each request: new, duplicate, refused, unavailable."""

    def __init__(self, inbox: Callable[[], Inbox], came: Callable[[str], None]) -> None:
        self._inbox, self._came = inbox, came

    async def take(self, request: web.Request) -> web.Response:
        """Raises DependencyUnavailable, which is answered 503."""
        try:
            receipt = await self._inbox().receive(await _body(request), _signature(request))
        except (SignatureRefused, EventFaulty, OtherSide, BodyRefused) as exc:
            self._came("refused")
            return web.Response(text=f"Webhook Error: {exc}", status=400)
        except DependencyUnavailable:
            self._came("unavailable")
            raise
        self._came("new" if receipt.new else "duplicate")
        return web.json_response({"received": True})


async def _body(request: web.Request) -> bytes:
    """As it came: nothing is decompressed. Raises BodyRefused, before more than an event's length is held."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise BodyRefused("the body is encoded; Stripe sends it plain")
    parts, size = [], 0
    try:
        async with asyncio.timeout(_READ_SECONDS):
            async for part in request.content.iter_any():
                size += len(part)
                if size > MOST_BYTES:
                    raise BodyRefused(f"the body has more than {MOST_BYTES} bytes")
                parts.append(part)
    except (web.RequestPayloadError, OSError) as exc:  # a TimeoutError is one too
        raise BodyRefused("the body broke off, or took too long") from exc
    return b"".join(parts)


def _signature(request: web.Request) -> str:
    """Raises SignatureRefused where it is missing, or comes twice: then nobody could say which one counts."""
    given = request.headers.getall(_HEADER, [])
    if len(given) != 1:
        raise SignatureRefused(f"{_HEADER} is missing" if not given else f"{_HEADER} comes {len(given)} times")
    return given[0]
