"""For Django: a decorator for views, and a middleware.

    gate = Gate(Guard(client, recorder))

    @gate.needs(feature="exports", quota="api", records="exports")
    def export(request): ...

    MIDDLEWARE = [..., "shop.gates.metered"]   # metered = gate.middleware(lambda request: Needs(quota="api"))

Views that are coroutines are guarded in a thread of Django's (sync_to_async), so that the loop does not wait.
"""

import functools
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from .gateway import Signed
from .guard import Guard
from .needs import Needs, Quantity, Refusal

View = Callable[..., Any]


def org_of(request: HttpRequest) -> str | None:
    """As the gateway names it; whoever reaches the service past the gateway names whom he likes."""
    found: str | None = request.headers.get("X-Org-Id")
    return found


def org_signed(signed: Signed) -> Callable[[HttpRequest], str | None]:
    """The same, where the gateway has signed it. The target as it came is RAW_URI (gunicorn) or REQUEST_URI (uWSGI); under another server
    Django writes the path anew, which is the same for all but odd escapes."""

    def org(request: HttpRequest) -> str | None:
        target = request.META.get("RAW_URI") or request.META.get("REQUEST_URI") or request.get_full_path()
        return signed.org(request.method or "", target, request.headers)

    return org


class Gate:
    def __init__(self, guard: Guard, org: Callable[[HttpRequest], str | None] = org_of) -> None:
        self._guard, self._org = guard, org

    def needs(
        self, *, feature: str | None = None, quota: str | None = None, units: Quantity = 1, records: str | None = None,
        quantity: Quantity = 1,
    ) -> Callable[[View], View]:  # fmt: skip
        """What a view needs, and what it records where it answers below 400."""
        needs = Needs(feature=feature, quota=quota, units=units, records=records, quantity=quantity)

        def around(view: View) -> View:
            if iscoroutinefunction(view):
                return functools.wraps(view)(self._around_async(needs, view))

            @functools.wraps(view)
            def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
                return self._around(needs, request, lambda: view(request, *args, **kwargs))

            return guarded

        return around

    def middleware(self, needs_of: Callable[[HttpRequest], Needs | None]) -> Callable[[View], View]:
        """`needs_of` says what a request needs; None: nothing."""

        def made(get_response: View) -> View:
            def before(request: HttpRequest) -> HttpResponseBase:
                needs = needs_of(request)
                if needs is None:
                    found: HttpResponseBase = get_response(request)
                    return found
                return self._around(needs, request, lambda: get_response(request))

            return before

        return made

    def _around(self, needs: Needs, request: HttpRequest, work: Callable[[], HttpResponseBase]) -> HttpResponseBase:
        org = self._org(request)
        refusal = self._guard.check(needs, org, request.headers)
        if refusal is not None:
            return answer(refusal)
        response = work()
        if response.status_code < 400:
            self._guard.done(needs, org)
        return response

    def _around_async(self, needs: Needs, view: View) -> View:
        async def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            org = self._org(request)
            refusal = await sync_to_async(self._guard.check, thread_sensitive=False)(needs, org, request.headers)
            if refusal is not None:
                return answer(refusal)
            response: HttpResponseBase = await view(request, *args, **kwargs)
            if response.status_code < 400:
                self._guard.done(needs, org)
            return response

        return guarded


def answer(refusal: Refusal) -> HttpResponse:
    return HttpResponse(refusal.body(), status=refusal.status, content_type=refusal.content_type, headers=dict(refusal.headers))
