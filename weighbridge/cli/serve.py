"""`weighbridge serve gateway|aggregator|control`: one process, for those who run each on its own."""

import argparse
import os
import sys
from typing import Any

from .context import Context, add_folders
from .verbs import typed

_MODULES = {"aggregator": "aggregator", "control": "billing.api"}


def add(nouns: Any) -> None:
    parser = nouns.add_parser("serve", help="run one process: gateway, aggregator or control")
    parser.add_argument("process", choices=("gateway", "aggregator", "control"))
    parser.add_argument("--port", type=int, help="gateway: the port to listen on (default: 8080, or WEIGHBRIDGE_PORT)")
    parser.add_argument("--workers", type=int, help="gateway: how many worker processes (default: 2, or WEIGHBRIDGE_WORKERS)")
    parser.add_argument("--upstream", metavar="URL", help="gateway: where the default upstream is, in place of gateway.yaml's")
    add_folders(parser)
    typed(parser, "weighbridge serve gateway --port 8080")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, context: Context) -> int:
    """Becomes that process; for the gateway, its supervisor."""
    module = _MODULES.get(options.process, "weighbridge.gateway_host")
    _ = context.own_settings  # a faulty environment is a sentence here, not a trace there
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", module], context.environ)
