"""Credit notes: what of a finalized invoice is taken back. An open one owes less; a paid one gives back to card, balance or otherwise.

A line's discount and tax go back in the share in which the line does, so that crediting all of it gives back all of it.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.errors import Refusal, missing_parameter
from billing.stripe.sandbox.invoice_math import Charged, rounded, sums
from billing.stripe.sandbox.resources.balances import moved
from billing.stripe.sandbox.resources.base import Body, Call, created_within, fetch, given_text, handles, metadata, page
from billing.stripe.sandbox.resources.drafts import tax_entry
from billing.stripe.sandbox.resources.events import change, emit, keep
from billing.stripe.sandbox.resources.invoice_life import settle
from billing.stripe.sandbox.resources.refunds import refund
from billing.stripe.sandbox.resources.shown import public, shown, shows
from billing.stripe.sandbox.resources.tax_rates import rate_of, rates_given
from billing.stripe.sandbox.store import new_id

_TAKES = {"invoice", "amount", "lines", "memo", "metadata", "reason", "refund_amount", "credit_amount", "out_of_band_amount"}
_TAKES |= {"refunds", "effective_at", "email_type"}
_LINES_SHOWN = 10


class _Seen(Exception):
    """Carries a preview out of what is undone."""

    def __init__(self, note: Body) -> None:
        super().__init__()
        self.note = note


@handles("PostCreditNotes")
def create(call: Call) -> Body:
    call.only(_TAKES)
    invoice = fetch(call, "invoice", call.params["invoice"], noun="invoice", param="invoice")
    call = call.of(invoice)
    if invoice["status"] not in ("open", "paid", "uncollectible"):
        raise Refusal("You can only create a credit note for an open, paid or uncollectible invoice.", param="invoice")
    lines = _lines(call, invoice)
    note = _new(call, invoice, lines)
    if note["total"] <= 0:
        raise Refusal("A credit note needs an amount or lines that are worth something.", param="amount")
    if invoice["status"] == "paid":
        return _after_payment(call, invoice, note)
    return _before_payment(call, invoice, note)


def _lines(call: Call, invoice: Body) -> list[Body]:
    given, amount = call.params.get("lines"), call.params.get("amount")
    if (given is None) == (amount is None):
        raise Refusal("One of amount and lines is needed, and not both.", param="amount", code="parameter_missing")
    if given is None:
        return [_line(amount or 0, "Credit", type="custom_line_item")]
    return [
        _of_invoice(invoice, each, at) if each["type"] == "invoice_line_item" else _custom(call, each, at) for at, each in enumerate(given)
    ]


def _line(amount: int, description: str | None, **more: Any) -> Body:
    return (
        spec.load().blank("credit_note_line_item")
        | {
            "id": new_id("cnli"),
            "object": "credit_note_line_item",
            "amount": amount,
            "description": description,
            "discount_amount": 0,
            "discount_amounts": [],
            "livemode": False,
            "metadata": {},
            "pretax_credit_amounts": [],
            "quantity": 1,
            "tax_rates": [],
            "taxes": [],
        }
        | more
    )


def _of_invoice(invoice: Body, given: Mapping[str, Any], at: int) -> Body:
    """All of a line, some of its quantity, or an amount of it."""
    where = f"lines[{at}][invoice_line_item]"
    line = next((each for each in invoice["_lines"] if each["id"] == given.get("invoice_line_item")), None)
    if line is None:
        raise Refusal(f"The invoice has no line {given.get('invoice_line_item')}.", param=where, code="resource_missing")
    if "amount" in given:
        amount, quantity = given["amount"], None
    else:
        quantity = given.get("quantity", line["quantity"])
        amount = rounded(Decimal(line["amount"]) * quantity / line["quantity"]) if line["quantity"] else line["amount"]
    if not 0 <= amount <= line["amount"]:
        raise Refusal("No more of a line can be credited than was billed.", param=where)
    share = Decimal(amount) / line["amount"] if line["amount"] else Decimal(0)
    discounts = [each | {"amount": rounded(each["amount"] * share)} for each in line["discount_amounts"]]
    taxes = [
        each | {"amount": rounded(each["amount"] * share), "taxable_amount": rounded(each["taxable_amount"] * share)}
        for each in line["taxes"]
    ]
    return _line(
        amount,
        line["description"],
        discount_amount=sum(each["amount"] for each in discounts),
        discount_amounts=discounts,
        invoice_line_item=line["id"],
        quantity=quantity,
        taxes=taxes,
        type="invoice_line_item",
    )


def _custom(call: Call, given: Mapping[str, Any], at: int) -> Body:
    if "description" not in given:
        raise missing_parameter(f"lines[{at}][description]")
    quantity = given.get("quantity", 1)
    each = Decimal(given.get("unit_amount_decimal", given.get("unit_amount", given.get("amount", 0))))
    amount = rounded(each * quantity)
    rates = rates_given(call, given.get("tax_rates"), f"lines[{at}][tax_rates]")
    taxes = sums([Charged(amount, rates=tuple(rate_of(call, rate["id"]) for rate in rates))]).taxes[0]
    return _line(
        amount,
        given["description"],
        quantity=quantity,
        tax_rates=rates,
        taxes=[tax_entry(tax.rate, tax.amount, tax.taxable, inclusive=tax.inclusive) for tax in taxes],
        type="custom_line_item",
        unit_amount=int(each) if each == int(each) else None,
        unit_amount_decimal=format(each, "f"),
    )


def _new(call: Call, invoice: Body, lines: list[Body]) -> Body:
    note_id, taxes = new_id("cn"), [tax for line in lines for tax in line["taxes"]]
    subtotal, off = sum(line["amount"] for line in lines), sum(line["discount_amount"] for line in lines)
    on_top = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "exclusive")
    inside = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "inclusive")
    total = subtotal - off + on_top
    number = len(call.store.of("credit_note", "invoice", invoice["id"])) + 1
    return spec.load().blank("credit_note") | {
        "id": note_id,
        "object": "credit_note",
        "amount": total,
        "amount_shipping": 0,
        "created": call.now,
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "discount_amount": off,
        "discount_amounts": [each for line in lines for each in line["discount_amounts"]],
        "effective_at": call.params.get("effective_at", call.now),
        "invoice": invoice["id"],
        "livemode": False,
        "memo": given_text(call, "memo"),
        "metadata": metadata(call.params.get("metadata")),
        "number": f"{invoice['number']}-CN-{number:02d}",
        "pdf": f"{call.store.setting('url', '')}/_sandbox/credit_notes/{note_id}",
        "post_payment_amount": 0,
        "pre_payment_amount": 0,
        "pretax_credit_amounts": [],
        "reason": call.params.get("reason"),
        "refunds": [],
        "status": "issued",
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal - inside,
        "total": total,
        "total_excluding_tax": total - on_top - inside,
        "total_taxes": taxes,
        "_lines": lines,
    }


def _before_payment(call: Call, invoice: Body, note: Body) -> Body:
    """The invoice owes less; if nothing is left of it, it is paid."""
    total = note["total"]
    if any(call.params.get(name) for name in ("refund_amount", "credit_amount", "out_of_band_amount", "refunds")):
        raise Refusal("An invoice that is not paid yet has nothing to give back: pass neither refund nor credit.", param="refund_amount")
    if total > invoice["amount_remaining"]:
        raise Refusal(f"The credit note's amount {total} is more than what remains to be paid.", param="amount")
    keep(call, note | {"pre_payment_amount": total, "type": "pre_payment"}, "credit_note.created")
    _owes(call, invoice, -total)
    return call.store.get("credit_note", note["id"]) or note


def _owes(call: Call, invoice: Body, more: int) -> None:
    new = invoice | {
        "amount_due": invoice["amount_due"] + more,
        "amount_remaining": invoice["amount_remaining"] + more,
        "pre_payment_credit_notes_amount": invoice["pre_payment_credit_notes_amount"] - more,
    }
    change(call, invoice, new, "invoice.updated")
    intent = call.store.get("payment_intent", invoice.get("_intent", ""))
    if intent and new["amount_due"]:
        call.store.replace("payment_intent", intent | {"amount": new["amount_due"]})
    if new["amount_due"] == 0:
        settle(call, new)


def _after_payment(call: Call, invoice: Body, note: Body) -> Body:
    """What was paid goes back: to the card, to the balance, or by other ways."""
    total, given = note["total"], call.params
    if total > invoice["total"] - invoice["pre_payment_credit_notes_amount"] - invoice["post_payment_credit_notes_amount"]:
        raise Refusal(f"The credit note's amount {total} is more than what is left of the invoice.", param="amount")
    refunds = _named_refunds(call)
    ways = {name: given.get(f"{name}_amount", 0) for name in ("refund", "credit", "out_of_band")}
    if sum(ways.values()) + sum(each["amount_refunded"] for each in refunds) != total:
        raise Refusal(
            f"The sum of refund_amount, credit_amount, out_of_band_amount and refunds must equal the credit note's total, {total}.",
            param="amount",
        )
    if ways["refund"]:
        refunds.append(_refunded(call, invoice, ways["refund"]))
    back = moved(call, invoice["customer"], -ways["credit"], invoice["currency"], "credit_note", credit_note=note["id"])
    note |= {
        "customer_balance_transaction": back["id"] if back else None,
        "out_of_band_amount": ways["out_of_band"] or None,
        "post_payment_amount": total,
        "refunds": refunds,
        "type": "post_payment",
    }
    keep(call, note, "credit_note.created")
    credited = invoice["post_payment_credit_notes_amount"] + total
    change(call, invoice, invoice | {"post_payment_credit_notes_amount": credited}, "invoice.updated")
    return note


def _entry(made: Body) -> Body:
    return {"amount_refunded": made["amount"], "payment_record_refund": None, "refund": made["id"], "type": "refund"}


def _named_refunds(call: Call) -> list[Body]:
    found = [fetch(call, "refund", each.get("refund", ""), noun="refund", param="refunds") for each in call.params.get("refunds", [])]
    return [_entry(each) for each in found]


def _refunded(call: Call, invoice: Body, amount: int) -> Body:
    intent = call.store.get("payment_intent", invoice.get("_intent", ""))
    charge = call.store.get("charge", intent["latest_charge"] or "") if intent else None
    if charge is None or not charge["paid"]:
        raise Refusal("The invoice was not paid by card: there is nothing to refund.", param="refund_amount")
    return _entry(refund(call, charge, amount))


@shows("credit_note")
def _shown(_call: Call, note: Body) -> Body:
    lines, url = note["_lines"], f"/v1/credit_notes/{note['id']}/lines"
    return note | {"lines": {"object": "list", "data": lines[:_LINES_SHOWN], "has_more": len(lines) > _LINES_SHOWN, "url": url}}


def _stored(call: Call, name: str = "id") -> Body:
    return fetch(call, "credit_note", call.path[name], noun="credit note", param="id", status=404)


@handles("GetCreditNotesPreview")
def preview(call: Call) -> Body:
    try:
        with call.store.savepoint():
            raise _Seen(public(shown(call, create(call))))
    except _Seen as seen:
        return seen.note | {"_lines": seen.note["lines"]["data"]}


@handles("GetCreditNotesId")
def retrieve(call: Call) -> Body:
    call.only(())
    return _stored(call)


@handles("PostCreditNotesId")
def update(call: Call) -> Body:
    call.only({"memo", "metadata"})
    old = _stored(call)
    notes = metadata(call.params.get("metadata"), old["metadata"])
    return change(call, old, old | {"memo": given_text(call, "memo", old["memo"]), "metadata": notes}, "credit_note.updated")


@handles("PostCreditNotesIdVoid")
def void(call: Call) -> Body:
    """Only while its invoice is still open: it owes the amount again."""
    call.only(())
    note = _stored(call)
    invoice = fetch(call, "invoice", note["invoice"], noun="invoice", param="invoice")
    if note["status"] != "issued" or invoice["status"] not in ("open", "uncollectible"):
        raise Refusal("You can only void an issued credit note of an invoice that is still open.")
    call = call.of(invoice)
    voided = note | {"status": "void", "voided_at": call.now}
    call.store.replace("credit_note", voided)
    _owes(call, invoice, note["total"])
    emit(call, "credit_note.voided", voided)
    return voided


@handles("GetCreditNotesCreditNoteLines")
def lines(call: Call) -> Body:
    return page(call, _stored(call, "credit_note")["_lines"])


@handles("GetCreditNotes")
def index(call: Call) -> Body:
    wanted = {name: call.params[name] for name in ("customer", "invoice") if name in call.params}
    found = [
        shown(call, note)
        for note in call.store.newest_first("credit_note")
        if all(note[name] == value for name, value in wanted.items()) and created_within(note, call.params.get("created"))
    ]
    return page(call, found, filters=(*wanted, "created"))
