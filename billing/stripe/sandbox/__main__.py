"""python -m billing.stripe.sandbox [--host 127.0.0.1] [--port 12111] [--state FILE]

Without --state everything is forgotten when it stops.
"""

import argparse
import asyncio
import signal
import sqlite3
import sys
from pathlib import Path

from billing.stripe.sandbox.server import NOTICE, Sandbox, serve


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m billing.stripe.sandbox", description=NOTICE)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12111, help="0 takes a free one")
    parser.add_argument("--state", type=Path, help="SQLite file to keep everything in; without it everything is forgotten at the end")
    return parser.parse_args(arguments)


async def _run(options: argparse.Namespace) -> int:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        sandbox = Sandbox(options.state)
    except (OSError, sqlite3.Error) as exc:
        sys.stderr.write(f"The sandbox cannot keep its state in {options.state}: {exc}.\n")
        return 1
    try:
        url, stop = await serve(sandbox, options.host, options.port)
    except OSError as exc:
        sys.stderr.write(f"The sandbox cannot listen on {options.host}:{options.port}: {exc.strerror}.\n")
        return 1
    sys.stdout.write(f"{NOTICE}\nlistening on {url}, state {options.state or 'in memory'}\n")
    sys.stdout.flush()
    await stopped.wait()
    await stop()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_run(_arguments(sys.argv[1:]))))
