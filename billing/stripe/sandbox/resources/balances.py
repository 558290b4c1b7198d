"""A customer's balance: credit where negative, owed where positive. Each move is a transaction; the next invoice uses it up."""

from typing import Any

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.resources.base import Body, Call, currency, fetch, given_text, handles, metadata, page
from billing.stripe.sandbox.resources.customers import BALANCE_SET
from billing.stripe.sandbox.resources.events import change, keep
from billing.stripe.sandbox.resources.owners import live_customer
from billing.stripe.sandbox.store import new_id


def moved(call: Call, customer_id: str, amount: int, money: str, kind: str, **more: Any) -> Body | None:
    """Add `amount` (minor units) to a customer's balance; the transaction, None where nothing moves."""
    customer = call.store.get("customer", customer_id)
    if amount == 0 or customer is None or customer.get("deleted"):
        return None
    ending = customer["balance"] + amount
    made = spec.load().blank("customer_balance_transaction") | {
        "id": new_id("cbtxn"),
        "object": "customer_balance_transaction",
        "amount": amount,
        "created": call.now,
        "currency": money,
        "customer": customer_id,
        "ending_balance": ending,
        "livemode": False,
        "metadata": {},
        "type": kind,
    }
    keep(call, made | more)
    change(call, customer, customer | {"balance": ending, "currency": customer["currency"] or money}, "customer.updated")
    return made | more


def _set(call: Call, customer: Body, wanted: int) -> None:
    moved(call, customer["id"], wanted - customer["balance"], customer["currency"] or "usd", "adjustment")


BALANCE_SET.append(_set)


@handles("PostCustomersCustomerBalanceTransactions")
def create(call: Call) -> Body:
    call.only({"amount", "currency", "description", "metadata"})
    customer = live_customer(call, call.path["customer"], param="customer", status=404)
    call = call.of(customer)
    notes = metadata(call.params.get("metadata"))
    more = {"description": given_text(call, "description"), "metadata": notes}
    made = moved(call, customer["id"], call.params["amount"], currency(call.params["currency"]), "adjustment", **more)
    assert made is not None or call.params["amount"] == 0
    return made or {}


def _stored(call: Call) -> Body:
    return fetch(
        call, "customer_balance_transaction", call.path["transaction"], noun="customer balance transaction", param="id", status=404
    )


@handles("GetCustomersCustomerBalanceTransactionsTransaction")
def retrieve(call: Call) -> Body:
    call.only(())
    return _stored(call)


@handles("PostCustomersCustomerBalanceTransactionsTransaction")
def update(call: Call) -> Body:
    call.only({"description", "metadata"})
    old = _stored(call)
    notes = metadata(call.params.get("metadata"), old["metadata"])
    return change(call, old, old | {"description": given_text(call, "description", old["description"]), "metadata": notes})


@handles("GetCustomersCustomerBalanceTransactions")
def index(call: Call) -> Body:
    live_customer(call, call.path["customer"], param="customer", status=404)
    return page(call, call.store.of("customer_balance_transaction", "customer", call.path["customer"]), filters=("invoice",))
