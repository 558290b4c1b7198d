"""The control server's routes: health, metrics, Stripe's events, and every operation by an API key or a token."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from billing.api import rest, site
from billing.api.attempts import Attempts
from billing.api.bodies import MOST_BYTES, read, words
from billing.api.doors import CALLER, Doors, Endpoint
from billing.api.errors import as_json
from billing.api.graphql import endpoint as graphql
from billing.api.negotiation import check_json
from billing.api.sessions import Sessions
from billing.api.webhooks import StripeWebhook
from billing.model.token import Scope
from billing.operations import usage
from billing.operations.dispatch import Dispatch
from billing.operations.registry import OPERATIONS
from billing.services.inbox import Inbox
from metering.model.errors import BadInput

_LARGEST_TOKEN = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the routes need."""

    dispatch: Dispatch
    readiness: Callable[[], Awaitable[dict[str, Any]]]
    metrics: Callable[[], bytes]
    inbox: Callable[[], Inbox]
    webhook_came: Callable[[str], None]  # with what came of it
    attempts: Attempts | None = None  # wrong credentials by address; None: they are not counted


def endpoints(parts: Parts) -> list[Endpoint]:
    """The table: every route, and the scope that it needs."""
    handlers = _Handlers(parts, Doors(lambda: parts.dispatch.access, parts.attempts))
    return [
        Endpoint(method="GET", path="/healthz", handler=handlers.healthz, need=None),
        Endpoint(method="GET", path="/readyz", handler=handlers.readyz, need=None),
        Endpoint(method="GET", path="/metrics", handler=handlers.metrics, need=None),
        *(rest.endpoint(operation, parts.dispatch) for operation in OPERATIONS),
        rest.endpoint(usage.quota, parts.dispatch, "/api/quota/{service}"),  # the guide's short form
        *site.endpoints(),
        # Open to everybody: the token in the body is the credential.
        Endpoint(method="POST", path=f"{site.ROOT}/session", handler=handlers.begin, need=None),
        Endpoint(method="GET", path=f"{site.ROOT}/session", handler=handlers.session, need=Scope.READ),
        Endpoint(method="DELETE", path=f"{site.ROOT}/session", handler=handlers.end, need=Scope.READ),
        *graphql.endpoints(parts.dispatch),
        # Open to everybody: its signature is the credential, over the bytes of the body.
        Endpoint(method="POST", path="/webhooks/stripe", handler=StripeWebhook(parts.inbox, parts.webhook_came).take, need=None),
    ]


def application(parts: Parts) -> web.Application:
    doors = Doors(lambda: parts.dispatch.access, parts.attempts)
    app = web.Application(middlewares=[as_json, doors.middleware], client_max_size=MOST_BYTES)
    for endpoint in endpoints(parts):
        doors.add(app, endpoint)
    return app


class _Handlers:
    def __init__(self, parts: Parts, doors: Doors) -> None:
        self._parts, self._sessions = parts, Sessions(doors.known)

    async def begin(self, request: web.Request) -> web.Response:
        check_json(request.headers)
        said = words(await read(request, _LARGEST_TOKEN))
        token = said.get("token")
        if not isinstance(token, str) or set(said) != {"token"}:
            raise BadInput('say {"token": "wbt_…"}, and nothing else')
        return await self._sessions.begin(request, token.strip())

    async def session(self, request: web.Request) -> web.Response:
        return await self._sessions.show(request, request[CALLER])

    async def end(self, request: web.Request) -> web.Response:
        return await self._sessions.end(request)

    async def healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(self, _request: web.Request) -> web.Response:
        state = await self._parts.readiness()
        return web.json_response(state, status=200 if state["ready"] else 503)

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._parts.metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
