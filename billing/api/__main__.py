"""`python -m billing.api`: the control server, until SIGTERM or SIGINT."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from billing.api.wiring import open_control
from config.settings import Settings
from metering.model.clock import SystemClock
from metering.model.errors import WeighbridgeError

log = logging.getLogger("billing.api")


async def run() -> None:
    settings = Settings.load(os.environ, Path(".env"))
    for warning in settings.warnings:
        log.warning("%s", warning)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_control(settings, SystemClock()) as control, control.serve():
        log.info("control listens on %s", control.url)
        await stop.wait()
    log.info("control stopped")


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        asyncio.run(run())
    except WeighbridgeError as exc:
        sys.stderr.write(f"weighbridge control: {exc}\n")
        return 1
    finally:
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]
    return 0


if __name__ == "__main__":
    sys.exit(main())
