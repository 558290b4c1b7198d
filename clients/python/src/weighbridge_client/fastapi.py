"""For FastAPI: a dependency; for it and every other ASGI framework: a middleware.

gate = Gate(AsyncGuard(client, recorder))
gate.install(app)

@app.post("/export", dependencies=[gate.needs(feature="exports", records="exports")])
async def export(): ...

app.add_middleware(GateMiddleware, gate=gate, needs_of=lambda scope: Needs(quota="api") if scope["path"].startswith("/v1/") else None)
"""

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import Depends, FastAPI
from starlette.requests import Request
from starlette.responses import Response

from .gateway import Signed
from .guard import AsyncGuard
from .needs import Needs, Quantity, Refusal

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def org_of(request: Request) -> str | None:
    """As the gateway names it; whoever reaches the service past the gateway names whom he likes."""
    return request.headers.get("x-org-id")


def org_signed(signed: Signed) -> Callable[[Request], str | None]:
    """The same, where the gateway has signed it."""

    def org(request: Request) -> str | None:
        path, query = request.scope.get("raw_path") or request.scope["path"].encode(), request.scope["query_string"]
        target = path.partition(b"?")[0] + (b"?" + query if query else b"")
        return signed.org(request.method, target.decode("latin-1"), request.headers)

    return org


class NotAllowed(Exception):
    """The work may not run; `install` makes it an answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class Gate:
    def __init__(self, guard: AsyncGuard, org: Callable[[Request], str | None] = org_of) -> None:
        self.guard, self.org = guard, org

    def install(self, app: FastAPI) -> None:
        """Answer refusals as problem+json."""

        async def refused(_request: Request, error: Exception) -> Response:
            assert isinstance(error, NotAllowed)
            return answer(error.refusal)

        app.add_exception_handler(NotAllowed, refused)

    def needs(
        self, *, feature: str | None = None, quota: str | None = None, units: Quantity = 1, records: str | None = None,
        quantity: Quantity = 1,
    ) -> Any:  # fmt: skip
        """A dependency: what a route needs, and what it records unless it raises."""
        needs = Needs(feature=feature, quota=quota, units=units, records=records, quantity=quantity)

        async def guarded(request: Request) -> AsyncIterator[None]:
            org = self.org(request)
            refusal = await self.guard.check(needs, org, request.headers)
            if refusal is not None:
                raise NotAllowed(refusal)
            yield
            self.guard.done(needs, org)

        return Depends(guarded)


class GateMiddleware:
    """`needs_of` says what a request needs, by its ASGI scope; None: nothing. Recorded is what answers below 400."""

    def __init__(self, app: App, *, gate: Gate, needs_of: Callable[[Scope], Needs | None]) -> None:
        self._app, self._gate, self._needs_of = app, gate, needs_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        needs = self._needs_of(scope) if scope["type"] == "http" else None
        if needs is None:
            return await self._app(scope, receive, send)
        request, status = Request(scope), 500
        org = self._gate.org(request)
        refusal = await self._gate.guard.check(needs, org, request.headers)
        if refusal is not None:
            return await answer(refusal)(scope, receive, send)

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self._app(scope, receive, watched)
        if status < 400:
            self._gate.guard.done(needs, org)


def answer(refusal: Refusal) -> Response:
    return Response(refusal.body(), refusal.status, dict(refusal.headers), refusal.content_type)
