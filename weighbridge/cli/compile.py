"""`weighbridge compile`: the gateway's hot path as machine code, for this Python and these sources."""

import argparse
from typing import Any

from .context import Context
from .output import say
from .verbs import typed


def add(nouns: Any) -> None:
    parser = nouns.add_parser("compile", help="compile the gateway's hot path; needs weighbridge[native] and a C compiler")
    typed(parser, "weighbridge compile")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, context: Context) -> int:
    from weighbridge.compiling import compile_hot_path

    compile_hot_path(say, cc=context.environ.get("CC", ""))
    return 0
