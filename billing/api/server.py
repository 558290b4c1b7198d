"""The control server's routes: health, metrics, Stripe's events, and an organization's usage and quotas by its API key or a token."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from billing.api.doors import ORG, Doors, Endpoint
from billing.api.errors import as_json
from billing.api.webhooks import StripeWebhook
from billing.model.token import Scope
from billing.model.usage import UsageReport, head_json, meter_json, report_json
from billing.services.access import Access
from billing.services.inbox import Inbox
from billing.services.usage import Usage
from metering.model.errors import NotFound

NO_STORE = {"Cache-Control": "no-store"}


class NoSuchService(NotFound):
    """There is no such service."""

    code = "no_such_service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the routes need. `usage` and `access` are asked for at every call, as they change with the meters."""

    usage: Callable[[], Usage]
    access: Callable[[], Access]
    readiness: Callable[[], Awaitable[dict[str, Any]]]
    metrics: Callable[[], bytes]
    inbox: Callable[[], Inbox]
    webhook_came: Callable[[str], None]  # with what came of it


def endpoints(parts: Parts) -> list[Endpoint]:
    """The table: every route, and the scope that it needs."""
    handlers = _Handlers(parts)
    return [
        Endpoint(method="GET", path="/healthz", handler=handlers.healthz, need=None),
        Endpoint(method="GET", path="/readyz", handler=handlers.readyz, need=None),
        Endpoint(method="GET", path="/metrics", handler=handlers.metrics, need=None),
        Endpoint(method="GET", path="/api/v1/billing/usage", handler=handlers.usage, need=Scope.READ),
        Endpoint(method="GET", path="/api/v1/billing/quota", handler=handlers.quota, need=Scope.READ),
        Endpoint(method="GET", path="/api/v1/billing/quota/{service}", handler=handlers.one_quota, need=Scope.READ),
        Endpoint(method="GET", path="/api/quota/{service}", handler=handlers.one_quota, need=Scope.READ),  # the guide's short form
        # Open to everybody: its signature is the credential, over the bytes of the body.
        Endpoint(method="POST", path="/webhooks/stripe", handler=StripeWebhook(parts.inbox, parts.webhook_came).take, need=None),
    ]


def application(parts: Parts) -> web.Application:
    doors = Doors(parts.access)
    app = web.Application(middlewares=[as_json, doors.middleware], client_max_size=64 * 1024)
    for endpoint in endpoints(parts):
        doors.add(app, endpoint)
    return app


class _Handlers:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(self, _request: web.Request) -> web.Response:
        state = await self._parts.readiness()
        return web.json_response(state, status=200 if state["ready"] else 503)

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._parts.metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

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
        return await self._parts.usage().report_of(request[ORG])


def _one(report: UsageReport, service: str) -> dict[str, Any]:
    for use in report.meters:
        if use.meter.name == service:
            return meter_json(use, report.end_ms)
    known = ", ".join(use.meter.name for use in report.meters)
    raise NoSuchService(f"there is no service {service!r}; there are: {known}", service=service)
