"""Usage that Stripe took, and then could not count. It says so afterwards, by thin events with samples only."""

import logging

from billing.services.ports import Unit
from billing.services.ports_stripe import InboxRow
from billing.stripe.mirror.handling import Done, Found

log = logging.getLogger("weighbridge.stripe")


async def write_meter_errors(_unit: Unit, row: InboxRow, _found: Found | None, _now_ms: int) -> Done:
    """Nothing here can put it right by itself: `weighbridge reconcile` names what Stripe lacks."""
    log.error("Stripe could not count usage that it had taken (%s, event %s); run `weighbridge reconcile`", row.type, row.event_id)
    return Done()
