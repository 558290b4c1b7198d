"""Who may pass which route of the control server. A route that declares nothing lets nobody in.

A route is `open` to everybody, or needs a scope; an organization's own API key stands for the scope `read` of that organization. Who
asks is known before a handler runs (`request[CALLER]`); of which organization it may speak is decided in billing/operations/dispatch.py.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from billing.api import sessions
from billing.api.attempts import Attempts
from billing.model.token import Scope
from billing.services.access import Access, Caller
from metering.model.errors import BadInput, Unauthorized, WeighbridgeError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CALLER = web.RequestKey("caller", Caller)
ORG_NAMED: web.RequestKey[str | None] = web.RequestKey("org_named", object)  # type: ignore[arg-type]
_LONGEST_REF = 100


class Undeclared(WeighbridgeError):
    """This route does not say who may use it."""

    code, http_status = "undeclared", 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One route. `need` None is open to everybody."""

    method: str
    path: str
    handler: Handler
    need: Scope | None


class Doors:
    """Adds routes, and stands before every one of them as a middleware. `access` is asked for at every request."""

    def __init__(self, access: Callable[[], Access], attempts: Attempts | None = None) -> None:
        self._access, self._attempts = access, attempts
        self._needs: dict[tuple[str, str], Scope | None] = {}

    def add(self, app: web.Application, endpoint: Endpoint) -> None:
        for method in ("GET", "HEAD") if endpoint.method == "GET" else (endpoint.method,):
            route = app.router.add_route(method, endpoint.path, endpoint.handler)
            self._needs[method, _path(route.resource)] = endpoint.need

    def need(self, method: str, resource: web.AbstractResource | None) -> Scope | None:
        """None: open. Raises Undeclared."""
        try:
            return self._needs[method, _path(resource)]
        except KeyError:
            raise Undeclared from None

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let pass, with who asks found. Raises Unauthorized, TooManyAttempts, ScopeMissing, BadInput, Undeclared."""
        info = request.match_info
        if info.http_exception is not None:  # no such path, or not by this method
            return await handler(request)
        need = self.need(info.route.method, info.route.resource)
        if need is not None:
            caller = await self._known(request)
            caller.must(need)
            request[CALLER], request[ORG_NAMED] = caller, asked(request)
        return await handler(request)

    async def _known(self, request: web.Request) -> Caller:
        return await self.known(request, credential(request))

    async def known(self, request: web.Request, given: str) -> Caller:
        """Who presents this. Raises Unauthorized, TooManyAttempts."""
        attempts = self._attempts
        if attempts is None:
            return await self._access().caller(given)
        address = attempts.address(request)
        attempts.check(address, given)
        try:
            caller = await self._access().caller(given)
        except Unauthorized:
            attempts.wrong(address)
            raise
        attempts.right(given)
        return caller


def _path(resource: web.AbstractResource | None) -> str:
    return resource.canonical if resource is not None else ""


def asked(request: web.Request) -> str | None:
    """The organization that the query names. Raises BadInput where it names two."""
    named = request.query.getall("org", [])
    if len(named) > 1 or any(not name or len(name) > _LONGEST_REF or not name.isprintable() for name in named):
        raise BadInput("org is given once, as the id or slug of an organization")
    return named[0] if named else None


def credential(request: web.Request) -> str:
    """From X-API-Key, else from `Authorization: Bearer`, else from the cookie of a page. Raises Unauthorized, also where either comes
    twice, NotOurPage."""
    keys, authorizations = request.headers.getall("X-API-Key", []), request.headers.getall("Authorization", [])
    if len(keys) > 1 or len(authorizations) > 1:
        raise Unauthorized("send one credential, once")
    if keys:
        found = keys[0]
    elif not authorizations and (kept := sessions.credential_of(request)) is not None:
        found = kept
    else:
        scheme, _, bearer = (authorizations[0] if authorizations else "").partition(" ")
        found = bearer if scheme.lower() == "bearer" else ""
    if not found.strip():
        raise Unauthorized("send an API key of your organization as X-API-Key, or that or a token as a bearer token")
    return found.strip()
