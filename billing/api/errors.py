"""Errors as HTTP answers: the only place that decides, in the one JSON form that the gateway's refusals have too."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from metering.model.errors import WeighbridgeError

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class MethodRefused(WeighbridgeError):
    """This path does not take this method."""

    code, http_status = "method_not_allowed", 405


class NoSuchPath(WeighbridgeError):
    """There is nothing under this path."""

    code, http_status = "not_found", 404


def body(error: WeighbridgeError) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": str(error), "details": error.details}}


def answer(error: WeighbridgeError) -> web.Response:
    headers = {"WWW-Authenticate": error.challenge or "Bearer"} if error.http_status == 401 or error.challenge else {}
    if error.http_status == 503:
        headers["Retry-After"] = "1"
    return web.json_response(body(error), status=error.http_status, headers=headers)


@web.middleware
async def as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error of a handler becomes its answer. What nobody foresaw is logged whole and told in three words."""
    try:
        return await handler(request)
    except WeighbridgeError as exc:
        return answer(exc)
    except web.HTTPMethodNotAllowed as exc:
        refused = answer(MethodRefused())
        refused.headers["Allow"] = ", ".join(sorted(exc.allowed_methods))
        return refused
    except web.HTTPNotFound:
        return answer(NoSuchPath())
    except Exception:
        log.exception("nobody foresaw this, answering %s", request.raw_path)  # as it came: a line break in it is %0A
        return answer(WeighbridgeError())
