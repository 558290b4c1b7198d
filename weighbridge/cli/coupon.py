"""`weighbridge coupon`: offers that subscriptions redeem."""

import argparse
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from billing.model.discount import Coupon, Duration
from metering.model.clock import isoformat, to_ms
from metering.model.errors import BadInput

from .context import Context, add_folders
from .output import add_format, show, show_rows
from .payment import the_org

_COLUMNS = ("code", "discount", "duration", "redeemed", "max_redemptions", "expires", "status")


def add(nouns: Any) -> None:
    verbs = nouns.add_parser("coupon", help="coupons: create, list, show, withdraw, remove").add_subparsers(
        dest="verb", metavar="verb", required=True
    )
    create = _verb(verbs, "create", "a new coupon", create_coupon)
    create.add_argument("code")
    create.add_argument("--type", choices=("percent_off", "amount_off"), required=True)
    create.add_argument("--amount", required=True, help="50 for 50 %%, or an amount of money")
    create.add_argument("--currency", help="of an amount (default: the billing currency)")
    create.add_argument("--duration", choices=[d.value for d in Duration], default=Duration.ONCE.value, help="default: once")
    create.add_argument("--duration-in-months", type=int, metavar="N", help="with --duration repeating")
    create.add_argument("--max-redemptions", type=int, metavar="N", help="how many organizations may redeem it (default: any number)")
    create.add_argument("--expires", metavar="DATE", help="the last day on which it can be redeemed, UTC")
    create.add_argument("--name", default="", help="what invoices say (default: the code)")
    removed = _verb(verbs, "remove", "take it from an organization: its next invoice does not have it", remove_coupon)
    removed.add_argument("code")
    removed.add_argument("--org", metavar="ORG", help="id or slug; not needed where there is one organization")
    _verb(verbs, "list", "all coupons", list_coupons)
    for name, text, run in (("show", "one coupon", show_coupon), ("withdraw", "nobody redeems it any more", withdraw_coupon)):
        _verb(verbs, name, text, run).add_argument("code")


def _verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=run)
    return parser


async def create_coupon(options: argparse.Namespace, context: Context) -> int:
    amount, currency = decimal(options.amount), (options.currency or context.settings.billing_currency).lower()
    coupon = Coupon(
        code=options.code, percent_off=amount if options.type == "percent_off" else None,
        amount_off={} if options.type == "percent_off" else {currency: amount}, duration=Duration(options.duration),
        months=options.duration_in_months, max_redemptions=options.max_redemptions, redeem_by_ms=day_after(options.expires),
        name=options.name,
    )  # fmt: skip
    async with context.billing() as billing:
        await billing.coupons.create(coupon)
    show(coupon_row(coupon), options, lines=[f"✓ Coupon created: {coupon.code}", *_lines(coupon)])
    return 0


async def remove_coupon(options: argparse.Namespace, context: Context) -> int:
    org = await the_org(options, context)
    async with context.billing() as billing:
        await billing.coupons.remove(org, options.code)
    show({"org": org, "code": options.code}, options, lines=[f"✓ Coupon {options.code} removed from {org}"])
    return 0


async def list_coupons(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        found = await billing.coupons.all()
    show_rows([coupon_row(coupon) for coupon in found], _COLUMNS, options, empty="No coupons. weighbridge coupon create CODE makes one.")
    return 0


async def show_coupon(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        coupon = await billing.coupons.show(options.code)
    show(coupon_row(coupon), options, lines=[f"Coupon: {coupon.code}", *_lines(coupon), f"  Redeemed: {coupon.redeemed:,}"])
    return 0


async def withdraw_coupon(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        coupon = await billing.coupons.withdraw(options.code)
    show(coupon_row(coupon), options, lines=[f"✓ Coupon withdrawn: {coupon.code}. Who has redeemed it keeps it"])
    return 0


def coupon_row(coupon: Coupon) -> dict[str, Any]:
    return {
        "code": coupon.code, "name": coupon.name, "discount": _offer(coupon), "duration": _duration(coupon), "redeemed": coupon.redeemed,
        "percent_off": None if coupon.percent_off is None else str(coupon.percent_off),
        "amount_off": {currency: str(amount) for currency, amount in coupon.amount_off.items()} or None,
        "max_redemptions": coupon.max_redemptions, "expires": None if coupon.redeem_by_ms is None else isoformat(coupon.redeem_by_ms),
        "status": "withdrawn" if coupon.withdrawn else "active",
    }  # fmt: skip


def _lines(coupon: Coupon) -> list[str]:
    last = None if coupon.redeem_by_ms is None else isoformat(coupon.redeem_by_ms - 1)[:10]
    most = "any number" if coupon.max_redemptions is None else f"{coupon.max_redemptions:,}"
    return [f"  Discount: {_offer(coupon)}", f"  Duration: {_duration(coupon)}", f"  Max uses: {most}", f"  Expires: {last or 'never'}"]


def _offer(coupon: Coupon) -> str:
    return coupon.offer("") if coupon.percent_off is not None else ", ".join(coupon.offer(c) for c in sorted(coupon.amount_off))


def _duration(coupon: Coupon) -> str:
    if coupon.months is None:
        return coupon.duration.value
    return "1 month" if coupon.months == 1 else f"{coupon.months} months"


def decimal(text: str) -> Decimal:
    """An amount as people type it. Raises BadInput."""
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite():
        raise BadInput(f"{text} is no amount; write digits and a point: 25 or 25.50")
    return found


def day_after(text: str | None) -> int | None:
    """The end of a day, as it is typed: 2026-03-31. Raises BadInput."""
    if text is None:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise BadInput(f"{text} is no day; write it like 2026-03-31") from None
    return to_ms(day + timedelta(days=1))
