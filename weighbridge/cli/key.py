"""`weighbridge key`: API keys and client certificates, what they carry, and their end. A key is shown once, where it is made."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from billing.model.organization import Grants
from billing.services.keys import NewKey
from metering.model.clock import isoformat
from metering.model.errors import BadInput
from weighbridge.certificates import read_certificate

from .context import Context, add_folders
from .limits import limit_words, read_limits
from .org import key_row, unpublished, which
from .output import add_format, show, show_rows

_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add(nouns: Any) -> None:
    verbs = nouns.add_parser("key", help="API keys and client certificates: create, import, add-cert, list, grant, …").add_subparsers(
        dest="verb", metavar="verb", required=True
    )
    create = _org_verb(verbs, "create", "one more key for an organization", create_key)
    create.add_argument("--label", default="", help="what it is for")
    create.add_argument("--test", action="store_true", help="wbk_test_…: limited by rates and its own limits, and never billed")
    create.add_argument("--expires", metavar="SPAN", help="how long it is good: 12h, 90d (default: until it is revoked)")
    _grants(create)
    bring = _org_verb(verbs, "import", "keys that callers hold already, one a line, from a file or standard input", import_keys)
    bring.add_argument("--file", type=Path, metavar="FILE", help="default: standard input")
    bring.add_argument("--label", default="", help="what they are for")
    cert = _org_verb(verbs, "add-cert", "a client certificate, known by its fingerprint, stands for an organization", add_certificate)
    cert.add_argument("--file", type=Path, metavar="CERT.PEM", required=True, help="the certificate in PEM form, without its key")
    cert.add_argument("--label", default="", help="what it is for (default: its subject's name)")
    cert.add_argument("--test", action="store_true", help="limited by rates and its own limits, and never billed")
    _grants(cert)
    _org_verb(verbs, "list", "the keys of an organization", list_keys)
    grant = _key_verb(verbs, "grant", "other scopes or limits in place of those it has, from the next call on", grant_key)
    _grants(grant)
    grant.add_argument("--no-scopes", action="store_true", help="take its scopes away")
    grant.add_argument("--no-limits", action="store_true", help="take its own limits away")
    rotate = _key_verb(verbs, "rotate", "a new key in place of one, which works on for a while", rotate_key)
    rotate.add_argument("--overlap", default="1d", help="how long the old one works on: 0, 30m, 1d (default: 1d)")
    _key_verb(verbs, "revoke", "not another call with it", revoke_key)


def _verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=run)
    return parser


def _org_verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser = _verb(verbs, name, text, run)
    parser.add_argument("org", nargs="?", help="id or slug")
    parser.add_argument("--org", dest="org_option", metavar="ORG", help="id or slug")
    return parser


def _key_verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser = _verb(verbs, name, text, run)
    parser.add_argument("key", help="its number (see key list), or the key itself")
    return parser


def _grants(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scope", action="append", metavar="SCOPE", help="what routes may ask for; several times for several")
    parser.add_argument(
        "--limit", action="append", metavar="LIMIT", help="of this key alone: api=1000/day, bandwidth=5 GB/period, api=5/second, 5/second"
    )


def _granted(options: argparse.Namespace, context: Context) -> Grants:
    limits = read_limits(options.limit, context.configuration.meters) if options.limit else Grants()
    return replace(limits, scopes=tuple(dict.fromkeys(options.scope or ())))


def seconds(text: str) -> int:
    """ "30m" is 1800. Raises BadInput."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _SPANS else (text, "s")
    if not number.isdecimal():
        raise BadInput(f"{text!r} is no span of time; write 0, 90s, 30m, 12h or 1d")
    return int(number) * _SPANS[unit]


async def create_key(options: argparse.Namespace, context: Context) -> int:
    ref, span = which(options), seconds(options.expires) if options.expires else None
    grants = _granted(options, context)
    async with context.billing() as billing:
        made = await billing.keys.create(ref, label=options.label, test=options.test, grants=grants, seconds=span)
    return _show_new(made, options, context)


async def add_certificate(options: argparse.Namespace, context: Context) -> int:
    try:
        found = read_certificate(options.file.read_bytes())
    except OSError as exc:
        raise BadInput(f"{options.file} cannot be read: {exc}") from exc
    ref, grants, label = which(options), _granted(options, context), options.label or found.name
    async with context.billing() as billing:
        added, published = await billing.keys.add_certificate(
            ref, found.sha256_hex, expires_at_ms=found.expires_at_ms, label=label, test=options.test, grants=grants
        )
    value = {**key_row(added, context.clock.now_ms()), "org_id": added.org_id, "sha256": added.sha256}
    show(value, options, lines=[f"Certificate {added.id}  {label}  SHA-256 {added.sha256}, until {isoformat(found.expires_at_ms)}"])
    unpublished(published)
    return 0


async def grant_key(options: argparse.Namespace, context: Context) -> int:
    if (options.scope and options.no_scopes) or (options.limit and options.no_limits):
        raise BadInput("--scope and --no-scopes, --limit and --no-limits: give one of the two")
    if not (options.scope or options.limit or options.no_scopes or options.no_limits):
        raise BadInput("say what changes: --scope, --no-scopes, --limit or --no-limits")
    given = _granted(options, context)
    async with context.billing() as billing:
        key, published = await billing.keys.grant(
            options.key,
            scopes=given.scopes if options.scope or options.no_scopes else None,
            limits=given if options.limit or options.no_limits else None,
        )
    carried = ", ".join([*key.grants.scopes, *limit_words(key.grants)]) or "nothing of its own"
    show(key_row(key, context.clock.now_ms()), options, lines=[f"Key {key.id}  {key.hint} carries {carried} from now on"])
    unpublished(published)
    return 0


async def rotate_key(options: argparse.Namespace, context: Context) -> int:
    overlap = seconds(options.overlap)
    async with context.billing() as billing:
        made = await billing.keys.rotate(options.key, overlap_seconds=overlap)
    return _show_new(made, options, context)


def _show_new(made: NewKey, options: argparse.Namespace, context: Context) -> int:
    now_ms = context.clock.now_ms()
    value = {**key_row(made.key, now_ms), "org_id": made.key.org_id, "api_key": made.api_key}
    lines = [f"Key {made.key.id}  {made.api_key}   (shown this once: we store only its hash)"]
    if made.old is not None:
        value["old"] = key_row(made.old, now_ms)
        ends = (
            f"works until {isoformat(made.old.expires_at_ms)}"
            if made.old.expires_at_ms and not made.old.revoked_at_ms
            else "is refused from now on"
        )
        lines.append(f"Key {made.old.id}  {made.old.hint} {ends}")
    show(value, options, lines=lines)
    unpublished(made.published)
    return 0


async def import_keys(options: argparse.Namespace, context: Context) -> int:
    try:
        text = options.file.read_text() if options.file else sys.stdin.read()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"{options.file} cannot be read: {exc}") from exc
    given = [line.strip() for line in text.splitlines() if line.strip()]
    if not given:
        raise BadInput("there is no key to import; give one a line")
    ref = which(options)
    async with context.billing() as billing:
        imported = await billing.keys.bring(ref, given, label=options.label)
    now_ms = context.clock.now_ms()
    value = {"added": [key_row(k, now_ms) for k in imported.added], "known": [key_row(k, now_ms) for k in imported.known]}
    show(value, options, lines=[f"Imported {len(imported.added)}, known before {len(imported.known)}; only their hashes are kept"])
    unpublished(imported.published)
    return 0


async def list_keys(options: argparse.Namespace, context: Context) -> int:
    ref = which(options)
    async with context.billing() as billing:
        found = await billing.keys.all(ref)
    rows = [key_row(key, context.clock.now_ms()) for key in found]
    show_rows(
        rows,
        ("id", "kind", "hint", "label", "status", "test", "scopes", "limits", "created", "expires", "replaced_by"),
        options,
        empty="No keys. weighbridge key create ORG makes one.",
    )
    return 0


async def revoke_key(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        key, published = await billing.keys.revoke(options.key)
    show(key_row(key, context.clock.now_ms()), options, lines=[f"Key {key.id}  {key.hint} is refused from now on"])
    unpublished(published)
    return 0
