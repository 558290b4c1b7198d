"""The lines of an invoice: what a subscription's price costs for a period, and what was waiting as invoice items."""

from typing import Any

from billing.stripe.sandbox.invoice_math import Part, parts, prorated
from billing.stripe.sandbox.resources.base import Body, Call, fetch
from billing.stripe.sandbox.resources.meters import used
from billing.stripe.sandbox.store import new_id

TRIAL_NOTE = "Trial period for "


def price_of(call: Call, price_id: str) -> Body:
    return fetch(call, "price", price_id, noun="price", param="price")


def title(call: Call, price: Body) -> str:
    """What a line calls this price: its nickname, or its product's name."""
    product = call.store.get("product", price["product"]) or {}
    return str(price["nickname"] or product.get("name") or price["product"])


def pricing(price: Body | None, unit_amount_decimal: str | None) -> Body | None:
    if price is None:
        return None
    details = {"price": price["id"], "product": price["product"]}
    return {"type": "price_details", "price_details": details, "unit_amount_decimal": unit_amount_decimal}


def line(amount: int, currency: str, description: str, period: tuple[int, int], **more: Any) -> Body:
    """A line. Fields beginning with `_` are the sandbox's: `_rates` are ids of tax rates, `_product` limits coupons."""
    start, end = period
    body = {
        "id": new_id("il"),
        "object": "line_item",
        "amount": amount,
        "currency": currency,
        "description": description,
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": {},
        "parent": None,
        "period": {"start": start, "end": end},
        "pretax_credit_amounts": [],
        "pricing": None,
        "quantity": 1,
        "quantity_decimal": "1",
        "subscription": None,
        "subtotal": amount,
        "taxes": [],
        "_rates": [],
        "_product": None,
    } | more
    return body | {"subtotal": body["amount"], "quantity_decimal": str(body["quantity"])}


def _parent(item: Body, invoice_item: Body | None = None) -> Body:
    proration = invoice_item is not None and invoice_item["proration"]
    credited = invoice_item["proration_details"]["credited_items"] if invoice_item and proration else None
    details = {
        "invoice_item": invoice_item["id"] if invoice_item else None,
        "proration": proration,
        "proration_details": {"credited_items": credited},
        "subscription": item["subscription"],
        "subscription_item": item["id"],
    }
    return {"type": "subscription_item_details", "invoice_item_details": None, "subscription_item_details": details}


def of_item(call: Call, item: Body, quantity: int, period: tuple[int, int], *, share: tuple[int, int] | None = None) -> list[Body]:
    """What one subscription item costs for a period; of `share` (seconds, seconds of a whole period) only that part."""
    price = price_of(call, item["price"])
    name = title(call, price)
    return [_item_line(item, price, part, name, period, _shared(part.amount, share)) for part in parts(price, quantity)]


def _shared(amount: int, share: tuple[int, int] | None) -> int:
    return amount if share is None else prorated(amount, share[1] - share[0], 0, share[1])


def _item_line(item: Body, price: Body, part: Part, name: str, period: tuple[int, int], amount: int) -> Body:
    note = f" ({part.note})" if part.note else ""
    return line(
        amount,
        price["currency"],
        f"{part.quantity} × {name}{note}",
        period,
        parent=_parent(item),
        pricing=pricing(price, part.unit_amount_decimal),
        quantity=part.quantity,
        subscription=item["subscription"],
        metadata=item["metadata"],
        _rates=item.get("_rates", []),
        _product=price["product"],
    )


def in_trial(call: Call, item: Body, period: tuple[int, int]) -> Body:
    """A line that says that this period costs nothing."""
    price = price_of(call, item["price"])
    free = Part(item.get("quantity", 0), 0, "0")
    return _item_line(item, price, free, title(call, price), period, 0) | {"description": TRIAL_NOTE + title(call, price)}


def in_arrears(call: Call, arrears: Body, customer: str) -> list[Body]:
    """What a meter counted in a period that is over (or, in a preview, under way). Counted anew each time it is asked."""
    item = arrears["item"]
    price = price_of(call, item["price"])
    quantity = used(call, price["recurring"]["meter"], customer, arrears["start"], arrears["end"])
    found = of_item(call, item, quantity, (arrears["start"], arrears["end"]))
    return [each | {"id": f"{arrears['id']}{number:02d}"} for number, each in enumerate(found)]


def of_invoice_item(call: Call, item: Body) -> Body:
    """The line that a pending invoice item becomes."""
    price_id = item["pricing"]["price_details"]["price"] if item["pricing"] else None
    price = call.store.get("price", price_id) if price_id else None
    owner = (item["parent"] or {}).get("subscription_details") or {}
    subscription = owner.get("subscription")
    if owner.get("subscription_item"):
        parent = _parent({"id": owner["subscription_item"], "subscription": subscription}, item)
    else:
        details = {
            "invoice_item": item["id"],
            "proration": item["proration"],
            "proration_details": {"credited_items": None},
            "subscription": subscription,
        }
        parent = {"type": "invoice_item_details", "invoice_item_details": details, "subscription_item_details": None}
    return line(
        item["amount"],
        item["currency"],
        item["description"],
        (item["period"]["start"], item["period"]["end"]),
        discountable=item["discountable"],
        parent=parent,
        pricing=item["pricing"],
        quantity=item["quantity"],
        subscription=subscription,
        metadata=item["metadata"],
        _rates=[rate["id"] for rate in item["tax_rates"]],
        _product=price["product"] if price else None,
        _item=item["id"],
    )
