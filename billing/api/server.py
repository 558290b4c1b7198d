"""The control server's routes: health, metrics, and an organization's own usage and quotas by its API key."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from billing.api.errors import as_json
from billing.model.usage import UsageReport, head_json, meter_json, report_json
from billing.services.usage import Usage
from metering.model.errors import NotFound, Unauthorized

NO_STORE = {"Cache-Control": "no-store"}


class NoSuchService(NotFound):
    """There is no such service."""

    code = "no_such_service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What the routes need. `usage` is asked for at every call, as it changes with the meters."""

    usage: Callable[[], Usage]
    readiness: Callable[[], Awaitable[dict[str, Any]]]
    metrics: Callable[[], bytes]


def application(doors: Doors) -> web.Application:
    handlers = _Handlers(doors)
    app = web.Application(middlewares=[as_json], client_max_size=64 * 1024)
    app.router.add_get("/healthz", handlers.healthz)
    app.router.add_get("/readyz", handlers.readyz)
    app.router.add_get("/metrics", handlers.metrics)
    app.router.add_get("/api/v1/billing/usage", handlers.usage)
    app.router.add_get("/api/v1/billing/quota", handlers.quota)
    app.router.add_get("/api/v1/billing/quota/{service}", handlers.one_quota)
    app.router.add_get("/api/quota/{service}", handlers.one_quota)  # the guide's short form
    return app


def api_key(request: web.Request) -> str:
    """From X-API-Key, else from `Authorization: Bearer`. Raises Unauthorized."""
    key = request.headers.get("X-API-Key")
    if key is None:
        scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
        key = credential if scheme.lower() == "bearer" else None
    if not key or not key.strip():
        raise Unauthorized("send an API key of your organization as X-API-Key, or as a bearer token")
    return key.strip()


class _Handlers:
    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    async def healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(self, _request: web.Request) -> web.Response:
        state = await self._doors.readiness()
        return web.json_response(state, status=200 if state["ready"] else 503)

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._doors.metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def usage(self, request: web.Request) -> web.Response:
        report = await self._report(request)
        body = report_json(report)
        if (service := request.query.get("service")) is not None:
            body["usage"] = [_one(report, service)]
        return web.json_response(body, headers=NO_STORE)

    async def quota(self, request: web.Request) -> web.Response:
        report = await self._report(request)
        if (service := request.query.get("service")) is not None:
            quotas = [_one(report, service)]
        else:
            quotas = [meter_json(use, report.end_ms) for use in report.meters]
        return web.json_response({**head_json(report), "quotas": quotas}, headers=NO_STORE)

    async def one_quota(self, request: web.Request) -> web.Response:
        report = await self._report(request)
        return web.json_response({**head_json(report), **_one(report, request.match_info["service"])}, headers=NO_STORE)

    async def _report(self, request: web.Request) -> UsageReport:
        return await self._doors.usage().report_for_key(api_key(request))


def _one(report: UsageReport, service: str) -> dict[str, Any]:
    for use in report.meters:
        if use.meter.name == service:
            return meter_json(use, report.end_ms)
    known = ", ".join(use.meter.name for use in report.meters)
    raise NoSuchService(f"there is no service {service!r}; there are: {known}", service=service)
