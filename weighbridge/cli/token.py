"""`weighbridge token`: tokens of the control API, for one organization or for all. A token is shown once, where it is made."""

import argparse
from typing import Any

from billing.model.token import Scope
from billing.operations import tokens as operations
from billing.operations.pages import AskPage
from metering.model.errors import BadInput

from .context import Context
from .key import reference
from .output import row_of, show_answer, show_list
from .pages import ask_pages
from .verbs import nouns_verbs, verb
from .words import moment, seconds

_NEVER = "never"
_COLUMNS = ("id", "hint", "covers", "scopes", "label", "status", "created", "by", "expires", "revoked_by")


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "token", "tokens of the control API: create, list, revoke")
    create = verb(
        verbs, "create", "a new token, shown once", create_token, org=False,
        example='weighbridge token create --org acme-corp --scope read --label "their dashboard"',
    )  # fmt: skip
    create.add_argument("--org", metavar="ORG", help="id or slug: it knows of this organization alone")
    create.add_argument("--all", action="store_true", help="it is for every organization")
    create.add_argument(
        "--scope", action="append", choices=[scope.value for scope in Scope],
        help="read (the default), billing or admin; each includes those before it",
    )  # fmt: skip
    create.add_argument("--label", default="", help="what it is for")
    create.add_argument("--expires", default="90d", metavar="SPAN", help="how long it is good: 12h, 90d, never (default: 90d)")
    listed = verb(verbs, "list", "tokens, those that are over too", list_tokens, org=False, example="weighbridge token list")
    listed.add_argument("--org", metavar="ORG", help="of one organization")
    revoke = verb(verbs, "revoke", "not another request with it", revoke_token, org=False, example="weighbridge token revoke 3")
    revoke.add_argument("token", help="its number (see token list), or the token itself")


async def create_token(options: argparse.Namespace, context: Context) -> int:
    if options.all == bool(options.org):
        raise BadInput("say whom the token is for: --org ORG, or --all")
    ask = operations.CreateToken(
        all=options.all, scopes=tuple(options.scope or ["read"]), label=options.label,
        seconds=None if options.expires == _NEVER else seconds(options.expires),
    )  # fmt: skip
    made = await context.ask(operations.create, ask, everybody=options.all)
    lines = [
        f"Token {made.id}  {made.token}   (shown this once: we store only its hash)",
        f"  {made.covers}, scopes {' '.join(made.scopes)}, until {moment(made.expires) if made.expires else 'it is revoked'}",
    ]
    show_answer(made, options, lines=lines)
    return 0


async def list_tokens(options: argparse.Namespace, context: Context) -> int:
    found = await ask_pages(context, operations.list_all, AskPage(), "tokens")
    rows = [row_of(token) for token in found.tokens]
    show_list(found, rows, _COLUMNS, options, empty="No tokens. weighbridge token create --org ORG makes one.")
    return 0


async def revoke_token(options: argparse.Namespace, context: Context) -> int:
    token = await context.ask(operations.revoke, operations.WhichToken(token=reference(options.token)))
    show_answer(token, options, lines=[f"Token {token.id}  {token.hint} is refused from now on"])
    return 0
