"""`weighbridge token`: tokens of the control API, for one organization or for all. A token is shown once, where it is made."""

import argparse
from typing import Any

from billing.model.token import Scope, Token, read_scopes
from metering.model.clock import isoformat
from metering.model.errors import BadInput
from weighbridge.operator import who

from .context import Context, add_folders
from .key import seconds
from .output import add_format, show, show_rows

_NEVER = "never"
_COLUMNS = ("id", "hint", "covers", "scopes", "label", "status", "created", "by", "expires", "revoked_by")


def add(nouns: Any) -> None:
    verbs = nouns.add_parser("token", help="tokens of the control API: create, list, revoke").add_subparsers(
        dest="verb", metavar="verb", required=True
    )
    create = _verb(verbs, "create", "a new token, shown once", create_token)
    create.add_argument("--org", metavar="ORG", help="id or slug: it knows of this organization alone")
    create.add_argument("--all", action="store_true", help="it is for every organization")
    create.add_argument(
        "--scope", action="append", choices=[scope.value for scope in Scope],
        help="read (the default), billing or admin; each includes those before it",
    )  # fmt: skip
    create.add_argument("--label", default="", help="what it is for")
    create.add_argument("--expires", default="90d", metavar="SPAN", help="how long it is good: 12h, 90d, never (default: 90d)")
    _verb(verbs, "list", "tokens, those that are over too", list_tokens).add_argument("--org", metavar="ORG", help="of one organization")
    _verb(verbs, "revoke", "not another request with it", revoke_token).add_argument(
        "token", help="its number (see token list), or the token itself"
    )


def _verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=run)
    return parser


async def create_token(options: argparse.Namespace, context: Context) -> int:
    if options.all == bool(options.org):
        raise BadInput("say whom the token is for: --org ORG, or --all")
    span = None if options.expires == _NEVER else seconds(options.expires)
    scopes = read_scopes(options.scope or [Scope.READ])
    async with context.billing() as billing:
        made = await billing.tokens.create(org_ref=options.org, scopes=scopes, label=options.label, seconds=span, by=who())
    row = _row(made.token, context.clock.now_ms())
    lines = [
        f"Token {row['id']}  {made.text}   (shown this once: we store only its hash)",
        f"  {row['covers']}, scopes {' '.join(row['scopes'])}, until {row['expires'] or 'it is revoked'}",
    ]
    show({**row, "token": made.text}, options, lines=lines)
    return 0


async def list_tokens(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        found = await billing.tokens.all(options.org)
    rows = [_row(token, context.clock.now_ms()) for token in found]
    show_rows(rows, _COLUMNS, options, empty="No tokens. weighbridge token create --org ORG makes one.")
    return 0


async def revoke_token(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        token = await billing.tokens.revoke(options.token, by=who())
    show(_row(token, context.clock.now_ms()), options, lines=[f"Token {token.id}  {token.hint} is refused from now on"])
    return 0


def _row(token: Token, now_ms: int) -> dict[str, Any]:
    return {
        "id": token.id, "hint": token.hint, "covers": token.slug or token.org_id or "every organization",
        "scopes": [scope.value for scope in token.scopes], "label": token.label, "status": token.status(now_ms),
        "created": isoformat(token.created_at_ms), "by": token.created_by,
        "expires": isoformat(token.expires_at_ms) if token.expires_at_ms is not None else None,
        "revoked": isoformat(token.revoked_at_ms) if token.revoked_at_ms is not None else None, "revoked_by": token.revoked_by,
    }  # fmt: skip
