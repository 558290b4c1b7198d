"""`python -m weighbridge.gateway_host`, which is `weighbridge serve gateway`: the supervisor, put together.

The folder of the metrics must stand in the environment before prometheus_client is imported, hence the late import.
"""

import asyncio
import logging
import os
import sys
from collections.abc import MutableMapping
from dataclasses import replace
from pathlib import Path

from config.settings import Settings
from metering.model.clock import SystemClock
from metering.model.errors import DependencyUnavailable, WeighbridgeError

_METRICS = "PROMETHEUS_MULTIPROC_DIR"


def own_metrics_folder(environ: MutableMapping[str, str], data_dir: Path) -> None:
    """Name a folder of this host's own, emptied, unless the one who starts it shares one among several processes."""
    if environ.get(_METRICS):
        return
    folder = data_dir / "metrics"
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink()
    environ[_METRICS] = str(folder)


def main(environ: MutableMapping[str, str]) -> int:
    """Exit 0 after a drain, 1 with a sentence where it could not start or go on."""
    logging.basicConfig(level=environ.get("WEIGHBRIDGE_LOG_LEVEL", "INFO"), stream=sys.stderr, format="%(levelname)s %(message)s")
    try:
        settings = Settings.load(environ, Path(".env"), bills=False)
        settings = replace(settings, config_dir=settings.config_dir.absolute(), data_dir=settings.data_dir.absolute())
        if settings.redis_url is None:
            raise DependencyUnavailable("REDIS_URL is not set; a gateway counts in Redis or Valkey, for example redis://127.0.0.1:6379/0")
        own_metrics_folder(environ, settings.data_dir)
        from .supervisor import Supervisor

        asyncio.run(_serve(Supervisor, settings, environ))
    except WeighbridgeError as exc:
        sys.stderr.write(f"weighbridge: {exc}\n")
        return 1
    return 0


async def _serve(supervisor: type, settings: Settings, environ: MutableMapping[str, str]) -> None:
    await supervisor(settings, environ, SystemClock()).run()


if __name__ == "__main__":
    sys.exit(main(os.environ))
