"""`weighbridge bypass`: break-glass. For its time hard limits refuse nobody; everything is still counted and billed."""

import argparse
import sys
from typing import Any

from billing.operations import bypasses as operations
from billing.operations.pages import AskPage
from metering.model.errors import BadInput, DependencyUnavailable
from weighbridge.bypass_file import FileBypasses
from weighbridge.operator import who

from .context import Context, add_folders
from .output import add_format, row_of, show_answer, show_list
from .pages import ask_pages
from .verbs import typed, verb
from .words import moment, seconds

_COLUMNS = ("id", "state", "covers", "until", "reason", "by", "since", "ended_by")


def add(nouns: Any) -> None:
    parser = nouns.add_parser(
        "bypass",
        help="break-glass: let calls pass beyond hard limits for a while, counted and billed",
        description="For its time quotas, rates and concurrency refuse nobody. Everything is still counted, and billed as used.",
    )
    parser.add_argument("--org", metavar="ORG", help="id or slug: one organization; with --meter, its limits on that meter")
    parser.add_argument("--meter", help="limits on one meter")
    parser.add_argument("--all", action="store_true", help="every limit of everybody")
    parser.add_argument("--for", dest="span", metavar="TIME", help="how long: 90s, 30m, 4h, at most 7d. It ends by itself")
    parser.add_argument("--reason", help="why; it stays on record")
    add_folders(parser)
    add_format(parser, "csv")
    typed(parser, 'weighbridge bypass --org acme-corp --for 30m --reason "their launch"')
    parser.set_defaults(run=begin)
    verbs = parser.add_subparsers(dest="verb", metavar="verb")
    verb(verbs, "list", "those in force and those that are over", list_all, org=False, example="weighbridge bypass list")
    ending = verb(verbs, "end", "end one before its time", end, org=False, example="weighbridge bypass end 2")
    ending.add_argument("id", type=int, help="its number, as `bypass list` shows it")


async def begin(options: argparse.Namespace, context: Context) -> int:
    if options.all == bool(options.org or options.meter):
        raise BadInput("say what to bypass: --org ORG, --meter METER (or both: the organization's limits on it), or --all")
    if not options.span or not options.reason:
        raise BadInput('say how long and why: --for 30m --reason "…"')
    ask = operations.BeginBypass(meter=options.meter, all=options.all, seconds=seconds(options.span), reason=options.reason)
    if (file := _file(context)) is None:
        made = await context.ask(operations.begin, ask)
    else:
        row, told = await file.begin(org_ref=options.org, meter=ask.meter, for_ms=ask.seconds * 1000, reason=ask.reason, by=who())
        made = operations.begun(row, context.clock.now_ms(), told)
    lines = [
        f"Bypass {made.id}: {made.covers} until {moment(made.until)}. Nobody is refused; everything is counted and billed.",
        f"End it before: weighbridge bypass end {made.id}",
    ]
    show_answer(made, options, lines=lines)
    _untold(made.told_gateways)
    return 0


async def list_all(options: argparse.Namespace, context: Context) -> int:
    if (file := _file(context)) is None:
        found = await ask_pages(context, operations.list_all, AskPage(), "bypasses")
    else:
        now_ms = context.clock.now_ms()
        found = operations.BypassList(bypasses=tuple(operations.bypass_answer(row, now_ms) for row in await file.all()))
    show_list(found, [row_of(row) for row in found.bypasses], _COLUMNS, options, empty="Nothing was ever bypassed.")
    return 0


async def end(options: argparse.Namespace, context: Context) -> int:
    ask = operations.WhichBypass(id=options.id)
    if (file := _file(context)) is None:
        ended = await context.ask(operations.end, ask)
    else:
        ended = operations.EndedBypass(id=ask.id, ended=True, told_gateways=await file.end(ask.id, by=who()))
    show_answer(ended, options, lines=[f"Bypass {ended.id} is over: limits hold again"])
    _untold(ended.told_gateways)
    return 0


def _file(context: Context) -> FileBypasses | None:
    """Where a gateway alone keeps them; None where there is a database, or control. Raises DependencyUnavailable."""
    if context.own_settings.token is not None or context.settings.database_url is not None:
        return None
    orgs = context.configuration.orgs
    if orgs is None:
        raise DependencyUnavailable(
            "a bypass is kept in Postgres (set DATABASE_URL), or, for a gateway alone, in the data folder of the gateway whose "
            "organizations stand in orgs.yaml; there is neither"
        )
    return FileBypasses(context.settings.data_dir, orgs, context.configuration.meters, context.clock, context.redis)


def _untold(told: bool) -> None:
    """What is kept and not yet in force is said."""
    if not told:
        sys.stderr.write("weighbridge: stored, but Redis is not there: the gateways are told once it is\n")
