"""A subscription's items changed in mid-period: what is credited for the old, what is owed for the new, by the second.

- create_prorations: both wait as invoice items for the next invoice; always_invoice: they are invoiced at once; none: neither.
- Another interval, or billing_cycle_anchor=now, starts a new period at once: the new one is invoiced in full, usage so far too.
- Percentages off the subscription take part in prorations; amounts off do not. Prorations are not discountable again.
- A metered price that goes is billed for what it counted; one that changes on its item keeps counting, at the new price.
"""

from decimal import Decimal
from typing import Any

from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.invoice_math import rounded, total_of
from billing.stripe.sandbox.resources.base import Body, Call, fetch, metadata
from billing.stripe.sandbox.resources.cycles import Anchor
from billing.stripe.sandbox.resources.discounts import at_work, running
from billing.stripe.sandbox.resources.invoice_items import new_invoice_item
from billing.stripe.sandbox.resources.lines import in_arrears, price_of, pricing, title
from billing.stripe.sandbox.resources.subscription_body import check_prices, is_metered, items_of, natural, new_item, price_given
from billing.stripe.sandbox.resources.subscription_life import counted, licensed_lines
from billing.stripe.sandbox.resources.tax_rates import rates_given

_HUNDRED = Decimal(100)


def change_items(call: Call, subscription: Body) -> tuple[list[Body], list[Body]]:
    """(items before, items after). Those named by id are changed or deleted, the others are added; those not named stay."""
    old = items_of(call, subscription["id"])
    items = {item["id"]: item for item in old}
    position = max((item["_position"] for item in old), default=0) + 1
    for at, given in enumerate(call.params.get("items", [])):
        if "id" not in given:
            item = new_item(call, subscription, given, price_given(call, given, at), position + at, start=call.now)
            items[item["id"]] = item
            continue
        if given["id"] not in items:
            raise Refusal(f"No such subscription item: '{given['id']}'", param=f"items[{at}][id]", code="resource_missing")
        item = items[given["id"]] | _changes(call, items[given["id"]], given, at)
        items[given["id"]] = item
        call.store.replace("item", item)
    left = [item for item in items.values() if not item.get("deleted")]
    if not left:
        raise Refusal("A subscription must have at least one active item.", param="items")
    check_prices(call, [price_of(call, item["price"]) for item in left], subscription["billing_mode"])
    return old, left


def _changes(call: Call, item: Body, given: Body, at: int) -> Body:
    if given.get("deleted"):
        return {"deleted": True, "_clear": given.get("clear_usage", False)}
    price = price_given(call, {"price": item["price"]} | given, at)
    changes: dict[str, Any] = {"price": price["id"], "metadata": metadata(given.get("metadata"), item["metadata"])}
    if "tax_rates" in given:
        rates = rates_given(call, given["tax_rates"], f"items[{at}][tax_rates]")
        changes |= {"tax_rates": rates, "_rates": [rate["id"] for rate in rates]}
    if not is_metered(price):
        changes["quantity"] = given.get("quantity", item.get("quantity", 1))
    return changes


def restarts(call: Call, subscription: Body, old: list[Body], new: list[Body]) -> bool:
    """Whether a new cycle begins now: asked for, or because what is paid in advance has another interval."""
    if call.params.get("billing_cycle_anchor") == "now":
        return True
    before, after = _intervals(call, old), _intervals(call, new)
    return subscription["status"] != "trialing" and bool(before) and bool(after) and before != after


def _intervals(call: Call, items: list[Body]) -> set[tuple[str, int]]:
    prices = [price_of(call, item["price"]) for item in items]
    return {(p["recurring"]["interval"], p["recurring"]["interval_count"]) for p in prices if not is_metered(p)}


def prorate(call: Call, subscription: Body, old: list[Body], new: list[Body], at: int, *, whole: bool) -> None:
    """Leave invoice items for what changed. `whole`: the old cycle ends, so everything is credited and nothing owed here."""
    after = {item["id"]: item for item in new}
    before = {item["id"]: item for item in old}
    for item in old:
        now = after.get(item["id"])
        same = now is not None and (now["price"], now.get("quantity")) == (item["price"], item.get("quantity"))
        if is_metered(price_of(call, item["price"])):
            if now is None and not (call.store.get("item", item["id"]) or {}).get("_clear"):
                _bill_counted(call, subscription, item)
        elif whole or not same:
            _prorated(call, subscription, item, at, credit=True)
    for item in () if whole else new:
        was = before.get(item["id"])
        same = was is not None and (was["price"], was.get("quantity")) == (item["price"], item.get("quantity"))
        if not same and not is_metered(price_of(call, item["price"])):
            _prorated(call, subscription, item, at, credit=False)


def _prorated(call: Call, subscription: Body, item: Body, at: int, *, credit: bool) -> None:
    price = price_of(call, item["price"])
    start, end = natural(subscription, price, at)
    if not start <= at < end:
        return
    full = Decimal(total_of(price, item["quantity"])) * _share_paid(call, subscription)
    amount = rounded(full * (end - at) / (end - start))
    name = title(call, price)
    _wait(
        call,
        subscription,
        item,
        price,
        -amount if credit else amount,
        description=f"{'Unused' if credit else 'Remaining'} time on {name}",
        period={"start": at, "end": end},
        quantity=item["quantity"],
        quantity_decimal=str(item["quantity"]),
        discountable=False,
        proration=True,
        proration_details={"credited_items": None, "discount_amounts": []},
    )


def _share_paid(call: Call, subscription: Body) -> Decimal:
    share = Decimal(1)
    for discount in at_work(call, running(call, subscription["discounts"]), subscription["currency"]):
        if discount.percent is not None and discount.products is None:
            share *= 1 - discount.percent / _HUNDRED
    return share


def _bill_counted(call: Call, subscription: Body, item: Body) -> None:
    """A metered item that goes leaves what it counted."""
    price = price_of(call, item["price"])
    for line in in_arrears(call, counted(item, item["current_period_start"], call.now), subscription["customer"]):
        if line["amount"]:
            more = {"description": line["description"], "period": line["period"], "quantity": line["quantity"]}
            _wait(call, subscription, item, price, line["amount"], **more, quantity_decimal=str(line["quantity"]))


def _wait(call: Call, subscription: Body, item: Body, price: Body, amount: int, **more: Any) -> None:
    customer = fetch(call, "customer", subscription["customer"], noun="customer", param="customer")
    owner = {"subscription": subscription["id"], "subscription_item": item["id"]}
    new_invoice_item(
        call,
        customer,
        subscription["currency"],
        amount,
        parent={"type": "subscription_details", "subscription_details": owner},
        pricing=pricing(price, price["unit_amount_decimal"]),
        tax_rates=item["tax_rates"],
        **more,
    )


def credit_rest(call: Call, subscription: Body, at: int) -> None:
    """Everything paid in advance and not used, as on a cancellation that prorates."""
    paid = [item for item in items_of(call, subscription["id"]) if not is_metered(price_of(call, item["price"]))]
    prorate(call, subscription, paid, [], at, whole=True)


def restarted(call: Call, subscription: Body, items: list[Body]) -> tuple[Body, list[Body], list[Body]]:
    """A new cycle from now on: (the subscription, lines in advance, metered periods that are over)."""
    anchor = Anchor.at(call.now)
    subscription = subscription | {"billing_cycle_anchor": anchor.instant, "_anchor_day": anchor.day, "billing_cycle_anchor_config": None}
    fixed: list[Body] = []
    arrears: list[Body] = []
    for item in items:
        price = price_of(call, item["price"])
        whole = natural(subscription, price, call.now)
        if is_metered(price) and item["current_period_start"] < call.now and subscription["status"] != "trialing":
            arrears.append(counted(item, item["current_period_start"], call.now))
        moved = item | {"current_period_start": whole[0], "current_period_end": whole[1], "_since": call.now}
        call.store.replace("item", moved)
        if not is_metered(price):
            fixed += licensed_lines(call, subscription, moved, price, whole)
    return subscription, fixed, arrears
