"""`weighbridge coupon`: offers that subscriptions redeem."""

import argparse
import datetime as dt
from typing import Any

from billing.model.discount import Duration
from billing.operations import coupons as operations
from billing.operations.pages import AskPage

from .context import Context
from .output import show_answer, show_list
from .pages import ask_pages
from .verbs import nouns_verbs, verb
from .words import day_after, last_day, read_amount

_COLUMNS = ("code", "discount", "duration", "redeemed", "max_redemptions", "expires", "status")


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "coupon", "coupons: create, list, show, withdraw, remove")
    create = verb(
        verbs, "create", "a new coupon", create_coupon, org=False,
        example="weighbridge coupon create LAUNCH2026 --type percent_off --amount 50 --duration repeating --duration-in-months 3",
    )  # fmt: skip
    create.add_argument("code")
    create.add_argument("--type", choices=("percent_off", "amount_off"), required=True)
    create.add_argument("--amount", required=True, help="50 for 50 %%, or an amount of money")
    create.add_argument("--currency", help="of an amount (default: the billing currency)")
    create.add_argument("--duration", choices=[d.value for d in Duration], default=Duration.ONCE.value, help="default: once")
    create.add_argument("--duration-in-months", type=int, metavar="N", help="with --duration repeating")
    create.add_argument("--max-redemptions", type=int, metavar="N", help="how many organizations may redeem it (default: any number)")
    create.add_argument("--expires", metavar="DATE", help="the last day on which it can be redeemed, UTC")
    create.add_argument("--name", default="", help="what invoices say (default: the code)")
    verb(verbs, "list", "all coupons", list_coupons, org=False, example="weighbridge coupon list")
    for name, text, run in (
        ("show", "one coupon", show_coupon),
        ("withdraw", "nobody redeems it any more", withdraw_coupon),
        ("remove", "take it from an organization: its next invoice does not have it", remove_coupon),
    ):
        verb(verbs, name, text, run, org=name == "remove", example=f"weighbridge coupon {name} LAUNCH2026").add_argument("code")


async def create_coupon(options: argparse.Namespace, context: Context) -> int:
    amount = read_amount(options.amount)
    percent = options.type == "percent_off"
    off = {options.currency: amount} if options.currency else amount
    ask = operations.NewCoupon(
        code=options.code, percent_off=amount if percent else None, amount_off=None if percent else off,
        duration=Duration(options.duration), months=options.duration_in_months, max_redemptions=options.max_redemptions,
        expires=None if options.expires is None else day_after(options.expires), name=options.name,
    )  # fmt: skip
    made = await context.ask(operations.create, ask)
    show_answer(made, options, lines=[f"✓ Coupon created: {made.code}", *_lines(made)])
    return 0


async def remove_coupon(options: argparse.Namespace, context: Context) -> int:
    gone = await context.ask(operations.remove, operations.AskCoupon(code=options.code))
    show_answer(gone, options, lines=[f"✓ Coupon {gone.code} removed from {gone.org}"])
    return 0


async def list_coupons(options: argparse.Namespace, context: Context) -> int:
    found = await ask_pages(context, operations.list_all, AskPage(), "coupons")
    rows = [_row(coupon) for coupon in found.coupons]
    show_list(found, rows, _COLUMNS, options, empty="No coupons. weighbridge coupon create CODE makes one.")
    return 0


async def show_coupon(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.show, operations.AskCoupon(code=options.code))
    show_answer(found, options, lines=[f"Coupon: {found.code}", *_lines(found), f"  Redeemed: {found.redeemed:,}"])
    return 0


async def withdraw_coupon(options: argparse.Namespace, context: Context) -> int:
    gone = await context.ask(operations.withdraw, operations.AskCoupon(code=options.code))
    show_answer(gone, options, lines=[f"✓ Coupon withdrawn: {gone.code}. Who has redeemed it keeps it"])
    return 0


def _row(coupon: operations.CouponAnswer) -> dict[str, Any]:
    return {
        **coupon.model_dump(mode="json"), "discount": coupon.offer, "duration": _duration(coupon), "expires": _expires(coupon.expires),
    }  # fmt: skip


def _lines(coupon: operations.CouponAnswer) -> list[str]:
    most = "any number" if coupon.max_redemptions is None else f"{coupon.max_redemptions:,}"
    return [
        f"  Discount: {coupon.offer}", f"  Duration: {_duration(coupon)}", f"  Max uses: {most}",
        f"  Expires: {_expires(coupon.expires) or 'never'}",
    ]  # fmt: skip


def _expires(at: dt.datetime | None) -> str | None:
    return None if at is None else last_day(at)


def _duration(coupon: operations.CouponAnswer) -> str:
    if coupon.months is None:
        return coupon.duration.value
    return "1 month" if coupon.months == 1 else f"{coupon.months} months"
