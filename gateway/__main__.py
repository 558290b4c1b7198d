"""`python -m gateway`: one worker. Started by `weighbridge serve gateway`; its arguments are the supervisor's affair."""

import argparse
import gc
import logging
import os
import sys
from pathlib import Path

import uvloop
from aiohttp import http_parser

from metering.model.errors import WeighbridgeError

from .wiring import Start, run_worker


def _arguments() -> Start:
    parser = argparse.ArgumentParser(prog="python -m gateway", description="One gateway worker.")
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--control-fd", type=int)
    parser.add_argument("--slot", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True, help="an accepted configuration set, as JSON")
    return Start(**vars(parser.parse_args()))


def main() -> int:
    """Exit 0 after a drain, 1 with a sentence where it could not start."""
    logging.basicConfig(level=os.environ.get("WEIGHBRIDGE_LOG_LEVEL", "INFO"), stream=sys.stderr, format="%(message)s")
    if not hasattr(http_parser, "HttpRequestParserC"):
        print("aiohttp runs here without its C extensions; install it from a wheel", file=sys.stderr)
        return 1
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    try:
        uvloop.run(run_worker(_arguments(), os.environ))
    except WeighbridgeError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
