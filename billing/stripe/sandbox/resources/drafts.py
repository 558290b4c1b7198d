"""Drafts: an invoice while it can still change. Its lines and sums are reckoned anew until it is finalized.

Private fields of an invoice: `_fixed` (lines that stay), `_arrears` (metered periods whose lines are counted when asked),
`_lines` (both, as of the last reckoning), `_rates` (tax rates of lines that have none of their own).
"""

from collections.abc import Sequence
from typing import Any

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.invoice_math import Charged, Sums, settled, sums
from billing.stripe.sandbox.resources.automatic_tax import of_invoice, rates_for
from billing.stripe.sandbox.resources.base import Body, Call, fetch
from billing.stripe.sandbox.resources.discounts import at_work, running
from billing.stripe.sandbox.resources.events import emit
from billing.stripe.sandbox.resources.lines import in_arrears, of_invoice_item
from billing.stripe.sandbox.resources.shown import part, shows
from billing.stripe.sandbox.resources.tax_rates import rate_of
from billing.stripe.sandbox.store import new_id

_LINES_SHOWN = 10
_COPIED = {"customer_address": "address", "customer_email": "email", "customer_name": "name", "customer_phone": "phone"}
_COPIED |= {"customer_shipping": "shipping", "customer_tax_exempt": "tax_exempt"}


def new_draft(call: Call, customer: Body, *, reason: str, currency: str, period: tuple[int, int], **more: Any) -> Body:
    """A draft with everything in place but its sums; not stored yet."""
    subscription = more.pop("subscription", None)
    discounts = more.pop("discounts", None)
    if discounts is None:
        discounts = (subscription or {}).get("discounts") or ([customer["discount"]["id"]] if customer["discount"] else [])
    invoice_id = new_id("in")
    body = spec.load().blank("invoice") | {
        "id": invoice_id,
        "object": "invoice",
        "account_country": "US",
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_paid_off_stripe": 0,
        "amount_shipping": 0,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {"enabled": bool(subscription and subscription["automatic_tax"]["enabled"])},
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": call.now,
        "currency": currency,
        "customer": customer["id"],
        "customer_tax_ids": _tax_ids(call, customer),
        "default_tax_rates": [],
        "discounts": running(call, discounts),
        "issuer": {"type": "self"},
        "livemode": False,
        "metadata": {},
        "payment_settings": {"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
        "period_end": period[1],
        "period_start": period[0],
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "starting_balance": customer["balance"],
        "status": "draft",
        "status_transitions": dict.fromkeys(("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")),
        "test_clock": customer["test_clock"],
        "_fixed": [],
        "_arrears": [],
        "_days_until_due": None,
        "_subscription": subscription["id"] if subscription else None,
    }
    body |= {name: customer[copied] for name, copied in _COPIED.items()}
    body["footer"] = customer["invoice_settings"]["footer"]
    body["custom_fields"] = customer["invoice_settings"]["custom_fields"]
    return body | _of_subscription(subscription) | more


def _tax_ids(call: Call, customer: Body) -> list[Body]:
    found = [each for each in call.store.of("tax_id", "customer", customer["id"]) if not each.get("deleted")]
    return [{"type": each["type"], "value": each["value"]} for each in reversed(found)]


def _of_subscription(subscription: Body | None) -> Body:
    if subscription is None:
        return {}
    details = {"metadata": subscription["metadata"], "subscription": subscription["id"]}
    return {
        "collection_method": subscription["collection_method"],
        "default_payment_method": subscription["default_payment_method"],
        "default_tax_rates": subscription["default_tax_rates"],
        "description": subscription["description"],
        "parent": {"type": "subscription_details", "quote_details": None, "subscription_details": details},
        "_days_until_due": subscription["days_until_due"],
    }


def reckoned(call: Call, invoice: Body) -> Body:
    """The draft with its lines and sums, and its customer's name and address, as of now."""
    customer = fetch(call, "customer", invoice["customer"], noun="customer", param="customer")
    invoice = invoice | ({} if customer.get("deleted") else {name: customer[copied] for name, copied in _COPIED.items()})
    invoice |= {"automatic_tax": of_invoice(invoice, enabled=invoice["automatic_tax"]["enabled"])}
    arrears = [each for one in invoice["_arrears"] for each in in_arrears(call, one, invoice["customer"])]
    lines = [dict(each) | {"invoice": invoice["id"]} for each in [*arrears, *invoice["_fixed"]]]
    found = sums(
        [Charged(each["amount"], each["discountable"], each["_product"], _rates(call, invoice, each)) for each in lines],
        at_work(call, invoice["discounts"], invoice["currency"]),
    )
    for at, each in enumerate(lines):
        each["discount_amounts"] = [{"discount": name, "amount": off} for name, off in found.discounts[at].items()]
        each["taxes"] = [tax_entry(tax.rate, tax.amount, tax.taxable, inclusive=tax.inclusive) for tax in found.taxes[at]]
    return due(call, invoice | _summed(found) | {"_lines": lines})


def _rates(call: Call, invoice: Body, each: Body) -> tuple[Any, ...]:
    if invoice["customer_tax_exempt"] == "exempt":
        return ()
    if invoice["automatic_tax"]["enabled"]:
        return rates_for(call, invoice, each)
    return tuple(rate_of(call, name) for name in each["_rates"] or [rate["id"] for rate in invoice["default_tax_rates"]])


def tax_entry(rate: str, amount: int, taxable: int, *, inclusive: bool) -> Body:
    return {
        "amount": amount,
        "tax_behavior": "inclusive" if inclusive else "exclusive",
        "tax_rate_details": {"tax_rate": rate},
        "taxability_reason": "not_available",
        "taxable_amount": taxable,
        "type": "tax_rate_details",
    }


def _summed(found: Sums) -> Body:
    off: dict[str, int] = {}
    for line in found.discounts:
        for name, amount in line.items():
            off[name] = off.get(name, 0) + amount
    taxes: dict[tuple[str, bool], list[int]] = {}
    for each in (tax for line in found.taxes for tax in line):
        whole = taxes.setdefault((each.rate, each.inclusive), [0, 0])
        whole[0] += each.amount
        whole[1] += each.taxable
    return {
        "subtotal": found.subtotal,
        "subtotal_excluding_tax": found.subtotal - found.inclusive_tax,
        "total": found.total,
        "total_excluding_tax": found.total - found.inclusive_tax - found.exclusive_tax,
        "total_discount_amounts": [{"discount": name, "amount": amount} for name, amount in off.items()],
        "total_pretax_credit_amounts": [],
        "total_taxes": [tax_entry(rate, one[0], one[1], inclusive=inclusive) for (rate, inclusive), one in taxes.items()],
    }


def due(call: Call, invoice: Body) -> Body:
    """With the customer's balance as it is now."""
    customer = fetch(call, "customer", invoice["customer"], noun="customer", param="customer")
    balance = customer.get("balance", 0)
    amount_due, _ = settled(invoice["total"], balance)
    return invoice | {"starting_balance": balance, "amount_due": amount_due, "amount_remaining": amount_due}


def pending_items(call: Call, customer: str, currency: str, subscription: str | None) -> list[Body]:
    """Invoice items that wait for the next invoice, oldest first: the customer's own, and this subscription's."""
    found = []
    for item in call.store.of("invoiceitem", "customer", customer):
        owner = ((item["parent"] or {}).get("subscription_details") or {}).get("subscription")
        if item["invoice"] is None and not item.get("deleted") and item["currency"] == currency and owner in (None, subscription):
            found.append(item)
    return found[::-1]


def take(call: Call, invoice: Body, items: Sequence[Body]) -> list[Body]:
    """These invoice items belong to this invoice from now on; their lines."""
    for item in items:
        call.store.replace("invoiceitem", item | {"invoice": invoice["id"]})
    return [of_invoice_item(call, item) for item in items]


def stored(call: Call, invoice: Body) -> Body:
    """A new draft, reckoned, stored and told of."""
    invoice = reckoned(call, invoice)
    call.store.insert("invoice", invoice)
    emit(call, "invoice.created", invoice)
    return invoice


@shows("invoice")
def _shown(_call: Call, invoice: Body) -> Body:
    lines = invoice["_lines"]
    url = f"/v1/invoices/{invoice['id']}/lines"
    return invoice | {"lines": {"object": "list", "data": lines[:_LINES_SHOWN], "has_more": len(lines) > _LINES_SHOWN, "url": url}}


@part("invoice", "payments")
def _payments(call: Call, invoice: Body) -> Body:
    data = call.store.of("invoice_payment", "invoice", invoice["id"])
    return {"object": "list", "data": data, "has_more": False, "url": f"/v1/invoice_payments?invoice={invoice['id']}"}


@part("invoice", "confirmation_secret")
def _confirmation_secret(call: Call, invoice: Body) -> Body | None:
    intent = call.store.get("payment_intent", invoice.get("_intent") or "")
    return {"client_secret": intent["client_secret"], "type": "payment_intent"} if intent else None
