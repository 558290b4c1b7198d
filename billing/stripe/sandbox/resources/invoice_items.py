"""Invoice items: amounts that wait for a customer's next invoice, or stand on a draft already."""

from decimal import Decimal
from typing import Any

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.errors import Refusal, missing_parameter
from billing.stripe.sandbox.invoice_math import rounded
from billing.stripe.sandbox.resources.base import Body, Call, created_within, currency, fetch, given_text, handles, metadata, page
from billing.stripe.sandbox.resources.drafts import reckoned
from billing.stripe.sandbox.resources.events import change, emit, keep
from billing.stripe.sandbox.resources.lines import of_invoice_item, pricing, title
from billing.stripe.sandbox.resources.owners import live_customer
from billing.stripe.sandbox.resources.tax_rates import rates_given
from billing.stripe.sandbox.store import new_id

_TAKES = {"amount", "description", "discountable", "metadata", "period", "quantity", "unit_amount_decimal", "pricing", "tax_rates"}


def new_invoice_item(call: Call, customer: Body, money: str, amount: int, **more: Any) -> Body:
    """Store one that waits."""
    body = spec.load().blank("invoiceitem") | {
        "id": new_id("ii"),
        "object": "invoiceitem",
        "amount": amount,
        "currency": money,
        "customer": customer["id"],
        "date": call.now,
        "discountable": True,
        "discounts": [],
        "livemode": False,
        "metadata": {},
        "net_amount": amount,
        "period": {"start": call.now, "end": call.now},
        "proration": False,
        "quantity": 1,
        "quantity_decimal": "1",
        "tax_rates": [],
        "test_clock": customer["test_clock"],
    }
    return keep(call, body | more, "invoiceitem.created")


@handles("PostInvoiceitems")
def create(call: Call) -> Body:
    call.only(_TAKES | {"customer", "currency", "invoice", "subscription"})
    if "customer" not in call.params:
        raise missing_parameter("customer")
    customer = live_customer(call, call.params["customer"])
    call = call.of(customer)
    draft = _draft(call, customer)
    subscription = call.params.get("subscription")
    if subscription is not None:
        owner = fetch(call, "subscription", subscription, noun="subscription", param="subscription")
        if owner["customer"] != customer["id"]:
            raise Refusal("The subscription belongs to another customer.", param="subscription")
    money, amount, priced = _amount(call)
    item = new_invoice_item(call, customer, money, amount, **priced, **_described(call, {}), parent=_parent(subscription))
    return _on_draft(call, item, draft) if draft else item


def _parent(subscription: str | None) -> Body | None:
    return {"type": "subscription_details", "subscription_details": {"subscription": subscription}} if subscription else None


def _draft(call: Call, customer: Body) -> Body | None:
    invoice_id = call.params.get("invoice")
    if invoice_id is None:
        return None
    invoice = fetch(call, "invoice", invoice_id, noun="invoice", param="invoice")
    if invoice["customer"] != customer["id"] or invoice.get("status") != "draft":
        raise Refusal("The invoice is no draft of this customer: it cannot take items.", param="invoice", code="invoice_not_editable")
    return invoice


def _amount(call: Call) -> tuple[str, int, Body]:
    """(currency, amount, what says how it came about)."""
    given, quantity = call.params, call.params.get("quantity", 1)
    price_id = given.get("pricing", {}).get("price")
    if price_id is not None:
        price = fetch(call, "price", price_id, noun="price", param="pricing[price]")
        if price["recurring"] is not None:
            raise Refusal("The price specified is recurring, but this field only accepts one-time prices.", param="pricing[price]")
        each = Decimal(price["unit_amount_decimal"])
        priced = {"pricing": pricing(price, price["unit_amount_decimal"]), "description": title(call, price)}
        return price["currency"], rounded(each * quantity), priced | _counted(quantity)
    if "currency" not in given:
        raise missing_parameter("currency")
    money = currency(given["currency"])
    if "amount" in given:
        if "unit_amount_decimal" in given:
            raise Refusal("You may only specify one of these parameters: amount, unit_amount_decimal.", param="amount")
        return money, given["amount"], {}
    if "unit_amount_decimal" not in given:
        raise missing_parameter("amount")
    return money, rounded(Decimal(given["unit_amount_decimal"]) * quantity), _counted(quantity)


def _counted(quantity: int) -> Body:
    return {"quantity": quantity, "quantity_decimal": str(quantity)}


def _described(call: Call, old: Body) -> Body:
    given = call.params
    found: Body = {"metadata": metadata(given.get("metadata"), old.get("metadata"))}
    if given.get("description"):
        found["description"] = given_text(call, "description")
    if "discountable" in given or not old:
        found["discountable"] = given.get("discountable", True)
    if "period" in given:
        found["period"] = given["period"]
    if "tax_rates" in given:
        found["tax_rates"] = rates_given(call, given["tax_rates"], "tax_rates")
    return found


def _on_draft(call: Call, item: Body, draft: Body) -> Body:
    """The item stands on the draft, in its newest form; the draft adds up again."""
    item = item | {"invoice": draft["id"]}
    call.store.replace("invoiceitem", item)
    lines = [line for line in draft["_fixed"] if line.get("_item") != item["id"]]
    if not item.get("deleted"):
        at = next((n for n, line in enumerate(draft["_fixed"]) if line.get("_item") == item["id"]), len(lines))
        lines.insert(at, of_invoice_item(call, item))
    change(call, draft, reckoned(call, draft | {"_fixed": lines}), "invoice.updated")
    return item


def _stored(call: Call) -> tuple[Call, Body]:
    item = fetch(call, "invoiceitem", call.path["invoiceitem"], noun="invoiceitem", param="id", status=404)
    if item.get("deleted"):
        raise Refusal(f"No such invoiceitem: '{item['id']}'", param="id", code="resource_missing", status=404)
    return call.of(item), item


def _editable(call: Call, item: Body) -> Body | None:
    """The draft it stands on, if any. Raises Refusal where the invoice is no draft any more."""
    invoice = call.store.get("invoice", item["invoice"]) if item["invoice"] else None
    if invoice and invoice["status"] != "draft":
        raise Refusal("You can't edit or delete an invoice item that stands on a finalized invoice.", code="invoice_not_editable")
    return invoice


@handles("GetInvoiceitemsInvoiceitem")
def retrieve(call: Call) -> Body:
    call.only(())
    return _stored(call)[1]


@handles("PostInvoiceitemsInvoiceitem")
def update(call: Call) -> Body:
    call.only({"amount", "description", "discountable", "metadata", "period", "quantity", "unit_amount_decimal", "tax_rates"})
    call, item = _stored(call)
    draft = _editable(call, item)
    new = item | _described(call, item)
    given = call.params
    if "amount" in given:
        new |= {"amount": given["amount"]}
    elif "unit_amount_decimal" in given or "quantity" in given:
        quantity = given.get("quantity", item["quantity"])
        each = given.get("unit_amount_decimal") or (item["pricing"] or {}).get("unit_amount_decimal")
        if each is None:
            raise Refusal("A quantity needs a unit amount.", param="quantity")
        new |= {"amount": rounded(Decimal(each) * quantity), **_counted(quantity)}
    change(call, item, new | {"net_amount": new["amount"]})
    return _on_draft(call, new, draft) if draft else new


@handles("DeleteInvoiceitemsInvoiceitem")
def delete(call: Call) -> Body:
    call.only(())
    call, item = _stored(call)
    draft = _editable(call, item)
    gone = {"id": item["id"], "object": "invoiceitem", "deleted": True}
    if draft:
        _on_draft(call, item | {"deleted": True}, draft)
    call.store.replace("invoiceitem", gone)
    emit(call, "invoiceitem.deleted", item)
    return gone


@handles("GetInvoiceitems")
def index(call: Call) -> Body:
    customer, invoice, pending = (call.params.get(name) for name in ("customer", "invoice", "pending"))
    found = [
        item
        for item in call.store.newest_first("invoiceitem")
        if not item.get("deleted")
        and customer in (None, item["customer"])
        and invoice in (None, item["invoice"])
        and (pending is None or (item["invoice"] is None) is pending)
        and created_within({"created": item["date"]}, call.params.get("created"))
    ]
    return page(call, found, filters=("customer", "invoice", "pending", "created"))
