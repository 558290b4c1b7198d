"""`weighbridge reconcile`: prove that every unit is where it must be, once; name what is not.

Exit codes: 0 all is conserved; 1 it could not be done, with a sentence; 2 usage; 3 something is missing, or too much;
4 nothing differs, but not everything could be looked at.
"""

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any

from billing.model.conservation import Books, Difference
from metering.model.clock import isoformat

from .context import Context, add_folders
from .flush import stripe_of
from .output import add_format, show, table
from .verbs import typed

DIFFERS, UNSEEN = 3, 4
_COLUMNS = (
    "Organization", "Meter", "Period", "Admitted", "Returned", "Charged", "Postgres", "Store", "Journals", "Counter", "Reported", "Stripe",
)  # fmt: skip


def add(nouns: Any) -> None:
    parser = nouns.add_parser(
        "reconcile", help="prove that counters, journals, ledger, outbox and Stripe hold the same units",
        epilog="exit codes: 0 conserved, 1 refused, 2 usage, 3 something differs, 4 nothing differs but not all could be looked at",
    )  # fmt: skip
    parser.add_argument("--org", help="id or slug: look at one organization")
    parser.add_argument(
        "--journal", action="append", default=[], metavar="DIR", type=Path, help="journals of another host, or a copy; beside this host's"
    )
    parser.add_argument(
        "--against", metavar="FILE", type=Path, help="an access log that is held against the ledger, call by call of each minute"
    )
    add_folders(parser)
    add_format(parser)
    typed(parser, "weighbridge reconcile --org acme-corp")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace, context: Context) -> int:
    from weighbridge.reconcile.against import against
    from weighbridge.reconcile.look import Scope
    from weighbridge.reconcile.report import Report, reconcile

    settings = context.settings
    org_ids = None
    if options.org:
        async with context.billing() as billing:
            org_ids = [(await billing.orgs.show(options.org)).org.id]
    own = settings.data_dir / "journal"
    folders = [*([own] if own.is_dir() else []), *options.journal]
    scope = Scope(
        org_ids=org_ids, folders=folders, meters=context.configuration.meters, now_ms=context.clock.now_ms(),
        report_seconds=settings.report_interval_seconds,
    )  # fmt: skip
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(context.database())
        client = await stack.enter_async_context(context.redis())
        stripe = await stack.enter_async_context(stripe_of(context, pool))
        report: Report = await reconcile(pool, client, stripe, scope, context.clock)
        if options.against:
            heard = await against(pool, client, context.configuration.gateway, options.against, scope, context.clock)
            report.differences += heard.differences
            report.unseen += heard.unseen
            report.witness = heard.to_json()
    show(report.to_json(), options, lines=_lines(report))
    for difference in report.differences:
        sys.stderr.write(f"weighbridge: {_sentence(report, difference)}\n")
    for sentence in report.unseen:
        sys.stderr.write(f"weighbridge: not looked at: {sentence}\n")
    return DIFFERS if report.differences else UNSEEN if report.unseen else 0


def _sentence(report: Any, difference: Difference) -> str:
    key = difference.key
    whose = f"{report.slugs.get(key.org_id, key.org_id)}, {key.meter}: " if key else ""
    return f"{whose}{difference.sentence}"


def _lines(report: Any) -> list[str]:
    rows = [_row(report, books) for _, books in sorted(report.books.items())]
    lines = table(rows, _COLUMNS) if rows else ["Nothing was ever counted."]
    flying = report.to_json()["in_flight"]
    if any(flying.values()):
        lines += ["", "On its way: " + ", ".join(f"{units:,} {name.replace('_', ' ')}" for name, units in flying.items() if units)]
    count = len(report.differences)
    if report.witness:
        said = report.witness
        lines += [
            "",
            f"The witness: {said['calls']:,} calls from {said['from']} to {said['until']}, {said['outside']:,} on routes that count none",
        ]
    verdict = f"{count} {'difference' if count == 1 else 'differences'}:" if count else "Conserved: every unit is where it must be, once."
    return [*lines, "", verdict]


def _row(report: Any, books: Books) -> list[str]:
    one = report.to_json_of(books)
    names = ("admitted", "returned", "charged", "in_postgres", "in_the_store", "in_journals_only", "counter", "reported", "stripe")
    figures = [f"{one[name]:,}" if one[name] is not None else "-" for name in names]
    return [one["org"] or one["org_id"], books.key.meter, isoformat(books.key.start_ms)[:10], *figures]
