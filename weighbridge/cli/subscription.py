"""`weighbridge subscription`: what an organization is subscribed to, and how that is changed."""

import argparse
import sys
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from billing.model.charges import title_of
from billing.model.cycle import said
from billing.model.plan import Interval, PlanSpec
from billing.model.subscription import State, Subscription
from billing.model.subscription_terms import Terms
from billing.model.wording import wording
from billing.services.lifecycle import Changed
from metering.model.clock import isoformat, to_ms
from metering.model.errors import BadInput

from .context import Context, add_folders
from .org import unpublished
from .output import add_format, say, show, show_rows
from .payment import the_org

_EVERY = {Interval.DAY: "daily", Interval.WEEK: "weekly", Interval.MONTH: "monthly", Interval.YEAR: "yearly"}
_FEATURES_SHOWN = 4


def add(nouns: Any) -> None:
    verbs = nouns.add_parser("subscription", help="show, plans, upgrade, downgrade, cancel, pause, align …").add_subparsers(
        dest="verb", metavar="verb", required=True
    )
    _verb(verbs, "show", "plan, state, period, next invoice", show_subscription)
    _verb(verbs, "plans", "what can be bought", list_plans)
    upgrade = _verb(verbs, "upgrade", "to another plan now, prorated by the second", change_plan)
    downgrade = _verb(verbs, "downgrade", "to another plan when the period ends", change_plan)
    downgrade.add_argument("--now", action="store_true", help="at once, prorated")
    for parser in (upgrade, downgrade):
        parser.add_argument("plan")
        parser.add_argument("--preview", action="store_true", help="say what it would cost, and change nothing")
        parser.add_argument("--price", metavar="AMOUNT", help="as negotiated with this customer, an interval")
    cancel = _verb(verbs, "cancel", "at the period's end, or now", cancel_subscription)
    cancel.add_argument("--now", action="store_true", help="at once; nothing is refunded")
    cancel.add_argument("--reason", help="why; it is kept")
    cancel.add_argument("--yes", action="store_true", help="do not ask")
    _verb(verbs, "reactivate", "take a cancellation back", reactivate)
    _verb(verbs, "pause", "not charged, on the default plan, until it resumes", pause)
    _verb(verbs, "resume", "go on; the rest of the period is charged", resume)
    _verb(verbs, "apply-coupon", "take a coupon off the next invoices", apply_coupon).add_argument("code")
    align = _verb(verbs, "align", "let the next period start on a day", change_cycle)
    align.add_argument("--date", metavar="YYYY-MM-DD", required=True)
    update = _verb(verbs, "update", "the day of the month it is billed on, its renewal", change_cycle)
    update.add_argument("--billing-cycle-anchor", metavar="DAY", type=int, help="1 to 31; 1 is calendar months")
    update.add_argument("--auto-renew", choices=("on", "off"), help="off: it ends with its period")
    for parser in (align, update):
        parser.add_argument("--preview", action="store_true", help="say what it would cost, and change nothing")


def _verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    parser.add_argument("--org", metavar="ORG", help="id or slug; not needed where there is one organization")
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=run)
    return parser


async def show_subscription(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with context.billing() as billing:
        view = await billing.subscriptions.show(org)
    s, currency = view.subscription, view.subscription.currency
    ends_ms = s.ended_at_ms if s.ended_at_ms is not None else s.ends_at_ms
    value = {
        "id": s.id, "org": view.org.slug, "plan": s.plan, "plan_version": s.plan_version, "status": s.state.value,
        "amount": None if s.amount is None else format(s.amount, "f"), "currency": currency, "interval": said(s.interval, s.interval_count),
        "period_start": isoformat(view.period[0]), "period_end": isoformat(view.period[1]),
        "next_charge": None if view.next_charge_ms is None else isoformat(view.next_charge_ms),
        "next_amount": None if view.next_amount is None else format(view.next_amount, "f"),
        "next_plan": s.awaited.plan if s.awaited else None, "ends": None if ends_ms is None else isoformat(ends_ms),
        "cancel_reason": s.cancel_reason, "auto_renew": s.auto_renew, "trial_end": isoformat(s.trial.end_ms) if s.trial else None,
    }  # fmt: skip
    lines = [
        f"Subscription: {s.id}",
        f"Plan: {title_of(view.spec)} ({price_words(view.spec, s)})",
        f"Status: {s.state}",
        f"Current Period: {day(view.period[0])} to {day(view.period[1])}",
    ]
    if s.state is State.TRIALING and s.trial:
        lines.append(f"Trial ends: {day(s.trial.end_ms)}")
    if view.next_charge_ms is not None and view.next_amount is not None:
        lines.append(f"Next Invoice: {day(view.next_charge_ms)} ({money(view.next_amount, currency)})")
    if view.awaited:
        lines.append(f"Changes to: {title_of(view.awaited)} on {day(view.period[1])}")
    if s.ended_at_ms is not None:
        lines.append(f"Ended: {day(s.ended_at_ms)}")
    else:
        lines.append(f"Cancel at Period End: {f'Yes, on {day(ends_ms)}' if ends_ms is not None else 'No'}")
    show(value, options, lines=lines)
    return 0


async def list_plans(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        rows = await billing.subscriptions.on_sale()
    currency = context.settings.billing_currency
    found = [
        {
            "name": row.spec.name,
            "price": short_money(row.spec.price[currency], currency) if currency in row.spec.price else "Custom",
            "interval": said(row.spec.interval, row.spec.interval_count) if row.spec.price else "-",
            "features": ", ".join(feature.label for feature in row.spec.features[:_FEATURES_SHOWN]) or "-",
        }
        for row in rows
    ]
    show_rows(
        found, ("name", "price", "interval", "features"), options, empty="No plans. weighbridge config apply brings those of plans.yaml."
    )
    return 0


async def change_plan(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    at_end = options.verb == "downgrade" and not options.now
    terms = Terms(price=_amount(options.price)) if options.price is not None else None
    async with context.billing() as billing:
        changed = await billing.subscriptions.change_plan(org, options.plan, terms=terms, at_end=at_end, preview=options.preview)
    title, charge = title_of(changed.spec_after), _new_charge(changed, at_end=at_end)
    if at_end:
        on = day(changed.effective_ms)
        first = f"Subscription {'would' if options.preview else 'will'} {options.verb} to {title} on {on}"
        lines = [f"  You will continue to have {title_of(changed.spec_before)} access until then", f"  New {charge}"]
    else:
        first = f"Subscription {'would be ' if options.preview else ''}{options.verb}d to {title}"
        lines = [*_prorated(changed), f"  New {charge}", "  Effective immediately"]
    _show_change(changed, options, [f"{_mark(options)}{first}", *lines])
    return 0


async def cancel_subscription(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with context.billing() as billing:
        title = title_of((await billing.subscriptions.show(org)).spec)
        if not options.yes:
            if _answer(f"Are you sure you want to cancel your {title} subscription? (y/N): ").lower() not in ("y", "yes"):
                say("Nothing was canceled.")
                return 1
            if not options.now:
                options.now = _answer("Cancel immediately or at period end? (immediate/end) [end]: ").lower() == "immediate"
        changed = await billing.subscriptions.cancel(org, now=options.now, reason=options.reason)
    if options.now:
        lines = ["✓ Subscription canceled", "  No refunds for partial months"]
    else:
        on = day(changed.effective_ms)
        lines = [
            f"✓ Subscription will be canceled on {on}",
            "  You will continue to have access until then",
            "  No refunds for partial months",
        ]
    _show_change(changed, options, lines)
    return 0


async def reactivate(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with context.billing() as billing:
        changed = await billing.subscriptions.reactivate(org)
    amount = money(changed.after.amount or Decimal(0), changed.after.currency)
    billed = f"  You will be billed {amount} on {day(changed.effective_ms)}"
    _show_change(changed, options, ["✓ Subscription reactivated", billed, "  Cancellation removed"])
    return 0


async def pause(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with context.billing() as billing:
        changed = await billing.subscriptions.pause(org)
    _show_change(changed, options, ["✓ Subscription paused", *_prorated(changed), "  It is not charged until it resumes"])
    return 0


async def resume(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with context.billing() as billing:
        changed = await billing.subscriptions.resume(org)
    _show_change(changed, options, ["✓ Subscription resumed", *_prorated(changed)])
    return 0


async def change_cycle(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    anchor_day = getattr(options, "billing_cycle_anchor", None)
    renewal = getattr(options, "auto_renew", None)
    async with context.billing() as billing:
        if renewal is not None:
            changed = await billing.subscriptions.set_auto_renewal(org, renewal == "on")
            _show_change(changed, options, [f"✓ Auto-renewal {renewal}"])
        if anchor_day is not None:
            changed = await billing.subscriptions.set_anchor_day(org, anchor_day, preview=options.preview)
        elif options.verb == "align":
            changed = await billing.subscriptions.align(org, _date(options.date), preview=options.preview)
        elif renewal is None:
            raise BadInput("say what to update: --billing-cycle-anchor DAY, or --auto-renew on")
        else:
            return 0
    word = "would start" if options.preview else "starts"
    _show_change(changed, options, [f"{_mark(options)}The next billing period {word} on {day(changed.effective_ms)}", *_prorated(changed)])
    return 0


async def apply_coupon(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with context.billing() as billing:
        discount = await billing.coupons.apply(org, options.code)
    until = None if discount.end_ms is None else isoformat(discount.end_ms)
    lines = [f"✓ Coupon applied: {discount.coupon.code}", *([f"  Until: {until[:10]}"] if until else []), *context.not_at_stripe]
    show({"coupon": discount.coupon.code, "until": until}, options, lines=lines)
    return 0


# --- words ----------------------------------------------------------------------------------------------------------------


def money(amount: Decimal, currency: str) -> str:
    return wording("en").money(amount, currency)


def short_money(amount: Decimal, currency: str) -> str:
    """$49 where there are no cents."""
    return money(amount, currency).removesuffix(".00")


def day(at_ms: int) -> str:
    return isoformat(at_ms)[:10]


def price_words(spec: PlanSpec, s: Subscription) -> str:
    amount = s.amount if s.amount is not None else spec.price.get(s.currency)
    return "Custom" if amount is None else f"{short_money(amount, s.currency)}/{said(s.interval, s.interval_count)}"


def _new_charge(changed: Changed, *, at_end: bool) -> str:
    s, spec = changed.after, changed.spec_after
    interval, count = (spec.interval, spec.interval_count) if at_end else (s.interval, s.interval_count)
    amount = spec.price.get(s.currency, Decimal(0)) if at_end else s.amount or Decimal(0)
    when = f" (starting {day(changed.effective_ms)})" if at_end else ""
    return f"{_EVERY[interval] if count == 1 else f'{count}-{interval}'} charge{when}: {money(amount, s.currency)}"


def _prorated(changed: Changed) -> list[str]:
    currency = changed.after.currency
    lines = [f"  Proration credit: {money(changed.credit, currency)}"] if changed.credit else []
    return lines + ([f"  Due for the rest of the period: {money(changed.charge, currency)}"] if changed.charge else [])


def _mark(options: argparse.Namespace) -> str:
    return "" if options.preview else "✓ "


def _show_change(changed: Changed, options: argparse.Namespace, lines: list[str]) -> None:
    s = changed.after
    value = {
        "id": s.id, "org": changed.org.slug, "plan": s.plan, "status": s.state.value, "effective": isoformat(changed.effective_ms),
        "next_plan": s.awaited.plan if s.awaited else None, "credit": format(changed.credit, "f"), "charge": format(changed.charge, "f"),
        "net": format(changed.net, "f"), "currency": s.currency,
    }  # fmt: skip
    show(value, options, lines=lines)
    unpublished(changed.published)


def _answer(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def _date(text: str) -> int:
    try:
        return to_ms(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC))
    except ValueError:
        raise BadInput(f"{text!r} is no day; write it as 2026-02-01") from None


def _amount(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise BadInput(f"{text!r} is no price; write it as 299.00") from None
