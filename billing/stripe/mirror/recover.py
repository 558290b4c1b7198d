"""Fetch from Stripe the events that never arrived: those whose delivery failed, and those of a time in which nobody listened.

An address that Stripe cannot reach (a laptop) is served by this alone, some minutes later. Stripe keeps events for 30 days.
"""

import json
from collections.abc import Mapping
from typing import Any

from billing.model.webhook import EventFaulty, StripeEvent, event_of
from billing.services.inbox import Inbox
from billing.services.ports import Books
from billing.stripe.client import Resource, StripeApi
from billing.stripe.mirror.registry import HANDLINGS
from metering.model.clock import Clock

_LAP_MS = 600_000  # events are listed in the order they were made, and may become visible a little later
_FIRST_MS = 3 * 86_400_000  # how far back the first look goes, as far as Stripe itself tries again
_MOST = 5000


async def recover(books: Books, stripe: StripeApi, inbox: Inbox, clock: Clock) -> list[str]:
    """The ids of those that were missing, now in the inbox. Raises StripeCallFailed, OtherSide."""
    async with books.transaction() as unit:
        newest_ms = await unit.inbox.stands()
    since_ms = newest_ms - _LAP_MS if newest_ms is not None else clock.now_ms() - _FIRST_MS
    missed = await _listed(stripe, {"delivery_success": False})
    lately = await _listed(stripe, {"created": {"gte": max(0, since_ms // 1000)}})
    found = {event.id: event for event in (*missed, *lately)}
    # In the order in which they happened: of each object, the first is worked through first.
    return await inbox.take_in(sorted(found.values(), key=lambda event: event.created_ms)) if found else []


async def _listed(stripe: StripeApi, params: Mapping[str, Any]) -> list[StripeEvent]:
    found: list[StripeEvent] = []
    async for item in stripe.find(Resource.EVENT, params):
        if len(found) == _MOST:
            break
        if item.get("type") in HANDLINGS:
            try:
                found.append(event_of(_as_sent(item)))
            except EventFaulty:
                continue  # nothing that an endpoint would have been sent
    return found


def _as_sent(item: Mapping[str, Any]) -> Any:
    """As an endpoint would have been sent it: the SDK reads decimals, which Stripe sends as strings."""
    return json.loads(json.dumps(item, default=str))
