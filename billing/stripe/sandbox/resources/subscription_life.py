"""What happens to a subscription by itself, and by its invoices: renewal, the end of a trial, payment that fails, the end.

incomplete -> active | incomplete_expired; trialing -> active | past_due | paused | canceled; active <-> past_due -> unpaid | canceled.
"""

from typing import Any

from billing.stripe.sandbox.own_settings import setting
from billing.stripe.sandbox.resources.base import Body, Call, fetch
from billing.stripe.sandbox.resources.customers import WHEN_DELETED
from billing.stripe.sandbox.resources.discounts import running
from billing.stripe.sandbox.resources.drafts import new_draft, pending_items, stored, take
from billing.stripe.sandbox.resources.events import emit
from billing.stripe.sandbox.resources.invoice_life import (
    WHEN_OVERDUE,
    WHEN_REFUSED,
    WHEN_SETTLED,
    finalized,
    method_for,
    plan_finalization,
    uncollectible,
    voided,
)
from billing.stripe.sandbox.resources.lines import in_trial, of_item, price_of
from billing.stripe.sandbox.resources.subscription_body import ENDED, as_shown, is_metered, item_period, items_of, natural, plan_next
from billing.stripe.sandbox.store import new_id
from billing.stripe.sandbox.work import does

_OWES = ("incomplete", "past_due", "unpaid")


def saved(call: Call, before: Body | None, subscription: Body, event: str | None = "customer.subscription.updated") -> Body:
    """Store it, plan its next look, tell of it. `before` is its earlier form as shown."""
    call.store.replace("subscription", subscription)
    plan_next(call, subscription)
    if event:
        emit(call, event, subscription, before=before)
    return subscription


@does("subscription")
def _look(call: Call, subscription_id: str) -> None:
    """Do the one thing that is due; what else is due stands on the agenda again."""
    subscription = call.store.get("subscription", subscription_id)
    if subscription is None or subscription["status"] in ENDED:
        return
    status, now = subscription["status"], call.now
    before = as_shown(call, subscription)
    pause = subscription["pause_collection"]
    if status == "incomplete":
        _expire(call, before, subscription)
    elif subscription["cancel_at"] is not None and now >= subscription["cancel_at"]:
        end_at_period(call, before, subscription)
    elif pause and pause["resumes_at"] is not None and now >= pause["resumes_at"]:
        saved(call, before, subscription | {"pause_collection": None})
    elif status == "trialing" and now < subscription["trial_end"]:
        saved(call, None, subscription | {"_warned": True}, "customer.subscription.trial_will_end")
    elif status == "trialing":
        _end_trial(call, before, subscription)
    else:
        renew(call, before, subscription)


def _expire(call: Call, before: Body, subscription: Body) -> None:
    """Its first invoice was not paid within 23 hours."""
    invoice = call.store.get("invoice", subscription["latest_invoice"] or "")
    gone = subscription | {"status": "incomplete_expired", "ended_at": call.now}
    saved(call, before, gone)
    if invoice and invoice["status"] == "open":
        voided(call, invoice)


def _end_trial(call: Call, before: Body, subscription: Body) -> None:
    """The first paid period begins; what a customer without a card gets is a setting of the subscription."""
    probe = {"_subscription": subscription["id"], "customer": subscription["customer"], "default_payment_method": None}
    lacking = subscription["collection_method"] == "charge_automatically" and method_for(call, probe) is None
    behavior = (subscription["trial_settings"] or {}).get("end_behavior", {}).get("missing_payment_method", "create_invoice")
    if lacking and behavior == "cancel":
        ended(call, before, subscription, "payment_failed")
    elif lacking and behavior == "pause":
        saved(call, before, subscription | {"status": "paused"}, "customer.subscription.paused")
    else:
        renew(call, before, subscription | {"status": "active"})


def renew(call: Call, before: Body, subscription: Body) -> Body:
    """Every item whose period is over gets its next one, and one invoice says what both cost."""
    fixed: list[Body] = []
    arrears: list[Body] = []
    start = call.now
    subscription = _without_ended(call, subscription)
    for item in items_of(call, subscription["id"]):
        if item["current_period_end"] > call.now:
            continue
        price = price_of(call, item["price"])
        start = min(start, item["current_period_start"])
        begin, end = item_period(subscription, price, call.now)
        call.store.replace("item", item | {"current_period_start": begin, "current_period_end": end})
        if not is_metered(price):
            fixed += licensed_lines(call, subscription, item, price, (begin, end))
        elif before["status"] != "trialing":  # what was used in a trial is free
            arrears.append(counted(item, item["current_period_start"], item["current_period_end"]))
    invoice = drafted(call, subscription, fixed, arrears, reason="subscription_cycle", start=start)
    subscription = saved(call, before, subscription | {"latest_invoice": invoice["id"]})
    _begin_collection(call, subscription, invoice)
    return subscription


def _without_ended(call: Call, subscription: Body) -> Body:
    """Coupons for some months leave the subscription when those are over."""
    left = running(call, subscription["discounts"])
    for name in subscription["discounts"]:
        if name not in left and (discount := call.store.get("discount", name)):
            emit(call, "customer.discount.deleted", discount)
    return subscription | {"discounts": left}


def counted(item: Body, start: int, end: int) -> Body:
    """A metered period, to be counted until its invoice is finalized."""
    return {"id": new_id("il")[:-2], "item": item, "start": max(start, item["_since"]), "end": end}


def licensed_lines(call: Call, subscription: Body, item: Body, price: Body, whole: tuple[int, int]) -> list[Body]:
    """What an item costs for a period in advance; a period cut short by an anchor costs its share."""
    first, last = natural(subscription, price, whole[0])
    share = None if (first, last) == whole else (whole[1] - whole[0], last - first)
    return of_item(call, item, item["quantity"], whole, share=share)


def drafted(call: Call, subscription: Body, fixed: list[Body], arrears: list[Body], *, reason: str, start: int, **more: Any) -> Body:
    """A stored draft with these lines, and whatever was waiting for an invoice."""
    customer = fetch(call, "customer", subscription["customer"], noun="customer", param="customer")
    invoice = new_draft(
        call, customer, reason=reason, currency=subscription["currency"], period=(start, call.now), subscription=subscription, **more
    )
    waiting = take(call, invoice, pending_items(call, customer["id"], subscription["currency"], subscription["id"]))
    return stored(call, invoice | {"_fixed": [*waiting, *fixed], "_arrears": arrears})


def _begin_collection(call: Call, subscription: Body, invoice: Body) -> None:
    """Finalize by and by; not for one that is unpaid, and as it says for one whose collection is paused."""
    pause = subscription["pause_collection"]
    if subscription["status"] == "unpaid" or (pause and pause["behavior"] == "keep_as_draft"):
        call.store.replace("invoice", invoice | {"auto_advance": False})
    elif pause:
        opened = finalized(call, invoice, pay=False)
        if opened["status"] == "open":
            (voided if pause["behavior"] == "void" else uncollectible)(call, opened)
    else:
        plan_finalization(call, invoice)


def trial_lines(call: Call, subscription: Body) -> list[Body]:
    whole = (subscription["trial_start"], subscription["trial_end"])
    return [in_trial(call, item, whole) for item in items_of(call, subscription["id"]) if not is_metered(price_of(call, item["price"]))]


def usage_so_far(call: Call, subscription: Body) -> list[Body]:
    """The metered periods under way, up to now."""
    if subscription["status"] == "trialing":
        return []
    items = [item for item in items_of(call, subscription["id"]) if is_metered(price_of(call, item["price"]))]
    return [counted(item, item["current_period_start"], call.now) for item in items if item["current_period_start"] < call.now]


def end_at_period(call: Call, before: Body, subscription: Body) -> Body:
    """The end that was ordered earlier: usage and what waits are billed once more."""
    arrears = usage_so_far(call, subscription)
    waiting = pending_items(call, subscription["customer"], subscription["currency"], subscription["id"])
    over = ended(call, before, subscription, "cancellation_requested")
    if arrears or waiting:
        invoice = drafted(call, over, [], arrears, reason="subscription_cycle", start=before_start(before))
        call.store.replace("subscription", over | {"latest_invoice": invoice["id"]})
        plan_finalization(call, invoice)
    return over


def before_start(before: Body) -> int:
    return min(int(item["current_period_start"]) for item in before["items"]["data"])


def ended(call: Call, before: Body, subscription: Body, reason: str | None) -> Body:
    """Canceled, for good. Its open invoices are no longer collected by themselves."""
    details = subscription["cancellation_details"]
    over = subscription | {
        "status": "canceled",
        "canceled_at": subscription["canceled_at"] or call.now,
        "ended_at": call.now,
        "cancellation_details": details | {"reason": details["reason"] or reason},
    }
    for invoice in call.store.of("invoice", "customer", over["customer"]):
        if invoice["_subscription"] == over["id"] and invoice["status"] in ("draft", "open"):
            call.store.replace("invoice", invoice | {"auto_advance": False, "next_payment_attempt": None})
            for work in ("invoice.retry", "invoice.finalize"):
                call.store.plan(work, invoice["id"], None, None)
    return saved(call, before, over, "customer.subscription.deleted")


# what invoices do to it


def _of(call: Call, invoice: Body) -> Body | None:
    return call.store.get("subscription", invoice["_subscription"]) if invoice["_subscription"] else None


def _settled(call: Call, invoice: Body) -> None:
    """The latest invoice is paid: all is well again."""
    subscription = _of(call, invoice)
    if subscription is None or subscription["latest_invoice"] != invoice["id"]:
        return
    if subscription["status"] in _OWES or subscription.get("_resumes") == invoice["id"]:
        before = as_shown(call, subscription)
        resumed = subscription.get("_resumes") == invoice["id"]
        active = {key: value for key, value in subscription.items() if key != "_resumes"} | {"status": "active"}
        saved(call, before, active)
        if resumed:
            emit(call, "customer.subscription.resumed", active)


def _refused(call: Call, invoice: Body) -> None:
    """A try failed: past due, and after the last one whatever the settings say."""
    subscription = _of(call, invoice)
    if subscription is None or subscription["status"] in (*ENDED, "incomplete", "paused"):
        return
    before = as_shown(call, subscription)
    last = invoice["next_payment_attempt"] is None and invoice["attempt_count"] > len(setting(call.store, "retry_days"))
    then = setting(call.store, "after_retries")
    if last and then == "cancel":
        ended(call, before, subscription, "payment_failed")
    elif last and then == "unpaid":
        saved(call, before, subscription | {"status": "unpaid"})
    elif subscription["status"] in ("active", "trialing"):
        saved(call, before, subscription | {"status": "past_due"})


def _overdue(call: Call, invoice: Body) -> None:
    subscription = _of(call, invoice)
    if subscription and subscription["status"] == "active":
        saved(call, as_shown(call, subscription), subscription | {"status": "past_due"})


def _end_with_customer(call: Call, customer: Body) -> None:
    for subscription in call.store.of("subscription", "customer", customer["id"]):
        if subscription["status"] not in ENDED:
            ended(call, as_shown(call, subscription), subscription, None)


WHEN_SETTLED.append(_settled)
WHEN_REFUSED.append(_refused)
WHEN_OVERDUE.append(_overdue)
WHEN_DELETED.append(_end_with_customer)
