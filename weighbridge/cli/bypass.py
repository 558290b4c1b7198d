"""`weighbridge bypass`: break-glass. For its time hard limits refuse nobody; everything is still counted and billed."""

import argparse
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any, Protocol

from billing.services.ports import BypassRow
from metering.model.clock import isoformat
from metering.model.errors import BadInput, DependencyUnavailable
from weighbridge.bypass_file import FileBypasses
from weighbridge.operator import who

from .context import Context, add_folders
from .output import add_format, show, show_rows
from .words import seconds

_COLUMNS = ("id", "state", "covers", "until", "reason", "by", "since", "ended_by")


class Desk(Protocol):
    """Where bypasses are kept: Postgres, or a file of a gateway alone."""

    async def begin(self, *, org_ref: str | None, meter: str | None, for_ms: int, reason: str, by: str) -> tuple[BypassRow, bool]: ...

    async def end(self, number: int, *, by: str) -> bool: ...

    async def all(self) -> list[BypassRow]: ...


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
    add_format(parser)
    parser.set_defaults(run=begin)
    verbs = parser.add_subparsers(dest="verb", metavar="verb")
    _verb(verbs, "list", "those in force and those that are over", list_all)
    _verb(verbs, "end", "end one before its time", end).add_argument("id", type=int, help="its number, as `bypass list` shows it")


def _verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=run)
    return parser


async def begin(options: argparse.Namespace, context: Context) -> int:
    if options.all == bool(options.org or options.meter):
        raise BadInput("say what to bypass: --org ORG, --meter METER (or both: the organization's limits on it), or --all")
    if not options.span or not options.reason:
        raise BadInput('say how long and why: --for 30m --reason "…"')
    async with _desk(context) as desk:
        row, told = await desk.begin(
            org_ref=options.org, meter=options.meter, for_ms=seconds(options.span) * 1000, reason=options.reason, by=who()
        )
    show(
        _value(row, context.clock.now_ms()),
        options,
        lines=[
            f"Bypass {row.id}: {_covers(row)} until {isoformat(row.until_ms)}. Nobody is refused; everything is counted and billed.",
            f"End it before: weighbridge bypass end {row.id}",
        ],
    )
    _untold(told)
    return 0


async def list_all(options: argparse.Namespace, context: Context) -> int:
    async with _desk(context) as desk:
        rows = await desk.all()
    now_ms = context.clock.now_ms()
    show_rows([_value(row, now_ms) for row in rows], _COLUMNS, options, empty="Nothing was ever bypassed.")
    return 0


async def end(options: argparse.Namespace, context: Context) -> int:
    async with _desk(context) as desk:
        told = await desk.end(options.id, by=who())
    show({"id": options.id, "ended": True}, options, lines=[f"Bypass {options.id} is over: limits hold again"])
    _untold(told)
    return 0


@contextlib.asynccontextmanager
async def _desk(context: Context) -> AsyncIterator[Desk]:
    settings = context.settings
    if settings.database_url is not None:
        async with context.billing() as billing:
            yield billing.bypasses
        return
    orgs = context.configuration.orgs
    if orgs is None:
        raise DependencyUnavailable(
            "a bypass is kept in Postgres (set DATABASE_URL), or, for a gateway alone, in the data folder of the gateway whose "
            "organizations stand in orgs.yaml; there is neither"
        )
    yield FileBypasses(settings.data_dir, orgs, context.configuration.meters, context.clock, context.redis)


def _covers(row: BypassRow) -> str:
    who = row.slug or row.org_id
    if who is None:
        return f"limits on {row.meter}" if row.meter else "every limit"
    return f"{who}, limits on {row.meter}" if row.meter else f"{who}, every limit"


def _value(row: BypassRow, now_ms: int) -> dict[str, Any]:
    state = "ended" if row.ended_at_ms is not None else "in force" if row.in_force(now_ms) else "over"
    return {
        "id": row.id, "state": state, "covers": _covers(row), "org": row.slug or row.org_id, "meter": row.meter,
        "until": isoformat(row.until_ms), "reason": row.reason, "by": row.created_by, "since": isoformat(row.created_at_ms),
        "ended": isoformat(row.ended_at_ms) if row.ended_at_ms is not None else None, "ended_by": row.ended_by,
    }  # fmt: skip


def _untold(told: bool) -> None:
    """What is kept and not yet in force is said."""
    if not told:
        sys.stderr.write("weighbridge: stored, but Redis is not there: the gateways are told once it is\n")
