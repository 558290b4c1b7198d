"""`weighbridge init`: the database's schema, the configuration files, the plans. Again and again, it changes nothing."""

import argparse
from typing import Any

from billing.model.invoice import Issuer
from weighbridge import compat, database
from weighbridge.init import write_missing_files
from weighbridge.operator import who

from .context import Context, add_folders
from .org import unpublished
from .output import add_format, show, show_rows
from .verbs import typed

_MADE = """
SELECT c.relname, c.relkind::text AS kind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'billing' AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
UNION ALL
SELECT p.proname, 'f' FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'billing'
UNION ALL
SELECT DISTINCT t.tgname, 't' FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'billing' AND NOT t.tgisinternal AND NOT c.relispartition
ORDER BY 1
"""
_FIRST = ("customers", "subscriptions", "usage_events", "quotas", "invoices", "plans")
_KINDS = {"tables": "rp", "views": "v", "functions": "f", "triggers": "t"}


def add(nouns: Any) -> None:
    parser = nouns.add_parser("init", help="create or migrate the database, write the configuration files that are missing")
    typed(parser, "weighbridge init")
    add_folders(parser)
    add_format(parser)
    parser.add_argument(
        "--compat", nargs="?", const="public", metavar="SCHEMA",
        help="also make the views billing_customers, billing_subscriptions … for an application in the same database (default: public)",
    )  # fmt: skip
    parser.add_argument("--compat-role", default="authenticated", metavar="ROLE", help="the role of its users (default: authenticated)")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace, context: Context) -> int:
    context.database_url  # noqa: B018 — said before any file is written
    written = [str(path) for path in write_missing_files(context.settings.config_dir, each=True)]
    url, settings = context.database_url, context.settings
    prepared = await database.prepare(settings, context.configuration, url, settings.redis_url, context.clock, by=who())
    views = await compat.install(url, schema=options.compat, role=options.compat_role) if options.compat else []
    async with context.database() as pool:
        found = await pool.fetch(_MADE)
    made = {kind: [row["relname"] for row in found if row["kind"] in letters] for kind, letters in _KINDS.items()}
    plans = {change.plan: change.what for change in prepared.applied.plans}
    lines = [
        f"Migrations: {', '.join(prepared.migrations) or 'none left, the database is up to date'}",
        f"Files:      {', '.join(written) or 'all there'}",
        f"Plans:      {', '.join(f'{name} ({what})' for name, what in plans.items())}",
        *_schema(made, at_stripe=context.configuration.plans.issuer == Issuer.STRIPE),
    ]
    lines += [f"Compat:     {', '.join(f'{options.compat}.{name}' for name in views)}"] if views else []
    if options.format == "csv":
        rows = [{"kind": kind, "name": name} for kind, names in {**made, "plans": list(plans), "compat": views}.items() for name in names]
        show_rows(rows, ("kind", "name"), options, empty="")
    else:
        show({"migrations": prepared.migrations, "files": written, "plans": plans, **made, "compat": views}, options, lines=lines)
    unpublished(prepared.applied.published)
    return 0


def _schema(made: dict[str, list[str]], *, at_stripe: bool) -> list[str]:
    """The tables that people look for by name, the rest by number; `--format json` names them all."""
    note = {"invoices": " (synced from Stripe)" if at_stripe else ""}
    tables = [f"- billing.{name} table{note.get(name, '')}" for name in _FIRST if name in made["tables"]]
    views = f", {len(made['views'])} view{'s' if len(made['views']) != 1 else ''}" if made["views"] else ""
    return [
        "The schema holds:",
        *tables,
        f"- {len(made['tables']) - len(tables)} more tables{views}",
        f"- Metering functions ({len(made['functions'])})",
        f"- Quota enforcement triggers ({len(made['triggers'])}, those of the audit log among them)",
    ]
