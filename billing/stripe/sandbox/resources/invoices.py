"""Invoices, as requests make, change and end them. What is in them is in drafts.py, what becomes of them in invoice_life.py."""

from billing.stripe.sandbox.errors import Declined, Refusal, missing_parameter
from billing.stripe.sandbox.resources.base import Body, Call, created_within, currency, fetch, given_text, handles, metadata, page
from billing.stripe.sandbox.resources.discounts import given_discounts
from billing.stripe.sandbox.resources.drafts import new_draft, pending_items, reckoned, stored, take
from billing.stripe.sandbox.resources.events import change, emit
from billing.stripe.sandbox.resources.invoice_life import finalized, method_for, plan_finalization, settle, tried, uncollectible, voided
from billing.stripe.sandbox.resources.owners import live_customer, method_of
from billing.stripe.sandbox.resources.payment_methods import attached, declined, usable
from billing.stripe.sandbox.resources.shown import public, shown
from billing.stripe.sandbox.resources.tax_rates import rates_given

_BOTH = {"auto_advance", "collection_method", "custom_fields", "days_until_due", "default_payment_method", "default_tax_rates"}
_BOTH |= {
    "description",
    "discounts",
    "due_date",
    "effective_at",
    "footer",
    "automatic_tax",
    "metadata",
    "number",
    "automatically_finalizes_at",
}
_CREATE = _BOTH | {"customer", "currency", "pending_invoice_items_behavior", "subscription"}
_ALWAYS_EDITABLE = {"metadata", "auto_advance", "expand", "default_payment_method"}


@handles("PostInvoices")
def create(call: Call) -> Body:
    """A manual one. With pending_invoice_items_behavior=include it takes what waits."""
    call.only(_CREATE)
    if "customer" not in call.params:
        raise missing_parameter("customer")
    customer = live_customer(call, call.params["customer"])
    call = call.of(customer)
    subscription = None
    if "subscription" in call.params:
        subscription = fetch(call, "subscription", call.params["subscription"], noun="subscription", param="subscription")
    money = currency(call.params.get("currency", (subscription or {}).get("currency") or customer["currency"] or "usd"))
    invoice = new_draft(
        call, customer, reason="manual", currency=money, period=(call.now, call.now), subscription=subscription, auto_advance=False
    )
    invoice |= _described(call, invoice)
    if call.params.get("pending_invoice_items_behavior", "exclude") == "include":
        items = pending_items(call, customer["id"], money, subscription["id"] if subscription else None)
        invoice["_fixed"] = take(call, invoice, items)
    invoice = stored(call, invoice)
    return _planned(call, invoice)


def _planned(call: Call, invoice: Body) -> Body:
    at = call.params.get("automatically_finalizes_at")
    invoice = plan_finalization(call, invoice)
    if at is not None and invoice["auto_advance"]:
        invoice |= {"automatically_finalizes_at": at}
        call.store.replace("invoice", invoice)
        call.store.plan("invoice.finalize", invoice["id"], at, invoice["test_clock"])
    return invoice


def _described(call: Call, old: Body) -> Body:
    given = call.params
    method = given.get("collection_method", old["collection_method"])
    days = given.get("days_until_due", old["_days_until_due"])
    if method == "send_invoice" and days is None and given.get("due_date", old["due_date"]) is None:
        raise Refusal("If collection_method is send_invoice, days_until_due or due_date is needed.", param="days_until_due")
    found: Body = {
        "auto_advance": given.get("auto_advance", old["auto_advance"]),
        "collection_method": method,
        "due_date": given.get("due_date", old["due_date"]),
        "metadata": metadata(given.get("metadata"), old["metadata"]),
        "_days_until_due": days,
        **{name: given_text(call, name, old[name]) for name in ("description", "footer", "number")},
    }
    if "automatic_tax" in given:
        found["automatic_tax"] = {"enabled": given["automatic_tax"]["enabled"]}
    if "custom_fields" in given:
        found["custom_fields"] = given["custom_fields"] or None
    if "effective_at" in given:
        found["effective_at"] = given["effective_at"] or None
    if "default_payment_method" in given:
        found["default_payment_method"] = method_of(call, old["customer"], given["default_payment_method"], param="default_payment_method")[
            "id"
        ]
    if "default_tax_rates" in given:
        found["default_tax_rates"] = rates_given(call, given["default_tax_rates"], "default_tax_rates")
    if "discounts" in given:
        owner = {"customer": old["customer"], "invoice": old["id"]}
        found["discounts"] = given_discounts(call, given["discounts"], old["discounts"], **owner)
    return found


def _stored(call: Call) -> tuple[Call, Body]:
    """The invoice of the path, and the call at its customer's time."""
    invoice = fetch(call, "invoice", call.path["invoice"], noun="invoice", param="invoice", status=404)
    if invoice.get("deleted"):
        raise Refusal(f"No such invoice: '{invoice['id']}'", param="invoice", code="resource_missing", status=404)
    return call.of(invoice), invoice


@handles("GetInvoicesInvoice")
def retrieve(call: Call) -> Body:
    """A draft adds up anew: usage may have come since."""
    call.only(())
    call, invoice = _stored(call)
    return reckoned(call, invoice) if invoice["status"] == "draft" else invoice


@handles("PostInvoicesInvoice")
def update(call: Call) -> Body:
    call.only(_BOTH)
    call, invoice = _stored(call)
    if invoice["status"] != "draft" and set(call.params) - _ALWAYS_EDITABLE:
        raise Refusal("Finalized invoices can't be updated in this way", code="invoice_not_editable")
    new = invoice | _described(call, invoice)
    if invoice["status"] == "draft":
        new = reckoned(call, new)
    change(call, invoice, new, "invoice.updated")
    return _planned(call, new) if invoice["status"] == "draft" and new["auto_advance"] != invoice["auto_advance"] else new


@handles("DeleteInvoicesInvoice")
def delete(call: Call) -> Body:
    """Only a manual draft; its items wait again."""
    call.only(())
    call, invoice = _stored(call)
    if invoice["status"] != "draft" or invoice["billing_reason"] != "manual":
        raise Refusal("You can only delete draft invoices that are not of a subscription.", code="invoice_not_editable")
    for item in call.store.of("invoiceitem", "invoice", invoice["id"]):
        call.store.replace("invoiceitem", item | {"invoice": None})
    gone = {"id": invoice["id"], "object": "invoice", "deleted": True}
    call.store.plan("invoice.finalize", invoice["id"], None, None)
    emit(call, "invoice.deleted", invoice)
    call.store.replace("invoice", gone | {"customer": None, "status": "deleted"})
    return gone


@handles("PostInvoicesInvoiceFinalize")
def finalize(call: Call) -> Body:
    call.only({"auto_advance"})
    call, invoice = _stored(call)
    if invoice["status"] != "draft":
        raise Refusal("This invoice is already finalized, you can't re-finalize a non-draft invoice.", code="invoice_not_editable")
    return finalized(call, invoice | {"auto_advance": call.params.get("auto_advance", invoice["auto_advance"])})


@handles("PostInvoicesInvoicePay")
def pay(call: Call) -> Body:
    """Now: a draft is finalized first. A card that says no is answered 402, and the try is kept."""
    call.only({"payment_method", "off_session", "paid_out_of_band"})
    call, invoice = _stored(call)
    if invoice["status"] == "draft":
        invoice = finalized(call, invoice, pay=False)
        if invoice["status"] == "paid":
            return invoice
    if invoice["status"] not in ("open", "uncollectible"):
        code = "invoice_already_paid" if invoice["status"] == "paid" else "invoice_not_editable"
        raise Refusal(f"Invoice is already {invoice['status']}" if code == "invoice_already_paid" else "Invoice is void.", code=code)
    if call.params.get("paid_out_of_band"):
        return settle(call, invoice, out_of_band=True)
    method = _method(call, invoice)
    after = tried(call, invoice, method, off_session=call.params.get("off_session", True))
    if after["status"] != "paid":
        raise _why(call, after)
    return after


def _method(call: Call, invoice: Body) -> Body:
    if "payment_method" in call.params:
        method = usable(call, call.params["payment_method"])
        if method["customer"] is None:
            return attached(call, method, live_customer(call, invoice["customer"]))
        return method_of(call, invoice["customer"], method["id"], param="payment_method")
    found = method_for(call, invoice)
    if found is None:
        raise Refusal(
            "There is no `default_payment_method` set on this Customer or Invoice. Please set one, or pass payment_method.",
            code="invoice_payment_intent_requires_action",
        )
    return found


def _why(call: Call, invoice: Body) -> Declined:
    """What the card said."""
    intent = call.store.get("payment_intent", invoice["_intent"]) or {}
    about = {"payment_intent": public(shown(call, intent))}
    error = intent.get("last_payment_error")
    if error is None:
        code = "invoice_payment_intent_requires_action"
        sentence = "This payment requires additional user action before it can be completed."
        return Declined(sentence, code=code, decline_code=None, about=about)
    return declined(error["decline_code"], charge=intent["latest_charge"], payment_method=error["payment_method"], **about)


@handles("PostInvoicesInvoiceVoid")
def void(call: Call) -> Body:
    call.only(())
    call, invoice = _stored(call)
    return voided(call, invoice)


@handles("PostInvoicesInvoiceMarkUncollectible")
def mark_uncollectible(call: Call) -> Body:
    call.only(())
    call, invoice = _stored(call)
    return uncollectible(call, invoice)


@handles("PostInvoicesInvoiceSend")
def send(call: Call) -> Body:
    """No mail goes out; that it would have is an event."""
    call.only(())
    call, invoice = _stored(call)
    if invoice["status"] == "draft":
        invoice = finalized(call, invoice, pay=False)
    if invoice["status"] not in ("open", "paid"):
        raise Refusal(f"An invoice that is {invoice['status']} cannot be sent.")
    emit(call, "invoice.sent", invoice)
    return invoice


@handles("GetInvoicesInvoiceLines")
def lines(call: Call) -> Body:
    call, invoice = _stored(call)
    return page(call, (reckoned(call, invoice) if invoice["status"] == "draft" else invoice)["_lines"])


@handles("GetInvoices")
def index(call: Call) -> Body:
    wanted = {name: call.params[name] for name in ("customer", "status", "collection_method") if name in call.params}
    subscription = call.params.get("subscription")
    found = [
        shown(call, reckoned(call, invoice) if invoice["status"] == "draft" else invoice)
        for invoice in call.store.newest_first("invoice")
        if not invoice.get("deleted")
        and all(invoice[name] == value for name, value in wanted.items())
        and subscription in (None, invoice["_subscription"])
        and created_within(invoice, call.params.get("created"))
    ]
    return page(call, found, filters=(*wanted, "subscription", "created"))


@handles("GetInvoicePayments")
def payments(call: Call) -> Body:
    wanted = {name: call.params[name] for name in ("invoice", "status") if name in call.params}
    intent = call.params.get("payment", {}).get("payment_intent")
    found = [
        payment
        for payment in call.store.newest_first("invoice_payment")
        if all(payment[name] == value for name, value in wanted.items())
        and intent in (None, payment["payment"]["payment_intent"])
        and created_within(payment, call.params.get("created"))
    ]
    return page(call, found, filters=(*wanted, "payment", "created"))


@handles("GetInvoicePaymentsInvoicePayment")
def payment(call: Call) -> Body:
    call.only(())
    return fetch(call, "invoice_payment", call.path["invoice_payment"], noun="invoice payment", param="id", status=404)
