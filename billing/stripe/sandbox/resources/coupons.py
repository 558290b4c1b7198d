"""Coupons, and the promotion codes that customers type for them."""

from decimal import Decimal

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.resources.base import Body, Call, created_within, currency, fetch, given_text, handles, metadata, page
from billing.stripe.sandbox.resources.discounts import coupon_ok
from billing.stripe.sandbox.resources.events import change, emit, keep
from billing.stripe.sandbox.resources.owners import live_customer
from billing.stripe.sandbox.resources.products import live_product
from billing.stripe.sandbox.resources.shown import part, shows
from billing.stripe.sandbox.store import new_id

_TAKES = {"id", "amount_off", "percent_off", "currency", "duration", "duration_in_months", "max_redemptions", "metadata", "name"}


@handles("PostCoupons")
def create(call: Call) -> Body:
    call.only(_TAKES | {"redeem_by", "applies_to"})
    given = call.params
    coupon_id = given.get("id") or new_id("x")[2:10]
    if call.store.get("coupon", coupon_id):
        raise Refusal(f"Coupon already exists: {coupon_id}", param="id", code="resource_already_exists")
    products = given.get("applies_to", {}).get("products", [])
    for product in products:
        live_product(call, product, param="applies_to[products]")
    coupon = spec.load().blank("coupon") | {
        "id": coupon_id,
        "object": "coupon",
        "created": call.now,
        "duration": given.get("duration", "once"),
        "duration_in_months": _months(call),
        "livemode": False,
        "max_redemptions": given.get("max_redemptions"),
        "metadata": metadata(given.get("metadata")),
        "name": given_text(call, "name"),
        "redeem_by": given.get("redeem_by"),
        "times_redeemed": 0,
        "valid": True,
        "_products": products,
        **_off(call),
    }
    if coupon["redeem_by"] is not None and coupon["redeem_by"] <= call.now:
        raise Refusal("redeem_by must be in the future.", param="redeem_by")
    return keep(call, coupon, "coupon.created")


def _months(call: Call) -> int | None:
    months = call.params.get("duration_in_months")
    if (months is None) == (call.params.get("duration") == "repeating"):
        raise Refusal("duration_in_months goes with duration=repeating, and it with that.", param="duration_in_months")
    if months is not None and months < 1:
        raise Refusal("Invalid duration_in_months: at least 1", param="duration_in_months")
    return months if months is None else int(months)


def _off(call: Call) -> Body:
    percent, amount = call.params.get("percent_off"), call.params.get("amount_off")
    if (percent is None) == (amount is None):
        raise Refusal("You must pass either percent_off or amount_off, and not both.", param="percent_off")
    if percent is not None:
        if not 0 < Decimal(percent) <= 100 or Decimal(percent) != round(Decimal(percent), 2):
            raise Refusal("Invalid percent_off: more than 0, at most 100, with two decimal places", param="percent_off")
        return {"percent_off": float(percent)}  # as Stripe answers it; its shortest decimal form is exact
    if "currency" not in call.params:
        raise Refusal("You must pass currency when passing amount_off.", param="currency", code="parameter_missing")
    if amount is None or amount <= 0:
        raise Refusal("Invalid amount_off: must be more than 0", param="amount_off")
    return {"amount_off": amount, "currency": currency(call.params["currency"])}


@shows("coupon")
def _shown(call: Call, coupon: Body) -> Body:
    return coupon | {"valid": coupon_ok(coupon, call.now)}


@part("coupon", "applies_to")
def _applies_to(_call: Call, coupon: Body) -> Body:
    return {"products": coupon["_products"]}


def _coupon(call: Call) -> Body:
    found = fetch(call, "coupon", call.path["coupon"], noun="coupon", param="coupon", status=404)
    if found.get("_deleted"):
        raise Refusal(f"No such coupon: '{found['id']}'", param="coupon", code="resource_missing", status=404)
    return found


@handles("GetCouponsCoupon")
def retrieve(call: Call) -> Body:
    call.only(())
    return _coupon(call)


@handles("PostCouponsCoupon")
def update(call: Call) -> Body:
    """Its terms never change."""
    call.only({"name", "metadata"})
    old = _coupon(call)
    notes = metadata(call.params.get("metadata"), old["metadata"])
    return change(call, old, old | {"name": given_text(call, "name", old["name"]), "metadata": notes}, "coupon.updated")


@handles("DeleteCouponsCoupon")
def delete(call: Call) -> Body:
    """It cannot be given any more; who has it keeps it."""
    call.only(())
    coupon = _coupon(call)
    call.store.replace("coupon", coupon | {"_deleted": True})
    emit(call, "coupon.deleted", coupon)
    return {"id": coupon["id"], "object": "coupon", "deleted": True}


@handles("GetCoupons")
def index(call: Call) -> Body:
    created = call.params.get("created")
    found = [_shown(call, c) for c in call.store.newest_first("coupon") if not c.get("_deleted") and created_within(c, created)]
    return page(call, found, filters=("created",))


@handles("PostPromotionCodes")
def create_code(call: Call) -> Body:
    call.only({"active", "code", "customer", "expires_at", "max_redemptions", "metadata", "promotion", "restrictions"})
    coupon = fetch(call, "coupon", call.params["promotion"].get("coupon", ""), noun="coupon", param="promotion[coupon]")
    if not coupon_ok(coupon, call.now):
        raise Refusal(f"Coupon expired: {coupon['id']}", param="promotion[coupon]", code="coupon_expired")
    code = call.params.get("code") or new_id("x")[2:10].upper()
    for other in call.store.newest_first("promotion_code"):
        if other["active"] and other["code"].lower() == code.lower():
            raise Refusal(f"An active promotion code with `code: {code}` already exists.", param="code")
    if "customer" in call.params:
        live_customer(call, call.params["customer"])
    restrictions = {"first_time_transaction": False, "minimum_amount": None, "minimum_amount_currency": None}
    promotion = spec.load().blank("promotion_code") | {
        "id": new_id("promo"),
        "object": "promotion_code",
        "active": call.params.get("active", True),
        "code": code,
        "created": call.now,
        "customer": call.params.get("customer"),
        "expires_at": call.params.get("expires_at"),
        "livemode": False,
        "max_redemptions": call.params.get("max_redemptions"),
        "metadata": metadata(call.params.get("metadata")),
        "promotion": {"type": "coupon", "coupon": coupon["id"]},
        "restrictions": restrictions | call.params.get("restrictions", {}),
        "times_redeemed": 0,
    }
    return keep(call, promotion, "promotion_code.created")


@handles("GetPromotionCodesPromotionCode")
def retrieve_code(call: Call) -> Body:
    call.only(())
    return fetch(call, "promotion_code", call.path["promotion_code"], noun="promotion code", param="id", status=404)


@handles("PostPromotionCodesPromotionCode")
def update_code(call: Call) -> Body:
    call.only({"active", "metadata"})
    old = fetch(call, "promotion_code", call.path["promotion_code"], noun="promotion code", param="id", status=404)
    notes = metadata(call.params.get("metadata"), old["metadata"])
    return change(call, old, old | {"active": call.params.get("active", old["active"]), "metadata": notes}, "promotion_code.updated")


@handles("GetPromotionCodes")
def index_codes(call: Call) -> Body:
    wanted = {name: call.params[name] for name in ("active", "customer") if name in call.params}
    code, coupon = call.params.get("code"), call.params.get("coupon")
    found = [
        each
        for each in call.store.newest_first("promotion_code")
        if all(each[name] == value for name, value in wanted.items())
        and (code is None or each["code"].lower() == code.lower())
        and coupon in (None, each["promotion"]["coupon"])
        and created_within(each, call.params.get("created"))
    ]
    return page(call, found, filters=(*wanted, "code", "coupon", "created"))
