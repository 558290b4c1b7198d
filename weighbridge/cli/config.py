"""`weighbridge config`: check the files, show what they would change, apply them, export what is in force."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from billing.services.plans import Applied
from config.diff import Change, compare
from config.load import Configuration, Fault, FileSet, contradictions, parse, read_set
from config.worst_case import worst_cases
from metering.model.errors import ConfigFaulty, NotFound
from weighbridge import database
from weighbridge.configuration import Configurations

from .context import Context, add_folders
from .org import unpublished
from .output import add_format, say, show
from .verbs import typed


def add(nouns: Any) -> None:
    verbs = nouns.add_parser("config", help="the YAML files: check, diff, apply, export").add_subparsers(
        dest="verb", metavar="verb", required=True
    )
    for name, text, run in (
        ("check", "name every fault at once; exit code 1 if there is one", check),
        ("diff", "what the files would change, and for how many organizations", diff),
        ("apply", "make it so: plans and overrides go to the database, running gateways take the rest", apply),
        ("export", "write the set in force into a folder, or print it", export),
    ):
        verb = verbs.add_parser(name, help=text)
        add_folders(verb)
        if name == "export":
            verb.add_argument("--output", type=Path, metavar="DIR", help="default: print all files")
        else:
            verb.add_argument("dir", nargs="?", type=Path, help="the folder to read (default: --config)")
            add_format(verb)
        typed(verb, f"weighbridge config {name}{' --output config.now' if name == 'export' else ' ./config'}")
        verb.set_defaults(run=run)


def _folder(options: argparse.Namespace, context: Context) -> Path:
    return options.dir.absolute() if options.dir is not None else context.settings.config_dir


def check(options: argparse.Namespace, context: Context) -> int:
    folder, settings = _folder(options, context), context.settings
    parsed = parse(read_set(folder))
    faults, worst = list(parsed.faults), []
    if parsed.config is not None:
        faults = contradictions(parsed.config, default_plan=settings.billing_default_plan, currency=settings.billing_currency)
        worst = [str(case) for case in worst_cases(parsed.config, settings.workers)]
    value = {
        "faults": [_fault(fault) for fault in faults],
        "warnings": [_fault(warning) for warning in parsed.warnings],
        "worst_cases": worst,
        "version": parsed.config.version if parsed.config else None,
    }
    lines = [*map(str, faults), *(f"warning: {warning}" for warning in parsed.warnings)]
    lines.append(f"{folder}: {len(faults)} fault{'' if len(faults) == 1 else 's'}, {len(parsed.warnings)} warnings")
    if not faults:
        lines += [f"If the store is away, with {settings.workers} workers:", *(f"  {case}" for case in worst)] if worst else []
    show(value, options, lines=lines)
    return 1 if faults else 0


def _fault(fault: Fault) -> dict[str, Any]:
    return {"file": fault.file, "line": fault.line or None, "path": fault.path, "message": fault.message}


def _good(options: argparse.Namespace, context: Context) -> Configuration:
    config = parse(read_set(_folder(options, context))).good()
    settings = context.settings
    faults = contradictions(config, default_plan=settings.billing_default_plan, currency=settings.billing_currency)
    if faults:
        raise ConfigFaulty("the configuration has faults, nothing was changed:\n" + "\n".join(f"  {fault}" for fault in faults))
    return config


async def diff(options: argparse.Namespace, context: Context) -> int:
    """Against the set that was accepted last, and, with a database, against what it holds."""
    new = _good(options, context)
    old = Configurations(context.settings.config_dir, context.settings.data_dir).last_good()
    changes = compare(old, new)
    applied = await _apply(context, new, dry_run=True) if context.settings.database_url else None
    value = {"changes": [_change(change) for change in changes], **_applied(applied)}
    lines = [*map(str, changes)] or ["The files hold what is in force."]
    show(value, options, lines=lines + _applied_lines(applied, would=True))
    return 0


async def apply(options: argparse.Namespace, context: Context) -> int:
    config = _good(options, context)
    context.database_url  # noqa: B018 — a sentence where there is no database
    applied = await _apply(context, config, dry_run=False)
    Configurations(context.settings.config_dir, context.settings.data_dir).remember(FileSet(texts=config.texts))
    lines = _applied_lines(applied, would=False)
    lines.append("Running gateways take gateway.yaml from their own folder within two seconds.")
    show(_applied(applied), options, lines=lines)
    unpublished(applied.published)
    return 0


async def _apply(context: Context, config: Configuration, *, dry_run: bool) -> Applied:
    async with (
        context.database() as pool,
        database.billing_over(context.settings, config, pool, context.redis_url, context.clock) as billing,
    ):
        return await database.apply(billing, config, dry_run=dry_run)


def _change(change: Change) -> dict[str, Any]:
    return {
        "path": change.path, "kind": change.kind, "before": change.before, "after": change.after, "plan": change.plan, "org": change.org,
    }  # fmt: skip


def _applied(applied: Applied | None) -> dict[str, Any]:
    if applied is None:
        return {}
    return {
        "plans": [
            {
                "plan": c.plan, "what": c.what, "version": c.version, "orgs_now": c.orgs_now, "orgs_at_renewal": c.orgs_at_renewal,
                "base_delta": str(c.base_delta),
            }
            for c in applied.plans
        ],
        "overrides": [{"org": c.slug, "what": c.what} for c in applied.overrides],
        "unknown_orgs": list(applied.unknown_orgs),
        "orgs_affected": applied.orgs_affected,
    }  # fmt: skip


def _applied_lines(applied: Applied | None, *, would: bool) -> list[str]:
    if applied is None:
        return []
    lines = []
    for c in applied.plans:
        if c.what == "unchanged" and not (c.orgs_now or c.orgs_at_renewal):
            continue
        moved = [f"{c.orgs_now:,} organizations at once"] if c.orgs_now else []
        moved += [f"{c.orgs_at_renewal:,} at their renewal"] if c.orgs_at_renewal else []
        money = [f"base prices change by {c.base_delta} in all"] if c.base_delta else []
        kept = ["made by API, which the files do not undo"] if c.what == "kept" else []
        lines.append(f"plan {c.plan}: " + ", ".join([f"{c.what}, version {c.version}", *moved, *money, *kept]))
    lines += [f"override {c.slug}: {c.what}" for c in applied.overrides]
    lines += [f"override {slug}: no such organization, nothing done" for slug in applied.unknown_orgs]
    if not lines:
        return ["The database would not change." if would else "The database holds these plans already."]
    return [*lines, f"{applied.orgs_affected:,} organizations {'would be' if would else 'are'} affected at once"]


async def export(options: argparse.Namespace, context: Context) -> int:
    """The files of the set that was accepted last, comments and all."""
    texts = await _in_force(context)
    if options.output is None:
        for name, text in sorted(texts.items()):
            say(f"# --- {name}", text.rstrip())
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (options.output / name).write_bytes(text.encode())  # as they came, line ends and all
    say(f"Wrote {', '.join(sorted(texts))} to {options.output}")
    return 0


async def _in_force(context: Context) -> Mapping[str, str]:
    """What was applied to the database last; without one, what this data folder's gateway accepted. Raises NotFound."""
    settings = context.settings
    if settings.database_url is not None:
        async with context.database() as pool:
            applied = await database.files_in_force(pool)
        if applied is None:
            raise NotFound("no configuration was applied to this database yet; `weighbridge init` or `weighbridge config apply` does")
        return applied
    files = Configurations(settings.config_dir, settings.data_dir).last_good_files()
    if files is None:
        raise NotFound(f"no configuration was accepted yet on {settings.data_dir}")
    return files.texts
