"""What comes on top of a subscription's prices at Stripe, or off them: taxes and coupons; and the customer that pays.

A subscription that is not there yet gets what was told of it before: the tax under the id ("subscription_tax", organization), which is
automatic, none, or a tax rate's; a coupon under ("discount_waiting", organization/code).
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from billing.model.tax import percent
from billing.stripe.client import Resource, StripeApi, StripeCallFailed
from billing.stripe.objects import NotYet
from billing.stripe.rows import Ids, Row

CREDIT_KEY = "weighbridge_credit"
AUTOMATIC, NO_TAX = "automatic", "none"
TAX, WAITING = "subscription_tax", "discount_waiting"


async def update_customer(api: StripeApi, ids: Ids, row: Row) -> None:
    """Contact, address, language, as they are here."""
    customer = await ids.get("customer", row.org_id)
    if customer is None:
        raise NotYet("its customer is not at Stripe yet")
    told = row.payload
    params: dict[str, Any] = {name: told[name] for name in ("name", "email", "phone", "address")}
    if not any(told["address"].values()):
        params["address"] = ""
    if told["language"]:
        params["preferred_locales"] = [told["language"]]
    await api.update(Resource.CUSTOMER, customer, params, key=f"wb:{row.identifier}", tries=row.attempts)


async def send_credit(api: StripeApi, ids: Ids, row: Row) -> None:
    """Stripe's balance is what the customer owes: credit is below zero there. Looked for before it is sent again."""
    customer = await ids.get("customer", row.org_id)
    if customer is None:
        raise NotYet("its customer is not at Stripe yet")
    if row.before_ms is not None:
        async for entry in api.balance_of(customer):
            if entry["metadata"].get(CREDIT_KEY) == row.identifier:
                return
    told = row.payload
    params = {
        "amount": -told["amount_minor"], "currency": told["currency"], "description": told["description"],
        "metadata": {CREDIT_KEY: row.identifier},
    }  # fmt: skip
    await api.add_to_balance(customer, params, key=f"wb:{row.identifier}", tries=row.attempts)


async def set_tax(api: StripeApi, ids: Ids, row: Row, current: Mapping[str, Any] | None) -> None:
    """`current` is the subscription that runs, None where there is none yet."""
    how = AUTOMATIC if row.payload["automatic"] else NO_TAX
    if Decimal(row.payload["rate"]) > 0:
        how = await _tax_rate(api, ids, row)
    await ids.keep(TAX, row.org_id, how)
    if current is not None:
        params = tax_params(how, running=True)
        await api.update(Resource.SUBSCRIPTION, current["id"], params, key=f"wb:{row.identifier}", tries=row.attempts)


def tax_params(how: str | None, *, running: bool = False) -> dict[str, Any]:
    """For a subscription; of one that is `running` also what is to be taken away."""
    if how == AUTOMATIC:
        return {"automatic_tax": {"enabled": True}} | ({"default_tax_rates": ""} if running else {})
    rates: dict[str, Any] = {"default_tax_rates": [how]} if how and how != NO_TAX else {"default_tax_rates": ""} if running else {}
    return rates | ({"automatic_tax": {"enabled": False}} if running else {})


async def _tax_rate(api: StripeApi, ids: Ids, row: Row) -> str:
    """Stripe keeps a rate for ever, so one stands for every subscription that it is due on."""
    rate, inclusive = percent(Decimal(row.payload["rate"])), bool(row.payload["inclusive"])
    key = f"{rate}/{'inclusive' if inclusive else 'exclusive'}"
    known = await ids.get("tax_rate", key)
    if known is None:
        params = {"display_name": "Tax", "percentage": rate, "inclusive": inclusive, "metadata": {"weighbridge_rate": key}}
        known = (await api.create(Resource.TAX_RATE, params, key=f"wb:tax_rate:{key}", tries=row.attempts))["id"]
        await ids.keep("tax_rate", key, known)
    return known


async def add_discount(api: StripeApi, ids: Ids, row: Row, current: Mapping[str, Any] | None) -> None:
    """A discount that runs keeps running: one that is named by its own id does not begin anew."""
    code = row.payload["coupon"]
    await _ensure_coupon(api, row)
    if current is None:
        await ids.keep(WAITING, f"{row.org_id}/{code}", code)
        return
    running = await _discounts(api, current["id"])
    if code not in running:
        params = {"discounts": [*({"discount": discount} for discount in running.values()), {"coupon": code}]}
        await api.update(Resource.SUBSCRIPTION, current["id"], params, key=f"wb:{row.identifier}", tries=row.attempts)


async def remove_discount(api: StripeApi, ids: Ids, row: Row, current: Mapping[str, Any] | None) -> None:
    code = row.payload["coupon"]
    await ids.forget(WAITING, f"{row.org_id}/{code}")
    running = await _discounts(api, current["id"]) if current is not None else {}
    if current is not None and code in running:
        params = {"discounts": [{"discount": discount} for coupon, discount in running.items() if coupon != code] or ""}
        await api.update(Resource.SUBSCRIPTION, current["id"], params, key=f"wb:{row.identifier}", tries=row.attempts)


async def first_terms(ids: Ids, org_id: str) -> dict[str, Any]:
    """What a subscription that is made now begins with."""
    waiting = sorted((await ids.under(WAITING, f"{org_id}/")).values())
    discounts = {"discounts": [{"coupon": code} for code in waiting]} if waiting else {}
    return tax_params(await ids.get(TAX, org_id)) | discounts


async def forget_waiting(ids: Ids, org_id: str) -> None:
    """The subscription that they waited for has them."""
    for key in await ids.under(WAITING, f"{org_id}/"):
        await ids.forget(WAITING, key)


async def _discounts(api: StripeApi, subscription_id: str) -> dict[str, str]:
    """Coupon -> the discount by which the subscription has it."""
    found = await api.retrieve(Resource.SUBSCRIPTION, subscription_id, expand=["discounts"])
    return {_coupon_of(discount): discount["id"] for discount in (found or {}).get("discounts") or []}


def _coupon_of(discount: Mapping[str, Any]) -> str:
    """Since 2025 under `source`."""
    coupon = (discount.get("source") or {}).get("coupon") or discount.get("coupon")
    return str(coupon["id"] if isinstance(coupon, Mapping) else coupon)


async def _ensure_coupon(api: StripeApi, row: Row) -> None:
    """Who may redeem it, how often and until when, is decided here: Stripe's has no limits of its own."""
    told = row.payload
    if await api.retrieve(Resource.COUPON, told["coupon"]) is not None:
        return
    params: dict[str, Any] = {"id": told["coupon"], "name": told["name"], "duration": told["duration"]}
    if told["months"] is not None:
        params["duration_in_months"] = told["months"]
    if "percent_off" in told:
        params["percent_off"] = told["percent_off"]
    else:
        params |= {"amount_off": told["amount_minor"], "currency": told["currency"]}
    try:
        await api.create(Resource.COUPON, params, key=f"wb:coupon:{told['coupon']}", tries=row.attempts)
    except StripeCallFailed as failure:
        if failure.error_code != "resource_already_exists":  # another deliverer was first
            raise
