"""`weighbridge restart`: ask the running `up` for new processes, one after the other, without refusing a connection."""

import argparse
import asyncio
import os
import signal
from typing import Any

from metering.model.errors import DependencyUnavailable
from weighbridge import ready

from .context import Context, add_folders
from .output import add_format, show

_WAIT_SECONDS = 180.0
_POLL_SECONDS = 0.1
_REPLACED = ("gateway workers", "aggregator", "control")


def add(nouns: Any) -> None:
    parser = nouns.add_parser(
        "restart", help="replace the running processes without dropping a request", epilog="example: weighbridge restart"
    )
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace, context: Context) -> int:
    if context.running is None:
        raise DependencyUnavailable(f"no `weighbridge up` runs on {context.settings.data_dir}")
    before, path = context.running["restarts"], context.settings.data_dir / ready.NAME
    os.kill(context.running["pids"]["up"], signal.SIGHUP)
    deadline = context.clock.monotonic() + _WAIT_SECONDS
    while context.clock.monotonic() < deadline:
        now = ready.read(path)
        if now is None:
            raise DependencyUnavailable("`weighbridge up` ended while it restarted its processes; its output says why")
        if now["restarts"] > before:
            if now.get("restart_error"):
                raise DependencyUnavailable(f"the restart stopped half-way, the old processes go on: {now['restart_error']}")
            show({"restarted": list(_REPLACED)}, options, lines=[f"Restarted: {', '.join(_REPLACED)}"])
            return 0
        await asyncio.sleep(_POLL_SECONDS)
    raise DependencyUnavailable(f"the restart did not end within {_WAIT_SECONDS:.0f} s")
