"""What every verb of the command line has alike."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from .context import add_folders
from .output import add_format

EXAMPLE = "example: "


def nouns_verbs(nouns: Any, noun: str, text: str) -> Any:
    """A noun whose verbs are to be added."""
    return nouns.add_parser(noun, help=text, description=text).add_subparsers(dest="verb", metavar="verb", required=True)


def verb(
    verbs: Any, name: str, text: str, run: Any, *, org: bool = True, example: str | None = None, formats: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """One verb. `org`: it is about one organization. `example` is a line as it is typed, for help. `formats`: beside those of all."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    if example:
        typed(parser, example)
    if org:
        parser.add_argument("--org", metavar="ORG", help="id or slug (default: WEIGHBRIDGE_ORG, or the only one there is)")
    add_folders(parser)
    add_format(parser, *formats)
    parser.set_defaults(run=run)
    return parser


def org_argument(parser: argparse.ArgumentParser) -> None:
    """The organization as a word of its own, beside --org; `one_org` brings the two together."""
    parser.add_argument("org_named", metavar="ORG", nargs="?", help="id or slug, as --org")


def one_org(options: argparse.Namespace) -> str | None:
    """The organization named by either; from here on --org. Ends with the usage error where two are named."""
    if options.org and options.org_named and options.org != options.org_named:
        sys.stderr.write(f"weighbridge: two organizations are named, {options.org_named} and {options.org}; name one\n")
        raise SystemExit(2)
    options.org = options.org or options.org_named
    return options.org  # type: ignore[no-any-return]


def confirmed(question: str, options: argparse.Namespace) -> bool:
    """With --yes, or where nobody is there to ask, it is. Raises nothing; the question goes to stderr."""
    if options.yes or not sys.stdin.isatty():
        return True
    sys.stderr.write(f"{question} (y/N) ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def typed(parser: argparse.ArgumentParser, *lines: str) -> None:
    """Examples, as they are typed; help shows them, and what there is of an epilog before them."""
    parser.epilog = "\n".join([*([parser.epilog] if parser.epilog else []), *(f"{EXAMPLE}{line}" for line in lines)])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter  # a line that is typed is not broken
