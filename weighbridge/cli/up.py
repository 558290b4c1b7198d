"""`weighbridge up`: everything, in the foreground."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from .context import Context, add_folders
from .verbs import typed


def add(nouns: Any) -> None:
    parser = nouns.add_parser("up", help="start everything in the foreground; Ctrl-C stops it and keeps every count")
    parser.add_argument("--port", type=int, help="the gateway's port (default: 8080; 0: any)")
    parser.add_argument("--workers", type=int, help="gateway worker processes (default: 2)")
    parser.add_argument("--upstream", metavar="URL", help="your service, in place of the sample")
    parser.add_argument("--ready-file", metavar="FILE", type=Path, help="write JSON here once all is ready: URLs, orgs, pids")
    add_folders(parser)
    typed(parser, "weighbridge up --port 8080 --upstream http://127.0.0.1:3000")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace, context: Context) -> int:
    from weighbridge.up import Up  # the whole system; other commands start faster without it

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format=f"{'up':<11}| %(message)s")
    return await Up(context.own_settings, context.environ, context.clock, ready_file=options.ready_file).run()
