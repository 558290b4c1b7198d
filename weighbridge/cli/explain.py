"""`weighbridge explain --key … GET /path`: what would happen to a call, and why. Charges nothing."""

import argparse
from typing import Any

from config.gateway import with_targets
from gateway.explain import explain

from .context import Context, add_folders
from .output import add_format, show, table
from .verbs import typed

_COLUMNS = ("limit", "mode", "cost", "used", "left", "of", "resets", "store away")


def add(nouns: Any) -> None:
    parser = nouns.add_parser("explain", help="route, charge and limits of a call, without making it")
    parser.add_argument("method", help="GET, POST, …")
    parser.add_argument("path", help="/v1/reports/7")
    parser.add_argument("--key", help="the API key that would call")
    parser.add_argument("--tenant", default="", help="the tenant that the call would name")
    parser.add_argument("--address", default="", help="the client's address, where an open route is limited by it")
    parser.add_argument("--host", default="", help="the Host that would be asked for")
    add_folders(parser)
    add_format(parser)
    typed(parser, "weighbridge explain --key wbk_live_… GET /v1/reports/7")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace, context: Context) -> int:
    config = context.configuration
    gateway = with_targets(config.gateway, [context.settings.upstream]) if context.settings.upstream else config.gateway
    async with context.redis() as client:
        seconds, micros = await client.time()
        now_ms = seconds * 1000 + micros // 1000
        story = await explain(
            client, gateway, config.version, method=options.method.upper(), target=options.path, host=options.host,
            key=options.key, tenant=options.tenant, address=options.address, now_ms=now_ms,
        )  # fmt: skip
    show(story, options, lines=_lines(story))
    return 0


def _lines(story: dict[str, Any]) -> list[str]:
    route, org = story["route"], story["org"]
    charge = ", ".join(f"{meter}: {cost}" for meter, cost in story["charge"].items()) or "nothing"
    lines = [
        f"route    {' '.join(route['methods'] or ['any method'])} {route['path']} → {route['upstream']}   auth {route['auth']}",
        f"org      {org['slug']}, plan {org['plan']}, key {org['key']}" if org else "org      nobody in particular",
        f"charge   {charge}",
        f"verdict  {story['verdict']}",
        f"config   {story['config_version']}",
    ]
    if story["limits"]:
        rows = [_row(limit) for limit in story["limits"]]
        lines += ["", *table(rows, _COLUMNS)]
        ends = sorted({limit["bypassed_until"] for limit in story["limits"] if limit["bypassed_until"]})
        if ends:
            lines += ["", f"Bypassed until {ends[-1]}: limits marked so refuse nobody; see `weighbridge bypass list`."]
    return lines


def _row(limit: dict[str, Any]) -> list[str]:
    rule = limit["on_store_failure"]
    away = f"grace {rule['grace']}" if isinstance(rule, dict) else rule or "-"
    left, most = (f"{limit[name]:,}" if limit[name] is not None else "unlimited" for name in ("left", "limit"))
    resets = f"{limit['resets_at']} (in {limit['resets_in_seconds']:,} s)" if limit["resets_at"] else "-"
    mode = f"{limit['mode']} (bypassed)" if limit["bypassed_until"] else limit["mode"]
    return [limit["quota"], mode, f"{limit['cost']:,}", f"{limit['used']:,}", left, most, resets, away]
