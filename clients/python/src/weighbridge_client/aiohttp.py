"""For aiohttp: a decorator for handlers, and a middleware.

gate = Gate(AsyncGuard(client, recorder))

@gate.needs(feature="exports", quota="api", records="exports")
async def export(request): ...

app = web.Application(middlewares=[gate.middleware(lambda request: Needs(quota="api") if request.path.startswith("/v1/") else None)])
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from .gateway import Signed
from .guard import AsyncGuard
from .needs import Needs, Quantity, Refusal

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def org_of(request: web.Request) -> str | None:
    """As the gateway names it; whoever reaches the service past the gateway names whom he likes."""
    return request.headers.get("X-Org-Id")


def org_signed(signed: Signed) -> Callable[[web.Request], str | None]:
    """The same, where the gateway has signed it."""
    return lambda request: signed.org(request.method, request.raw_path, request.headers)


class Gate:
    def __init__(self, guard: AsyncGuard, org: Callable[[web.Request], str | None] = org_of) -> None:
        self._guard, self._org = guard, org

    def needs(
        self, *, feature: str | None = None, quota: str | None = None, units: Quantity = 1, records: str | None = None,
        quantity: Quantity = 1,
    ) -> Callable[[Handler], Handler]:  # fmt: skip
        """What a handler needs, and what it records where it answers below 400."""
        needs = Needs(feature=feature, quota=quota, units=units, records=records, quantity=quantity)

        def around(handler: Handler) -> Handler:
            @functools.wraps(handler)
            async def guarded(request: web.Request) -> web.StreamResponse:
                return await self._around(needs, request, handler)

            return guarded

        return around

    def middleware(self, needs_of: Callable[[web.Request], Needs | None]) -> Middleware:
        """`needs_of` says what a request needs; None: nothing."""

        @web.middleware
        async def before(request: web.Request, handler: Handler) -> web.StreamResponse:
            needs = needs_of(request)
            return await (handler(request) if needs is None else self._around(needs, request, handler))

        return before

    async def _around(self, needs: Needs, request: web.Request, handler: Handler) -> web.StreamResponse:
        org = self._org(request)
        refusal = await self._guard.check(needs, org, request.headers)
        if refusal is not None:
            return answer(refusal)
        response = await handler(request)
        if response.status < 400:
            self._guard.done(needs, org)
        return response


def answer(refusal: Refusal) -> web.Response:
    headers: dict[str, Any] = dict(refusal.headers)
    return web.Response(body=refusal.body(), status=refusal.status, content_type=refusal.content_type, headers=headers)
