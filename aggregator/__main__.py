"""`python -m aggregator`: the aggregator alone. Ends on SIGTERM or SIGINT, after the step under way."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import uvloop

from aggregator.wiring import run
from config.settings import Settings
from metering.model.clock import SystemClock
from metering.model.errors import BadInput, WeighbridgeError


async def _serve(settings: Settings, port: int | None) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(settings, SystemClock(), stop, port=port)


def _port(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or int(text) > 65_535:
        raise BadInput(f"WEIGHBRIDGE_AGGREGATOR_PORT is {text!r}; expected a port number.")
    return int(text)


def main() -> int:
    """Exit 0 after a signal, 1 with a sentence where it could not start."""
    logging.basicConfig(level=os.environ.get("WEIGHBRIDGE_LOG_LEVEL", "INFO"), stream=sys.stderr, format="%(name)s: %(message)s")
    logging.getLogger("stripe").setLevel(logging.WARNING)  # the SDK has a line for each call; what came of it is in our own words
    try:
        settings = Settings.load(os.environ, Path(".env"))
        uvloop.run(_serve(settings, _port(os.environ.get("WEIGHBRIDGE_AGGREGATOR_PORT"))))
    except WeighbridgeError as exc:
        print(exc, file=sys.stderr)  # noqa: T201 — the sentence for whoever started it
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
