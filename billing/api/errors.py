"""Errors as HTTP answers: the only place that decides. The form is that of RFC 9457 (application/problem+json)."""

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from billing.api.bodies import BodyTooLarge
from billing.operations.problem import MEDIA_TYPE, problem
from metering.model.errors import WeighbridgeError

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class MethodRefused(WeighbridgeError):
    """This path does not take this method."""

    code, http_status = "method_not_allowed", 405


class NoSuchPath(WeighbridgeError):
    """There is nothing under this path."""

    code, http_status = "not_found", 404


def answer(error: WeighbridgeError) -> web.Response:
    headers = {"WWW-Authenticate": error.challenge or "Bearer"} if error.http_status == 401 or error.challenge else {}
    if error.http_status in (429, 503) or (error.retryable and error.http_status == 409):
        headers["Retry-After"] = str(error.details.get("retry_after_seconds", 1))
    return web.Response(text=problem(error).model_dump_json(), status=error.http_status, headers=headers, content_type=MEDIA_TYPE)


@web.middleware
async def as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error of a handler becomes its answer. What nobody foresaw is logged whole and told in three words."""
    try:
        return await handler(request)
    except WeighbridgeError as exc:
        return answer(exc)
    except web.HTTPMethodNotAllowed as exc:
        refused = web.Response(status=204) if request.method == "OPTIONS" else answer(MethodRefused())
        refused.headers["Allow"] = ", ".join(sorted({*exc.allowed_methods, "OPTIONS"}))
        return refused
    except web.HTTPRequestEntityTooLarge:
        return answer(BodyTooLarge())
    except web.HTTPNotFound:
        return answer(NoSuchPath())
    except Exception:
        log.exception("nobody foresaw this, answering %s", request.raw_path)  # as it came: a line break in it is %0A
        return answer(WeighbridgeError())
