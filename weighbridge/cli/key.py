"""`weighbridge key`: API keys and client certificates, what they carry, and their end. A key is shown once, where it is made."""

import argparse
import sys
from pathlib import Path
from typing import Any

from billing.model.organization import LONGEST_LABEL
from billing.operations import keys as operations
from billing.operations.operation import Nothing
from metering.model.apikey import sha256_hex
from metering.model.clock import to_datetime
from metering.model.errors import BadInput
from weighbridge.certificates import read_certificate

from .context import Context
from .org import unpublished
from .output import row_of, show_answer, show_list
from .verbs import nouns_verbs, one_org, org_argument, verb
from .words import moment, seconds

_COLUMNS = ("id", "kind", "hint", "label", "status", "test", "scopes", "limits", "created", "expires", "replaced_by")


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "key", "API keys and client certificates: create, import, add-cert, list, grant, …")
    create = _org_verb(verbs, "create", "one more key for an organization", create_key, 'acme-corp --label "their CI" --expires 90d')
    create.add_argument("--label", default="", help="what it is for")
    create.add_argument("--test", action="store_true", help="wbk_test_…: limited by rates and its own limits, and never billed")
    create.add_argument("--expires", metavar="SPAN", help="how long it is good: 12h, 90d (default: until it is revoked)")
    _grants(create)
    about = "keys that callers hold already, one a line, from a file or standard input"
    bring = _org_verb(verbs, "import", about, import_keys, "acme-corp --file their-keys.txt")
    bring.add_argument("--file", type=Path, metavar="FILE", help="default: standard input")
    bring.add_argument("--label", default="", help="what they are for")
    about = "a client certificate, known by its fingerprint, stands for an organization"
    cert = _org_verb(verbs, "add-cert", about, add_certificate, "acme-corp --file client.pem")
    cert.add_argument("--file", type=Path, metavar="CERT.PEM", required=True, help="the certificate in PEM form, without its key")
    cert.add_argument("--label", default="", help="what it is for (default: its subject's name)")
    cert.add_argument("--test", action="store_true", help="limited by rates and its own limits, and never billed")
    _grants(cert)
    _org_verb(verbs, "list", "the keys of an organization", list_keys, "acme-corp")
    about = "other scopes or limits in place of those it has, from the next call on"
    grant = _key_verb(verbs, "grant", about, grant_key, "7 --scope reports --limit api=1000/day")
    _grants(grant)
    grant.add_argument("--no-scopes", action="store_true", help="take its scopes away")
    grant.add_argument("--no-limits", action="store_true", help="take its own limits away")
    rotate = _key_verb(verbs, "rotate", "a new key in place of one, which works on for a while", rotate_key, "7 --overlap 2d")
    rotate.add_argument("--overlap", default="1d", help="how long the old one works on: 0, 30m, 1d (default: 1d)")
    _key_verb(verbs, "revoke", "not another call with it", revoke_key, "7")


def _org_verb(verbs: Any, name: str, text: str, run: Any, example: str) -> argparse.ArgumentParser:
    parser = verb(verbs, name, text, run, example=f"weighbridge key {name} {example}")
    org_argument(parser)
    return parser


def _key_verb(verbs: Any, name: str, text: str, run: Any, example: str) -> argparse.ArgumentParser:
    parser = verb(verbs, name, text, run, org=False, example=f"weighbridge key {name} {example}")
    parser.add_argument("key", help="its number (see key list), or the key itself")
    return parser


def _grants(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scope", action="append", metavar="SCOPE", help="what routes may ask for; several times for several")
    parser.add_argument(
        "--limit", action="append", metavar="LIMIT", help="of this key alone: api=1000/day, bandwidth=5 GB/period, api=5/second, 5/second"
    )


def reference(text: str) -> str:
    """A key or token as an address may carry it: its number, or the hash of its text."""
    return text if text.isascii() and text.isdigit() and len(text) <= 18 else f"sha256:{sha256_hex(text)}"


async def create_key(options: argparse.Namespace, context: Context) -> int:
    one_org(options)
    ask = operations.CreateKey(
        label=options.label, test=options.test, seconds=seconds(options.expires) if options.expires else None,
        scopes=tuple(options.scope or ()), limits=tuple(options.limit or ()),
    )  # fmt: skip
    return _show_new(await context.ask(operations.create, ask), options)


async def add_certificate(options: argparse.Namespace, context: Context) -> int:
    one_org(options)
    try:
        found = read_certificate(options.file.read_bytes())
    except OSError as exc:
        raise BadInput(f"{options.file} cannot be read: {exc}") from exc
    ask = operations.AddCertificate(
        sha256=found.sha256_hex, expires=to_datetime(found.expires_at_ms), label=options.label or found.name[:LONGEST_LABEL],
        test=options.test,
        scopes=tuple(options.scope or ()), limits=tuple(options.limit or ()),
    )  # fmt: skip
    added = await context.ask(operations.add_certificate, ask)
    until = moment(added.expires) if added.expires else "further notice"
    show_answer(added, options, lines=[f"Certificate {added.id}  {added.label}  SHA-256 {added.sha256}, until {until}"])
    unpublished(added.told_gateways)
    return 0


async def grant_key(options: argparse.Namespace, context: Context) -> int:
    if (options.scope and options.no_scopes) or (options.limit and options.no_limits):
        raise BadInput("--scope and --no-scopes, --limit and --no-limits: give one of the two")
    if not (options.scope or options.limit or options.no_scopes or options.no_limits):
        raise BadInput("say what changes: --scope, --no-scopes, --limit or --no-limits")
    ask = operations.GrantKey(
        key=reference(options.key),
        scopes=tuple(options.scope or ()) if options.scope or options.no_scopes else None,
        limits=tuple(options.limit or ()) if options.limit or options.no_limits else None,
    )
    key = await context.ask(operations.grant, ask)
    carried = ", ".join([*key.scopes, *key.limits]) or "nothing of its own"
    show_answer(key, options, lines=[f"Key {key.id}  {key.hint} carries {carried} from now on"])
    unpublished(key.told_gateways)
    return 0


async def rotate_key(options: argparse.Namespace, context: Context) -> int:
    ask = operations.RotateKey(key=reference(options.key), overlap_seconds=seconds(options.overlap))
    return _show_new(await context.ask(operations.rotate, ask), options)


def _show_new(made: operations.NewKeyAnswer, options: argparse.Namespace) -> int:
    lines = [f"Key {made.id}  {made.api_key}   (shown this once: we store only its hash)"]
    if (old := made.old) is not None:
        ends = f"works until {moment(old.expires)}" if old.expires and old.status == "expiring" else "is refused from now on"
        lines.append(f"Key {old.id}  {old.hint} {ends}")
    show_answer(made, options, lines=lines)
    unpublished(made.told_gateways)
    return 0


async def import_keys(options: argparse.Namespace, context: Context) -> int:
    one_org(options)
    try:
        text = options.file.read_text() if options.file else sys.stdin.read()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"{options.file or 'standard input'} cannot be read: {exc}") from exc
    given = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not given:
        raise BadInput("there is no key to import; give one a line")
    made = await context.ask(operations.bring, operations.ImportKeys(keys=given, label=options.label))
    show_answer(made, options, lines=[f"Imported {len(made.added)}, known before {len(made.known)}; only their hashes are kept"])
    unpublished(made.told_gateways)
    return 0


async def list_keys(options: argparse.Namespace, context: Context) -> int:
    one_org(options)
    found = await context.ask(operations.list_all, Nothing())
    rows = [row_of(key) for key in found.keys]
    show_list(found, rows, _COLUMNS, options, empty="No keys. weighbridge key create ORG makes one.")
    return 0


async def revoke_key(options: argparse.Namespace, context: Context) -> int:
    key = await context.ask(operations.revoke, operations.WhichKey(key=reference(options.key)))
    show_answer(key, options, lines=[f"Key {key.id}  {key.hint} is refused from now on"])
    unpublished(key.told_gateways)
    return 0
