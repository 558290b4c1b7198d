"""What must stand at Stripe before usage can be reported: customer, product, prices, meters, subscription.

Each function may be run again at any point, after a crash at any step: it looks for what is there (by the id that was
kept, a product's own id, a price's lookup key, a meter's event name, metadata), and creates only what is missing.

Ids are kept as       (kind, key)
customer              (customer, <org id>)
subscription          (subscription, <org id>)
product               (product, <plan>) and (product, <plan>/<meter>)
price                 (price, <plan>/<version>/<currency>/<interval>/base) and (price, …/meter/<meter>)
meter                 (meter, <meter>), and what one unit of it is: (meter_report_size, <meter>)
"""

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from billing.model.delivery import Outcome
from billing.model.money import EXACT, minor_digits
from billing.stripe.client import Resource, StripeApi, StripeCallFailed
from billing.stripe.rows import Ids, Row
from metering.model.errors import BadInput

ORG_KEY = "weighbridge_org"
_CLOCKS_APART_SECONDS = 300  # how far Stripe's clock and ours may differ when we look for what an attempt created
_MOST_DECIMALS = 12  # of a minor unit, in unit_amount_decimal


class CannotBeTold(BadInput):
    """The row says something that Stripe cannot hold, or that contradicts what it holds."""

    code = "cannot_be_told"


class NotYet(Exception):
    """What this row stands on is not at Stripe yet."""


def event_name(meter: str) -> str:
    """Under which name a meter's events go to Stripe. Fixed for ever, there as here."""
    return f"weighbridge_{meter}"


async def ensure_customer(api: StripeApi, ids: Ids, row: Row) -> None:
    """The organization's customer, with the name and address it has now."""
    params = _customer_params(row.payload)
    known = await ids.get("customer", row.org_id) or await _customer_of_earlier_attempt(api, row)
    if known is None:
        customer = await api.create(Resource.CUSTOMER, params, key=f"wb:customer:{row.org_id}", tries=row.attempts)
        known = customer["id"]
    else:
        await api.update(Resource.CUSTOMER, known, params, key=f"wb:{row.identifier}", tries=row.attempts)
    await ids.keep("customer", row.org_id, known)


def _customer_params(payload: Mapping[str, Any]) -> dict[str, Any]:
    params: dict[str, Any] = {"name": payload["name"], "metadata": {ORG_KEY: payload["org_id"], "weighbridge_slug": payload["slug"]}}
    return params | ({"email": payload["email"]} if payload.get("email") else {})


async def _customer_of_earlier_attempt(api: StripeApi, row: Row) -> str | None:
    """A customer has no key of ours to look it up by, so those made since the first attempt are gone through."""
    if row.before_ms is None:
        return None
    since = row.before_ms // 1000 - _CLOCKS_APART_SECONDS
    async for customer in api.find(Resource.CUSTOMER, {"created": {"gte": since}}):
        if customer["metadata"].get(ORG_KEY) == row.org_id:
            return str(customer["id"])
    return None


async def ensure_plan(api: StripeApi, ids: Ids, row: Row) -> None:
    """The plan version's product and prices, and a meter for each meter that it prices."""
    plan = row.payload
    under = f"{plan['plan']}/{plan['version']}/{plan['currency']}/{plan['interval']}"
    known = await ids.under("price", f"{under}/")
    if plan["amount_minor"] is not None and f"{under}/base" not in known:
        product = await _product(api, ids, plan["plan"], plan["title"], tries=row.attempts)
        await ids.keep("price", f"{under}/base", await _base_price(api, plan, product, tries=row.attempts))
    for meter in plan["meters"]:
        meter_id = await _meter(api, ids, meter, tries=row.attempts)
        if f"{under}/meter/{meter['meter']}" not in known:
            name = f"{plan['title']}: {meter['title']}{'' if _in_steps(meter) else ' beyond what is included'} ({meter['report']})"
            product = await _product(api, ids, f"{plan['plan']}/{meter['meter']}", name, tries=row.attempts)
            price = await _overage_price(api, plan, meter, product, meter_id, tries=row.attempts)
            await ids.keep("price", f"{under}/meter/{meter['meter']}", price)


async def _product(api: StripeApi, ids: Ids, key: str, name: str, *, tries: int) -> str:
    product_id = "weighbridge_" + key.replace("/", "_meter_")
    known = await api.retrieve(Resource.PRODUCT, product_id)
    if known is None:
        params = {"id": product_id, "name": name, "metadata": {"weighbridge_plan": key}}
        try:
            await api.create(Resource.PRODUCT, params, key=f"wb:product:{product_id}", tries=tries)
        except StripeCallFailed as failure:
            if failure.error_code != "resource_already_exists":  # another deliverer was first
                raise
    elif known["name"] != name:
        await api.update(Resource.PRODUCT, product_id, {"name": name}, key=f"wb:product:{product_id}", tries=tries)
    await ids.keep("product", key, product_id)
    return product_id


async def _base_price(api: StripeApi, plan: Mapping[str, Any], product: str, *, tries: int) -> str:
    terms = {
        "product": product,
        "currency": plan["currency"],
        "unit_amount": plan["amount_minor"],
        "recurring": {"interval": plan["interval"], "usage_type": "licensed"},
    }
    lookup_key = f"weighbridge:{plan['plan']}:{plan['currency']}:{plan['interval']}:{plan['amount_minor']}"
    return await _price(api, lookup_key, terms, tries=tries)


async def _overage_price(
    api: StripeApi, plan: Mapping[str, Any], meter: Mapping[str, Any], product: str, meter_id: str, *, tries: int
) -> str:
    """Monthly whatever the base price's interval is: usage periods are months."""
    charged = charged_by(meter, plan["currency"])
    terms = {
        "product": product,
        "currency": plan["currency"],
        "recurring": {"interval": "month", "usage_type": "metered", "meter": meter_id},
        **charged,
    }
    amount = _digest(charged) if _in_steps(meter) else charged["unit_amount_decimal"]
    lookup_key = f"weighbridge:{plan['plan']}:{plan['currency']}:{meter['meter']}:{meter['report_size']}:{amount}"
    return await _price(api, lookup_key, terms, tries=tries)


def _in_steps(meter: Mapping[str, Any]) -> bool:
    """Tiers or packages of all that is used; else one price a unit."""
    return "tiers" in meter or "divide_by" in meter


def charged_by(meter: Mapping[str, Any], currency: str) -> dict[str, Any]:
    """The part of a price that says how much (billing/model/native.py), in Stripe's words."""
    if "tiers" in meter:
        tiers = [
            {
                "up_to": "inf" if tier["up_to"] is None else tier["up_to"],
                "unit_amount_decimal": unit_amount(Decimal(tier["each"]), currency),
                "flat_amount_decimal": unit_amount(Decimal(tier["flat"]), currency),
            }
            for tier in meter["tiers"]
        ]
        return {"billing_scheme": "tiered", "tiers_mode": meter["tiers_mode"], "tiers": tiers}
    each = {"unit_amount_decimal": unit_amount(Decimal(meter["each"]), currency), "billing_scheme": "per_unit"}
    return each | ({"transform_quantity": {"divide_by": meter["divide_by"], "round": "up"}} if "divide_by" in meter else {})


def _digest(charged: Mapping[str, Any]) -> str:
    """Short enough for a lookup key, and another one for other terms."""
    return hashlib.sha256(json.dumps(charged, sort_keys=True).encode()).hexdigest()[:32]


async def _price(api: StripeApi, lookup_key: str, terms: Mapping[str, Any], *, tries: int) -> str:
    """The price that its lookup key names. The key holds the terms, so equal versions share a price and no other is taken."""
    if found := await _looked_up(api, lookup_key):
        return found
    try:
        created = await api.create(Resource.PRICE, {**terms, "lookup_key": lookup_key}, key=f"wb:price:{lookup_key}", tries=tries)
    except StripeCallFailed as failure:
        if failure.outcome is Outcome.REFUSED and (found := await _looked_up(api, lookup_key)):
            return found  # another deliverer was first
        raise
    return str(created["id"])


async def _looked_up(api: StripeApi, lookup_key: str) -> str | None:
    async for price in api.find(Resource.PRICE, {"lookup_keys": [lookup_key], "active": True}):
        return str(price["id"])
    return None


def unit_amount(each: Decimal, currency: str) -> str:
    """The price of one report unit in minor units, as Stripe's unit_amount_decimal: $0.00005 is "0.005" cents.

    Raises CannotBeTold for more decimals than Stripe holds: it would round each unit.
    """
    minor = EXACT.scaleb(each, minor_digits(currency)).normalize(EXACT)
    exponent = minor.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > _MOST_DECIMALS:
        raise CannotBeTold(f"{each} {currency} a unit has more than {_MOST_DECIMALS} decimals of a minor unit")
    return format(minor, "f")


async def _meter(api: StripeApi, ids: Ids, meter: Mapping[str, Any], *, tries: int) -> str:
    """The meter at Stripe. Raises CannotBeTold if it counts in another unit already: its sums would mix the two."""
    name, size = meter["meter"], str(meter["report_size"])
    reported = await ids.get("meter_report_size", name)
    if reported not in (None, size):
        raise CannotBeTold(
            f"the meter {name} reports to Stripe in units of {reported}, and cannot change to {size}: "
            "a unit is fixed once reported. Name a new meter instead."
        )
    known = await ids.get("meter", name) or await _meter_at_stripe(api, name)
    if known is None:
        params = {
            "display_name": f"{meter['title']} ({meter['report']})",
            "event_name": event_name(name),
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
            "value_settings": {"event_payload_key": "value"},
        }
        try:
            known = str((await api.create(Resource.METER, params, key=f"wb:meter:{name}", tries=tries))["id"])
        except StripeCallFailed as failure:
            known = await _meter_at_stripe(api, name) if failure.outcome is Outcome.REFUSED else None
            if known is None:
                raise
    await ids.keep("meter_report_size", name, size)
    await ids.keep("meter", name, known)
    return known


async def _meter_at_stripe(api: StripeApi, meter: str) -> str | None:
    async for found in api.find(Resource.METER, {"status": "active"}):
        if found["event_name"] == event_name(meter):
            return str(found["id"])
    return None


async def send_meter_event(api: StripeApi, ids: Ids, row: Row) -> None:
    """One delta of overage, in report units. The identifier makes it count once."""
    customer = await ids.get("customer", row.org_id)
    if customer is None:
        raise NotYet("the customer is not at Stripe yet")
    params = {
        "event_name": event_name(row.payload["meter"]),
        "identifier": row.identifier,
        "timestamp": row.payload["timestamp"],
        "payload": {"stripe_customer_id": customer, "value": str(row.payload["value"])},
    }
    await api.create(Resource.METER_EVENT, params, key=f"wb:{row.identifier}", tries=row.attempts)
