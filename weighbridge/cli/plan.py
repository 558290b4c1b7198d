"""`weighbridge plan`: what is sold. create, list, show, compare, archive, release; estimate needs no database."""

import argparse
import re
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from billing.model.plan_offer import feature_of
from billing.operations import plans as operations
from billing.operations.dispatch import asked
from billing.operations.operation import Nothing
from metering.model.errors import BadInput

from . import plan_estimate
from .context import Context
from .org import unpublished
from .output import show_answer, show_list, table
from .plan_text import comparison, made_lines, plan_lines, price_words
from .verbs import verb
from .words import read_amount

_BY_NAME = re.compile(r"--(quota|overage|price)-(?!in(?:=|$))([a-z0-9-]+)(?:=(.*))?", re.DOTALL)
_LIST = ("name", "price", "interval", "api_quota", "storage_quota", "status")


class ByName(argparse.ArgumentParser):
    """Meters and currencies are this installation's: --quota-api 10000 is --quota api=10000, --price-eur 45 is --price-in eur=45."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        return super().parse_known_args(by_name(args or ()), namespace)


def by_name(arguments: Sequence[str]) -> list[str]:
    result: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        found = _BY_NAME.fullmatch(argument)
        if found is None:
            result.append(argument)
            continue
        option, name, value = found.groups()
        value = next(rest, None) if value is None else value
        if value is None:  # the parser says that its value is missing
            return [*result, f"--{option}"]
        result += ["--price-in" if option == "price" else f"--{option}", f"{name.replace('-', '_')}={value}"]
    return result


def add(nouns: Any) -> None:
    text = "plans: create, list, show, compare, archive; estimate what one would cost"
    verbs = nouns.add_parser("plan", help=text, description=text).add_subparsers(
        dest="verb", metavar="verb", required=True, parser_class=ByName
    )
    _add_create(
        verb(
            verbs, "create", "a new plan, or a new version: what is not said stays as it was", create_plan, org=False,
            example="weighbridge plan create pro --price 49 --quota-api 100000 --overage-api 0.001 --features 'Priority Support,SSO'",
        )
    )  # fmt: skip
    verb(verbs, "list", "every plan, the archived too", list_plans, org=False, example="weighbridge plan list --format csv")
    show = verb(verbs, "show", "one plan, with all that it says", show_plan, org=False, example="weighbridge plan show pro")
    show.add_argument("plan")
    show.add_argument("--version", type=int, metavar="N", help="default: the newest")
    compare = verb(verbs, "compare", "plans side by side", compare_plans, org=False, example="weighbridge plan compare starter pro")
    compare.add_argument("plans", nargs="*", metavar="plan", help="default: those on sale, in short")
    for name, help_text, run in (
        ("archive", "nobody new gets it; who has it keeps it", archive_plan),
        ("release", "plans.yaml manages it again, from the next config apply on", release_plan),
    ):
        verb(verbs, name, help_text, run, org=False, example=f"weighbridge plan {name} premium").add_argument("plan")
    plan_estimate.add(verbs)


def _add_create(create: argparse.ArgumentParser) -> None:
    create.add_argument("name")
    create.add_argument("--title", help="what people read (default: the name)")
    create.add_argument("--price", metavar="AMOUNT", help="an interval, in BILLING_CURRENCY; custom: sold by agreement")
    create.add_argument("--price-in", metavar="CURRENCY=AMOUNT", action="append", default=[], help="also written --price-eur 45")
    create.add_argument("--interval", choices=("day", "week", "month", "year"), help="default: month")
    create.add_argument("--interval-count", type=int, metavar="N", help="every so many of them: 3 beside month is a quarter")
    create.add_argument("--trial-days", type=int, metavar="N")
    create.add_argument(
        "--quota", metavar="SERVICE=LIMIT", action="append", default=[],
        help="also written --quota-api 10000; in the unit that people see (50 is 50 GB), or unlimited",
    )  # fmt: skip
    create.add_argument(
        "--overage",
        metavar="SERVICE=PRICE",
        action="append",
        default=[],
        help="of one beyond the quota; also written --overage-api 0.001",
    )
    create.add_argument(
        "--mode", choices=("metered", "hard", "soft", "overage"), help="metered: nothing is included, every unit is charged"
    )
    create.add_argument("--features", metavar="A,B", help="what people read, by commas; organizations=10 says how many")
    create.add_argument("--copy-from", metavar="PLAN", help="another plan: what is not said here is as there")
    create.add_argument("--discount", "--discount-percentage", metavar="PERCENT", help="off the monthly plan; it must be that of the price")
    create.add_argument("--rollout", choices=("new", "renewal", "now"), help="who gets a change (default: renewal)")


async def create_plan(options: argparse.Namespace, context: Context) -> int:
    made = await context.ask(operations.create, _asked(options))
    show_answer(made, options, lines=made_lines(made, metered=options.mode == "metered"))
    if made.taken_over:
        sys.stderr.write(f"weighbridge: {made.plan.name} is no longer managed by plans.yaml; weighbridge plan release gives it back\n")
    unpublished(made.told_gateways)
    return 0


async def list_plans(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.list_all, Nothing())
    rows = [
        {
            "name": plan.name, "price": price_words(plan.price, plan.currency), "interval": plan.every if plan.prices else "-",
            "api_quota": _quota(plan, "api"), "storage_quota": _quota(plan, "storage"), "status": plan.status,
        }
        for plan in found.plans
    ]  # fmt: skip
    show_list(found, rows, _LIST, options, empty="No plans. weighbridge plan create NAME makes one.")
    return 0


async def show_plan(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.show, operations.AskPlan(name=options.plan, version=options.version))
    show_answer(found, options, lines=plan_lines(found))
    return 0


async def compare_plans(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.compare, operations.AskComparison(plans=tuple(options.plans)))
    columns, rows, after = comparison(found, short=not options.plans)
    if options.format == "table":
        show_answer(found, options, lines=["Plan Comparison", "", *table(rows, columns), *(["", after] if after else [])])
    else:
        named = ("property", *columns[1:])
        show_list(found, [dict(zip(named, row, strict=True)) for row in rows], named, options, empty="No plans.")
    return 0


async def archive_plan(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.archive, operations.NamePlan(name=options.plan))
    show_answer(found, options, lines=[f"✓ Plan archived: {found.name}. Who has it keeps it"])
    return 0


async def release_plan(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.release, operations.NamePlan(name=options.plan))
    show_answer(found, options, lines=[f"✓ plans.yaml manages {found.name} again: weighbridge config apply brings what it says"])
    return 0


# --- what was typed -------------------------------------------------------------------------------------------------------


def _asked(options: argparse.Namespace) -> operations.CreatePlan:
    on_request = options.price is not None and options.price.lower() in ("custom", "contact sales")
    words = {
        "name": options.name, "title": options.title, "interval": options.interval, "interval_count": options.interval_count,
        "trial_days": options.trial_days, "mode": options.mode, "copy_from": options.copy_from, "rollout": options.rollout,
        "price": None if options.price is None or on_request else read_amount(options.price),
        "discount": None if options.discount is None else read_amount(options.discount.removesuffix("%")),
    }  # fmt: skip
    return asked(
        operations.create,
        {
            **{name: word for name, word in words.items() if word is not None},
            "on_request": on_request,
            "prices": _pairs("--price-in", options.price_in),
            "quotas": _pairs("--quota", options.quota),
            "overage": _pairs("--overage", options.overage),
            **({} if options.features is None else {"features": _features(options.features)}),
        },
    )


def _pairs(option: str, typed: Sequence[str]) -> dict[str, Decimal | str]:
    """Raises BadInput."""
    found: dict[str, Decimal | str] = {}
    for text in typed:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise BadInput(f"{option} {text}: write a name and a figure, as {option} api=10000")
        if name in found:
            raise BadInput(f"{name} stands twice in {option}; keep one")
        found[name] = value if value == "unlimited" and option == "--quota" else read_amount(value)
    return found


def _features(text: str) -> tuple[dict[str, Any], ...]:
    found = [feature_of(part) for part in text.split(",") if part.strip()]
    return tuple({"key": feature.key, "label": feature.label, "number": feature.number} for feature in found)


def _quota(plan: operations.PlanAnswer, service: str) -> str:
    """As plan list has it: without the window; - where every unit is charged, or nothing is said of it."""
    found = next((quota for quota in plan.quotas if quota.service == service and quota.per == "org"), None)
    if found is None:
        return "-"
    if found.limit is None:
        return "Unlimited"
    return f"{found.limit:,f}{'' if found.unit == 'request' else f' {found.unit}'}"
