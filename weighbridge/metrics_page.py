"""The gateway host's own small server: one metrics page for all workers, liveness, readiness. Loopback unless told otherwise."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector


class MetricsPage:
    """`ready` answers what /readyz shows; its "ready" decides between 200 and 503."""

    def __init__(self, metrics_dir: Path, ready: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._metrics_dir, self._ready = metrics_dir, ready
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError if it is taken."""
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, shutdown_timeout=1)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def text(self) -> bytes:
        """The page: what every process that shares the folder has counted."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._metrics_dir))  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=await asyncio.to_thread(self.text), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _readyz(self, request: web.Request) -> web.Response:
        state = await self._ready()
        return web.json_response(state, status=200 if state["ready"] else 503)
