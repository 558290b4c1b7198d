"""`weighbridge subscription`: what an organization is subscribed to, and how that is changed."""

import argparse
import sys
from decimal import Decimal
from typing import Any

from billing.model.plan import Interval
from billing.model.subscription import State
from billing.operations import subscriptions as operations
from billing.operations.dispatch import asked
from billing.operations.operation import Nothing
from metering.model.errors import BadInput

from .context import Context
from .org import unpublished
from .output import say, show_answer, show_list
from .plan_text import price_words
from .verbs import nouns_verbs, verb
from .words import day, money, read_amount, read_day, short_money

_EVERY = {Interval.DAY: "daily", Interval.WEEK: "weekly", Interval.MONTH: "monthly", Interval.YEAR: "yearly"}


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "subscription", "show, plans, upgrade, downgrade, cancel, pause, align …")
    verb(verbs, "show", "plan, state, period, next invoice", show_subscription, example="weighbridge subscription show")
    verb(verbs, "plans", "what can be bought", list_plans, org=False, example="weighbridge subscription plans")
    upgrade = verb(
        verbs,
        "upgrade",
        "to another plan now, prorated by the second",
        change_plan,
        example="weighbridge subscription upgrade pro --preview",
    )
    downgrade = verb(
        verbs, "downgrade", "to another plan when the period ends", change_plan, example="weighbridge subscription downgrade starter"
    )
    downgrade.add_argument("--now", action="store_true", help="at once, prorated")
    for parser in (upgrade, downgrade):
        parser.add_argument("plan")
        parser.add_argument("--preview", action="store_true", help="say what it would cost, and change nothing")
        parser.add_argument("--price", metavar="AMOUNT", help="as negotiated with this customer, an interval")
    cancel = verb(verbs, "cancel", "at the period's end, or now", cancel_subscription, example="weighbridge subscription cancel --yes")
    cancel.add_argument("--now", action="store_true", help="at once; nothing is refunded")
    cancel.add_argument("--reason", help="why; it is kept")
    cancel.add_argument("--yes", action="store_true", help="do not ask")
    verb(verbs, "reactivate", "take a cancellation back", reactivate, example="weighbridge subscription reactivate")
    verb(verbs, "pause", "not charged, on the default plan, until it resumes", pause, example="weighbridge subscription pause")
    verb(verbs, "resume", "go on; the rest of the period is charged", resume, example="weighbridge subscription resume")
    applying = verb(
        verbs,
        "apply-coupon",
        "take a coupon off the next invoices",
        apply_coupon,
        example="weighbridge subscription apply-coupon LAUNCH2026",
    )
    applying.add_argument("code")
    aligning = verb(verbs, "align", "let the next period start on a day", align, example="weighbridge subscription align --date 2026-02-01")
    aligning.add_argument("--date", metavar="YYYY-MM-DD", required=True)
    updating = verb(
        verbs, "update", "the day of the month it is billed on, its renewal", update,
        example="weighbridge subscription update --billing-cycle-anchor 15",
    )  # fmt: skip
    updating.add_argument("--billing-cycle-anchor", metavar="DAY", type=int, help="1 to 31; 1 is calendar months")
    updating.add_argument("--auto-renew", choices=("on", "off"), help="off: it ends with its period")
    for parser in (aligning, updating):
        parser.add_argument("--preview", action="store_true", help="say what it would cost, and change nothing")


async def show_subscription(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.show, Nothing())
    lines = [
        f"Subscription: {found.id}",
        f"Plan: {found.plan.title} ({_price(found.plan, found.currency)})",
        f"Status: {found.status}",
        f"Current Period: {found.period_start:%Y-%m-%d} to {found.period_end:%Y-%m-%d}",
    ]
    if found.status is State.TRIALING and found.trial_end:
        lines.append(f"Trial ends: {found.trial_end:%Y-%m-%d}")
    if found.next_charge is not None and found.next_amount is not None:
        lines.append(f"Next Invoice: {found.next_charge:%Y-%m-%d} ({money(found.next_amount, found.currency)})")
    if found.next_plan_title:
        lines.append(f"Changes to: {found.next_plan_title} on {found.period_end:%Y-%m-%d}")
    if found.ended and found.ends:
        lines.append(f"Ended: {found.ends:%Y-%m-%d}")
    else:
        lines.append(f"Cancel at Period End: {f'Yes, on {found.ends:%Y-%m-%d}' if found.ends is not None else 'No'}")
    show_answer(found, options, lines=lines)
    return 0


async def list_plans(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.on_sale, Nothing())
    rows = [
        {
            "name": plan.name, "price": price_words(plan.price, plan.currency), "interval": plan.every if plan.prices else "-",
            "features": ", ".join(plan.highlights) or "-",
        }
        for plan in found.plans
    ]  # fmt: skip
    show_list(found, rows, ("name", "price", "interval", "features"), options, empty="No plans. weighbridge plan create NAME makes one.")
    return 0


async def change_plan(options: argparse.Namespace, context: Context) -> int:
    at_end = options.verb == "downgrade" and not options.now
    ask = operations.ChangePlan(
        plan=options.plan, at_end=at_end, preview=options.preview, price=None if options.price is None else read_amount(options.price)
    )
    changed = await context.ask(operations.upgrade, ask)
    title, charge = changed.plan.title, _new_charge(changed, at_end=at_end)
    if at_end:
        first = f"Subscription {'would' if options.preview else 'will'} {options.verb} to {title} on {changed.effective:%Y-%m-%d}"
        lines = [f"  You will continue to have {changed.plan_before.title} access until then", f"  New {charge}"]
    else:
        first = f"Subscription {'would be ' if options.preview else ''}{options.verb}d to {title}"
        lines = [*_prorated(changed), f"  New {charge}", "  Effective immediately"]
    _show_change(changed, options, [f"{_mark(options)}{first}", *lines])
    return 0


async def cancel_subscription(options: argparse.Namespace, context: Context) -> int:
    if not options.yes:
        title = (await context.ask(operations.show, Nothing())).plan.title
        if _answer(f"Are you sure you want to cancel your {title} subscription? (y/N): ").lower() not in ("y", "yes"):
            say("Nothing was canceled.")
            return 1
        if not options.now:
            options.now = _answer("Cancel immediately or at period end? (immediate/end) [end]: ").lower() == "immediate"
    changed = await context.ask(operations.cancel, operations.CancelAsk(now=options.now, reason=options.reason))
    if options.now:
        lines = ["✓ Subscription canceled", "  No refunds for partial months"]
    else:
        lines = [
            f"✓ Subscription will be canceled on {changed.effective:%Y-%m-%d}",
            "  You will continue to have access until then",
            "  No refunds for partial months",
        ]
    _show_change(changed, options, lines)
    return 0


async def reactivate(options: argparse.Namespace, context: Context) -> int:
    changed = await context.ask(operations.reactivate, Nothing())
    amount = money(changed.amount or Decimal(0), changed.currency)
    billed = f"  You will be billed {amount} on {changed.effective:%Y-%m-%d}"
    _show_change(changed, options, ["✓ Subscription reactivated", billed, "  Cancellation removed"])
    return 0


async def pause(options: argparse.Namespace, context: Context) -> int:
    changed = await context.ask(operations.pause, Nothing())
    _show_change(changed, options, ["✓ Subscription paused", *_prorated(changed), "  It is not charged until it resumes"])
    return 0


async def resume(options: argparse.Namespace, context: Context) -> int:
    changed = await context.ask(operations.resume, Nothing())
    _show_change(changed, options, ["✓ Subscription resumed", *_prorated(changed)])
    return 0


async def align(options: argparse.Namespace, context: Context) -> int:
    changed = await context.ask(operations.align, operations.AlignAsk(date=read_day(options.date), preview=options.preview))
    _show_next_period(changed, options)
    return 0


async def update(options: argparse.Namespace, context: Context) -> int:
    renewal = None if options.auto_renew is None else options.auto_renew == "on"
    if renewal is None and options.billing_cycle_anchor is None:
        raise BadInput("say what to update: --billing-cycle-anchor DAY, or --auto-renew on")
    if renewal is not None:
        changed = await context.ask(operations.update, operations.UpdateAsk(auto_renew=renewal))
        _show_change(changed, options, [f"✓ Auto-renewal {options.auto_renew}"])
    if options.billing_cycle_anchor is not None:
        ask = operations.UpdateAsk(billing_cycle_anchor=options.billing_cycle_anchor, preview=options.preview)
        _show_next_period(await context.ask(operations.update, ask), options)
    return 0


async def apply_coupon(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.apply_coupon, asked(operations.apply_coupon, {"code": options.code}))
    lines = [f"✓ Coupon applied: {found.code}", f"  Discount: {found.discount}", *([f"  Until: {day(found.until)}"] if found.until else [])]
    show_answer(found, options, lines=lines)
    return 0


# --- words ----------------------------------------------------------------------------------------------------------------


def _price(plan: operations.PlanTerms, currency: str) -> str:
    return "Custom" if plan.price is None else f"{short_money(plan.price, currency)}/{plan.every}"


def _new_charge(changed: operations.ChangeAnswer, *, at_end: bool) -> str:
    plan = changed.plan
    when = f" (starting {changed.effective:%Y-%m-%d})" if at_end else ""
    every = _EVERY[plan.interval] if plan.interval_count == 1 else f"{plan.interval_count}-{plan.interval}"
    return f"{every} charge{when}: {money(plan.price or Decimal(0), changed.currency)}"


def _prorated(changed: operations.ChangeAnswer) -> list[str]:
    currency = changed.currency
    lines = [f"  Proration credit: {money(changed.credit, currency)}"] if changed.credit else []
    return lines + ([f"  Due for the rest of the period: {money(changed.charge, currency)}"] if changed.charge else [])


def _mark(options: argparse.Namespace) -> str:
    return "" if options.preview else "✓ "


def _show_change(changed: operations.ChangeAnswer, options: argparse.Namespace, lines: list[str]) -> None:
    show_answer(changed, options, lines=lines)
    unpublished(changed.told_gateways)


def _show_next_period(changed: operations.ChangeAnswer, options: argparse.Namespace) -> None:
    word = "would start" if options.preview else "starts"
    line = f"{_mark(options)}The next billing period {word} on {changed.effective:%Y-%m-%d}"
    _show_change(changed, options, [line, *_prorated(changed)])


def _answer(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()
