"""Discounts: a coupon at work on a customer, a subscription or an invoice. Which coupons there are stands in coupons.py."""

from decimal import Decimal

from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.invoice_math import Discount
from billing.stripe.sandbox.resources.base import Body, Call, fetch
from billing.stripe.sandbox.resources.cycles import Anchor, boundary
from billing.stripe.sandbox.resources.events import keep
from billing.stripe.sandbox.store import new_id


def coupon_ok(coupon: Body, now: int) -> bool:
    """Whether a coupon can still be given to somebody."""
    used_up = coupon["max_redemptions"] is not None and coupon["times_redeemed"] >= coupon["max_redemptions"]
    over = coupon["redeem_by"] is not None and now >= coupon["redeem_by"]
    return not (used_up or over or coupon.get("deleted"))


def redeemed(call: Call, given: Body, param: str, **owner: str | None) -> Body:
    """A new discount by `coupon` or `promotion_code`. Raises Refusal where it cannot be given any more."""
    code = given.get("promotion_code")
    promotion = fetch(call, "promotion_code", code, noun="promotion code", param=f"{param}[promotion_code]") if code else None
    if promotion and not _promotion_ok(call, promotion, owner.get("customer")):
        raise Refusal(f"The promotion code {promotion['code']} cannot be redeemed.", param=f"{param}[promotion_code]")
    coupon_id = promotion["promotion"]["coupon"] if promotion else given.get("coupon")
    if not coupon_id:
        raise Refusal("A discount needs a coupon or a promotion code.", param=f"{param}[coupon]", code="parameter_missing")
    coupon = fetch(call, "coupon", coupon_id, noun="coupon", param=f"{param}[coupon]")
    if not coupon_ok(coupon, call.now):
        raise Refusal(f"Coupon expired: {coupon_id}", param=f"{param}[coupon]", code="coupon_expired")
    call.store.replace("coupon", _once_more(call, coupon))
    if promotion:
        call.store.replace("promotion_code", promotion | {"times_redeemed": promotion["times_redeemed"] + 1})
    months = coupon["duration_in_months"] if coupon["duration"] == "repeating" else None
    discount = {
        "id": new_id("di"),
        "object": "discount",
        "checkout_session": None,
        "customer": owner.get("customer"),
        "customer_account": None,
        "end": boundary(Anchor.at(call.now), "month", 1, months) if months else None,
        "invoice": owner.get("invoice"),
        "invoice_item": None,
        "promotion_code": promotion["id"] if promotion else None,
        "source": {"type": "coupon", "coupon": coupon_id},
        "start": call.now,
        "subscription": owner.get("subscription"),
        "subscription_item": None,
    }
    return keep(call, discount, None if owner.get("invoice") else "customer.discount.created")


def _once_more(call: Call, coupon: Body) -> Body:
    more = coupon | {"times_redeemed": coupon["times_redeemed"] + 1}
    return more | {"valid": coupon_ok(more, call.now)}


def _promotion_ok(call: Call, promotion: Body, customer: str | None) -> bool:
    used_up = promotion["max_redemptions"] is not None and promotion["times_redeemed"] >= promotion["max_redemptions"]
    over = promotion["expires_at"] is not None and call.now >= promotion["expires_at"]
    return promotion["active"] and not used_up and not over and promotion["customer"] in (None, customer)


def given_discounts(call: Call, given: list[Body] | str, old: list[str], **owner: str | None) -> list[str]:
    """Ids after a request: an empty text takes all away, `discount` keeps one that is there."""
    if not given:
        return []
    assert isinstance(given, list)
    ids = []
    for at, each in enumerate(given):
        if each.get("discount"):
            if each["discount"] not in old:
                raise Refusal(f"No such discount: '{each['discount']}'", param=f"discounts[{at}][discount]", code="resource_missing")
            ids.append(each["discount"])
        else:
            ids.append(redeemed(call, each, f"discounts[{at}]", **owner)["id"])
    return ids


def running(call: Call, ids: list[str]) -> list[str]:
    """Those that have not ended by now."""
    found = [discount for name in ids if (discount := call.store.get("discount", name))]
    return [discount["id"] for discount in found if discount["end"] is None or call.now < discount["end"]]


def at_work(call: Call, ids: list[str], currency: str) -> list[Discount]:
    """As the sums want them. An amount in another currency does not apply."""
    found = []
    for name in ids:
        discount = fetch(call, "discount", name, noun="discount", param="discounts")
        coupon = fetch(call, "coupon", discount["source"]["coupon"], noun="coupon", param="coupon")
        percent = Decimal(str(coupon["percent_off"])) if coupon["percent_off"] is not None else None
        if percent is None and coupon["currency"] != currency:
            continue
        products = coupon["_products"]
        found.append(Discount(name, percent, coupon["amount_off"], frozenset(products) if products else None))
    return found


def is_once(call: Call, discount_id: str) -> bool:
    discount = call.store.get("discount", discount_id)
    coupon = call.store.get("coupon", discount["source"]["coupon"]) if discount else None
    return coupon is not None and coupon["duration"] == "once"
