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

from . import compiled


def _descriptors(text: str) -> dict[int, int]:
    return {int(slot): int(descriptor) for slot, _, descriptor in (pair.partition(":") for pair in text.split(",") if pair)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gateway", description="One gateway worker.")
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--other-fds", type=_descriptors, default={}, help="the other slots' sockets: slot:descriptor, between commas")
    parser.add_argument("--control-fd", type=int)
    parser.add_argument("--slot", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True, help="an accepted configuration set, as JSON")
    return parser.parse_args()


def main() -> int:
    """Exit 0 after a drain, 1 with a sentence where it could not start."""
    arguments = _arguments()
    logging.basicConfig(level=os.environ.get("WEIGHBRIDGE_LOG_LEVEL", "INFO"), stream=sys.stderr, format="%(message)s")
    if not hasattr(http_parser, "HttpRequestParserC"):
        print("aiohttp runs here without its C extensions; install it from a wheel", file=sys.stderr)
        return 1
    try:
        runs = compiled.use(os.environ.get("WEIGHBRIDGE_COMPILED", compiled.Choice.AUTO))
    except compiled.NotCompiled as exc:
        print(exc, file=sys.stderr)
        return 1
    from .wiring import Start, run_worker  # not before it is decided which modules that brings

    logging.getLogger("weighbridge.gateway").info("the hot path runs %s", runs)
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    try:
        uvloop.run(run_worker(Start(**vars(arguments)), os.environ))
    except WeighbridgeError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
