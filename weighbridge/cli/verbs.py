"""What every verb of the command line has alike."""

import argparse
from typing import Any

from .context import add_folders
from .output import add_format


def nouns_verbs(nouns: Any, noun: str, text: str) -> Any:
    """A noun whose verbs are to be added."""
    return nouns.add_parser(noun, help=text, description=text).add_subparsers(dest="verb", metavar="verb", required=True)


def verb(verbs: Any, name: str, text: str, run: Any, *, org: bool = True, example: str | None = None) -> argparse.ArgumentParser:
    """One verb. `org`: it is about one organization. `example` is a line as it is typed; help shows it."""
    epilog = f"example: {example}" if example else None
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text, epilog=epilog)
    if org:
        parser.add_argument("--org", metavar="ORG", help="id or slug (default: WEIGHBRIDGE_ORG, or the only one there is)")
    add_folders(parser)
    add_format(parser, "csv")
    parser.set_defaults(run=run)
    return parser
