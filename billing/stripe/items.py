"""Invoice items at Stripe: a line that was rated here, because Stripe has no such arithmetic, for the next invoice that it writes.

May be run again at any point: an item says in its metadata which row it is from, and is looked for before it is made again.
"""

from datetime import datetime
from typing import Any

from billing.stripe.client import Resource, StripeApi
from billing.stripe.objects import NotYet
from billing.stripe.rows import Ids, Row
from metering.model.clock import to_ms

ITEM_KEY = "weighbridge_item"
_CLOCKS_APART_SECONDS = 300  # how far Stripe's clock and ours may differ when we look for what an attempt created


async def send_invoice_item(api: StripeApi, ids: Ids, row: Row) -> None:
    """One amount, below zero where usage was taken back. It joins the invoice of the customer's subscription, where there is one."""
    customer = await ids.get("customer", row.org_id)
    if customer is None:
        raise NotYet("the customer is not at Stripe yet")
    if await _of_earlier_attempt(api, customer, row):
        return
    payload = row.payload
    params: dict[str, Any] = {
        "customer": customer,
        "amount": payload["amount_minor"],
        "currency": payload["currency"],
        "description": payload["description"],
        "period": {"start": _seconds(payload["period_start"]), "end": _seconds(payload["period_end"])},
        "metadata": {ITEM_KEY: row.identifier, "weighbridge_meter": payload["meter"] or "", "weighbridge_quantity": payload["quantity"]},
    }
    if subscription := await _running(api, ids, row.org_id):
        params["subscription"] = subscription
    await api.create(Resource.INVOICE_ITEM, params, key=f"wb:{row.identifier}", tries=row.attempts)


async def _running(api: StripeApi, ids: Ids, org_id: str) -> str | None:
    """The subscription that the item's invoice is of; one that has ended takes none."""
    known = await ids.get("subscription", org_id)
    found = await api.retrieve(Resource.SUBSCRIPTION, known) if known else None
    return None if found is None or found["status"] in ("canceled", "incomplete_expired") else known


async def _of_earlier_attempt(api: StripeApi, customer: str, row: Row) -> bool:
    """Whether an attempt whose answer was lost made it."""
    if row.before_ms is None:
        return False
    since = row.before_ms // 1000 - _CLOCKS_APART_SECONDS
    async for item in api.find(Resource.INVOICE_ITEM, {"customer": customer, "created": {"gte": since}}):
        if item["metadata"].get(ITEM_KEY) == row.identifier:
            return True
    return False


def _seconds(instant: str) -> int:
    return to_ms(datetime.fromisoformat(instant)) // 1000
